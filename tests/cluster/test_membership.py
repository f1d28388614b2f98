"""What connections ask of the hub, from the first byte to the last."""

import asyncio

import pytest
from websockets.exceptions import InvalidStatus

from gateman import Connection, Deflate, Refuse, Request, SendResult, State
from gateman.cluster.membership import ConnectionMembership
from gateman.cluster.names import client_id
from gateman.cluster.node import Node
from gateman.errors import ConfigError, HubError, UnknownClient

from ..support.cluster import alone, cluster
from ..support.loop import eventually, on_loop
from ..support.members import FakeSendBuffer
from ..support.raw import handshake
from ..support.server import serve

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])


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
async def test_a_uid_bound_in_the_handshake_is_known_at_the_first_message() -> None:
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


@both
@on_loop
async def test_messages_during_the_handshake_follow_the_101(*, secure: bool) -> None:
    """By its connection and by the hub, of its own process and of others; in order."""
    gate = asyncio.Event()
    arrived: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    async def enter(connection: Connection, _request: Request) -> None:
        fates = [connection.send("1"), connection.send(b"2"), connection.send(bytearray(b"3"))]
        assert fates == [SendResult.QUEUED] * 3
        assert connection.send_buffer_size > 3
        arrived.set_result(connection)
        await gate.wait()

    async with cluster(
        2,
        secure=secure,
        on_websocket_connect=enter,
        on_open=lambda connection: connection.send("7"),
        compression=Deflate(),
    ) as [one, other]:
        opening = asyncio.create_task(one.server.client().__aenter__())
        name = (await arrived).client_id
        one.hub.send_to_client(name, "4")
        one.hub.send_to_clients([name, client_id(one.hub.node, 77)], "5")
        other.hub.send_to_client(name, "6")
        await other.hub.join_group(name, "room")
        gate.set()
        client = await opening
        received = [await client.recv() for _ in range(7)]
        other.hub.send_to_group("room", "8")

        assert received == ["1", b"2", b"3", "4", "5", "6", "7"]
        assert await client.recv() == "8"
        assert (one.hub.counts["unknown_client"], other.hub.counts["unknown_client"]) == (1, 0)
        await client.close()


@on_loop
async def test_messages_to_a_refused_client_are_discarded() -> None:
    """The answer of the handshake is all that it gets."""
    fates: list[SendResult] = []
    kept: list[Connection] = []

    def refuse(connection: Connection, _request: Request) -> None:
        fates.append(connection.send("1"))
        kept.append(connection)
        raise Refuse(403)

    async with alone(on_websocket_connect=refuse) as node:
        answer = await node.server.ask(handshake())
        node.hub.send_to_client(kept[0].client_id, "2")
        fates.append(kept[0].send("3"))

        assert (answer.status, fates) == (403, [SendResult.QUEUED, SendResult.CLOSED])
        assert kept[0].send_buffer_size == 0
        await eventually(lambda: kept[0].state is State.CLOSED)
        node.hub.send_to_client(kept[0].client_id, "4")
        assert node.hub.counts["unknown_client"] == 1


@on_loop
async def test_messages_that_wait_for_the_101_are_bounded() -> None:
    """By what may wait for any client; what is dropped is counted, and written once."""
    fates: list[SendResult] = []

    def enter(connection: Connection, _request: Request) -> None:
        fates.extend(connection.send(bytes(400)) for _ in range(4))
        fates.append(connection.send(b""))
        fates.append(SendResult.DROPPED if connection.dropped == 2 else SendResult.CLOSED)

    async with (
        alone(on_websocket_connect=enter, limits={"max_send_buffer_size": 1100}) as node,
        node.server.client() as client,
    ):
        received = [await client.recv() for _ in range(3)]

        queued, dropped = SendResult.QUEUED, SendResult.DROPPED
        assert fates == [queued, queued, dropped, dropped, queued, dropped]
        assert received == [bytes(400), bytes(400), b""]
        assert node.server.service.counts["dropped_early"] == 2
        (line,) = node.server.lines()
        assert "a message of 400 bytes to <Connection 1 " in line


@on_loop
async def test_a_refused_client_is_not_registered() -> None:
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
async def test_a_closing_client_is_removed_at_once() -> None:
    """Our own Close ends it at once, the peer's when it comes, and on_close finds it gone."""
    found: list[tuple[str, int]] = []

    def note(connection: Connection, _code: int, _reason: str) -> None:
        registry = hubs[0].local_node.local_clients.registry
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
        FakeSendBuffer(),
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
        local_node = Node(None, has_clients=True)
        ids = {
            ConnectionMembership(local_node, number).client_id(connection) for number in range(3)
        }

    assert len(ids) == 3
    assert f"{local_node.id}-1" in ids
