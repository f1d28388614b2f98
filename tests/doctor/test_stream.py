"""One connection of a probe."""

import asyncio
import contextlib

import pytest

from gateman.doctor.stream import opened
from tests.support.loop import on_loop


@on_loop
async def test_it_is_aborted_at_the_end() -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.close()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        async with opened("127.0.0.1", server.sockets[0].getsockname()[1]) as (_, writer):
            assert not writer.is_closing()
        await asyncio.wait_for(ended.wait(), 5)


@on_loop
async def test_a_refused_connection() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()

    with pytest.raises(ConnectionRefusedError):
        async with opened("127.0.0.1", port):
            pass
