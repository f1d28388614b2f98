"""
The attack list, rows 1 to 15: who comes to the entrance, attacked over real sockets.

A row has one test here, or a few, with the number in their docstrings; the details of each
are tested with the module that does it. ``docs/conformance.md`` is the list.
"""

import asyncio
import random
import re
import ssl
import time
from typing import Any

import pytest

from gateman import Connection, Refuse, Request
from gateman.log import SAMPLE_INTERVAL
from gateman.net.preamble import TLS_ALERT
from tests.support.counted_server import admission, serve_counted
from tests.support.hellos import openssl_hello
from tests.support.loop import eventually, on_loop, turns
from tests.support.preambles import arriving, v1, v2
from tests.support.raw import EOF, TEXT, Frame, RawClient, frame, handshake, request
from tests.support.server import Journal, Server, authority

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])


def echo(connection: Connection, message: str | bytes) -> None:
    """Answer with the same message."""
    connection.send(message)


async def check_served(server: Server) -> None:
    """See that a good client is served, as if there were no others."""
    client = await server.open()
    await client.send_frame(TEXT, b"hello")
    assert await client.read_frame() == Frame(TEXT, b"hello")
    await client.close()


HELLO = openssl_hello("localhost", [])

# Rows 1 to 4: who does not even ask.


@both
@on_loop
async def test_silent_and_slow_requests_are_cut_off(*, secure: bool) -> None:
    """Row 1: the deadline begins at accept, a byte now and then does not move it."""
    timeouts = {"handshake": 0.4}
    async with serve_counted(secure=secure, timeouts=timeouts, on_message=echo) as server:
        silent = await server.connect()
        slow = await server.connect()
        await check_served(server)
        while server.service.counts["handshake_timeout"] < 2:
            slow.push(b"G")
            await asyncio.sleep(0.01)

        assert [(await client.read_end())[0] for client in (silent, slow)] == [b"", b""]
        assert server.service.counts["handshake_timeout"] == 2
        assert server.lines() == []


@pytest.mark.parametrize("size", [0, 1, 100, None], ids=["none", "a byte", "a part", "all"])
@on_loop
async def test_slow_tls_handshake_is_cut_off(size: int | None) -> None:
    """Row 2: TLS has what is left of the same deadline, also when only its end is missing."""
    timeouts = {"handshake": 0.4}
    async with serve_counted(secure=True, timeouts=timeouts, on_message=echo) as server:
        async with arriving(server, HELLO[:size], tls=False) as client:
            await check_served(server)
            answer, _ = await client.read_end()

        # Behind a whole ClientHello, the server's part of the handshake.
        assert bool(answer) is (size is None)
        await eventually(lambda: admission(server).count == 0)
        assert server.service.counts["handshake_timeout"] == 1
        assert server.lines() == []


@both
@on_loop
async def test_scans_and_garbage_are_counted_in_silence(*, secure: bool) -> None:
    """Row 3: no traceback, no line for each of them, and everybody else is served."""
    probes = [
        b"",
        b"\0",
        b"\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",  # RDP
        b"\xffSMB" + bytes(30),
        bytes(range(256)) * 8,
    ]
    async with serve_counted(secure=secure, on_message=echo) as server:
        for data in probes * 5:
            async with arriving(server, data, tls=False) as client:
                await turns(2)
                client.end()
                answer, _ = await client.read_end()
                assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        await eventually(lambda: admission(server).count == 0)
        await check_served(server)

        assert sum(server.service.counts.values()) >= 40
        # The one that speaks HTTP to a TLS port may be a person's mistake.
        assert len(server.lines()) == (1 if secure else 0)


@both
@pytest.mark.parametrize("proxy", ["off", "required"])
@on_loop
async def test_spoiled_beginnings_do_no_harm(proxy: str, *, secure: bool) -> None:
    """Row 3: any beginning of any protocol, cut, doubled or with wrong bytes, in two segments."""
    chance = random.Random(f"{proxy} {secure}")  # noqa: S311 - the same in every run
    begun_at = time.monotonic()
    good = [v1(), v2(), v2("2001:db8::1"), HELLO, handshake(), b"", frame(TEXT, b"hello")]
    async with serve_counted(
        secure=secure, proxy_protocol=proxy, timeouts={"handshake": 0.3}, on_message=echo
    ) as server:
        for _ in range(200):
            data = bytearray(b"".join(chance.choices(good, k=3)))
            for _ in range(chance.choice([0, 0, 1, 5])):
                data[chance.randrange(len(data)) if data else 0 : 0] = chance.randbytes(2)
            del data[chance.randrange(len(data) + 1) :]
            cut = chance.randrange(len(data) + 1)
            async with arriving(server, bytes(data[:cut]), tls=False) as client:
                await turns(2)
                client.push(bytes(data[cut:]))
                await turns(3)
        await eventually(lambda: admission(server).count == 0)

        assert server.service.present_count == 0
        # A cause may have a line again after a while, which a busy machine takes for this.
        intervals = 1 + int((time.monotonic() - begun_at) / SAMPLE_INTERVAL)
        assert len(server.lines()) < 10 * intervals


