"""The HTTP API on a worker's port, for an official server library."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import cent
import pytest

import gateman
from gateman import Channel, ConfigError, Worker
from gateman.bus.memory import MemoryBroker
from gateman.cluster.names import ClientId, Group
from gateman.cluster.publication import ClientInfo

from ..support.cluster import Deaf, Node, cluster
from ..support.deadlines import TIMEOUT
from ..support.loop import eventually, on_loop
from ..support.server import Server, serve

KEY = "key of a test, 16 or more".replace(" ", "-")


@asynccontextmanager
async def library(server: Server | str, key: str = KEY) -> AsyncIterator[cent.AsyncClient]:
    """Use the API as an application does."""
    port = server.port if isinstance(server, Server) else urlsplit(server).port
    client = cent.AsyncClient(f"http://127.0.0.1:{port}/api", key, timeout=TIMEOUT)
    try:
        yield client
    finally:
        await client.close()


async def post(
    server: Server, path: str, body: bytes = b"{}", *headers: str, method: str = "POST"
) -> tuple[int, str]:
    """Send a request, and return the status and the body of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: test",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    async with asyncio.timeout(TIMEOUT):
        head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), answer.decode()


@asynccontextmanager
async def service() -> AsyncIterator[tuple[list[Node], cent.AsyncClient]]:
    """Run two nodes, and use the API of the first one."""
    async with cluster(2, api_key=KEY) as nodes, library(nodes[0].server) as client:
        yield nodes, client


@on_loop
async def test_publications_reach_the_clients_of_all_processes() -> None:
    async with service() as ([one, other], api):
        here, there = await one.client("room"), await other.client("room", "hall")

        await api.publish(cent.PublishRequest(channel="room", data="to the room"))
        result = await api.broadcast(
            cent.BroadcastRequest(channels=["hall", "room"], data="to both")
        )

        assert [response.error for response in result.responses] == [None, None]
        assert await here.read(2) == ["to the room", "to both"]
        assert await there.read(3) == ["to the room", "to both", "to both"]


@on_loop
async def test_users_are_subscribed_and_unsubscribed() -> None:
    async with service() as ([one, other], api):
        here, there = await one.client(uid="ann"), await other.client(uid="ann")
        await other.client("room", uid="bob")
        hub = one.hub

        await api.subscribe(cent.SubscribeRequest(user="ann", channel="room"))
        assert await hub.uids_of_group("room") == {"ann", "bob"}
        await api.unsubscribe(cent.UnsubscribeRequest(user="ann", channel="room", client=here.id))
        assert here.id not in await hub.clients_of_group("room")
        assert there.id in await hub.clients_of_group("room")
        await api.unsubscribe(cent.UnsubscribeRequest(user="ann", channel="room"))
        assert await hub.uids_of_group("room") == {"bob"}
        # A client of somebody else is not touched.
        await api.subscribe(cent.SubscribeRequest(user="bob", channel="hall", client=here.id))
        assert await hub.clients_of_group("hall") == []


@on_loop
async def test_users_are_disconnected() -> None:
    async with service() as ([one, other], api):
        here, there = await one.client(uid="ann"), await other.client(uid="ann")
        third = await other.client(uid="ann")

        await api.disconnect(
            cent.DisconnectRequest(
                user="ann",
                client=third.id,
                disconnect=cent.Disconnect(code=4000, reason="not now"),
            )
        )
        await third.socket.wait_closed()
        assert (third.socket.close_code, third.socket.close_reason) == (4000, "not now")
        await api.disconnect(cent.DisconnectRequest(user="ann", whitelist=[here.id]))
        await there.socket.wait_closed()
        assert there.socket.close_code == 3503
        assert here.socket.close_code is None


@on_loop
async def test_presence_is_that_of_all_processes() -> None:
    async with service() as ([one, other], api):
        here, there = await one.client("room", uid="ann"), await other.client("room", uid="bob")
        nobody = await other.client("room", "hall")

        def client_info(client: ClientId, _channel: Group) -> tuple[bytes, bytes]:
            return (b'{"name":"Bob"}', b"7") if client == there.id else (b"", b"")

        other.hub.local_node.local_clients.client_info = client_info

        presence = await api.presence(cent.PresenceRequest(channel="room"))
        stats = await api.presence_stats(cent.PresenceStatsRequest(channel="room"))
        channels = await api.channels(cent.ChannelsRequest(pattern="r*"))
        info = await api.info(cent.InfoRequest())

        assert presence.presence == {
            here.id: cent.ClientInfo(client=here.id, user="ann"),
            there.id: cent.ClientInfo(
                client=there.id, user="bob", conn_info={"name": "Bob"}, chan_info=7
            ),
            nobody.id: cent.ClientInfo(client=nobody.id, user=""),
        }
        assert (stats.num_clients, stats.num_users) == (3, 2)
        assert {name: one.num_clients for name, one in channels.channels.items()} == {"room": 3}
        counts = {one.uid: (one.num_clients, one.num_users, one.num_channels) for one in info.nodes}
        assert counts == {one.hub.node: (1, 1, 1), other.hub.node: (2, 1, 2)}
        assert await other.hub.presence("hall") == {nobody.id: ClientInfo(ClientId(nobody.id))}


