"""Who speaks on a process's bus beside its hub: both who do, and what they are told."""

from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.cluster.extension import NodeExtension
from gateman.cluster.hub import Hub
from gateman.cluster.names import NodeId
from gateman.errors import EnvelopeError
from gateman.gateway.business_service import BusinessService
from gateman.gateway.gateway_service import GatewayService

from ..support.loop import eventually, on_loop, turns, until_idle

_: tuple[type[NodeExtension], ...] = (GatewayService, BusinessService)


class Lodger:
    """
    A tenant that takes note of what it is told.

    Attributes:
        taken: From whom, and what.
        return_count: How often the bus was away.
    """

    def __init__(self) -> None:
        self.taken: list[tuple[NodeId, bytes]] = []
        self.return_count = 0

    def take(self, source: NodeId, data: bytes) -> None:
        """Take what another tenant sent."""
        self.taken.append((source, data))
        if data == b"junk":
            raise EnvelopeError("it is junk")

    def returned(self) -> None:
        """Count it."""
        self.return_count += 1


async def hubs(broker: MemoryBroker, count: int) -> list[tuple[Hub, Lodger]]:
    """Start hubs, each with a tenant."""
    made = []
    for _ in range(count):
        hub, lodger = Hub(), Lodger()
        await hub.start(MemoryBus(broker=broker))
        hub.local_node.extension = lodger
        made.append((hub, lodger))
    return made


@on_loop
async def test_a_message_to_all_reaches_all_other_extensions() -> None:
    """And what is for one to that one only, in order."""
    [(one, lodger), (other, other_lodger), (third, third_lodger)] = await hubs(MemoryBroker(), 3)
    one.local_node.send_to_extension(None, b"1")
    one.local_node.send_to_extension(other.node, b"2")
    one.local_node.send_to_extension(None, b"3")
    await eventually(lambda: len(third_lodger.taken) == 2)

    assert other_lodger.taken == [(one.node, b"1"), (one.node, b"2"), (one.node, b"3")]
    assert third_lodger.taken == [(one.node, b"1"), (one.node, b"3")]
    assert lodger.taken == []
    for hub in (one, other, third):
        await hub.stop()


@on_loop
async def test_malformed_messages_are_counted() -> None:
    """As everything that is malformed; what follows is taken."""
    [(one, _), (other, lodger)] = await hubs(MemoryBroker(), 2)
    for data in (b"junk", b"1"):
        one.local_node.send_to_extension(other.node, data)
    await eventually(lambda: len(lodger.taken) == 2)

    assert (one.counts["bad_envelope"], other.counts["bad_envelope"]) == (0, 1)
    await one.stop()
    await other.stop()


@on_loop
async def test_without_an_extension_its_messages_are_ignored() -> None:
    """Most processes on a bus have none, and it is no fault of anybody."""
    [(one, _), (other, lodger)] = await hubs(MemoryBroker(), 2)
    other.local_node.extension = None
    one.local_node.send_to_extension(other.node, b"1")
    await until_idle()

    assert lodger.taken == []
    assert (other.counts["bad_envelope"], other.counts["received"]) == (0, 0)
    await one.stop()
    await other.stop()


@on_loop
async def test_the_extension_learns_that_the_bus_was_away() -> None:
    """Once, when it is back."""
    broker = MemoryBroker()
    [(one, lodger)] = await hubs(broker, 1)
    broker.go_down()
    await turns()
    before = lodger.return_count
    broker.come_up()
    await eventually(lambda: lodger.return_count == 1)

    assert before == 0
    await one.stop()
