"""Who speaks on a process's bus beside its hub: both who do, and what they are told."""

import pytest

from gateman.bus.memory import Broker, MemoryBus
from gateman.cluster.envelope import ClientAction, Join
from gateman.cluster.hub import Hub
from gateman.cluster.names import Group, NodeId, client_id
from gateman.cluster.tenant import Tenant
from gateman.errors import EnvelopeError, UnknownClient
from gateman.gateway.front import GatewayService
from gateman.gateway.office import BusinessService

from ..support.loop import eventually, on_loop, turns

_: tuple[type[Tenant], ...] = (GatewayService, BusinessService)


class Lodger:
    """
    A tenant that takes note of what it is told.

    Attributes:
        taken: From whom, and what.
        return_count: How often the bus was away.
        visitors: The numbers of clients that are on their way in.
        done: What is to be done with them.
    """

    def __init__(self) -> None:
        self.taken: list[tuple[NodeId, bytes]] = []
        self.return_count = 0
        self.visitors: set[str] = set()
        self.done: list[ClientAction] = []

    def take(self, source: NodeId, data: bytes) -> None:
        """Take what another tenant sent."""
        self.taken.append((source, data))
        if data == b"junk":
            raise EnvelopeError("it is junk")

    def returned(self) -> None:
        """Count it."""
        self.return_count += 1

    def do_early(self, action: ClientAction) -> bool:
        """Take note of what is done with those on their way in."""
        if action.client in self.visitors:
            self.done.append(action)
        return action.client in self.visitors


async def hubs(broker: Broker, count: int) -> list[tuple[Hub, Lodger]]:
    """Start hubs, each with a tenant."""
    made = []
    for _ in range(count):
        hub, lodger = Hub(), Lodger()
        await hub.start(MemoryBus(broker=broker))
        hub.station.tenant = lodger
        made.append((hub, lodger))
    return made


@on_loop
async def test_what_is_for_all_comes_to_all_others() -> None:
    """And what is for one to that one only, in order."""
    [(one, lodger), (other, other_lodger), (third, third_lodger)] = await hubs(Broker(), 3)
    one.station.send_parcel(None, b"1")
    one.station.send_parcel(other.node, b"2")
    one.station.send_parcel(None, b"3")
    await eventually(lambda: len(third_lodger.taken) == 2)

    assert other_lodger.taken == [(one.node, b"1"), (one.node, b"2"), (one.node, b"3")]
    assert third_lodger.taken == [(one.node, b"1"), (one.node, b"3")]
    assert lodger.taken == []
    for hub in (one, other, third):
        await hub.stop()


@on_loop
async def test_what_it_cannot_read_is_counted() -> None:
    """As everything that is malformed; what follows is taken."""
    [(one, _), (other, lodger)] = await hubs(Broker(), 2)
    for data in (b"junk", b"1"):
        one.station.send_parcel(other.node, data)
    await eventually(lambda: len(lodger.taken) == 2)

    assert (one.counts["bad_envelope"], other.counts["bad_envelope"]) == (0, 1)
    await one.stop()
    await other.stop()


@on_loop
async def test_without_one_parcels_are_nobody_s() -> None:
    """Most processes on a bus have none, and it is no fault of anybody."""
    [(one, _), (other, lodger)] = await hubs(Broker(), 2)
    other.station.tenant = None
    one.station.send_parcel(other.node, b"1")
    await turns(10)

    assert lodger.taken == []
    assert (other.counts["bad_envelope"], other.counts["received"]) == (0, 0)
    await one.stop()
    await other.stop()


@on_loop
async def test_it_is_told_that_the_bus_was_away() -> None:
    """Once, when it is back."""
    broker = Broker()
    [(one, lodger)] = await hubs(broker, 1)
    broker.take_away()
    await turns()
    before = lodger.return_count
    broker.bring_back()
    await eventually(lambda: lodger.return_count == 1)

    assert before == 0
    await one.stop()


@on_loop
async def test_it_is_asked_for_clients_that_are_not_in_yet() -> None:
    """From here and from elsewhere; whom it does not know either is unknown."""
    [(one, lodger), (other, _)] = await hubs(Broker(), 2)
    visitor, nobody = client_id(one.node, 1), client_id(one.node, 2)
    lodger.visitors.add(visitor)
    await one.join_group(visitor, "room")
    await other.join_group(visitor, "hall")
    for hub in (one, other):
        with pytest.raises(UnknownClient):
            await hub.join_group(nobody, "room")

    assert lodger.done == [Join(visitor, Group("room")), Join(visitor, Group("hall"))]
    await one.stop()
    await other.stop()
