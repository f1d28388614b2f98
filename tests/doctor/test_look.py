"""A look at all parts of the way."""

import asyncio
import socket

import pytest

from gateman import Worker, serve
from gateman.doctor.look import look
from gateman.doctor.target import Settings
from gateman.doctor.verdict import State
from gateman.errors import UsageMistake
from tests.support.loop import on_loop


@on_loop
async def test_a_healthy_service() -> None:
    said: list[str] = []
    async with serve(Worker("websocket://127.0.0.1:0")) as serving:
        verdict = await look(serving.urls[0], Settings(), None, said.append)

    assert (verdict.state, verdict.causes, verdict.warnings) == (State.HEALTHY, (), ())
    assert verdict.rows
    assert said


@on_loop
async def test_a_page_s_url() -> None:
    with pytest.raises(UsageMistake, match=r"write wss://a\.test/"):
        await look("https://a.test/", Settings(), None, lambda _text: None)


@on_loop
async def test_it_ends_in_time() -> None:
    """With a server that accepts and says nothing."""
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        verdict = await look(
            f"wss://127.0.0.1:{port}/", Settings(timeout=2), None, lambda _text: None
        )

    assert verdict.state is not State.HEALTHY
    assert loop.time() - begun_at < 20
