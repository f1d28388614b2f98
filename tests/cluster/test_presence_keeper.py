"""Who joins and leaves channels, told by nodes on a bus."""

from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.cluster.names import Group
from gateman.cluster.presence import PresenceEvent
from gateman.cluster.publication import ClientInfo

from ..support.cluster import Client, Deaf, Node, alone, cluster
from ..support.loop import eventually, on_loop

ROOM = Group("room")

Told = list[tuple[str, str]]


def listen(node: Node) -> Told:
    """Note the users who join and leave, as a node is told."""
    told: Told = []

    def note(event: PresenceEvent) -> None:
        told.append(("join" if event.is_join else "leave", event.info.user))

    node.hub.local_node.presence.listen(note)
    return told


async def enter(node: Node, user: str, delay: float = 0.4) -> Client:
    client = await node.client("room", uid=user)
    info = ClientInfo(client.connection.client_id, user)  # type: ignore[arg-type]
    node.hub.local_node.presence.join(ROOM, info, delay)
    return client


@on_loop
async def test_nodes_tell_each_other_who_joins_and_leaves() -> None:
    async with cluster(2) as [one, other]:
        here, there = listen(one), listen(other)
        ann = await enter(one, "ann")
        await enter(other, "bob")
        await eventually(lambda: here == [("join", "ann"), ("join", "bob")])
        assert there == [("join", "bob")]

        one.hub.local_node.presence.leave(ROOM, ann.id)  # type: ignore[arg-type]
        await eventually(lambda: there == [("join", "bob"), ("leave", "ann")])


@on_loop
async def test_a_leave_waits_for_the_user() -> None:
    async with cluster(2) as [one, other]:
        there = listen(other)
        await enter(other, "bob")
        ann, cid = await enter(one, "ann"), await enter(one, "cid")
        presence = one.hub.local_node.presence
        presence.leave(ROOM, ann.id, 60.0)  # type: ignore[arg-type]
        presence.leave(ROOM, cid.id, 0.3)  # type: ignore[arg-type]

        await eventually(lambda: there[-1] == ("leave", "cid"))
        await enter(other, "ann")
        assert there[-2:] == [("join", "ann"), ("leave", "ann")]


@on_loop
async def test_a_node_without_a_bus_tells_its_own() -> None:
    async with alone() as node:
        told = listen(node)
        ann = await enter(node, "ann")
        node.hub.local_node.presence.leave(ROOM, ann.id)  # type: ignore[arg-type]

        assert told == [("join", "ann"), ("leave", "ann")]


@on_loop
async def test_the_clients_of_a_node_that_stops_leave() -> None:
    async with cluster(2) as [one, other]:
        there = listen(other)
        await enter(one, "ann")
        await enter(other, "bob")
        await eventually(lambda: len(other.hub.local_node.presence.members(ROOM)) == 2)

        await one.hub.stop()

        await eventually(lambda: there == [("join", "bob"), ("leave", "ann")])


@on_loop
async def test_what_was_missed_while_the_bus_was_away_is_told_when_it_is_back() -> None:
    broker = MemoryBroker()
    async with cluster(2, lambda: MemoryBus(broker=broker)) as [one, other]:
        there = listen(other)
        await enter(other, "bob")
        ann, cid = await enter(one, "ann"), await one.client(uid="cid")
        await eventually(lambda: there[-1] == ("join", "ann"))

        broker.go_down()
        one.hub.local_node.presence.leave(ROOM, ann.id)  # type: ignore[arg-type]
        cid.connection.join("room")
        info = ClientInfo(cid.connection.client_id, "cid")  # type: ignore[arg-type]
        one.hub.local_node.presence.join(ROOM, info, 0.4)
        broker.come_up()

        await eventually(lambda: len(there) == 4)
        assert sorted(there[2:]) == [("join", "cid"), ("leave", "ann")]


@on_loop
async def test_a_node_that_is_not_heard_any_more_has_left() -> None:
    broker = MemoryBroker()
    buses: list[Deaf] = []

    def make() -> Deaf:
        buses.append(Deaf(broker=broker))
        return buses[-1]

    async with cluster(2, make) as [one, other]:
        there = listen(other)
        await enter(other, "bob")
        await enter(one, "ann")
        await eventually(lambda: there[-1] == ("join", "ann"))
        buses[1].is_deaf = True

        await eventually(lambda: there[-1] == ("leave", "ann"))
        buses[1].is_deaf = False
        await eventually(lambda: there[-1] == ("join", "ann"))
