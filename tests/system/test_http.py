"""Plain HTTP on a port for WebSockets: every answer is one, and ends the connection."""

import asyncio

import pytest

from gateman.net.preamble import TLS_ALERT
from tests.support.loop import on_loop, turns, until_idle
from tests.support.raw import EOF, request
from tests.support.server import Journal, serve

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

GONE = ("on_close", 1006, "")


# What is no handshake.

UPGRADE = ("Upgrade: websocket", "Connection: Upgrade")
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = "Sec-WebSocket-Version: 13"
HOST = "Host: a"

MISTAKES = {
    "binary": (b"\x00\x01\x02\xff\r\n\r\n", 400),
    "no HTTP": (b"HELO example.com\r\n\r\n", 400),
    "POST": (request("POST / HTTP/1.1", HOST, "Content-Length: 3") + b"abc", 405),
    "PUT": (request("PUT * HTTP/1.1", HOST), 405),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/1.0 handshake": (request("GET / HTTP/1.0", HOST, *UPGRADE, KEY, VERSION), 505),
    "no Host": (request("GET / HTTP/1.1", *UPGRADE, KEY, VERSION), 400),
    "two Hosts": (request("GET / HTTP/1.1", HOST, HOST, *UPGRADE, KEY, VERSION), 400),
    "body": (request("GET / HTTP/1.1", HOST, "Content-Length: 1", *UPGRADE, KEY, VERSION), 400),
    "chunks": (request("GET / HTTP/1.1", HOST, "Transfer-Encoding: chunked"), 400),
    "space before colon": (request("GET / HTTP/1.1", HOST, "A : b"), 400),
    "folded": (request("GET / HTTP/1.1", HOST, "A: b", " c"), 400),
    "bare line feeds": (request("GET / HTTP/1.1", HOST, end="\n"), 400),
    "NUL": (request("GET / HTTP/1.1", HOST, "A: b\0c"), 400),
    "many fields": (request("GET / HTTP/1.1", HOST, *(f"A{n}: b" for n in range(100))), 431),
    "large": (request("GET / HTTP/1.1", HOST, "A: " + "b" * 16384), 431),
    "endless": (b"GET /" + b"a" * 16384, 414),
    "long line": (request("GET /" + "a" * 16384 + " HTTP/1.1", HOST), 414),
    "old version": (
        request("GET / HTTP/1.1", HOST, *UPGRADE, KEY, "Sec-WebSocket-Version: 8"),
        426,
    ),
    "no version": (request("GET / HTTP/1.1", HOST, *UPGRADE, KEY), 426),
    "no key": (request("GET / HTTP/1.1", HOST, *UPGRADE, VERSION), 400),
    "bad key": (request("GET / HTTP/1.1", HOST, *UPGRADE, VERSION, "Sec-WebSocket-Key: abc"), 400),
    "two keys": (request("GET / HTTP/1.1", HOST, *UPGRADE, VERSION, KEY, KEY), 400),
    "plain": (request("GET / HTTP/1.1", HOST), 426),
    "other upgrade": (request("GET / HTTP/1.1", HOST, "Upgrade: h2c", "Connection: Upgrade"), 426),
    "plain HTTP/1.0": (request("GET / HTTP/1.0"), 426),
}
FIELDS = {
    405: {"allow": "GET, HEAD, OPTIONS"},
    426: {"upgrade": "websocket", "sec-websocket-version": "13", "connection": "close, Upgrade"},
}


@both
@pytest.mark.parametrize(("head", "status"), MISTAKES.values(), ids=list(MISTAKES))
@on_loop
async def test_mistake_gets_a_good_answer(head: bytes, status: int, *, secure: bool) -> None:
    """Whatever a peer sends, it gets HTTP and then the end, and the application is not asked."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        found = await server.ask(head)
        await journal.until(*GONE)

        assert found.status == status
        assert FIELDS.get(status, {}).items() <= found.headers.items()
        assert found.headers["content-type"] == "text/plain; charset=utf-8"
        assert journal.entries == [("on_connect",), GONE]
        lines = server.lines()
        silent = ("POST", "PUT", "HTTP/2 preface", "plain", "other upgrade", "plain HTTP/1.0")
        # Those of proxies say more.
        of_proxies = ("HTTP/1.0 handshake", "no key")
        assert len(lines) == (head not in [MISTAKES[name][0] for name in silent])
        if lines and head not in [MISTAKES[name][0] for name in of_proxies]:
            limits = {431: " (see limits.", 414: " (see limits.max_head_size): "}
            begin = f"worker: a request from 127.0.0.1 was refused with {status}"
            assert lines[0].startswith(begin + limits.get(status, ": "))
            assert lines[0].endswith(f": {found.body.decode().rstrip()}")


@pytest.mark.parametrize("line", ["Upgrade: websocket", "Connection: Upgrade"])
@on_loop
async def test_proxy_that_swallows_the_upgrade_is_told_to_the_operator(line: str) -> None:
    """A handshake of which half is missing is most often a proxy's doing."""
    lines = [HOST, *UPGRADE, KEY, VERSION]
    lines.remove(line)
    async with serve() as server:
        found = await server.ask(request("GET / HTTP/1.1", *lines))
        await server.ask(request("GET / HTTP/1.1", *lines))

        assert found.status == 400
        assert f"without '{line}'".encode() in found.body
        (logged,) = server.lines()
        assert "`gateman proxy nginx` and `gateman proxy apache` print" in logged


