"""
What :mod:`gateman.net.uvicorn_adapter` relies on in uvicorn, and uvicorn does not document.

A new version of uvicorn that fails here needs the adapter to be looked at.
"""

import asyncio
import inspect
from contextvars import copy_context
from typing import Any

import pytest
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateman.net.uvicorn_adapter import UvicornProtocol, UvicornState


def parameters(function: Any) -> list[str]:
    """Name what a function takes."""
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_parser_calls_these() -> None:
    """What is overridden is still what uvicorn calls, with the same arguments."""
    assert parameters(HttpToolsProtocol.on_url) == ["url"]
    assert parameters(HttpToolsProtocol.on_header) == ["name", "value"]
    assert parameters(HttpToolsProtocol.on_headers_complete) == []
    assert parameters(HttpToolsProtocol.on_message_complete) == []
    assert parameters(HttpToolsProtocol.on_response_complete) == []
    assert parameters(vars(HttpToolsProtocol)["_start_asgi_task"]) == ["cycle", "app"]


def test_the_steps_of_a_request_are_these() -> None:
    """The source of what is called in part: other attributes would mean another meaning."""
    complete = inspect.getsource(HttpToolsProtocol.on_headers_complete)
    begin = inspect.getsource(HttpToolsProtocol.on_message_begin)
    send = inspect.getsource(RequestResponseCycle.send)
    receive = inspect.getsource(RequestResponseCycle.receive)

    assert "self._start_asgi_task(self.cycle, app)" in complete
    assert "on_response=self.on_response_complete" in complete
    assert "default_headers=self.server_state.default_headers" in complete
    assert "existing_cycle is None or existing_cycle.response_complete" in complete
    assert '"client": self.client' in begin
    assert '"scheme": self.scheme' in begin
    assert '"server": self.server' in begin
    assert "self.headers = []" in begin
    assert "if self.disconnected:\n            return" in send
    assert 'if name == b"content-length" and self.chunked_encoding is None' in send
    assert "self.on_response()" in send
    assert "self.transport.close()\n                self.on_response()" in send
    assert 'return {"type": "http.disconnect"}' in receive
    assert "self.flow.resume_reading()" in receive


def test_state_of_all_connections_is_shared() -> None:
    assert vars(ServerState()) == {
        "total_requests": 0,
        "connections": set(),
        "tasks": set(),
        "default_headers": [],
    }


def test_logging_of_the_process_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """Uvicorn's configuration neither logs nor configures logging; it calls no application."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        state = UvicornState(
            lambda: None, loop=loop, root_path="", state={}, context=copy_context()
        )
        state.config.load()

    assert caplog.records == []
    assert state.config.ws_protocol_class is None


def test_the_protocol_has_no_access_log() -> None:
    """Lines for each request are the application's business, or the proxy's."""
    source = inspect.getsource(httptools_impl.HttpToolsProtocol.__init__)

    assert "self.access_log = " in source
    assert issubclass(UvicornProtocol, HttpToolsProtocol)
