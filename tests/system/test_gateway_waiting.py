"""What waits between gateways and business processes: how much, and what becomes of it."""

import asyncio
import zlib
from collections import Counter

import pytest

from gateman import Deflate, Limits
from gateman.cluster.hub import Hub
from gateman.cluster.names import ClientId
from gateman.gateway.dispatch import MAX_TOTAL_SIZE
from tests.support.gateways import read, site
from tests.support.loop import eventually, on_loop, until_idle
from tests.support.raw import BINARY, frame, handshake


@pytest.mark.parametrize(("count", "size"), [(1500, 4096), (20_000, 5)], ids=["large", "tiny"])
def test_a_flooding_client_delays_itself_only(count: int, size: int) -> None:
    """It is not read from while its share is under way; others go on, and nothing is lost."""
    on_loop(_flood)([f"{number:0{size}}" for number in range(count)])


async def _flood(said: list[str]) -> None:
    may_go_on = asyncio.Event()
    hub = Hub()

    async def hear(client_id: ClientId, message: str) -> None:
        there.journal.note(client_id, message)
        if len(message) > 1:
            await may_go_on.wait()
        else:
            hub.send_to_client(client_id, message)

    async def talk() -> None:
        for message in said:
            await flooder.send(message)
        await flooder.close(4001, "enough")

    async with site() as there:
        await there.business(hub, on_message=hear)
        gateway_node = await there.gateway()
        [flooder, name], other = await gateway_node.newcomer(), await gateway_node.client()
        talking = asyncio.ensure_future(talk())
        await eventually(lambda: gateway_node.service.counts["clients_paused"] == 1)
        for number in range(10):
            await other.send(f"{number}")
            assert await read(other) == [f"{number}"]
        assert len(gateway_node.dispatch.clients[name].pending) == 32
        # What was read with the last of them.
        assert gateway_node.service.counts["events_waiting"] * len(said[0]) < 1 << 20
        may_go_on.set()
        await talking
        await there.journal.until("close", name, 4001, "enough")
        await gateway_node.settle()
        await eventually(lambda: not gateway_node.service.counts["events_waiting"])

        assert there.journal.of(name) == [(message,) for message in said]
        assert gateway_node.service.counts["clients_paused"] == 0


@on_loop
async def test_messages_wait_while_there_is_no_business_process() -> None:
    """Those who are in stay in, are not read from, and are handled by whoever comes."""
    said = [f"{number:08192}" for number in range(200)]
    async with site() as there:
        first = await there.business()
        gateway_node = await there.gateway()
        client, name = await gateway_node.newcomer()
        await gateway_node.settle()
        await first.stop()

        async def talk() -> None:
            for message in said:
                await client.send(message)
            await client.close()

        talking = asyncio.ensure_future(talk())
        await eventually(lambda: gateway_node.service.counts["clients_paused"] == 1)
        second = await there.business()
        await talking
        await second.journal.until("close")
        await gateway_node.settle()

        assert first.journal.of("message") == []
        assert second.journal.of("message") == [(name, message) for message in said]
        assert second.journal.of("close") == [(name, 1000, "")]
        assert gateway_node.service.counts["events_repeated"] == 0
        await gateway_node.stop()


@on_loop
async def test_what_waits_of_all_clients_has_a_bound() -> None:
    """None is read from then, and nothing is lost: each goes on when a process handles it."""
    count, size = MAX_TOTAL_SIZE // (1 << 20) + 20, 1 << 20
    async with site() as there:

        def hear(client_id: ClientId, message: bytes) -> None:
            there.journal.note("message", client_id, len(message))

        first = await there.business(on_message=hear)
        gateway_node = await there.gateway(limits=Limits(max_connections_per_ip=None))
        clients = [await gateway_node.newcomer() for _ in range(count)]
        await gateway_node.settle()
        await first.stop()
        talking = [asyncio.ensure_future(client.send(bytes(size))) for client, _ in clients]
        dispatch = gateway_node.dispatch
        await eventually(lambda: dispatch.is_full)
        await until_idle()
        # Those that were read meanwhile have a message each in their parser.
        assert MAX_TOTAL_SIZE < dispatch.size < MAX_TOTAL_SIZE + 2 * size
        await there.business(on_message=hear)
        await asyncio.gather(*talking)
        await there.journal.until("message", count=count)
        await gateway_node.settle()

        assert {size for _, size in there.journal.of("message")} == {size}
        assert Counter(name for name, _ in there.journal.of("message")) == Counter(
            name for _, name in clients
        )
        assert (dispatch.size, dispatch.is_full) == (0, False)
        await gateway_node.stop()


