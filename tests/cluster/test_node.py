"""What goes between a process and its bus, above all when something goes wrong."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateman.bus import Bus, Cause, Gap, Subject, subject
from gateman.bus.local import local_bus
from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.bus.router_wire import HELLO
from gateman.bus.subscriptions import PendingSubscription
from gateman.cluster import envelope as e
from gateman.cluster.confirmation import Confirmation
from gateman.cluster.hub import Hub
from gateman.cluster.names import ClientId, Group, NodeId
from gateman.errors import ConfirmTimeout, EnvelopeError, HubError, PartialResult, UnknownClient

from ..support.cluster import Deaf, alone, cluster
from ..support.deadlines import TIMEOUT
from ..support.loop import eventually, on_loop

END = "end"


def two(broker: MemoryBroker) -> tuple[list[Deaf], Any]:
    """Make what makes buses that can be deaf, and a list of those that were made."""
    made: list[Deaf] = []

    def make() -> Bus:
        made.append(Deaf(broker=broker))
        return made[-1]

    return made, make


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
    buses, make = two(MemoryBroker())
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
    buses, make = two(broker)
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
async def test_commands_for_other_processes_are_not_passed_on() -> None:
    """A command that came to the wrong process does not travel further."""
    broker = MemoryBroker()
    stranger = MemoryBus(broker=broker)
    await stranger.start()
    async with cluster(2, lambda: MemoryBus(broker=broker)) as [one, other]:
        client = await other.client()
        join = e.Join(ClientId(client.id), Group("room"))
        command = e.encode(e.Command(NodeId("stranger"), 0, join))
        stranger.publish(subject("node", one.hub.node), command)
        await eventually(lambda: one.hub.counts["unknown_client"] == 1)

        assert await other.hub.groups() == set()
    await stranger.stop()


class Unconfirming(MemoryBus):
    """A bus that never says that a subscription is in effect, but for the first two."""

    count = 0

    def subscribe(self, subject: Subject, receive: Any) -> Any:
        """Confirm, or not."""
        self.count += 1
        subscribing = super().subscribe(subject, receive)
        return subscribing if self.count <= 2 else PendingSubscription()


@on_loop
async def test_awaiting_a_subscription_times_out() -> None:
    """After a while: it is done here, but nobody knows about the others."""
    broker = MemoryBroker()
    async with cluster(1, lambda: Unconfirming(broker=broker)) as [one]:
        client = await one.client()
        one.hub.answer_timeout = 0.05
        with pytest.raises(ConfirmTimeout) as caught:
            await client.connection.join("room")
        assert str(caught.value) == (
            "the bus has not confirmed in 0.05 seconds that what is sent to the group 'room'"
            " elsewhere arrives here."
        )
        one.hub.send_to_group("room", "1")
        assert await client.read() == ["1"]


@on_loop
async def test_a_process_that_does_not_confirm_is_named() -> None:
    """Nobody knows whether it has done what was asked for."""
    buses, make = two(MemoryBroker())
    async with cluster(2, make) as [one, other]:
        client = await other.client()
        buses[1].is_deaf = True
        one.hub.answer_timeout = 0.05
        with pytest.raises(ConfirmTimeout) as caught:
            await one.hub.join_group(client.id, "room")
        assert str(caught.value) == (
            f"no answer from {other.hub.node}, where {client.id} is connected."
        )


@on_loop
async def test_the_clients_of_a_process_that_ends_are_unknown() -> None:
    """Who waits for it to confirm hears that the client is gone, and does not wait longer."""
    broker = MemoryBroker()
    buses, make = two(broker)
    async with cluster(2, make) as [one, other]:
        client = await other.client()
        buses[1].is_deaf = True
        one.hub.answer_timeout = 60
        joining = asyncio.ensure_future(_wait_for(one.hub.join_group(client.id, "room")))
        await eventually(lambda: one.bus is not None and one.bus.counts["published"] > 0)
        bye = e.encode(e.Bye(NodeId(other.hub.node)))
        assert buses[1].publish(subject("all"), bye)
        with pytest.raises(UnknownClient) as caught:
            await joining

        assert caught.value.client_id == client.id


async def _wait_for(confirmation: Confirmation[None]) -> None:
    await confirmation


@on_loop
async def test_awaiting_fails_at_once_while_the_bus_is_away() -> None:
    """What they were to do is counted, and whoever wants to know is told at once."""
    broker = MemoryBroker()
    async with cluster(2, lambda: MemoryBus(broker=broker)) as [one, other]:
        client = await other.client()
        one.hub.answer_timeout = 60
        broker.go_down()
        one.hub.leave_group(client.id, "room")
        one.hub.dissolve_group("room")
        with pytest.raises(ConfirmTimeout) as unconfirmed:
            await one.hub.join_group(client.id, "room")
        with pytest.raises(PartialResult) as partial:
            await one.hub.get_session(client.id)
        with pytest.raises(PartialResult):
            await one.hub.is_online("nowhere-1")
        one.hub.send_to_client("nowhere-1", "x")
        await eventually(lambda: one.hub.counts["unsent"] == 1)
        broker.come_up()

        assert str(unconfirmed.value) == (
            f"the bus is away, and with it {other.hub.node}, where {client.id} is connected."
        )
        assert partial.value.missing == (other.hub.node,)
        assert one.hub.counts["unsent_commands"] == 3
        assert one.hub.counts["unknown_client"] == 0


@on_loop
async def test_a_session_too_big_for_the_bus_is_refused() -> None:
    """Where the client is connected, there is no such limit."""
    broker = MemoryBroker()
    async with cluster(2, lambda: MemoryBus(broker=broker, max_payload_size=2000)) as [one, other]:
        client = await other.client()
        picture = b"x" * 2000
        with pytest.raises(HubError, match="cannot go to other processes"):
            one.hub.set_session(client.id, {"picture": picture})
        with pytest.raises(HubError, match="cannot go to other processes"):
            one.hub.update_session(client.id, picture=picture)
        await other.hub.set_session(client.id, {"picture": picture})
        with pytest.raises(EnvelopeError, match="cannot be sent to another process"):
            await one.hub.get_session(client.id)

        assert client.connection.session == {"picture": picture}


@on_loop
async def test_an_awaited_command_is_sent_again_if_it_was_under_way() -> None:
    """Somebody may come to wait for it later; it is done once all the same."""
    async with cluster(2) as [one, other]:
        client = await other.client()
        confirmation = one.hub.join_group(client.id, "room")
        unknown = one.hub.join_group(f"{other.hub.node}-99", "room")
        await eventually(lambda: "room" in other.hub.local_node.local_clients.registry.groups())
        await confirmation
        with pytest.raises(UnknownClient):
            await unknown
        one.hub.send_to_group("room", "1")

        assert await client.read() == ["1"]


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
