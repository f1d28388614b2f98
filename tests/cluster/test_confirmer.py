"""What an awaited action waits for, and what is raised when that does not come."""

import asyncio
from typing import Any

import pytest

from gateman.bus import Subject, subject
from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.bus.subscriptions import PendingSubscription
from gateman.cluster import envelope as e
from gateman.cluster.confirmation import Confirmation
from gateman.cluster.names import NodeId
from gateman.errors import ConfirmTimeout, PartialResult, UnknownClient

from ..support.cluster import cluster, deaf_buses
from ..support.loop import eventually, on_loop


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
    buses, make = deaf_buses(MemoryBroker())
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
    buses, make = deaf_buses(broker)
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