@on_loop
async def test_fields_that_are_stripped_are_told_to_the_operator() -> None:
    """A proxy that knows no WebSocket leaves none of its fields: the version is not the matter."""
    async with serve() as server:
        found = await server.ask(request("GET / HTTP/1.1", HOST, *UPGRADE))
        (line,) = server.lines()

    assert found.status == 400
    assert found.body.startswith(b"The handshake arrived without 'Sec-WebSocket-Key'.")
    assert "pass all fields on that begin with Sec-WebSocket-" in line


@on_loop
async def test_a_client_that_came_over_http2_is_told_so() -> None:
    """The proxy is right then, and curl is to be told."""
    async with serve() as server:
        found = await server.ask(request("GET / HTTP/1.1", HOST, KEY, VERSION, "Via: 2.0 nginx"))
        (line,) = server.lines()

    assert found.status == 400
    assert b"(curl: --http1.1)" in found.body
    assert line.startswith("worker: a handshake from 127.0.0.1 came to the proxy over HTTP/2 or 3,")


@pytest.mark.parametrize(
    "head",
    [
        request("HEAD / HTTP/1.1", HOST),
        request("HEAD / HTTP/1.1", HOST, *UPGRADE, KEY, VERSION),
        request("HEAD / HTTP/1.1"),
        request("HEAD / HTTP/1.1", "A: " + "b" * 16384),
    ],
    ids=["plain", "handshake", "no Host", "large"],
)
@on_loop
async def test_answer_to_head_has_no_body(head: bytes) -> None:
    """It announces the body's length and leaves it out (RFC 9110, section 9.3.2)."""
    async with serve() as server:
        found = await server.ask(head, method="HEAD")

        assert (found.status >= 400, int(found.headers["content-length"]) > 0) == (True, True)


@on_loop
async def test_answer_reaches_a_client_that_is_still_sending() -> None:
    """Unread bytes do not reset the connection before the answer is read."""
    async with serve() as server:
        client = await server.connect()
        client.push(b"GET /" + bytes(300_000))
        await until_idle()
        client.push(bytes(3_000_000))

        assert (await client.read_response()).status == 414


# Health checks.


@both
@pytest.mark.parametrize(
    "line", ["GET /healthz HTTP/1.1", "GET /healthz HTTP/1.0", "GET /healthz?from=lb HTTP/1.1"]
)
@on_loop
async def test_health_check_is_answered(line: str, *, secure: bool) -> None:
    """200 while serving, over both versions of HTTP."""
    async with serve(secure=secure) as server:
        found = await server.ask(request(line, HOST))

        assert (found.status, found.body) == (200, b"ok\n")


@on_loop
async def test_health_check_by_head() -> None:
    """As HAProxy asks, without Host and over HTTP/1.0."""
    async with serve() as server:
        found = await server.ask(request("HEAD /healthz HTTP/1.0"), method="HEAD")

        assert (found.status, found.headers["content-length"]) == (200, "3")


@on_loop
async def test_health_check_of_a_client_that_ends_its_half() -> None:
    """As ``printf | nc`` does."""
    async with serve() as server:
        client = await server.connect()
        await client.send(request("GET /healthz HTTP/1.1", HOST))
        client.end()

        assert (await client.read_response()).status == 200


@on_loop
async def test_health_path_may_be_another_or_none() -> None:
    """``health_path`` moves it, ``None`` turns it off."""
    async with serve(health_path="/up") as server:
        assert (await server.ask(request("GET /up HTTP/1.0"))).status == 200
        assert (await server.ask(request("GET /healthz HTTP/1.0"))).status == 426
    async with serve(health_path=None) as server:
        assert (await server.ask(request("GET /healthz HTTP/1.0"))).status == 426


@on_loop
async def test_health_check_while_draining() -> None:
    """503 as soon as the end has begun."""
    async with serve() as server:
        client = await server.connect()
        await turns()
        end = asyncio.create_task(server.service.drain(1001, "", window=0.1))
        await turns()
        await client.send(request("GET /healthz HTTP/1.0"))
        found = await client.read_response()
        await end

        assert (found.status, found.body) == (503, b"draining\n")


@on_loop
async def test_test_page_is_off_by_default() -> None:
    """``/`` is a page only where the worker says so."""
    async with serve(test_page=True) as server:
        found = await server.ask(request("GET / HTTP/1.1", HOST))

        assert (found.status, found.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b"new WebSocket(" in found.body
        assert (await server.ask(request("GET /other HTTP/1.0"))).status == 426


# TLS where none is spoken.


@on_loop
async def test_tls_on_a_plain_port_gets_an_alert() -> None:
    """The client is told in its own language, the operator in one line."""
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        for _ in range(3):
            client = await server.connect()
            await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100))

            assert await client.read_end() == (TLS_ALERT, EOF)
            client.vanish()
        await journal.until("on_close", count=3)

        assert server.service.counts["tls_on_plain_port"] == 3
        (line,) = server.lines()
        assert line.startswith(
            "worker: 127.0.0.1 spoke TLS to this plain port: if that is a proxy, have it speak"
            " plain HTTP (nginx: proxy_pass http://"
        )
