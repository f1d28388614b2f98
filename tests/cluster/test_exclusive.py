"""Exclusive logins: of several of one user, exactly one stays, here and in other processes."""

import asyncio
import contextlib
from collections import Counter

import pytest

from gateman import Connection, Request
from gateman.bus import subject
from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.cluster.envelope import Claims, Envelope, Hello, decode, encode
from gateman.cluster.hub import Hub
from gateman.cluster.names import NodeId
from gateman.errors import ConfigError, ConfirmTimeout

from ..support.cluster import Client, Deaf, Node, alone, cluster
from ..support.loop import eventually, on_loop

ELSEWHERE = (4409, "logged in elsewhere")
OURS = (4001, "another device")


def log_in(connection: Connection, request: Request) -> None:
    """Log in with the handshake, as whoever the query says."""
    connection.bind(request.query["uid"], only=True, code=OURS[0], reason=OURS[1])


async def survivor(nodes: list[Node], count: int, uid: str = "ann") -> Connection:
    """Log in so many clients at once, spread over the nodes; gives the one that stays."""
    places = [nodes[number % len(nodes)] for number in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        clients = await asyncio.gather(
            *(stack.enter_async_context(place.server.client(f"?uid={uid}")) for place in places)
        )

        await eventually(lambda: sum(one.close_code is None for one in clients) == 1)
        ends = Counter((one.close_code, one.close_reason) for one in clients)
        assert ends == {OURS: count - 1, (None, None): 1}
        [left] = [one for node in nodes for one in node.server.worker.connections.values()]
        assert await nodes[0].hub.clients_of_uid(uid) == [left.client_id]
        return left


@on_loop
async def test_of_many_logins_in_one_process_the_last_one_stays() -> None:
    """Fifteen at once, fifteen times."""
    async with alone(on_websocket_connect=log_in) as node:
        for _ in range(15):
            assert await survivor([node], 15) is node.connections[-1]
            await eventually(lambda: not node.server.worker.connections)


@on_loop
async def test_of_many_logins_in_many_processes_exactly_one_stays() -> None:
    """Fifteen at once on three nodes, fifteen times, and never nobody."""
    async with cluster(3, on_websocket_connect=log_in) as nodes:
        for number in range(15):
            await survivor(nodes, 15, f"{number}")
            await eventually(lambda: not any(node.server.worker.connections for node in nodes))


def read(payload: bytes) -> Envelope:
    """Read what was published."""
    return decode(payload, max_size=1 << 20)


async def is_gone(client: Client) -> tuple[int, str]:
    """Wait for a client's end; gives how it was told."""
    await client.socket.wait_closed()
    assert client.socket.close_code is not None
    return client.socket.close_code, client.socket.close_reason or ""


@on_loop
async def test_a_login_that_is_awaited_is_in_effect_everywhere() -> None:
    """Those of other processes are being closed when it returns, those of other users are not."""
    async with cluster(2) as [one, other]:
        plain, here, there = await one.client(uid="ann"), await one.client(), await other.client()
        bert = await other.client(uid="bert")
        await here.connection.bind("ann", only=True)
        assert await is_gone(plain) == ELSEWHERE
        await other.hub.bind_uid(there.id, "ann", only=True, code=OURS[0], reason=OURS[1])
        assert await one.hub.clients_of_uid("ann") == [there.id]
        assert await is_gone(here) == OURS
        later = await one.client()
        await other.hub.bind_uid(later.id, "ann", only=True)
        assert await one.hub.clients_of_uid("ann") == [later.id]
        assert await is_gone(there) == ELSEWHERE
        beside = await one.client(uid="ann")
        assert set(await other.hub.clients_of_uid("ann")) == {later.id, beside.id}
        one.hub.send_to_uid("bert", "still here")
        assert await bert.read() == ["still here"]


@on_loop
async def test_a_login_ends_when_its_client_unbinds_or_disconnects() -> None:
    """Their login is forgotten, and with it what is remembered of them."""
    async with cluster(2) as [one, other]:
        clients = [await one.client() for _ in range(3)]
        for number, client in enumerate(clients):
            await client.connection.bind(f"{number}", only=True)
        await clients[0].connection.unbind()
        await clients[1].connection.bind("bert")
        clients[2].connection.close()
        assert len(one.hub.local_node.exclusive.logins) == 0
        for number in range(3):
            client = await other.client()
            await client.connection.bind(f"{number}", only=True)
        assert await one.hub.count_uids() == 4


@on_loop
async def test_invalid_arguments_are_refused() -> None:
    """Codes that no server may send, and reasons that are too long."""
    async with alone() as node:
        connection = (await node.client()).connection
        with pytest.raises(ConfigError):
            connection.bind("ann", only=True, code=1005)
        with pytest.raises(ConfigError):
            connection.bind("ann", only=True, reason="x" * 124)
        with pytest.raises(ConfigError):
            node.hub.close_uid("ann", 1006)
        assert not await node.hub.is_uid_online("ann")


@on_loop
async def test_after_the_bus_was_away_the_newest_stays() -> None:
    """Both sides have logged somebody in meanwhile, and each is told of the other's."""
    broker = MemoryBroker()
    async with cluster(2, lambda: MemoryBus(broker=broker)) as [one, other]:
        older, newer = await one.client(), await other.client()
        broker.go_down()
        older.connection.bind("ann", only=True)
        newer.connection.bind("ann", only=True)
        one.hub.answer_timeout = 0.1
        with pytest.raises(ConfirmTimeout):
            await older.connection.bind("eve", only=True)
        one.hub.answer_timeout = 3
        older.connection.bind("ann", only=True)
        newer.connection.bind("ann", only=True)
        assert len(one.server.worker.connections) == len(other.server.worker.connections) == 1
        broker.come_up()
        assert await is_gone(older) == ELSEWHERE
        assert await one.hub.clients_of_uid("ann") == [newer.id]


@on_loop
async def test_a_process_that_lost_messages_hears_of_logins_again() -> None:
    """It was slow, so that the bus dropped what was for it."""
    broker = MemoryBroker()
    buses: list[Deaf] = []

    def make() -> Deaf:
        buses.append(Deaf(broker=broker))
        return buses[-1]

    async with cluster(2, make) as [one, other]:
        older, newer = await one.client(), await other.client()
        await older.connection.bind("ann", only=True)
        buses[0].is_deaf = True
        newer.connection.bind("ann", only=True)
        await asyncio.sleep(0)
        buses[0].is_deaf = False
        broker.go_down()
        broker.come_up()
        assert await is_gone(older) == ELSEWHERE


@on_loop
async def test_a_login_that_vanished_on_its_way_is_found_out() -> None:
    """No bus has told of a gap: servers of a cluster had lost each other for a moment."""
    broker = MemoryBroker()
    buses: list[Deaf] = []

    def make() -> Deaf:
        buses.append(Deaf(broker=broker))
        return buses[-1]

    async with cluster(2, make) as [one, other]:
        clients = [await one.client() for _ in range(2)]
        later = [await other.client() for _ in range(2)]
        for client, uid in zip(clients, ("ann", "bert"), strict=True):
            await client.connection.bind(uid, only=True)
        buses[0].is_deaf = True
        later[0].connection.bind("ann", only=True)
        await asyncio.sleep(0)
        buses[0].is_deaf = False
        await later[1].connection.bind("eve", only=True)
        assert await is_gone(clients[0]) == ELSEWHERE
        buses[0].is_deaf = True
        later[1].connection.bind("bert", only=True)
        await asyncio.sleep(0)
        buses[0].is_deaf = False
        # With the next sign of life.
        assert await is_gone(clients[1]) == ELSEWHERE
        assert await one.hub.clients_of_uid("bert") == [later[1].id]


@on_loop
async def test_a_process_that_was_disconnected_gets_all_logins() -> None:
    """It is not new, and was never heard: two parts of a cluster have found each other."""
    broker = MemoryBroker()
    async with cluster(1, lambda: MemoryBus(broker=broker)) as [one]:
        client = await one.client()
        await client.connection.bind("ann", only=True)
        stranger = MemoryBus(broker=broker)
        said: list[bytes] = []
        await stranger.start()
        for node in ("other", "far"):
            await stranger.subscribe(subject("node", node), said.append)
        for node, is_new in (("other", True), ("far", False)):
            hello = Hello(NodeId(node), True, is_new, False, ())  # noqa: FBT003 - fields
            stranger.publish(subject("all"), encode(hello))
        await eventually(lambda: any(isinstance(one, Claims) for one in map(read, said)))
        await stranger.stop()

        [claims] = [one for one in map(read, said) if isinstance(one, Claims)]
        assert [claim.client for claim in claims.claims] == [client.id]


@on_loop
async def test_a_user_s_connections_are_closed_everywhere() -> None:
    """But for those that stay; awaited, it has begun everywhere."""
    async with cluster(2) as [one, other]:
        here, there = await one.client(uid="ann"), await other.client(uid="ann")
        bert, staying = await other.client(uid="bert"), await one.client(uid="ann")
        await one.hub.close_uid("ann", 4003, "banned", "bye", exclude=staying.id)
        assert await one.hub.clients_of_uid("ann") == [staying.id]
        for client in (here, there):
            assert await client.read() == ["bye"]
            assert await is_gone(client) == (4003, "banned")
        await one.hub.close_uid("nobody")
        other.hub.close_uid("ann")
        assert await is_gone(staying) == (1000, "")
        assert await one.hub.clients_of_uid("bert") == [bert.id]


@on_loop
async def test_actions_on_all_nodes_can_be_confirmed() -> None:
    """A process that hangs is named, and a bus that is away is told of."""
    broker = MemoryBroker()
    buses: list[Deaf] = []

    def make() -> Deaf:
        buses.append(Deaf(broker=broker))
        return buses[-1]

    async with cluster(2, make) as [one, other]:
        client = await other.client("room", uid="ann")
        await one.hub.dissolve_group("room")
        assert await other.hub.groups() == set()
        buses[1].is_deaf = True
        one.hub.answer_timeout = 0.1
        doubts = {
            one.hub.close_uid("ann"): "clients of 'ann' may stay there",
            one.hub.dissolve_group("room"): "the group 'room' may go on there",
            one.hub.bind_uid((await one.client()).id, "ann", only=True): (
                "older clients of the uid 'ann' may still be connected there"
            ),
        }
        for confirmation, doubt in doubts.items():
            with pytest.raises(ConfirmTimeout) as caught:
                await confirmation
            assert str(caught.value) == f"no answer from {other.hub.node}: {doubt}."
        broker.go_down()
        confirmation = one.hub.close_uid("ann")
        await asyncio.sleep(0)
        broker.come_up()
        buses[1].is_deaf = False
        with pytest.raises(ConfirmTimeout, match="the bus was away, and others were not told"):
            await confirmation
        assert other.server.worker.connections[client.connection.id] is client.connection


@on_loop
async def test_two_services_on_one_bus_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Each of the other, once."""
    broker = MemoryBroker()
    hubs = {name: MemoryBus(broker=broker) for name in ("chat", "billing")}
    async with contextlib.AsyncExitStack() as stack:
        for name, bus in hubs.items():
            hub = Hub()
            await hub.start(bus, service=(f"{name}.py", f"Worker {name} answer"))
            stack.push_async_callback(hub.stop)
        await eventually(lambda: len(caplog.messages) == 2)

    assert min(caplog.messages) == (
        "billing.py (Worker billing answer) is on the bus memory:// too, as is chat.py (Worker chat"
        " answer): if these are two services, they reach each other's users; give each a name of"
        " its own in its bus's URL"
    )
