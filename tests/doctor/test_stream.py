"""One connection of a probe."""

import asyncio
import contextlib

import pytest

from gateman.doctor.stream import follow, opened
from gateman.doctor.target import Route
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


@on_loop
async def test_a_route_without_tls() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        route = Route(address="127.0.0.1", port=port, is_tls=False)
        async with follow(route) as (reader, _):
            assert await asyncio.wait_for(reader.read(5), 5) == b"hello"
