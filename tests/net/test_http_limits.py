"""An ASGI application on a worker's port: its limits and deadlines, and how connections end."""

import asyncio
import json

import pytest

from gateman import Connection
from tests.support.http_application import (
    GET,
    HOST,
    Application,
    counted,
    read_response,
)
from tests.support.loop import eventually, on_loop, until_idle
from tests.support.raw import EOF, request
from tests.support.server import serve

both = pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])


# Limits and deadlines.


@on_loop
async def test_a_large_body_is_refused_when_it_is_noticed() -> None:
    """With chunks it is noticed late, when the application reads."""
    app = Application()
    async with serve(http=app, limits={"max_body_size": 10}) as server:
        client = await server.connect()
        await client.send(request("POST /wait HTTP/1.1", HOST, "Transfer-Encoding: chunked"))
        await client.send(b"8\r\nabcdefgh\r\n")
        await until_idle()
        await client.send(b"8\r\nabcdefgh\r\n")
        data, _ = await client.read_end()
        await until_idle()
        lines = server.lines()

        assert data.startswith(b"HTTP/1.1 413 ")
        assert app.events == ["left"]
        assert "limits.max_body_size" in lines[0]


@on_loop
async def test_requests_at_a_time_are_limited() -> None:
    """Others get 503, until one is over."""
    app = Application()
    async with serve(http=app, limits={"max_requests": 1}) as server:
        first = await server.connect()
        await first.send(request("GET /wait HTTP/1.1", HOST))
        await until_idle()
        refused = await server.ask(GET)
        app.goes_on.set()
        waited = await read_response(first)
        await first.send(GET)
        after = await read_response(first)
        lines = server.lines()

        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert (waited, after) == ((200, b"waited"), (200, b"GET "))
        assert "limits.max_requests" in lines[0]
        assert counted(server)["http_5xx"] == 1


@on_loop
async def test_requests_through_a_proxy_count_for_their_client() -> None:
    """While they last: a connection of a proxy carries requests of many."""
    app = Application()
    async with serve(http=app, limits={"max_connections_per_ip": 1}) as server:
        proxied = request("GET /wait HTTP/1.1", HOST, "X-Forwarded-For: 192.0.2.7")
        first = await server.connect()
        await first.send(proxied)
        await until_idle()
        refused = await server.ask(proxied)
        app.goes_on.set()
        await read_response(first)
        for address in ("192.0.2.7", "192.0.2.8", "192.0.2.7"):
            await first.send(request("GET / HTTP/1.1", HOST, f"X-Forwarded-For: {address}"))
            assert await read_response(first) == (200, b"GET ")
        server.lines()

        assert refused.status == 429


@both
@on_loop
async def test_an_idle_connection_ends(*, secure: bool) -> None:
    """In peace, and it is no failed handshake."""
    async with serve(
        secure=secure, http=Application(), timeouts={"keep_alive": 0.05, "handshake": 0.5}
    ) as server:
        client = await server.connect()
        await client.send(GET)
        await read_response(client)

        assert await client.read_end() == (b"", EOF)
        client.vanish()
        await until_idle()
        assert counted(server) == {"http_2xx": 1}


@on_loop
async def test_a_slow_head_ends_the_connection() -> None:
    """Also the second one, whatever the connection may be idle for."""
    timeouts = {"keep_alive": 60.0, "handshake": 0.1}
    async with serve(http=Application(), timeouts=timeouts) as server:
        client = await server.connect()
        await client.send(GET)
        await read_response(client)
        await client.send(b"GET / HT")
        await client.read_end()

        assert counted(server) == {"http_2xx": 1, "handshake_timeout": 1}


