"""An ASGI application on a worker's port, over real sockets: requests, responses, WebSockets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateman import Worker
from tests.support.http_application import (
    GET,
    HOST,
    Application,
    Receive,
    Send,
    counted,
    read_body,
    read_response,
    respond,
)
from tests.support.loop import on_loop, until_idle
from tests.support.raw import EOF, TEXT, frame, handshake, request
from tests.support.server import serve

both = pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])


# Requests and responses.


@both
@on_loop
async def test_requests_of_one_connection_come_one_by_one(*, secure: bool) -> None:
    """GET, HEAD, a body with a length, one in chunks, a response in chunks."""
    app = Application()
    app.goes_on.set()
    async with serve(secure=secure, http=app) as server:
        client = await server.connect()
        found = []
        for head, body in (
            (GET, b""),
            (request("POST / HTTP/1.1", HOST, "Content-Length: 5"), b"hello"),
            (
                request("PUT / HTTP/1.1", HOST, "Transfer-Encoding: chunked"),
                b"2\r\nhe\r\n0\r\n\r\n",
            ),
            (request("GET /parts?a=b HTTP/1.1", HOST), b""),
            (request("DELETE http://a/?x HTTP/1.1", HOST, "Content-Length: 0"), b""),
        ):
            await client.send(head + body)
            found.append(await read_response(client))
        await client.send(request("HEAD / HTTP/1.1", HOST))
        found.append(await read_response(client, method="HEAD"))

        assert found == [
            (200, b"GET "),
            (200, b"POST hello"),
            (200, b"PUT he"),
            (200, b"onetwothree"),
            (200, b"DELETE "),
            (200, b""),
        ]
        assert counted(server) == {"http_2xx": 6}
        assert [scope["path"] for scope in app.scopes] == ["/", "/", "/", "/parts", "/", "/"]
        assert app.scopes[3]["query_string"] == b"a=b"


REQUEST_WITH_ALL = (
    request("POST /?q HTTP/1.1", HOST, "Transfer-Encoding: chunked", "A: b ")
    + b"3\r\nabc\r\n2;x\r\nde\r\n0\r\nHost: evil\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
)


@on_loop
async def test_a_request_may_be_cut_anywhere() -> None:
    """The first of a connection, and a later one; fields behind the body are not those of it."""
    app = Application()
    async with serve(http=app) as server:
        for is_first in (True, False):
            client = await server.connect()
            if not is_first:
                await client.send(GET)
                await read_response(client)
            for cut in range(1, len(REQUEST_WITH_ALL)):
                await client.send(REQUEST_WITH_ALL[:cut])
                await until_idle()
                await client.send(REQUEST_WITH_ALL[cut:])

                assert await read_response(client) == (200, b"POST abcde")
        names = {tuple(name for name, _ in scope["headers"]) for scope in app.scopes}
        assert names == {(b"host",), (b"host", b"transfer-encoding", b"a")}


@both
@on_loop
async def test_requests_may_be_sent_before_the_responses(*, secure: bool) -> None:
    """A hundred at once are answered in order, one at a time."""
    app = Application()
    async with serve(secure=secure, http=app) as server:
        client = await server.connect()
        bodies = [b"%d" % number * 50 for number in range(100)]
        sent = b"".join(
            request("POST / HTTP/1.1", HOST, f"Content-Length: {len(body)}") + body
            for body in bodies
        )
        client.push(b"\r\n" + sent)
        found = [await read_response(client) for _ in bodies]

        assert found == [(200, b"POST " + body) for body in bodies]


@on_loop
async def test_what_scopes_tell() -> None:
    """The client and the scheme are those of the socket, or of the proxies that are trusted."""
    scopes: list[Mapping[str, Any]] = []

    async def app(scope: Mapping[str, Any], _receive: object, send: Send) -> None:
        assert scope["type"] == "http"
        scopes.append(scope)
        await respond(send, b"")

    told = {
        (): (None, "http"),
        ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https"): ("192.0.2.7", "https"),
        ("Forwarded: for=192.0.2.8;proto=HTTPS",): ("192.0.2.8", "https"),
        ("X-Forwarded-Proto: https", "Forwarded: for=192.0.2.8;proto=http"): ("192.0.2.8", "http"),
        ("X-Forwarded-Proto: gopher",): (None, "http"),
        ("X-Real-IP: 192.0.2.7", "X-Forwarded-For: 192.0.2.8"): (None, "http"),
    }
    async with serve(http=app, http_root_path="/api") as server:
        client = await server.connect()
        for lines in told:
            await client.send(request("GET /%C3%A9?y=%20 HTTP/1.1", HOST, *lines))
            assert await read_response(client) == (200, b"")
        own = client.socket.getsockname()
        server.lines()

        for scope, (ip, scheme) in zip(scopes, told.values(), strict=True):
            assert scope["client"] == ((ip, 0) if ip else own)
            assert scope["scheme"] == scheme
        assert scopes[0]["server"] == ("127.0.0.1", server.port)
        assert scopes[0]["path"] == "/api/\u00e9"
        assert scopes[0]["raw_path"] == b"/api/%C3%A9"
        assert scopes[0]["query_string"] == b"y=%20"
        assert scopes[0]["root_path"] == "/api"
        assert scopes[0]["http_version"] == "1.1"


@on_loop
async def test_a_proxy_that_is_not_trusted_tells_nothing() -> None:
    app = Application()
    async with serve(http=app, trusted_proxies=[]) as server:
        client = await server.connect()
        lines = ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
        await client.send(request("GET / HTTP/1.1", HOST, *lines))
        await read_response(client)
        server.lines()

        assert app.scopes[0]["client"] == client.socket.getsockname()
        assert app.scopes[0]["scheme"] == "http"


@on_loop
async def test_tls_is_told_by_the_scheme() -> None:
    app = Application()
    async with serve(secure=True, http=app) as server:
        client = await server.connect()
        await client.send(GET)
        await read_response(client)

        assert app.scopes[0]["scheme"] == "https"


@on_loop
async def test_a_unix_socket_has_no_client(tmp_path: Path) -> None:
    app = Application()
    async with serve(f"websocket+unix://{tmp_path}/http.sock", http=app) as server:
        client = await server.connect()
        await client.send(GET)
        await read_response(client)

        assert app.scopes[0]["client"] is None
        assert app.scopes[0]["server"] == (f"{tmp_path}/http.sock", None)


@on_loop
async def test_a_proxy_header_tells_the_client() -> None:
    app = Application()
    async with serve(http=app, proxy_protocol="required") as server:
        client = await server.connect()
        await client.send(b"PROXY TCP4 192.0.2.9 127.0.0.1 5555 80\r\n" + GET)
        await read_response(client)

        assert app.scopes[0]["client"] == ("192.0.2.9", 5555)


@on_loop
async def test_http_1_0_gets_no_chunks_and_the_end() -> None:
    """Which ends a response without a length."""
    app = Application()
    app.goes_on.set()
    async with serve(http=app) as server:
        found = []
        for path in ("/", "/parts"):
            client = await server.connect()
            await client.send(request(f"GET {path} HTTP/1.0"))
            found.append((await client.read_end())[0].partition(b"\r\n\r\n"))

        assert b"transfer-encoding" not in found[1][0]
        assert [body for _, _, body in found] == [b"GET ", b"onetwothree"]


@on_loop
async def test_a_body_is_asked_for_only_if_the_application_wants_it() -> None:
    """Expect: 100-continue; without the body, the connection ends."""
    async with serve(http=Application()) as server:
        client = await server.connect()
        expecting = (HOST, "Expect: 100-Continue", "Content-Length: 2")
        await client.send(request("POST / HTTP/1.1", *expecting))
        first = await client.read(25)
        await client.send(b"ab")
        wanted = await read_response(client)
        await client.send(request("POST /early HTTP/1.1", *expecting))
        unwanted = await client.read_end()

        assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert wanted == (200, b"POST ab")
        assert unwanted[0].endswith(b"early")
        assert unwanted[1] == EOF


@on_loop
async def test_the_offer_of_another_protocol_is_ignored() -> None:
    """As of curl --http2, with a body and without (RFC 9110, section 7.8)."""
    async with serve(http=Application()) as server:
        client = await server.connect()
        offer = (HOST, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AA")
        await client.send(request("GET / HTTP/1.1", *offer))
        without = await read_response(client)
        await client.send(request("POST / HTTP/1.1", *offer, "Content-Length: 2") + b"ab" + GET)
        found = [await read_response(client), await read_response(client)]

        assert [without, *found] == [(200, b"GET "), (200, b"POST ab"), (200, b"GET ")]


# WebSockets beside it.


@both
@on_loop
async def test_a_connection_that_was_kept_becomes_a_websocket(*, secure: bool) -> None:
    """With the callbacks, the early frames and the limits of the first request."""
    order: list[str] = []
    app = Application()

    async with serve(
        secure=secure,
        http=app,
        on_connect=lambda _: order.append("connect"),
        on_open=lambda _: order.append("open"),
        on_message=lambda connection, message: connection.send(message),
        on_close=lambda *_: order.append("close"),
    ) as server:
        client = await server.connect()
        for _ in range(3):
            await client.send(GET)
            await read_response(client)
        await client.send(handshake("/chat") + frame(TEXT, b"early"))
        head = await client.read_head()
        found = await client.read_frame()
        opened = len(server.worker.connections)
        await client.send_close()
        await client.read_close()
        await client.close()
        await until_idle()

        assert (head.status, found.payload, opened) == (101, b"early", 1)
        assert order == ["connect", "open", "close"]
        assert counted(server) == {"http_2xx": 3}


@on_loop
async def test_a_handshake_behind_a_request_waits_for_its_response() -> None:
    """All in one segment: the response is whole before the 101."""
    async with serve(
        http=Application(), on_message=lambda connection, message: connection.send(message)
    ) as server:
        client = await server.connect()
        await client.send(
            request("POST / HTTP/1.1", HOST, "Content-Length: 3")
            + b"abc"
            + handshake()
            + frame(TEXT, b"early")
        )
        response = await read_response(client)

        assert response == (200, b"POST abc")
        assert (await client.read_head()).status == 101
        assert (await client.read_frame()).payload == b"early"


@on_loop
async def test_handlers_use_the_worker() -> None:
    """The application is in the worker's process and on its event loop."""

    async def app(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        body = await read_body(receive)
        for connection in list(worker.connections.values()):
            connection.send(body.decode())
        await respond(send, b"%d" % len(worker.connections))

    async with serve(http=app) as server:
        worker: Worker = server.worker
        listener = await server.open()
        client = await server.connect()
        await client.send(request("POST / HTTP/1.1", HOST, "Content-Length: 4") + b"news")

        assert await read_response(client) == (200, b"1")
        assert (await listener.read_frame()).payload == b"news"


UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="

NOT_FOR_THE_APPLICATION = {
    "only a key": (request("GET / HTTP/1.1", HOST, KEY), 400),
    "no key": (request("GET / HTTP/1.1", HOST, *UPGRADE), 400),
    "old version": (
        request("GET / HTTP/1.1", HOST, *UPGRADE[:2], KEY, "Sec-WebSocket-Version: 8"),
        426,
    ),
    "POST": (request("POST / HTTP/1.1", HOST, *UPGRADE, KEY), 405),
    "body": (request("GET / HTTP/1.1", HOST, *UPGRADE, KEY, "Content-Length: 1"), 400),
    "chunks": (request("GET / HTTP/1.1", HOST, *UPGRADE, KEY, "Transfer-Encoding: chunked"), 400),
    "HTTP/1.0": (request("GET / HTTP/1.0", HOST, *UPGRADE, KEY), 505),
    "CONNECT": (request("CONNECT http://a/ HTTP/1.1", HOST), 405),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "no Host": (request("GET / HTTP/1.1"), 400),
    "two Hosts": (request("GET / HTTP/1.1", HOST, HOST), 400),
    "bad Host": (request("GET / HTTP/1.1", "Host: a/b"), 400),
    "two spaces": (request("GET  / HTTP/1.1", HOST), 400),
    "tab": (request("GET\t/ HTTP/1.1", HOST), 400),
    "fragment": (request("GET /#a HTTP/1.1", HOST), 400),
    "no target": (request("GET x HTTP/1.1", HOST), 400),
    "unknown method": (request("FETCH / HTTP/1.1", HOST), 400),
    "lower case": (request("get / HTTP/1.1", HOST), 400),
    "bare line feeds": (request("GET / HTTP/1.1", HOST, end="\n"), 400),
    "a bare line feed": (b"GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n", 400),
    "space before colon": (request("GET / HTTP/1.1", HOST, "A : b"), 400),
    "folded": (request("GET / HTTP/1.1", HOST, "A: b", " c"), 400),
    "NUL": (request("GET / HTTP/1.1", HOST, "A: b\0c"), 400),
    "length and chunks": (
        request("POST / HTTP/1.1", HOST, "Content-Length: 3", "Transfer-Encoding: chunked"),
        400,
    ),
    "two lengths": (
        request("POST / HTTP/1.1", HOST, "Content-Length: 3", "Content-Length: 4"),
        400,
    ),
    "space before length": (request("POST / HTTP/1.1", HOST, "Content-Length : 3"), 400),
    "signed length": (request("POST / HTTP/1.1", HOST, "Content-Length: +3"), 400),
    "chunks twice": (
        request("POST / HTTP/1.1", HOST, "Transfer-Encoding: chunked", "Transfer-Encoding: x"),
        400,
    ),
    "another coding": (request("POST / HTTP/1.1", HOST, "Transfer-Encoding: gzip, chunked"), 501),
    "chunks in 1.0": (request("POST / HTTP/1.0", HOST, "Transfer-Encoding: chunked"), 400),
    "large body": (request("POST / HTTP/1.1", HOST, "Content-Length: 2000000"), 413),
    "many fields": (request("GET / HTTP/1.1", HOST, *(f"A{n}: b" for n in range(100))), 431),
    "large head": (request("GET / HTTP/1.1", HOST, "A: " + "b" * 16384), 431),
    "long line": (request("GET /" + "a" * 16384 + " HTTP/1.1", HOST), 414),
    "TLS": (b"\x16\x03\x01\0", 0),
}


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize(
    ("head", "status"), NOT_FOR_THE_APPLICATION.values(), ids=list(NOT_FOR_THE_APPLICATION)
)
@on_loop
async def test_what_is_refused_reaches_no_application(
    head: bytes, status: int, *, is_first: bool
) -> None:
    """Nor does what follows it, which may be a request of somebody else's making."""
    app = Application()
    async with serve(http=app) as server:
        client = await server.connect()
        if not is_first:
            await client.send(GET)
            await read_response(client)
        await client.send(head + GET)
        data, _ = await client.read_end()
        server.lines()

        assert data[:12] == (b"HTTP/1.1 %d" % status if status else data[:12])
        assert data.lower().count(b"\ndate: ") == bool(status)
        assert len(app.scopes) == (not is_first)


@on_loop
async def test_refusals_count_as_responses_and_handshakes_do_not() -> None:
    """So an operator sees them with the other requests, and not as failed handshakes."""
    heads = (
        request("GET / HTTP/1.1", HOST, HOST),
        request("POST / HTTP/1.1", HOST, "Content-Length: 2000000"),
        request("GET / HTTP/1.1", HOST, "Sec-WebSocket-Key: x"),
    )
    async with serve(http=Application()) as server:
        statuses = [(await server.ask(head)).status for head in heads]
        server.lines()

        assert statuses == [400, 413, 400]
        assert counted(server)["http_4xx"] == 2


@pytest.mark.parametrize("body", [b"g\r\n", b"1\r\nab", b"1\na", b"0\r\n\n", b"1;" + b"a" * 300])
@on_loop
async def test_a_malformed_body_ends_the_connection(body: bytes) -> None:
    """The application learns that its client is gone, and what follows is no request."""
    app = Application()
    async with serve(http=app) as server:
        client = await server.connect()
        await client.send(
            request("POST /wait HTTP/1.1", HOST, "Transfer-Encoding: chunked") + body + GET
        )
        data, _ = await client.read_end()
        server.lines()

        assert data.startswith(b"HTTP/1.1 400 ")
        assert [scope["path"] for scope in app.scopes] in ([], ["/wait"])


@on_loop
async def test_health_checks_are_not_for_the_application() -> None:
    """Unless there are none."""
    app = Application()
    async with serve(http=app) as server:
        found = [
            await server.ask(request(f"{line} HTTP/1.1", HOST))
            for line in ("GET /healthz", "GET /healthz?a", "GET /%68ealthz", "OPTIONS *")
        ]
        paths = [scope["path"] for scope in app.scopes]
    async with serve(http=app, health_path=None) as server:
        client = await server.connect()
        await client.send(request("OPTIONS / HTTP/1.1", HOST))
        preflight = await read_response(client)

        assert [one.body for one in found] == [b"ok\n"] * 4
        assert (paths, preflight) == ([], (200, b"OPTIONS "))


# Mistakes of the application.


@on_loop
async def test_exceptions_are_logged_and_not_sent() -> None:
    """Before a response: 500; within one: an end that no client takes for its whole."""
    async with serve(http=Application()) as server:
        found = []
        for path in ("/raise", "/nothing", "/bad/field", "/raise/late", "/raise/behind"):
            client = await server.connect()
            await client.send(request(f"GET {path}?token=secret HTTP/1.1", HOST))
            if path == "/raise/behind":
                found.append(await read_response(client))
                await until_idle()
                continue
            data, _ = await client.read_end()
            found.append((int(data[9:12]), data.partition(b"\r\n\r\n")[2]))
        lines = server.lines(40)

        error = (500, b"500 Internal Server Error\n")
        assert found == [error, error, error, (200, b"4\r\nhalf\r\n"), (200, b"whole")]
        assert counted(server) == {"http_failed": 5, "http_5xx": 3, "http_2xx": 3}
        assert [line.partition(" <- ")[0] for line in lines] == [
            "worker: the HTTP application raised LookupError for GET '/raise'",
            "worker: the HTTP application returned without a whole response to GET '/nothing'",
            "worker: the HTTP application raised RuntimeError for GET '/bad/field'",
            "worker: the HTTP application raised LookupError for GET '/raise/late'",
            "worker: the HTTP application raised LookupError for GET '/raise/behind'",
        ]
