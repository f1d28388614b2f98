"""The client of a test."""

import asyncio
from typing import Any

import pytest

from gateman import Limits, Worker, testing
from tests.support.loop import on_loop

from .chat import chat


@on_loop
async def test_what_is_missing_and_what_is_too_much_is_told() -> None:
    async with testing.connect(chat(), "/jazz?token=t") as client:
        await client.send("one")
        await client.receive()
        with pytest.raises(AssertionError, match=r"within 0.01 s; received before: .*one"):
            await client.receive(timeout=0.01)
        await client.receive_nothing()
        await client.send("two")
        with pytest.raises(AssertionError, match=r"nothing was expected, and received: .*two"):
            await client.receive_nothing()


@on_loop
async def test_a_client_that_drops_and_comes_back() -> None:
    worker = chat()
    closed = asyncio.Event()
    worker.on_close = lambda *_: closed.set()
    async with testing.connect(worker, "/jazz?token=t"):
        async with testing.connect(worker, "/jazz?token=t") as first:
            await first.drop()
            await closed.wait()
            assert first.closed == testing.Closed(1006, "")
            with pytest.raises(AssertionError, match="'late' cannot be sent"):
                await first.send("late")
        async with testing.connect(worker, "/jazz?token=t") as again:
            await again.send("back")

            assert await again.receive() == "127.0.0.1: back"


@on_loop
async def test_limits_hold() -> None:
    worker = Worker("websocket://127.0.0.1:1", limits=Limits(max_message_size=10))
    async with testing.connect(worker) as client:
        await client.send("x" * 11)

        assert (await client.wait_closed()).code == 1009


@pytest.mark.parametrize("message", [{"a": 1}, ["a", "b"], None])
@on_loop
async def test_what_a_client_cannot_send(message: Any) -> None:
    async with testing.connect(chat(), "/jazz?token=t") as client:
        with pytest.raises(TypeError, match=r"^a client sends str or bytes, not .+: encode it"):
            await client.send(message)