@on_loop
async def test_tls_on_a_plain_port_is_answered_in_tls() -> None:
    """Row 4: none of the bytes come back; a TLS client understands the alert."""
    async with serve_counted(on_message=echo) as server:
        for _ in range(3):
            async with arriving(server, HELLO) as client:
                assert await client.read_end() == (TLS_ALERT, EOF)
        with pytest.raises(ssl.SSLError, match="UNEXPECTED_MESSAGE"):
            await RawClient.connect(server.address, tls=authority().trusting_client())
        await check_served(server)

        assert server.service.counts["tls_on_plain_port"] == 4
        (line,) = server.lines()
        assert line.startswith("worker: 127.0.0.1 spoke TLS to this plain port: if that is a proxy")


# Rows 5 to 13: what they ask.

UPGRADE = ("Upgrade: websocket", "Connection: Upgrade")
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = "Sec-WebSocket-Version: 13"


@both
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"a" * 20_000, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b":\r\n" * 5000, 431),
    ],
    ids=["line", "field", "fields", "empty fields"],
)
@on_loop
async def test_heads_that_are_too_large_are_told_so(
    head: bytes, status: int, *, secure: bool
) -> None:
    """Row 5: 431, or 414 for the line, and then the end, also while they go on sending."""
    async with serve_counted(secure=secure, on_message=echo) as server:
        client = await server.connect()
        client.push(head + bytes(1_000_000))

        assert (await client.read_response()).status == status
        assert server.service.counts[f"refused_{status}"] == 1
        await check_served(server)


@both
@on_loop
async def test_heads_may_be_as_large_as_declared(*, secure: bool) -> None:
    """Row 5: to the byte, and to the field."""
    head = handshake()
    fields = head.count(b"\r\n") - 2
    for limits, status in [
        ({"max_head_size": len(head)}, 101),
        ({"max_head_size": len(head) - 1}, 431),
        ({"max_header_count": fields}, 101),
        ({"max_header_count": fields - 1}, 431),
    ]:
        async with serve_counted(secure=secure, limits=limits) as server:
            client = await server.connect()
            await client.send(head)

            assert (await client.read(12)) == f"HTTP/1.1 {status}".encode()


@both
@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: keep-alive, Upgrade", "Upgrade: websocket"),
        ("Connection: keep-alive", "Connection: Upgrade", "Upgrade: websocket"),
        ("CONNECTION: uPGRADE", "uPGRADE: WebSocket"),
        ("Connection:Upgrade,,TE", "Upgrade: h2c, websocket"),
        ("Connection:\t Upgrade \t", "Upgrade: \twebsocket\t "),
    ],
)
@on_loop
async def test_connection_is_a_list_of_tokens(lines: tuple[str, ...], *, secure: bool) -> None:
    """Row 6: in any case, in one line or several, as browsers and proxies write it."""
    async with serve_counted(secure=secure) as server:
        client = await server.connect()
        await client.send(request("GET / HTTP/1.1", "Host: a", KEY, VERSION, *lines))

        assert (await client.read_head()).status == 101


@both
@pytest.mark.parametrize("version", ["0", "7", "8", "12", "14", "013", "13, 8", "", "x"])
@on_loop
async def test_other_versions_are_told_ours(version: str, *, secure: bool) -> None:
    """Row 7: 426 with the version that is spoken."""
    line = f"Sec-WebSocket-Version: {version}"
    async with serve_counted(secure=secure) as server:
        found = await server.ask(request("GET / HTTP/1.1", "Host: a", *UPGRADE, KEY, line))

        assert (found.status, found.headers["sec-websocket-version"]) == (426, "13")
        assert found.headers["upgrade"] == "websocket"