@on_loop
async def test_a_slow_body_ends_the_connection() -> None:
    """If the application waits for it; some bytes now and then do not help."""
    app = Application()
    async with serve(http=app, timeouts={"transfer": 0.2}) as server:
        client = await server.connect()
        await client.send(request("POST / HTTP/1.1", HOST, "Content-Length: 1000") + b"a")

        async def trickle() -> None:
            while True:
                await asyncio.sleep(0.02)
                client.push(b"a")

        trickling = asyncio.create_task(trickle())
        await client.read_end()
        trickling.cancel()

        assert counted(server) == {"http_transfer_timeout": 1, "http_failed": 1} or counted(
            server
        ) == {"http_transfer_timeout": 1}
        server.lines(40)


@both
@on_loop
async def test_a_client_that_does_not_read_ends(*, secure: bool) -> None:
    """Its response waits in this process, and does not for ever."""
    async with serve(secure=secure, http=Application(), timeouts={"transfer": 0.2}) as server:
        client = await server.connect(receive_buffer=4096)
        client.stop_reading()
        await client.send(request("GET /large HTTP/1.1", HOST))
        await eventually(lambda: counted(server).get("http_transfer_timeout") == 1)


@both
@on_loop
async def test_a_large_response_is_whole_also_if_it_is_the_last(*, secure: bool) -> None:
    """The connection ends behind it, and not within."""
    async with serve(secure=secure, http=Application()) as server:
        client = await server.connect(receive_buffer=4096)
        await client.send(request("GET /large HTTP/1.1", HOST, "Connection: close"))
        data, end = await client.read_end()

        assert (len(data.partition(b"\r\n\r\n")[2]), end) == (20 << 20, EOF)


# The end.


@on_loop
async def test_the_application_sees_that_its_client_has_left() -> None:
    """What it sends then is discarded."""
    app = Application()
    async with serve(http=app) as server:
        client = await server.connect()
        await client.send(request("GET /wait HTTP/1.1", HOST))
        await until_idle()
        client.vanish()
        await eventually(lambda: bool(app.events))

        assert app.events == ["left"]


@both
@on_loop
async def test_a_drain_lets_requests_end(*, secure: bool) -> None:
    """Idle connections end at once, responses are the last ones, streams of events end whole."""
    app = Application()
    async with serve(secure=secure, http=app) as server:
        idle, stream, request_, parts = [await server.connect() for _ in range(4)]
        await idle.send(GET)
        await read_response(idle)
        await stream.send(request("GET /endless HTTP/1.1", HOST))
        await request_.send(request("GET /wait HTTP/1.1", HOST))
        await parts.send(request("GET /parts HTTP/1.1", HOST))
        await stream.read_head()
        await parts.read_head()
        draining = asyncio.create_task(server.service.drain(1012, "", window=0.2))
        ended = [await idle.read_end(), await stream.read_end()]
        app.goes_on.set()
        last = [await request_.read_end(), await parts.read_end()]
        for client in (idle, stream, request_, parts):
            client.vanish()
        await draining

        assert ended == [(b"", EOF), (b"9\r\ndata: 1\n\n\r\n0\r\n\r\n", EOF)]
        assert b"connection: close\r\n" in last[0][0]
        assert last[0][0].endswith(b"\r\n\r\nwaited")
        assert last[1][0] == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"
        assert sorted(map(str, app.events)) == ["http.disconnect", "told"]


@on_loop
async def test_a_stop_cancels_what_does_not_end() -> None:
    """After timeouts.shutdown."""
    app = Application()
    async with serve(http=app, timeouts={"shutdown": 0.3}) as server:
        client = await server.connect()
        await client.send(request("GET /parts HTTP/1.1", HOST))
        await client.read_head()

    assert (await client.read_end())[0] == b""


@on_loop
async def test_connections_are_counted_and_described() -> None:
    """An idle HTTP connection is one that has no WebSocket yet."""
    async with serve(http=Application(), on_connect=lambda _: None) as server:
        client = await server.connect()
        await client.send(GET)
        await read_response(client)

        described = server.service.describe(10)
        assert [one["state"] for one in described] == ["connecting"]
        connection: Connection = next(iter(vars(server.service)["_present"]))
        connection.destroy()
        await client.read_end()
        assert json.dumps(described)
