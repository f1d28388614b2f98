"""What connections ask of the hub, from the first byte to the last."""

import pytest
from websockets.exceptions import InvalidStatus

from gateman import Connection, Refuse, Request
from gateman.cluster.here import Here
from gateman.cluster.station import Station
from gateman.errors import ConfigError, HubError, UnknownClient

from ..support.cluster import alone, cluster
from ..support.loop import eventually, on_loop
from ..support.server import serve


@on_loop
async def test_a_connection_has_the_hub_s_verbs() -> None:
    """Each of them for the connection itself, awaited or not."""
    async with cluster(2) as [one, other]:
        client = await one.client()
        connection = client.connection
        await connection.join("room")
        await connection.bind("ann")
        assert await other.hub.clients_of_group("room") == [connection.client_id]
        assert await other.hub.uid_of_client(connection.client_id) == "ann"
        await connection.leave("room")
        await connection.unbind()
        assert await other.hub.groups() == set()
        assert await other.hub.count_uids() == 0
        for verb in (connection.join, connection.leave, connection.bind):
            with pytest.raises(ConfigError):
                verb("")


@on_loop
async def test_who_logs_in_with_the_handshake_is_known_with_the_first_message() -> None:
    """A uid and groups may be given before there is a WebSocket."""

    async def log_in(connection: Connection, request: Request) -> None:
        await connection.bind(request.query["user"])
        connection.join("room")
        connection.join("hall")
        await connection.leave("hall")

    async with alone(on_websocket_connect=log_in) as node:
        client = await node.server.open("/?user=ann")
        await eventually(lambda: len(node.connections) == 1)
        node.hub.send_to_uid("ann", "1")
        node.hub.send_to_group("hall", "2")
        node.hub.send_to_group("room", "3")

        assert [(await client.read_frame()).payload for _ in range(2)] == [b"1", b"3"]


@on_loop
async def test_who_is_refused_is_nobody() -> None:
    """What was asked for in a handshake that failed is forgotten."""

    def refuse(connection: Connection, _: Request) -> None:
        connection.bind("ann")
        raise Refuse(403)

    async with alone(on_websocket_connect=refuse) as node:
        with pytest.raises(InvalidStatus):
            async with node.server.client():
                pass
        assert not await node.hub.is_uid_online("ann")
        assert await node.hub.count_clients() == 0


@on_loop
async def test_who_closes_is_gone_with_the_close() -> None:
    """Our own Close ends it at once, the peer's when it comes, and on_close finds it gone."""
    found: list[tuple[str, int]] = []

    def note(connection: Connection, _code: int, _reason: str) -> None:
        registry = hubs[0].station.local.registry
        found.append((connection.client_id, len(registry)))

    async with alone(on_close=note) as node:
        hubs = [node.hub]
        ours, theirs = [await node.client("room", uid="ann"), await node.client("room")]
        ours.connection.close()
        assert await node.hub.clients_of_group("room") == [theirs.id]
        assert not await node.hub.is_uid_online("ann")
        await eventually(lambda: len(found) == 1)
        await theirs.socket.close()
        await eventually(lambda: len(found) == 2)
        assert found == [(ours.id, 1), (theirs.id, 0)]
        with pytest.raises(UnknownClient):
            await theirs.connection.join("room")


@on_loop
async def test_a_connection_without_a_hub_says_so() -> None:
    """One that nobody serves is in no cluster."""
    nobody: object = None
    connection = Connection(
        1,
        nobody,
        nobody,  # type: ignore[arg-type]
        peer=("127.0.0.1", 1),
        remote=("127.0.0.1", 1),
        local_address="",
        is_secure=False,
    )
    with pytest.raises(HubError) as caught:
        connection.join("room")

    assert str(caught.value) == "the hub knows a connection from its on_connect to its on_close."


@on_loop
async def test_services_of_one_process_tell_their_clients_apart() -> None:
    """Each counts its connections from 1, and a client id is one client's."""
    async with serve() as server, server.client():
        await eventually(lambda: bool(server.worker.connections))
        connection = server.worker.connections[1]
        station = Station(None, has_clients=True)
        ids = {Here(station, number).client_id(connection) for number in range(3)}

    assert len(ids) == 3
    assert f"{station.node}-1" in ids
