"""What goes between a process and its bus, above all when something goes wrong."""

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from gateman.bus import Bus, Cause, Gap, subject
from gateman.bus.local import local_bus
from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.bus.router_wire import HELLO
from gateman.cluster import envelope as e
from gateman.cluster.hub import Hub
from gateman.cluster.names import NodeId
from gateman.errors import UnknownClient

from ..support.cluster import alone, cluster, deaf_buses
from ..support.deadlines import TIMEOUT
from ..support.loop import eventually, on_loop

END = "end"


@on_loop
async def test_local_clients_are_served_while_the_bus_is_away() -> None:
    """What the others do not get is counted, and told when the bus is back."""
    broker = MemoryBroker()
    gaps: list[Gap] = []
    async with cluster(2, lambda: MemoryBus(broker=broker)) as [one, other]:
        one.hub.on_gap = gaps.append
        here, there = [await one.client("room"), await other.client("room")]
        one.hub.send_to_group("room", "1")
        await there.read()
        broker.go_down()
        assert not one.hub.is_connected
        for number in range(3):
            one.hub.send_to_group("room", f"away {number}")
        assert await here.read(4) == ["1", "away 0", "away 1", "away 2"]
        newcomer = await one.client()
        newcomer.connection.join("hall")
        broker.come_up()
        other.hub.send_to_group("hall", "back")
        one.hub.send_to_group("room", END)

        assert await there.read_to(END) == []
        assert await newcomer.read() == ["back"]
        assert (one.hub.counts["published"], one.hub.counts["unsent"]) == (2, 3)
        assert [(gap.cause, gap.unsent, gap.uncertain) for gap in gaps] == [
            (Cause.DISCONNECTED, 3, 0)
        ]
        assert gaps[0].since <= gaps[0].until
        assert other.hub.counts["lost"] == 0


@on_loop
async def test_lost_messages_are_counted_by_their_receiver() -> None:
    """By the next message of that sender on that channel."""
    buses, make = deaf_buses(MemoryBroker())
    async with cluster(2, make) as [one, other]:
        client = await other.client("room", uid="ann")
        one.hub.send_to_group("room", "0")
        one.hub.send_to_uid("ann", "0")
        one.hub.send_to_all("0")
        await client.read(3)
        buses[1].is_deaf = True
        for number in range(1, 6):
            one.hub.send_to_group("room", f"{number}")
            one.hub.send_to_uid("ann", f"{number}")
        one.hub.send_to_client(client.id, "lost before the first")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        buses[1].is_deaf = False
        one.hub.send_to_group("room", "6")
        one.hub.send_to_client(client.id, END)

        assert await client.read_to(END) == ["6"]
        assert other.hub.counts["lost"] == 5


@on_loop
async def test_losses_at_the_end_are_counted_after_a_gap() -> None:
    """Whoever was away asks, and every sender says how far it has come."""
    broker = MemoryBroker()
    buses, make = deaf_buses(broker)
    async with cluster(2, make) as [one, other]:
        client = await other.client("room")
        one.hub.send_to_group("room", "0")
        one.hub.send_to_all("0")
        one.hub.send_to_client(client.id, "0")
        await client.read(3)
        buses[1].is_deaf = True
        for _ in range(4):
            one.hub.send_to_group("room", "lost")
            one.hub.send_to_all("lost")
            one.hub.send_to_client(client.id, "lost")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        buses[1].is_deaf = False
        assert other.hub.counts["lost"] == 0
        broker.go_down()
        broker.come_up()
        await eventually(lambda: other.hub.counts["lost"] == 12)

        assert (one.hub.counts["gaps"], other.hub.counts["gaps"]) == (1, 1)
        assert one.hub.counts["lost"] == 0


@on_loop
async def test_a_node_that_subscribes_again_has_missed_nothing() -> None:
    """What was sent while nobody here was in it, was not for here."""
    async with cluster(2) as [one, other]:
        client = await other.client("room")
        one.hub.send_to_group("room", "1")
        await client.read()
        await client.connection.leave("room")
        one.hub.send_to_group("room", "2")
        one.hub.send_to_all(END)
        await client.read()
        await client.connection.join("room")
        one.hub.send_to_group("room", "3")

        assert await client.read() == ["3"]
        assert other.hub.counts["lost"] == 0


@on_loop
async def test_a_node_that_subscribes_again_has_missed_nothing_of_programs() -> None:
    """Those without clients send as well, and nobody counts them among the processes."""
    broker = MemoryBroker()
    async with cluster(1, lambda: MemoryBus(broker=broker)) as [one]:
        outside = Hub()
        await outside.start(MemoryBus(broker=broker), has_clients=False)
        client = await one.client("room")
        outside.send_to_group("room", "1")
        assert await client.read() == ["1"]
        await client.connection.leave("room")
        outside.send_to_group("room", "2")
        outside.send_to_all(END)
        assert await client.read() == [END]
        await client.connection.join("room")
        outside.send_to_group("room", "3")
        assert await client.read() == ["3"]
        await outside.stop()

        assert one.hub.counts["lost"] == 0


@on_loop
async def test_on_gap_may_be_async_and_may_fail() -> None:
    """What it raises is logged, and is nobody else's."""
    broker = MemoryBroker()
    causes: list[str] = []

    async def note(gap: Gap) -> None:
        causes.append(gap.cause)

    def fail(_: Gap) -> None:
        raise RuntimeError("on_gap")

    async with cluster(1, lambda: MemoryBus(broker=broker)) as [one]:
        one.hub.on_gap = note
        assert one.hub.on_gap is note
        broker.go_down()
        broker.come_up()
        await eventually(lambda: causes == ["disconnected"])
        one.hub.on_gap = fail
        broker.go_down()
        broker.come_up()
        await eventually(lambda: one.hub.counts["gaps"] == 2)
        assert one.server.lines(logging.ERROR) == ["on_gap failed <- RuntimeError('on_gap')"]