@on_loop
async def test_what_is_compressed_waits_compressed() -> None:
    """Behind a client's share: 256 KB of bombs would take 250 MiB in the gateway otherwise."""
    may_go_on = asyncio.Event()

    async def hear(_client_id: ClientId, _message: bytes) -> None:
        await may_go_on.wait()

    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_SYNC_FLUSH)
    bomb = frame(BINARY, packed[:-4], rsv=4)
    extension = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover"
    async with site() as there:
        await there.business(on_message=hear)
        gateway_node = await there.gateway(compression=Deflate())
        attacker = await gateway_node.server.connect()
        await attacker.send(handshake(headers=(extension,)))
        assert (await attacker.read_head()).status == 101
        await attacker.send(bomb * ((256 << 10) // len(bomb)))
        dispatch = gateway_node.dispatch
        await eventually(lambda: dispatch.paused_count == 1)
        await until_idle()

        assert dispatch.size < 3 << 20
        assert gateway_node.service.counts["connections"] == 1
        await attacker.close()
        may_go_on.set()
        await gateway_node.stop()


@on_loop
async def test_what_is_said_while_the_bus_is_away_is_handled_once() -> None:
    """In order, and so are the answers of handlers that ran meanwhile."""
    may_go_on = asyncio.Event()
    async with site() as there:

        async def hear(client_id: ClientId, message: str) -> None:
            there.journal.note("message", client_id, message)
            await may_go_on.wait()

        await there.business(on_message=hear)
        await there.business(on_message=hear)
        gateway_node = await there.gateway()
        clients = [await gateway_node.newcomer() for _ in range(4)]
        await gateway_node.settle()
        for client, _ in clients:
            await client.send("0")
        await there.journal.until("message", count=4)
        there.broker.go_down()
        may_go_on.set()
        for client, _ in clients:
            for number in range(1, 20):
                await client.send(f"{number}")
            await client.close()
        await eventually(lambda: gateway_node.pending_count == 4 * 21)
        there.broker.come_up()
        await there.journal.until("close", count=4)
        await gateway_node.settle()

        for _, name in clients:
            heard = [entry[1] for entry in there.journal.of("message") if entry[0] == name]
            assert heard == [f"{number}" for number in range(20)]
        assert len(there.journal.of("close")) == 4
        assert gateway_node.service.counts["events_repeated"] == 0


@pytest.mark.parametrize("side", ["front", "office"])
def test_what_the_bus_loses_is_sent_again(side: str) -> None:
    """In either direction, without anybody having been away."""
    on_loop(_lose)(side)


async def _lose(side: str) -> None:
    async with site() as there:
        business_node = await there.business()
        gateway_node = await there.gateway()
        client, name = await gateway_node.newcomer()
        await gateway_node.settle()
        bus = gateway_node.bus if side == "front" else business_node.bus
        for number in range(30):
            bus.is_deaf = number % 3 == 1
            await client.send(f"{number}")
            await until_idle()
        bus.is_deaf = False
        await gateway_node.settle()
        await client.close()
        await there.journal.until("close")

        assert there.journal.of("message") == [(name, f"{number}") for number in range(30)]
        assert gateway_node.service.counts["events_repeated"] == 0


@on_loop
async def test_what_a_process_had_when_it_died_goes_to_another() -> None:
    """What it has not said to be done is handled again, in order; new clients go there at once."""
    async with site() as there:

        async def hear(client_id: ClientId, message: str) -> None:
            there.journal.note("begun", client_id, message)
            if message == "2":
                await asyncio.Event().wait()

        dead = await there.business(on_message=hear)
        gateway_node = await there.gateway()
        client, name = await gateway_node.newcomer()
        await gateway_node.settle()
        await client.send("1")
        await there.journal.until("begun", name, "1")
        await gateway_node.settle()
        await client.send("2")
        await client.send("3")
        await there.journal.until("begun", name, "2")
        await dead.kill()
        heir = await there.business()
        await heir.journal.until("message", count=2)
        await gateway_node.settle()
        await eventually(lambda: gateway_node.service.counts["events_repeated"] == 2)

        assert there.journal.of("begun") == [(name, "1"), (name, "2")]
        assert heir.journal.of("message") == [(name, "2"), (name, "3")]
        assert list(gateway_node.dispatch.windows) == [heir.hub.node]
        assert gateway_node.server.lines() == [
            f"gateway: the business process {dead.hub.node} is gone"
        ]
        await gateway_node.stop()
