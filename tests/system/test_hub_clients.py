"""The hub's messages to many, with clients of every kind at real sockets: compressed, and slow."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from gateman import Connection, Deflate

from ..support.cluster import alone
from ..support.deadlines import TIMEOUT
from ..support.loop import eventually, on_loop
from ..support.slow import CHUNK_COST, LARGE, LIMIT, Reader, numbered, slow

COUNT = 100
"""Messages, of which a slow client can hold about a tenth."""


@on_loop
async def test_a_slow_member_loses_its_own_messages_only() -> None:
    """It meets its own bound, what it does get is in order, and the others get everything."""
    async with alone(limits={"max_send_buffer_size": LIMIT}) as node:
        quick = await node.client("room")
        lagging, socket = await slow(node.server)
        await lagging.join("room")
        heard: list[str | bytes] = []
        for number in range(COUNT):
            node.hub.send_to_group("room", numbered(number))
            heard += await quick.read()
            assert lagging.send_buffer_size <= LIMIT + CHUNK_COST * LIMIT // LARGE
        assert heard == [numbered(number) for number in range(COUNT)]
        assert quick.connection.dropped == 0
        assert 0 < lagging.dropped < COUNT

        socket.go_on_reading()
        numbers = await Reader(socket).read_numbers(COUNT - lagging.dropped)
        assert numbers == sorted(set(numbers))
        await socket.close()


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@on_loop
async def test_every_kind_of_client_reads_the_same(*, secure: bool) -> None:
    """With compression or without, with a context that lasts or not; in one order for all."""
    offers: list[dict[str, Any]] = [
        {"compression": None},
        {"compression": None},
        {},
        *[
            {"extensions": [ClientPerMessageDeflateFactory(server_no_context_takeover=fresh)]}
            for fresh in (True, True, False)
        ],
    ]
    opened: list[Connection] = []

    def enter(connection: Connection) -> None:
        connection.join("room")
        opened.append(connection)

    async with (
        alone(on_open=enter, compression=Deflate(), secure=secure) as node,
        AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(node.server.client(**offer)) for offer in offers]
        await eventually(lambda: len(opened) == len(offers))
        text, data = "to be, or not to be: " * 100, b"\x00\xff" * 5000
        for _ in range(3):
            node.hub.send_to_group("room", text)
            for connection in opened:
                connection.send("only for you")
            node.hub.send_to_all(data)
        async with asyncio.timeout(TIMEOUT):
            heard = [[await client.recv() for _ in range(9)] for client in clients]

    assert heard == [[text, "only for you", data] * 3] * len(offers)
