"""
uvicorn's HTTP protocol, for the requests of one connection to an ASGI application.

gateman finds where a request begins and ends, gives uvicorn one request at a time, and runs the
application. uvicorn parses it again for the application, and writes the response.

No other module uses uvicorn. What uvicorn does not document is relied on, and fails when it
changes, in ``tests/net/test_uvicorn_adapter.py``.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import Context
from email.utils import formatdate
from typing import Any, Protocol

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ..errors import HandshakeError
from ..request import Fields, origin_form

Application = Callable[..., Any]
"""An ASGI 3 application."""

# More than any response; of one without a length, for a client of HTTP/1.0.
_ENDLESS = 1 << 62  # bytes


class Exchange(Protocol):
    """What a request and its response are exchanged over."""

    def takes(
        self, lines: list[tuple[bytes, bytes]], scope: MutableMapping[str, Any]
    ) -> Fields | None:
        """
        Return the fields of a request that the application is to have; HandshakeError refuses it.

        ``lines`` are its fields, the names in lower case; what ``scope`` tells of its client may be
        changed.
        """

    def response_started(self, status: object, headers: list[tuple[bytes, bytes]]) -> None:
        """The application has given the head of the response."""

    def response_complete(self) -> None:
        """All of the response is written; ``close_after_response`` came first, if at all."""

    def application_failed(
        self, scope: Mapping[str, Any], error: BaseException | None, *, is_answered: bool
    ) -> None:
        """The application raised, or returned (no error) without a whole response."""

    def close_after_response(self) -> None:
        """The response is the last one."""

    def pause_body(self) -> None:
        """More of the request's body waits than the application should have to hold."""

    def resume_body(self) -> None:
        """The application waits for the body."""


class UvicornState:
    """What all connections of one application share."""

    def __init__(
        self,
        application: Application,
        *,
        loop: asyncio.AbstractEventLoop,
        root_path: str,
        state: dict[str, Any],
        context: Context,
    ) -> None:
        self.application = application
        self.loop = loop
        self.state = state  # of the lifespan
        self.context = context  # in which requests begin
        self.config = Config(
            _no_application,
            interface="asgi3",
            ws="none",
            lifespan="off",
            # Or it would configure logging for the whole process.
            log_config=None,
            proxy_headers=False,
            root_path=root_path,
        )
        self.server_state = ServerState()
        self._date_at = 0
        self._unflushed: list[UvicornTransport] = []

    def flush_soon(self, transport: "UvicornTransport") -> None:
        """Write a head in this iteration of the event loop, also if nothing follows it."""
        if not self._unflushed:
            self.loop.call_soon(self._flush)
        self._unflushed.append(transport)

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, []
        for transport in unflushed:
            transport.flush()

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The requests that the application handles, also after their responses."""
        return self.server_state.tasks

    def update_date(self) -> None:
        """Update the Date of responses (RFC 9110, section 6.6.1)."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            date = formatdate(now, usegmt=True).encode()
            self.server_state.default_headers = [(b"date", date)]


async def _no_application(_scope: object, _receive: object, _send: object) -> None:
    """Stand in uvicorn's configuration: gateman runs the application."""


class UvicornTransport(asyncio.Transport):
    """The transport that uvicorn sees: writes a response's head together with what follows."""

    __slots__ = ("_exchange", "_head", "_state", "_transport", "is_head_due")

    def __init__(
        self, state: UvicornState, transport: asyncio.Transport, exchange: Exchange
    ) -> None:
        self._state = state
        self._transport = transport
        self._exchange = exchange
        self._head = b""
        self.is_head_due = False  # whether the next write is the head of a response

    def write(self, data: Any) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif self.is_head_due:
            # One segment, and one record of TLS, with a body that comes at once.
            self.is_head_due = False
            self._head = data
            self._state.flush_soon(self)
        elif data:
            self._transport.write(data)

    @property
    def is_held(self) -> bool:
        """Whether a head waits for what follows it."""
        return bool(self._head)

    def flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        self._exchange.close_after_response()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._exchange.pause_body()

    def resume_reading(self) -> None:
        self._exchange.resume_body()

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        """Keep the peer's address from uvicorn: proxies may tell the client's."""
        return default


class UvicornProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection: heads and bodies in, responses out."""

    def __init__(
        self, state: UvicornState, transport: asyncio.Transport, exchange: Exchange
    ) -> None:
        super().__init__(state.config, state.server_state, state.state, _loop=state.loop)
        self._state = state
        self._exchange = exchange
        self._sees_head = False
        self._refusal: HandshakeError | None = None
        self.access_log = False
        # Whether its parser has seen the end of the request.
        self.is_complete = False
        self.sink = UvicornTransport(state, transport, exchange)
        super().connection_made(self.sink)

    @property
    def _current(self) -> RequestResponseCycle | None:
        return self.cycle

    def forget(self) -> None:
        """Forget a request that is over, and its response."""
        self.cycle = None  # type: ignore[assignment] # as before the first request

    @property
    def is_answered(self) -> bool:
        """Whether the head of the response is given to the transport."""
        cycle = self._current
        return cycle is not None and cycle.response_started and not self.sink.is_head_due

    def begin(self, head: bytes) -> None:
        """Take the head of a request; raises HandshakeError, as :meth:`Exchange.takes` does."""
        self.is_complete = False
        self._sees_head = True
        self._refusal = None
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            # With an Upgrade field, which `takes` has refused, and without a body.
            pass
        except httptools.HttpParserError:
            # The error's text quotes the peer's bytes.
            raise HandshakeError(400, "The request head is malformed.") from None
        if self._refusal is not None:
            raise self._refusal
        if self._sees_head:
            raise HandshakeError(400, "The request head is malformed.")

    def feed(self, data: bytes) -> None:
        """Take a part of the body; raises httptools.HttpParserError."""
        self.parser.feed_data(data)

    def disconnect(self) -> None:
        """Tell the application that the client is gone; what it sends from now on is discarded."""
        cycle = self._current
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            self.flow.resume_writing()

    def finish(self) -> None:
        """Make the response the last one."""
        if self._current is not None:
            self._current.keep_alive = False

    def end_stream(self) -> None:
        """End a response as if the application had; it learns that the client is gone."""
        cycle = self._current
        self.sink.write(b"0\r\n\r\n" if cycle is not None and cycle.chunked_encoding else b"")
        self.disconnect()

    # What uvicorn's parser calls.

    def on_url(self, url: bytes) -> None:
        # RFC 9112, section 3.2.2: a whole URL.
        self.url = url if url.startswith(b"/") else origin_form(url.decode()).encode()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Fields behind the body must not become those of the head (RFC 9110, section 6.5.1).
        if self._sees_head:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._sees_head = False
        try:
            fields = self._exchange.takes(self.headers, self.scope)  # type: ignore[arg-type]
        except HandshakeError as error:
            self._refusal = error
            return
        if fields is not None:
            expected = fields.get(b"expect")
            if expected is not None:
                self.expect_100_continue = expected[0].lower() == b"100-continue"
            self._state.update_date()
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.is_complete = True
        if self.cycle is not None:
            super().on_message_complete()

    # The request at work.

    def _start_asgi_task(self, cycle: RequestResponseCycle, _app: Any) -> None:
        # It leaves the set itself: a callback of its end would cost a turn of the event loop.
        self.tasks.add(self.loop.create_task(self._run(cycle), context=self._state.context.copy()))

    async def _run(self, cycle: RequestResponseCycle) -> None:
        def send(message: MutableMapping[str, Any]) -> Any:
            if not cycle.response_started:
                self._start_response(cycle, message)
            elif cycle.expected_content_length > _ENDLESS >> 1 and not message.get("more_body"):
                cycle.expected_content_length = len(message.get("body", b""))
            return cycle.send(message)  # type: ignore[arg-type] # the application's own

        try:
            if cycle.disconnected:
                # The rest of the request was not sound.
                return
            await self._state.application(cycle.scope, cycle.receive, send)
        except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - of this request alone
            self._ended(cycle, error)
        else:
            self._ended(cycle, None)
        finally:
            cycle.on_response = _ignore
            self.tasks.discard(asyncio.current_task())

    def _start_response(
        self, cycle: RequestResponseCycle, message: MutableMapping[str, Any]
    ) -> None:
        if cycle.disconnected or message["type"] != "http.response.start":
            return
        self.sink.is_head_due = True
        headers = message.get("headers", ())
        if type(headers) is not list:
            message["headers"] = headers = list(headers)
        if cycle.scope["http_version"] == "1.0" and not any(
            name.lower() == b"content-length" for name, _ in headers
        ):
            # RFC 9112, section 6.1: no chunks for HTTP/1.0; the end of the connection is its end.
            cycle.chunked_encoding = False
            cycle.expected_content_length = _ENDLESS
        self._exchange.response_started(message["status"], headers)

    def _ended(self, cycle: RequestResponseCycle, error: BaseException | None) -> None:
        if cycle.response_complete:
            if error is not None:
                self._exchange.application_failed(cycle.scope, error, is_answered=True)
        elif not cycle.disconnected:
            # Of a client that is gone, nothing is said: most applications raise then.
            self._exchange.application_failed(cycle.scope, error, is_answered=False)

    def on_response_complete(self) -> None:
        self._exchange.response_complete()


def _ignore() -> None:
    """Take the end of a response that is over."""
