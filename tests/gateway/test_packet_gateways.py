"""Gateways whose clients speak another protocol than WebSocket."""

import asyncio
from typing import Any

import pytest

from gateman.cluster.hub import Hub
from gateman.cluster.names import ClientId
from gateman.gateway.dispatch import Dispatch
from gateman.protocols.raw import Raw
from tests.support.gateways import read, site
from tests.support.loop import eventually, on_loop
from tests.support.raw import EOF

LINES = "text://127.0.0.1:0"


@on_loop
async def test_business_workers_get_lines_and_answer_them() -> None:
    """There is no handshake, and the client's end comes after what it has sent."""
    hub = Hub()

    async def answer(client_id: ClientId, message: str) -> None:
        await asyncio.sleep(0)
        hub.send_to_client(client_id, message.upper())

    async with site() as there:
        business = await there.business(hub, on_message=answer)
        gateway = await there.gateway(LINES)
        client = await gateway.server.connect()
        await client.send(b"one\ntwo\n")
        client.end()
        assert await client.read_end() == (b"ONE\nTWO\n", EOF)
        await business.journal.until("close")

        assert [entry[0] for entry in business.journal.entries] == ["open", "close"]
        assert business.journal.entries[1][2:] == (1000, "")


@on_loop
async def test_a_group_has_members_of_all_protocols() -> None:
    """Each gets a message in its form, with each gateway process for itself."""
    hub = Hub()
    async with site() as there:

        async def join(client_id: ClientId) -> None:
            await hub.join_group(client_id, "all")
            there.journal.note("joined")

        await there.business(hub, on_open=join)
        lines = await (await there.gateway(LINES)).server.connect()
        frames = await (await there.gateway("frame://127.0.0.1:0")).server.connect()
        page = await (await there.gateway()).client()
        await there.journal.until("joined", count=3)
        there.hub.send_to_group("all", "ä")
        assert await lines.read(3) == "ä\n".encode()
        assert await frames.read(6) == b"\0\0\0\6" + "ä".encode()
        assert await read(page) == ["ä"]


@on_loop
async def test_messages_wait_for_a_business_worker() -> None:
    """A client that leaves before one has come is forgotten, unless it has sent something."""
    async with site() as there:
        gateway = await there.gateway(LINES)
        silent = await gateway.server.connect()
        speaking = await gateway.server.connect()
        await speaking.send(b"reading\n")
        await eventually(lambda: len(gateway.dispatch.clients) == 2)
        await silent.close()
        await speaking.close()
        await eventually(lambda: len(gateway.dispatch.clients) == 1)
        business = await there.business()
        await business.journal.until("close")
        await gateway.settle()

        assert [entry[0] for entry in business.journal.entries] == ["open", "message", "close"]


class _Pairs(Raw):
    def decode(self, packet: bytes) -> Any:
        return (packet, 1) if packet == b"pair" else packet


@on_loop
async def test_only_text_and_bytes_reach_business_workers() -> None:
    async with site() as there:
        business = await there.business()
        gateway = await there.gateway("tcp://127.0.0.1:0", protocol=_Pairs)
        client = await gateway.server.connect()
        await client.send(b"bytes")
        await business.journal.until("message")
        await client.send(b"pair")
        assert await client.read_end() == (b"", EOF)
        [line] = gateway.server.lines()
        assert "decode returned tuple" in line


@pytest.mark.parametrize("has_sent", [False, True])
def test_what_no_process_knows_of_a_client(*, has_sent: bool) -> None:
    dispatch = Dispatch(grace_period=0)
    name = ClientId("a-1")
    dispatch.arrive(name, "192.0.2.1", 1)
    if has_sent:
        dispatch.message(dispatch.clients[name], "reading")
    dispatch.close(name, 1000, "", b"")

    assert (name in dispatch.clients) is has_sent
    assert (dispatch.size > 0) is has_sent


@on_loop
async def test_a_gateway_that_does_not_wait_closes() -> None:
    async with site() as there:
        gateway = await there.gateway(LINES, without_business="refuse")
        client = await gateway.server.connect()
        await client.send(b"one\n")
        assert await client.read_end() == (b"", EOF)
        assert gateway.dispatch.clients == {}
        assert gateway.service.counts["no_business"] == 1
        gateway.server.lines()