@on_loop
async def test_the_commands_of_a_batch_are_answered_in_order() -> None:
    async with service() as ([one, _], api):
        here = await one.client("room", uid="ann")

        result = await api.batch(
            cent.BatchRequest(
                requests=[
                    cent.PublishRequest(channel="room", data="first"),
                    cent.PublishRequest(channel="room", data="second"),
                    cent.PresenceStatsRequest(channel="room"),
                ],
                parallel=True,
            )
        )

        assert await here.read(2) == ["first", "second"]
        assert result.replies[2] == cent.PresenceStatsResult(num_clients=1, num_users=1)


@on_loop
async def test_errors_have_the_codes_of_the_protocol() -> None:
    async with service() as (_, api):
        with pytest.raises(cent.CentApiResponseError) as caught:
            await api.publish(cent.PublishRequest(channel="x" * 256, data=1))
        assert caught.value.code == 107
        with pytest.raises(cent.CentApiResponseError) as caught:
            await api.disconnect(
                cent.DisconnectRequest(user="ann", disconnect=cent.Disconnect(code=99))
            )
        assert (caught.value.code, caught.value.message) == (
            107,
            "bad request: close code 99 may not be sent",
        )


@on_loop
async def test_an_incomplete_answer_is_an_error() -> None:
    broker = MemoryBroker()
    buses: list[Deaf] = []

    def make() -> Deaf:
        buses.append(Deaf(broker=broker))
        return buses[-1]

    async with cluster(2, make, api_key=KEY) as [one, _], library(one.server) as api:
        buses[1].is_deaf = True
        # The API has a hub of its own on the node.
        one.hub.local_node.query_client.timeout = 0.5
        with pytest.raises(cent.CentApiResponseError) as caught:
            await api.presence(cent.PresenceRequest(channel="room"))

        assert (caught.value.code, caught.value.message) == (
            100,
            "another process did not answer in time",
        )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([f"X-API-Key: {KEY}"], 200),
        ([f"Authorization: apikey {KEY}"], 200),
        ([], 401),
        (["X-API-Key: "], 401),
        ([f"X-API-Key: {KEY}x"], 401),
        ([f"Authorization: Bearer {KEY}"], 401),
        (["X-API-Key: \u00fc" + KEY], 401),
    ],
)
@on_loop
async def test_only_the_key_opens_the_api(headers: list[str], status: int) -> None:
    async with serve(api_key=KEY) as server:
        assert (await post(server, "/api/info", b"", *headers))[0] == status


@on_loop
async def test_a_wrong_key_of_the_library_is_told_to_it() -> None:
    async with serve(api_key=KEY) as server, library(server, "wrong") as api:
        with pytest.raises(cent.CentUnauthorizedError):
            await api.info(cent.InfoRequest())


@on_loop
async def test_other_requests_are_answered_as_without_an_api() -> None:
    key = f"X-API-Key: {KEY}"
    async with serve(api_key=KEY, test_page=True) as server:
        found = {
            path: (await post(server, path, b"", key, method=method))[0]
            for path, method in {
                "/": "GET",
                "/healthz": "GET",
                "/other": "GET",
                "/api/info": "GET",
                "/api/fly": "POST",
                "/api": "POST",
            }.items()
        }

    assert found == {
        "/": 200,
        "/healthz": 200,
        "/other": 426,
        "/api/info": 405,
        "/api/fly": 404,
        "/api": 426,
    }


@on_loop
async def test_errors_are_told_by_the_status_to_those_who_want_it() -> None:
    headers = (f"X-API-Key: {KEY}", "X-Centrifugo-Error-Mode: transport")
    async with serve(api_key=KEY) as server:
        plain = await post(server, "/api/rpc", b"{}", headers[0])
        told = await post(server, "/api/rpc", b"{}", *headers)

    answer = {"error": {"code": 104, "message": "method not found"}}
    assert [(status, json.loads(body)) for status, body in (plain, told)] == [
        (200, answer),
        (404, answer),
    ]


