"""Actions on clients of other processes."""

import pytest

from gateman.bus import subject
from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.cluster import envelope as e
from gateman.cluster.names import ClientId, Group, NodeId
from gateman.errors import EnvelopeError, HubError, UnknownClient

from ..support.cluster import cluster
from ..support.loop import eventually, on_loop


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
