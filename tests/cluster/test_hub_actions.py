"""The hub's methods that change something, with clients at real sockets, alone and among others."""

import pytest
from websockets.exceptions import ConnectionClosed

from gateman.errors import (
    ConfigError,
    EnvelopeError,
    UnknownClient,
)

from ..support.cluster import alone, cluster
from ..support.loop import eventually, on_loop

END = "end"


@on_loop
async def test_messages_before_a_close_arrive_before_it() -> None:
    """The Close waits for what the hub collects."""
    async with alone() as node:
        client = await node.client("room")
        node.hub.send_to_group("room", "1")
        client.connection.close(4001, "bye", "2")

        assert await client.read(2) == ["1", "2"]
        with pytest.raises(ConnectionClosed) as caught:
            await client.read()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "bye")


@on_loop
async def test_anybody_may_close_a_client() -> None:
    """With a last message, from anywhere; who is gone is no client any more."""
    async with cluster(2) as [one, other]:
        here, there = [await one.client("room"), await other.client("room")]
        one.hub.send_to_all("1")
        await one.hub.close_client(there.id, 4001, "bye", "2")
        one.hub.close_client(here.id)

        assert await there.read(2) == ["1", "2"]
        with pytest.raises(ConnectionClosed) as caught:
            await there.read()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 4001
        await eventually(lambda: not other.hub.local_node.local_clients.registry)
        with pytest.raises(UnknownClient):
            await one.hub.close_client(there.id)
        with pytest.raises(ConfigError):
            one.hub.close_client(here.id, 999)


@on_loop
async def test_joining_is_in_effect_when_it_returns() -> None:
    """For a client here and for one elsewhere, and leaving too."""
    async with cluster(2) as [one, other]:
        here, there = [await one.client(), await other.client()]
        for client in (here, there):
            await one.hub.join_group(client.id, "room")
            await one.hub.bind_uid(client.id, f"user of {client.id}")
        other.hub.send_to_group("room", "1")
        other.hub.send_to_uid([f"user of {here.id}", f"user of {there.id}"], "2")
        assert [await client.read(2) for client in (here, there)] == [["1", "2"]] * 2

        for client in (here, there):
            await one.hub.leave_group(client.id, "room")
            await one.hub.unbind_uid(client.id)
        one.hub.send_to_group("room", "3")
        one.hub.send_to_uid(f"user of {here.id}", "4")
        one.hub.send_to_all(END)
        assert [await client.read_to(END) for client in (here, there)] == [[], []]


@on_loop
async def test_joining_need_not_be_awaited() -> None:
    """A plain function may join; members here have it at once, others when it is routed."""
    async with cluster(2) as [one, other]:
        client = await one.client()
        client.connection.join("room")
        one.hub.send_to_group("room", "from here")
        assert await client.read() == ["from here"]
        await eventually(lambda: "room" in one.hub.local_node.local_clients.registry.groups())
        await client.connection.join("room")
        other.hub.send_to_group("room", "from there")
        assert await client.read() == ["from there"]


@on_loop
async def test_a_second_join_waits_for_the_first_subscription() -> None:
    """Nobody is told that it is in effect before it is."""
    async with cluster(2) as [one, other]:
        first, second = [await one.client(), await one.client()]
        first.connection.join("room")
        await second.connection.join("room")
        other.hub.send_to_group("room", "both")

        assert [await client.read() for client in (first, second)] == [["both"]] * 2


@on_loop
async def test_a_dissolved_group_is_empty_everywhere() -> None:
    """Its members are told nothing, and may join again."""
    async with cluster(2) as [one, other]:
        here, there = [await one.client("room", "hall"), await other.client("room")]
        one.hub.dissolve_group("room")
        one.hub.send_to_group("room", "1")
        one.hub.send_to_all(END)

        assert [await client.read_to(END) for client in (here, there)] == [[], []]
        assert await one.hub.groups() == {"hall"}


@on_loop
async def test_a_session_is_the_connection_s() -> None:
    """What others set is what its handlers see."""
    async with cluster(2) as [one, other]:
        client = await other.client()
        client.connection.session["name"] = "Ann"
        await one.hub.update_session(client.id, level=7, client="web")
        assert client.connection.session == {"name": "Ann", "level": 7, "client": "web"}
        assert await one.hub.get_session(client.id) == client.connection.session
        await one.hub.set_session(client.id, {"tags": ["a", None, 1.5]})
        assert client.connection.session == {"tags": ["a", None, 1.5]}
        await other.hub.set_session(client.id, {})
        assert client.connection.session == {}
        for bad in ({"socket": object()}, {"text": "\ud800"}, {7: "a number"}):
            with pytest.raises(EnvelopeError, match="a session is a dictionary of text to what"):
                one.hub.set_session(client.id, bad)  # type: ignore[arg-type]
        with pytest.raises(EnvelopeError):
            one.hub.update_session(client.id, socket=object())


@on_loop
async def test_wide_actions_of_the_only_process_are_confirmed() -> None:
    """There is a bus, and nobody else on it who could answer."""
    async with cluster(1) as [one]:
        client = await one.client("room", uid="ann")
        await one.hub.dissolve_group("room")
        await one.hub.close_uid("ann", 4000, "bye")
        await client.socket.wait_closed()

        assert client.socket.close_code == 4000