@on_loop
async def test_a_slow_process_learns_how_much_it_missed() -> None:
    """The bus drops what it does not take, and the senders know how many there were."""
    broker = MemoryBroker()
    gaps: list[Gap] = []
    buses: list[MemoryBus] = []

    def make() -> Bus:
        buses.append(MemoryBus(broker=broker, max_pending_size=[1 << 20, 2000][len(buses)]))
        return buses[-1]

    async with cluster(2, make) as [one, slow]:
        slow.hub.on_gap = gaps.append
        client = await slow.client("room")
        one.hub.send_to_group("room", "0")
        await client.read()
        for number in range(10):
            one.hub.send_to_group("room", f"{number}" * 1000)
            one.hub.send_to_all("x")
        await eventually(lambda: slow.hub.counts["lost"] > 0)
        received = slow.hub.counts["received"] - 1

        assert [gap.cause for gap in gaps] == [Cause.SLOW]
        await eventually(lambda: received + slow.hub.counts["lost"] >= 10)


FORGED: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("noise", b"\x01noise"),
    ("a later version", b"\x04" + e.encode(e.Bye(NodeId("x")))[1:]),
    ("half an envelope", e.encode(e.Bye(NodeId("stranger")))[:-3]),
    ("another type", b"\x01" + msgspec.msgpack.encode(["y", 7])),
]


@pytest.mark.parametrize(("kind", "payload"), FORGED)
def test_forged_envelopes_are_counted_and_ignored(kind: str, payload: bytes) -> None:
    """Whatever somebody puts on the bus, it costs a count and a line in ten seconds."""

    @on_loop
    async def test() -> None:
        broker = MemoryBroker()
        stranger = MemoryBus(broker=broker)
        await stranger.start()
        async with cluster(1, lambda: MemoryBus(broker=broker)) as [one]:
            client = await one.client("room")
            for _ in range(100):
                stranger.publish(subject("group", "room"), payload)
                stranger.publish(subject("all"), payload)
            await eventually(lambda: one.hub.counts["bad_envelope"] == 200)
            one.hub.send_to_all(END)
            assert await client.read_to(END) == []
            lines = [line for line in one.server.lines() if "ignored" in line]
            assert len(lines) == 1, kind
            assert lines[0].startswith("a message of the bus is ignored: an envelope ")
        await stranger.stop()

    test()


@on_loop
async def test_the_end_says_goodbye() -> None:
    """The others do not wait for a process that has ended in order."""
    broker = MemoryBroker()
    async with cluster(1, lambda: MemoryBus(broker=broker)) as [one]:
        guest = Hub()
        await guest.start(MemoryBus(broker=broker))
        await eventually(lambda: one.hub.nodes == (guest.node,))
        await guest.stop()
        await eventually(lambda: one.hub.nodes == ())
        assert await one.hub.count_clients() == 0


@on_loop
async def test_pending_messages_are_sent_before_stop() -> None:
    """A hub that stops behind a message still sends it."""
    broker = MemoryBroker()
    async with cluster(1, lambda: MemoryBus(broker=broker)) as [one]:
        client = await one.client("room")
        guest = Hub()
        await guest.start(MemoryBus(broker=broker))
        guest.send_to_group("room", "last words")
        await guest.stop()

        assert await client.read() == ["last words"]


@on_loop
async def test_late_answers_are_counted() -> None:
    """An answer for which nobody waits any more is no fault."""
    broker = MemoryBroker()
    stranger = MemoryBus(broker=broker)
    await stranger.start()
    async with cluster(1, lambda: MemoryBus(broker=broker)) as [one]:
        answer = e.QueryReply(
            NodeId("stranger"),
            77,
            part=0,
            is_last=True,
            problem=e.Problem.NONE,
            value=e.encode_value(None),
        )
        stranger.publish(subject("node", one.hub.node), e.encode(answer))
        await eventually(lambda: one.hub.counts["late_answer"] == 1)
    await stranger.stop()


@on_loop
async def test_a_node_without_a_bus_publishes_nothing() -> None:
    """A single process pays for none of it."""
    async with alone() as node:
        client = await node.client("room", uid="ann")
        node.hub.send_to_all("1")
        node.hub.send_to_client("elsewhere-1", "2")
        await client.read()
        node.hub.dissolve_group("room")
        with pytest.raises(UnknownClient):
            await node.hub.join_group("elsewhere-1", "room")

        assert node.hub.counts == {"unknown_client": 2}
        assert (node.hub.is_connected, node.hub.nodes) == (True, ())


@pytest.mark.parametrize("greeting", [b"", HELLO], ids=["silent", "greets only"])
@on_loop
async def test_a_stuck_router_hardly_delays_a_node(tmp_path: Path, *, greeting: bytes) -> None:
    """Wherever it is stuck; the clients here are served without it."""
    path = tmp_path / "router.sock"
    loop = asyncio.get_running_loop()

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        strangers.append(writer)

    strangers: list[asyncio.StreamWriter] = []
    router = await asyncio.start_unix_server(greet, path)
    hub = Hub()
    begun_at = loop.time()
    await hub.start(local_bus(str(path), connect_timeout=2 * TIMEOUT))
    took = loop.time() - begun_at
    await hub.stop()
    for writer in strangers:
        writer.close()
    router.close()

    assert 0.29 < took < TIMEOUT