@on_loop
async def test_a_body_is_bounded() -> None:
    async with serve(api_key=KEY, limits={"max_body_size": 1000}) as server:
        status, _ = await post(server, "/api/publish", b"x" * 1001, f"X-API-Key: {KEY}")

    assert status == 413


async def _application(
    scope: Mapping[str, Any],
    _receive: object,
    send: Callable[[Mapping[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    body = scope["path"].encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


@on_loop
async def test_an_application_beside_it_gets_the_rest() -> None:
    async with serve(api_key=KEY, http=_application) as server:
        bodies = [
            (await post(server, path, b"{}", f"X-API-Key: {KEY}"))[1]
            for path in ("/", "/api/orders", "/api/channels")
        ]

    assert bodies == ["/", "/api/orders", '{"result":{"channels":{}}}']


@on_loop
async def test_without_a_key_there_is_no_api() -> None:
    async with serve() as server:
        assert (await post(server, "/api/info", b""))[0] == 405


@on_loop
async def test_a_library_keeps_its_connection() -> None:
    async with service() as ([one, _], api):
        for _number in range(3):
            await api.channels(cent.ChannelsRequest())
        await eventually(lambda: one.server.service.counts["http_2xx"] == 3)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("short", "api_key has 5 characters, or a space: it could be guessed"),
        ("with a space in it all", "api_key has 22 characters, or a space: it could be guessed"),
        ("ü" * 20, "api_key is not a text that an HTTP header can carry"),
        (7, "api_key is not a text that an HTTP header can carry"),
    ],
)
def test_a_weak_key_is_refused(key: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Worker("websocket://127.0.0.1:0", api_key=key)  # type: ignore[arg-type]

    assert caught.value.problem == message


def test_the_key_is_not_shown() -> None:
    worker = Worker("websocket://127.0.0.1:0", api_key=KEY)

    assert repr(worker.api_key) == "'***'"


@on_loop
async def test_channels_with_history_have_positions_and_can_be_read() -> None:
    channels = {"room": Channel(subscribe=True, history_size=10)}
    worker = Worker(
        "websocket://127.0.0.1:0", client_protocol="centrifuge", channels=channels, api_key=KEY
    )
    async with gateman.serve(worker) as serving, library(serving.urls[0]) as api:
        first = await api.publish(
            cent.PublishRequest(channel="room", data={"n": 1}, tags={"of": "test"})
        )
        again = [
            await api.publish(cent.PublishRequest(channel="room", data=2, idempotency_key="once"))
            for _ in range(2)
        ]
        none = await api.publish(cent.PublishRequest(channel="hall", data=3))
        kept = await api.history(cent.HistoryRequest(channel="room", limit=10))
        end = await api.history(cent.HistoryRequest(channel="room"))
        rest = await api.history(
            cent.HistoryRequest(
                channel="room",
                limit=10,
                since=cent.StreamPosition(offset=first.offset, epoch=first.epoch),
            )
        )
        with pytest.raises(cent.CentApiResponseError) as unknown:
            await api.history(
                cent.HistoryRequest(channel="room", since=cent.StreamPosition(epoch="other"))
            )
        with pytest.raises(cent.CentApiResponseError) as without:
            await api.history(cent.HistoryRequest(channel="hall"))
        await api.history_remove(cent.HistoryRemoveRequest(channel="room"))
        removed = await api.history(cent.HistoryRequest(channel="room", limit=10))

    assert again[0] == again[1]
    assert (none.offset, none.epoch) == (0, "")
    assert [(one.offset, one.data, one.tags) for one in kept.publications] == [
        (first.offset, {"n": 1}, {"of": "test"}),
        (again[0].offset, 2, None),
    ]
    assert (end.publications, end.offset, end.epoch) == ([], again[0].offset, first.epoch)
    assert [one.data for one in rest.publications] == [2]
    assert (unknown.value.code, without.value.code) == (112, 108)
    assert removed.publications == []


@on_loop
async def test_expired_connections_are_closed_and_others_not_prolonged() -> None:
    async with service() as ([one, _], api):
        here = await one.client(uid="ann")
        with pytest.raises(cent.CentApiResponseError) as caught:
            await api.refresh(cent.RefreshRequest(user="ann", expire_at=1))
        await api.refresh(cent.RefreshRequest(user="ann", expired=True))
        await here.socket.wait_closed()

        assert caught.value.code == 108
        assert (here.socket.close_code, here.socket.close_reason) == (3005, "connection expired")