AMBIGUOUS = {
    "no Host": request("GET / HTTP/1.1", *UPGRADE, KEY, VERSION),
    "two Hosts": handshake(headers=("Host: b",)),
    "a Host that is none": handshake(host="a b"),
    "a blank before the colon": handshake(headers=("A : b",)),
    "a folded field": handshake(headers=("A: b", " c")),
    "a field without a name": handshake(headers=(": b",)),
    "bare line feeds": handshake().replace(b"\r\n", b"\n"),
    "one bare line feed": handshake().replace(b"\r\nUpgrade", b"\nUpgrade"),
    "a bare carriage return": handshake(headers=("A: b\rC: d",)),
    "NUL in a value": handshake(headers=("A: \0",)),
    "Transfer-Encoding": handshake(headers=("Transfer-Encoding: chunked",)) + b"0\r\n\r\n",
    "Content-Length": handshake(headers=("Content-Length: 5",)) + b"abcde",
    "both": handshake(headers=("Content-Length: 5", "Transfer-Encoding: chunked")),
    "two Content-Lengths": handshake(headers=("Content-Length: 0", "Content-Length: 5")),
    "a target with a blank": handshake(path="/a b"),
    "a fragment": handshake(path="/#a"),
}


@both
@pytest.mark.parametrize("head", AMBIGUOUS.values(), ids=list(AMBIGUOUS))
@on_loop
async def test_what_another_hop_could_read_otherwise_is_refused(
    head: bytes, *, secure: bool
) -> None:
    """Row 8: 400 and the end; what follows is never taken for a second request."""
    journal = Journal()
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    async with serve_counted(secure=secure, **journal.callbacks()) as server:
        found = await server.ask(head + smuggled)

        assert found.status == 400
        assert journal.of("on_websocket_connect") == []


@both
@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /healthz HTTP/1.0", 200),
        ("HEAD /healthz HTTP/1.1", 200),
        ("HEAD / HTTP/1.0", 426),
        ("OPTIONS / HTTP/1.0", 200),
        ("OPTIONS * HTTP/1.1", 200),
        ("POST / HTTP/1.1", 405),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/0.9", 505),
    ],
)
@on_loop
async def test_probes_get_the_answer_that_they_understand(
    line: str, status: int, *, secure: bool
) -> None:
    """Row 9: load balancers and scanners get HTTP, and the application is not asked."""
    journal = Journal()
    async with serve_counted(secure=secure, **journal.callbacks()) as server:
        found = await server.ask(request(line, "Host: a"), method=line.split(maxsplit=1)[0])

        assert found.status == status
        assert ("allow" in found.headers) is (status == 405 or line.startswith("OPTIONS"))
        assert journal.of("on_websocket_connect") == []


@both
@on_loop
async def test_application_may_know_no_such_path(*, secure: bool) -> None:
    """Row 10: a worker takes every path, until its application refuses one."""

    def decide(_connection: Connection, asked: Request) -> None:
        if asked.path != "/chat":
            raise Refuse(404)

    async with serve_counted(secure=secure, on_websocket_connect=decide) as server:
        found = await server.ask(handshake("/nothing"))

        assert (found.status, found.body) == (404, b"404 Not Found\n")
        await server.open("/chat")
        assert (await server.ask(request("GET /nothing HTTP/1.1", "Host: a"))).status == 426


@both
@on_loop
async def test_pages_of_foreign_origins_are_refused(*, secure: bool) -> None:
    """Row 11: before the 101 and before the application; by the whole origin, never a part."""
    journal = Journal()
    foreign = [
        "https://evil.example",
        "https://example.com.evil.example",
        "https://evilexample.com",
        "http://example.com",
        "https://example.com:8443",
        "https://example.com/",
        "https://user@example.com",
        "https://example.com https://evil.example",
        "null",
        "",
    ]
    async with serve_counted(
        secure=secure, allowed_origins=["https://example.com"], **journal.callbacks()
    ) as server:
        for origin in foreign:
            found = await server.ask(handshake(headers=(f"Origin: {origin}",)))
            assert found.status == 403, origin
        assert journal.of("on_websocket_connect") == []
        await server.open(headers=("Origin: https://Example.com",))
        await server.open()

        assert server.service.counts["origin_refused"] == len(foreign)
        assert len(server.lines()) == 1


@both
@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b=c", "a\nb", "a\rb", "a\0b", "a\x1b[31m"])
@on_loop
async def test_answers_cannot_be_injected_into(value: str, *, secure: bool) -> None:
    """Row 12: a field that would break an answer is a 500, wherever it comes from."""

    def decide(connection: Connection, asked: Request) -> None:
        match asked.path:
            case "/header":
                connection.response_headers["X-Echo"] = value
            case "/name":
                connection.response_headers[value] = "x"
            case "/subprotocol":
                connection.subprotocol = value
            case "/refuse":
                raise Refuse(302, value, {"Location": value})
            case "/text":
                raise Refuse(403, value)

    async with serve_counted(secure=secure, on_websocket_connect=decide) as server:
        for path in ("/header", "/name", "/subprotocol", "/refuse"):
            found = await server.ask(handshake(path))
            assert (found.status, found.body) == (500, b"500 Internal Server Error\n")
            assert not {"set-cookie", "x-echo", "location"} & set(found.headers)
        # A body may hold anything, and is no page that a browser would run.
        found = await server.ask(handshake("/text"))
        assert (found.status, found.body) == (403, f"{value}\n".encode())
        assert found.headers["content-type"] == "text/plain; charset=utf-8"
        assert not re.search(r"[\x00-\x1f\x7f]", "".join(server.lines()))


@both
@pytest.mark.parametrize("at", ["on_connect", "on_websocket_connect", "on_open", "on_message"])
@on_loop
async def test_exceptions_give_nothing_away(at: str, *, secure: bool) -> None:
    """Row 13: whatever the application raises, no byte of its text leaves the process."""

    def fail(*_args: object) -> None:
        raise RuntimeError("secret-db-password")

    callbacks: dict[str, Any] = {at: fail}
    async with serve_counted(secure=secure, **callbacks) as server:
        client = await server.connect()
        client.push(handshake() + frame(TEXT, b"hello"))
        data, _ = await client.read_end()

        assert b"secret" not in data
        assert b"RuntimeError" not in data
        assert any("secret-db-password" in line for line in server.lines())


# Rows 14 and 15: who they say that they are.


@both
@pytest.mark.parametrize(
    ("trusted", "lines", "expected"),
    [
        ([], ("X-Forwarded-For: 203.0.113.7",), "127.0.0.1"),
        ([], ("X-Real-IP: 203.0.113.7",), "127.0.0.1"),
        ([], ("Forwarded: for=203.0.113.7",), "127.0.0.1"),
        (["192.0.2.0/24"], ("X-Forwarded-For: 203.0.113.7",), "127.0.0.1"),
        (["127.0.0.1"], ("X-Forwarded-For: 192.0.2.1, 203.0.113.7",), "203.0.113.7"),
        (["127.0.0.1"], ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 203.0.113.7"),
         "203.0.113.7"),
        (["127.0.0.1", "10.0.0.0/8"], ("X-Forwarded-For: 192.0.2.1, 203.0.113.7, 10.1.2.3",),
         "203.0.113.7"),
        (["127.0.0.1"], ("X-Forwarded-For: 203.0.113.7", "X-Real-IP: 192.0.2.1"), "127.0.0.1"),
        (["127.0.0.1"], ("X-Forwarded-For: unix",), "127.0.0.1"),
    ],
)  # fmt: skip
@on_loop
async def test_only_a_trusted_peer_names_the_address(
    trusted: list[str], lines: tuple[str, ...], expected: str, *, secure: bool
) -> None:
    """Row 14: only a trusted peer is believed, and of a list only what it wrote itself."""
    journal = Journal()
    async with serve_counted(
        secure=secure, trusted_proxies=trusted, **journal.callbacks()
    ) as server:
        await server.open(headers=lines)

        assert [one.remote_ip for one in journal.connections] == [expected]


@both
@on_loop
async def test_proxy_headers_are_taken_from_proxies_only(*, secure: bool) -> None:
    """Row 15: never from others, never half, never without end, and never where none is due."""
    required: dict[str, Any] = {"proxy_protocol": "required", "timeouts": {"handshake": 0.4}}
    bad: list[tuple[dict[str, Any], bytes, str]] = [
        ({**required, "trusted_proxies": []}, v2(), "proxy_not_trusted"),
        (required, handshake(), "no_proxy_header"),
        (required, v1()[:30], "handshake_timeout"),
        (required, v2()[:20], "handshake_timeout"),
        (required, b"PROXY UNKNOWN " + b"a" * 94, "bad_proxy_header"),
        (required, v2()[:14] + b"\xff\xff" + bytes(5000), "proxy_header_too_large"),
        ({}, v1() + handshake(), "unexpected_proxy_header"),
        ({}, v2() + handshake(), "unexpected_proxy_header"),
    ]
    for options, data, cause in bad:
        journal = Journal()
        declared = {**options, **journal.callbacks()}
        async with serve_counted(secure=secure, **declared) as server:
            async with arriving(server, data, tls=False) as client:
                answer, _ = await client.read_end()

            assert not answer.startswith(b"HTTP/1.1 101")
            assert server.service.counts[cause] == 1
            assert journal.of("on_websocket_connect") == []
