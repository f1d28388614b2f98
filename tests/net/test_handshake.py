"""What stands between a connection and its 101, over real sockets."""

import asyncio
import logging
from typing import Any

import pytest

from gateman import Connection, Refuse, Request
from gateman.clients.protobuf_codec import ProtobufCodec
from tests.support.loop import on_loop, turns, until_idle
from tests.support.raw import TEXT, RawClient, Response, frame, handshake
from tests.support.server import Journal, Server, authority, certificate, serve, ssl_options

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

# What Firefox 128 sends, byte for byte.
FIREFOX = (
    b"GET / HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8282\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: */*\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Origin: http://127.0.0.1:8000\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Sec-Fetch-Dest: empty\r\n"
    b"Sec-Fetch-Mode: websocket\r\n"
    b"Sec-Fetch-Site: same-site\r\n"
    b"Pragma: no-cache\r\n"
    b"Cache-Control: no-cache\r\n"
    b"Upgrade: websocket\r\n"
    b"\r\n"
)

GONE = ("on_close", 1006, "")


# What is accepted.


@both
@on_loop
async def test_firefox_is_accepted(*, secure: bool) -> None:
    """A Connection field that is a list of tokens, as Firefox sends it, is no mistake."""
    async with serve(secure=secure) as server:
        client = await server.connect()
        await client.send(FIREFOX)

        assert (await client.read_head()).status == 101


@on_loop
async def test_head_may_be_cut_anywhere() -> None:
    """Wherever the network cuts a handshake in two, it is the same handshake."""
    head = handshake("/chat")
    async with serve(on_message=lambda connection, message: connection.send(message)) as server:
        for cut in range(1, len(head)):
            client = await server.connect()
            await client.send(head[:cut])
            await turns()
            await client.send(head[cut:])

            assert (await client.read_head()).status == 101
            client.vanish()


@both
@on_loop
async def test_head_may_come_byte_by_byte(*, secure: bool) -> None:
    """Also when every byte is a segment of its own, or a record."""
    async with serve(secure=secure) as server:
        client = await server.connect()
        for byte in handshake():
            await client.send(bytes([byte]))
            await turns(1)

        assert (await client.read_head()).status == 101


@on_loop
async def test_empty_lines_before_the_request_are_ignored() -> None:
    """As RFC 9112, section 2.2 asks for."""
    async with serve() as server:
        client = await server.connect()
        await client.send(b"\r\n")
        await turns()
        await client.send(b"\r\n" + handshake())

        assert (await client.read_head()).status == 101


@both
@on_loop
async def test_early_frames_are_kept(*, secure: bool) -> None:
    """Frames in the same segment as the handshake are delivered behind on_open."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.connect()
        early = frame(TEXT, b"one") + frame(TEXT, b"two") + frame(TEXT, b"three")[:5]
        await client.send(handshake() + early)
        await client.read_head()
        await client.send(frame(TEXT, b"three")[5:])
        await journal.until("on_message", "three")

        assert journal.entries == [
            ("on_connect",),
            ("on_websocket_connect", "/"),
            ("on_open",),
            ("on_message", "one"),
            ("on_message", "two"),
            ("on_message", "three"),
        ]


@both
@on_loop
async def test_early_frames_wait_for_a_slow_decision(*, secure: bool) -> None:
    """What comes while the application thinks is kept, and beyond 64 KiB left to the kernel."""
    journal = Journal()
    decided = asyncio.Event()

    async def decide(_connection: Connection, _request: Request) -> None:
        journal.note("on_websocket_connect")
        await decided.wait()

    callbacks = journal.callbacks(on_websocket_connect=decide)
    async with serve(secure=secure, **callbacks) as server:
        client = await server.connect()
        messages = [b"%05d" % number + bytes(4096) for number in range(60)]
        await client.send(handshake())
        await journal.until("on_websocket_connect")
        client.push(b"".join(frame(TEXT, message) for message in messages))
        await until_idle()
        decided.set()
        await journal.until("on_message", count=60)

        assert journal.of("on_message") == [(message.decode(),) for message in messages]


# What a connection knows.


@both
@on_loop
async def test_connection_knows_both_ends(*, secure: bool) -> None:
    """Its addresses are those of the sockets when no proxy is between."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open("/chat?room=1", ("Cookie: a=b",))
        (connection,) = journal.connections
        asked = connection.request
        assert asked is not None

        assert {
            "remote": (connection.remote_ip, connection.remote_port),
            "peer_ip": connection.peer_ip,
            "local_address": connection.local_address,
            "is_secure": connection.is_secure,
            "path": asked.path,
            "query": dict(asked.query),
            "cookies": asked.cookies,
            "host": asked.headers["host"],
            "worker": connection.worker,
            "id": connection.id,
        } == {
            "remote": client.socket.getsockname(),
            "peer_ip": "127.0.0.1",
            "local_address": f"127.0.0.1:{server.port}",
            "is_secure": secure,
            "path": "/chat",
            "query": {"room": "1"},
            "cookies": {"a": "b"},
            "host": "localhost",
            "worker": server.worker,
            "id": 1,
        }


@on_loop
async def test_trusted_proxy_names_the_client() -> None:
    """A proxy on this machine is believed, and the peer stays known."""
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        await server.open(headers=("X-Forwarded-For: 203.0.113.7",))
        (connection,) = journal.connections

        assert (connection.remote_ip, connection.remote_port) == ("203.0.113.7", 0)
        assert connection.peer_ip == "127.0.0.1"


@on_loop
async def test_untrusted_proxy_is_ignored() -> None:
    """Nobody else says who the client is."""
    journal = Journal()
    async with serve(trusted_proxies=[], **journal.callbacks()) as server:
        await server.open(headers=("X-Forwarded-For: 203.0.113.7", "X-Real-IP: 203.0.113.7"))

        assert journal.connections[0].remote_ip == "127.0.0.1"


@on_loop
async def test_a_proxy_that_is_not_trusted_is_hinted_at_once() -> None:
    """Else everybody has its address, and nobody knows why; clients may forge the fields."""
    async with serve(trusted_proxies=[]) as server:
        for name in ("X-Real-IP", "Forwarded", "X-Forwarded-For"):
            await server.open(headers=(f"{name}: 203.0.113.7",))
        (line,) = server.lines()

        assert server.service.counts["untrusted_forwarding"] == 3
        assert line == (
            "worker: a handshake from 127.0.0.1 has X-Real-IP, which is not believed: if that"
            " address is a proxy of yours, add it to trusted_proxies; if it is a client, leave all"
            " as it is (PROXY_NOT_TRUSTED)"
        )


@on_loop
async def test_contradicting_proxy_is_told_to_the_operator() -> None:
    """Two different clients in one request: neither is believed, one line says so."""
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        for _ in range(2):
            await server.open(headers=("X-Forwarded-For: 203.0.113.7", "X-Real-IP: 203.0.113.8"))

        assert [found.remote_ip for found in journal.connections] == ["127.0.0.1"] * 2
        assert server.service.counts["contradictory_forwarding"] == 2
        (line,) = server.lines()
        assert "names different clients" in line


# What on_websocket_connect decides.


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@on_loop
async def test_application_refuses(*, is_async: bool) -> None:
    """Status, text and fields are what was raised; the connection never opens."""
    journal = Journal()

    def refuse(_connection: Connection, _request: Request) -> None:
        raise Refuse(401, "Who are you?", {"WWW-Authenticate": "Bearer"})

    async def refuse_later(connection: Connection, asked: Request) -> None:
        await asyncio.sleep(0)
        refuse(connection, asked)

    decide = refuse_later if is_async else refuse
    async with serve(**journal.callbacks(on_websocket_connect=decide)) as server:
        refusal = await server.ask(handshake())
        await journal.until(*GONE)

        assert (refusal.status, refusal.body) == (401, b"Who are you?\n")
        assert refusal.headers["www-authenticate"] == "Bearer"
        assert refusal.headers["connection"] == "close"
        assert journal.entries == [("on_connect",), GONE]
        assert server.lines() == []


@on_loop
async def test_application_redirects() -> None:
    """A refusal may be a redirect."""

    def redirect(_connection: Connection, _request: Request) -> None:
        raise Refuse(302, headers={"Location": "https://example.com/"})

    async with serve(on_websocket_connect=redirect) as server:
        refusal = await server.ask(handshake())

        assert (refusal.status, refusal.headers["location"]) == (302, "https://example.com/")


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@on_loop
async def test_failing_application_gives_nothing_away(*, is_async: bool) -> None:
    """An exception is a 500 without its text, which the log and on_error have."""
    journal = Journal()

    def fail(_connection: Connection, _request: Request) -> None:
        raise RuntimeError("secret-db-password")

    async def fail_later(connection: Connection, asked: Request) -> None:
        await asyncio.sleep(0)
        fail(connection, asked)

    decide = fail_later if is_async else fail
    async with serve(**journal.callbacks(on_websocket_connect=decide)) as server:
        refusal = await server.ask(handshake())
        await journal.until(*GONE)

        assert (refusal.status, refusal.body) == (500, b"500 Internal Server Error\n")
        assert journal.entries == [
            ("on_connect",),
            ("on_error", "RuntimeError: secret-db-password"),
            GONE,
        ]
        (line,) = server.lines(logging.ERROR)
        assert line.startswith("on_websocket_connect raised RuntimeError for <Connection 1 ")
        assert line.endswith("which is closed for it <- RuntimeError('secret-db-password')")


@both
@on_loop
async def test_application_adds_fields_to_the_101(*, secure: bool) -> None:
    """What it fills into response_headers is sent, also what is not ASCII."""

    def decide(connection: Connection, _request: Request) -> None:
        connection.response_headers["Set-Cookie"] = "id=1; HttpOnly"
        connection.response_headers["X-City"] = "Köln"

    async with serve(secure=secure, on_websocket_connect=decide) as server:
        client = await server.connect()
        await client.send(handshake())
        found = await client.read_head()

        assert found.headers["set-cookie"] == "id=1; HttpOnly"
        assert found.headers["x-city"].encode("latin-1").decode() == "Köln"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Evil", "a\r\nSet-Cookie: b"),
        ("X-Evil", "a\0"),
        ("X Evil", "a"),
        ("X-Number", 5),
        (5, "a"),
        ("upgrade", "h2c"),
        ("Sec-WebSocket-Protocol", "not-offered"),
    ],
)
@on_loop
async def test_application_cannot_break_the_answer(name: object, value: object) -> None:
    """A field that would is a 500, and a log line that names it."""

    def decide(connection: Connection, _request: Request) -> None:
        headers: dict[object, object] = connection.response_headers  # type: ignore[assignment]
        headers[name] = value

    async with serve(on_websocket_connect=decide) as server:
        refusal = await server.ask(handshake())

        assert refusal == Response(500, refusal.headers, b"500 Internal Server Error\n")
        (line,) = server.lines()
        assert repr(name) in line


@pytest.mark.parametrize("wrong", [None, [("X-City", "a")], "X-City: a"])
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@on_loop
async def test_header_fields_of_another_type_are_named(wrong: Any, *, is_async: bool) -> None:
    """The client is told 500 and nothing else."""

    def decide(connection: Connection, _request: Request) -> None:
        connection.response_headers = wrong

    async def decide_later(connection: Connection, request: Request) -> None:
        await asyncio.sleep(0)
        decide(connection, request)

    async with serve(on_websocket_connect=decide_later if is_async else decide) as server:
        refusal = await server.ask(handshake())

        assert refusal == Response(500, refusal.headers, b"500 Internal Server Error\n")
        (line,) = server.lines()
        kind = type(wrong).__name__
        assert f"connection.response_headers is of type {kind}: set it to a dict of" in line


@on_loop
async def test_refusal_cannot_break_the_answer() -> None:
    """Fields of a refusal are checked too."""

    def decide(_connection: Connection, _request: Request) -> None:
        raise Refuse(403, headers={"X-Evil": "a\r\nb: c"})

    async with serve(on_websocket_connect=decide) as server:
        assert (await server.ask(handshake())).status == 500
        (line,) = server.lines()
        assert "the header field 'X-Evil' holds a control character" in line


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [("b, a", "a"), ("b", "b"), ("c", None), ("a,a", "a"), ("", None)],
)
@on_loop
async def test_subprotocol_is_the_first_of_ours(offered: str, agreed: str | None) -> None:
    """The worker's order counts, and what the client does not offer is not chosen."""
    journal = Journal()
    async with serve(subprotocols=["a", "b"], **journal.callbacks()) as server:
        client = await server.connect()
        await client.send(handshake(headers=(f"Sec-WebSocket-Protocol: {offered}",)))
        found = await client.read_head()

        assert found.headers.get("sec-websocket-protocol") == agreed
        assert journal.connections[0].subprotocol == agreed
        assert server.service.counts["no_common_subprotocol"] == (offered == "c")
        for line in server.lines():
            assert f"offers the subprotocols {offered}, of which this worker speaks none" in line


@on_loop
async def test_an_sdk_at_a_worker_without_its_protocol_is_told() -> None:
    """It takes the 101 for a success; without a subprotocol, as with JSON, nothing shows it."""
    async with serve() as server:
        client = await server.connect()
        await client.send(
            handshake(headers=(f"Sec-WebSocket-Protocol: {ProtobufCodec.subprotocol}",))
        )
        await client.read_head()

        (line,) = server.lines()
        assert line.endswith(
            "offers the subprotocols centrifuge-protobuf, of which this worker speaks none:"
            " browsers end such a connection; for Centrifuge's SDKs set"
            ' client_protocol="centrifuge"'
        )


@on_loop
async def test_application_chooses_the_subprotocol() -> None:
    """Also one that the worker did not declare."""

    def decide(connection: Connection, asked: Request) -> None:
        connection.subprotocol = asked.subprotocols[-1]

    async with (
        serve(on_websocket_connect=decide) as server,
        server.client(subprotocols=["x", "y"]) as client,
    ):
        assert client.subprotocol == "y"


@on_loop
async def test_subprotocol_that_was_not_offered_is_refused() -> None:
    """A client would have to fail on it, so the operator is told instead."""

    def decide(connection: Connection, _request: Request) -> None:
        connection.subprotocol = "z"

    async with serve(on_websocket_connect=decide) as server:
        refusal = await server.ask(handshake(headers=("Sec-WebSocket-Protocol: x",)))

        assert refusal.status == 500
        (line,) = server.lines()
        assert "subprotocol 'z' was chosen, but the client offers x" in line


@on_loop
async def test_foreign_origins_are_refused() -> None:
    """Pages of allowed origins and clients that are no browsers may connect, others may not."""
    journal = Journal()
    callbacks = journal.callbacks()
    async with serve(allowed_origins=["https://example.com"], **callbacks) as server:
        refusal = await server.ask(handshake(headers=("Origin: https://evil.example",)))
        await server.ask(handshake(headers=("Origin: https://example.com.evil.example",)))
        await server.open(headers=("Origin: https://EXAMPLE.com",))
        await server.open()

        assert refusal.status == 403
        assert len(journal.of("on_websocket_connect")) == 2
        (line,) = server.lines()
        assert "'https://evil.example' was refused: add it to allowed_origins" in line


# What browsers add by themselves.
ADDED = ("Cookie: session=secret", "Authorization: Basic c2VjcmV0")


async def seen(server: Server, origin: str | None, *more: str) -> list[str]:
    """Open a WebSocket as a browser does for a page, and give what the application sees of it."""
    fields = [*ADDED, *more, *([] if origin is None else [f"Origin: {origin}"])]
    await server.open(headers=tuple(fields))
    connection = next(reversed(server.worker.connections.values()))
    request = connection.request
    assert request is not None
    names = [name for name in ("Cookie", "Authorization") if name in request.headers]
    assert (b"secret" in request.head, b"c2VjcmV0" in request.head) == (bool(names), bool(names))
    assert bool(request.cookies) == bool(names)
    return names


@both
@on_loop
async def test_pages_of_other_hosts_come_without_credentials(*, secure: bool) -> None:
    """They connect all the same; and a line says how to let them have their cookies."""
    async with serve(secure=secure) as server:
        assert await seen(server, "https://evil.example") == []
        assert await seen(server, "null") == []
        (line,) = server.lines()
        assert line == (
            "worker: a browser page connects without the cookies and the HTTP authentication that"
            " the browser sent: the page is of 'https://evil.example' and the service of"
            " 'localhost': add the page's origin to allowed_origins if it is yours; if the page is"
            " of this service's own site, the proxy in front replaces the Host: let it pass that on"
            " (nginx: proxy_set_header Host $http_host; Apache: ProxyPreserveHost On)"
            " (CREDENTIALS_WITHHELD)"
        )
        assert server.service.counts["credentials_withheld"] == 2

        assert await seen(server, None) == ["Cookie", "Authorization"]
        assert await seen(server, "https://localhost:8000") == ["Cookie", "Authorization"]
        forwarded = "X-Forwarded-Host: evil.example"
        assert await seen(server, "https://evil.example", forwarded) == ["Cookie", "Authorization"]
        assert server.service.counts["credentials_withheld"] == 2


@on_loop
async def test_pages_that_are_allowed_keep_their_credentials() -> None:
    """The list is what the operator has said of them."""
    async with serve(allowed_origins=["https://friend.example"]) as server:
        assert await seen(server, "https://friend.example") == ["Cookie", "Authorization"]


@on_loop
async def test_a_forwarded_host_is_taken_from_trusted_proxies_only() -> None:
    """Who is no proxy may write what it likes."""
    async with serve(trusted_proxies=[]) as server:
        forwarded = "X-Forwarded-Host: evil.example"
        assert await seen(server, "https://evil.example", forwarded) == []
        assert "or the proxy that sent X-Forwarded-Host to trusted_proxies" in server.lines()[0]


@on_loop
async def test_a_page_without_credentials_is_nothing_to_tell() -> None:
    """The console of any page may try a service out."""
    async with serve() as server:
        await server.open(headers=("Origin: https://any.example",))

        assert server.lines() == []
        assert server.service.counts["credentials_withheld"] == 0


@on_loop
async def test_certificates_of_users_are_not_for_pages_of_other_hosts() -> None:
    """A browser shows them for every page, and they cannot be withheld: 403."""
    options = ssl_options(verify_peer=True, cafile=str(certificate().authority))
    async with serve(context={"ssl": options}, secure=True, trusted_proxies=[]) as server:
        context = authority().trusting_client()
        context.load_cert_chain(certificate().certificate, certificate().key)
        statuses = []
        for origin in ("https://evil.example", "https://localhost"):
            client = await RawClient.connect(server.address, tls=context)
            await client.send(handshake(headers=(f"Origin: {origin}",)))
            statuses.append((await client.read_head()).status)
            await client.close()

        assert statuses == [403, 101]
        (line,) = server.lines()
        assert "a browser page was refused, as a browser shows its user's certificate" in line


@on_loop
async def test_application_ends_a_connection_before_its_handshake() -> None:
    """close() and destroy() in on_connect end the TCP connection."""
    for end in (Connection.close, Connection.destroy):
        journal = Journal()
        async with serve(**journal.callbacks(on_connect=end)) as server:
            client = await server.connect()

            assert (await client.read_end())[0] == b""
            await journal.until("on_close")
            assert journal.entries == [GONE]


@on_loop
async def test_frames_before_the_answer_of_a_refusal_are_forgotten() -> None:
    """Early frames of a client that is refused do no harm."""

    def refuse(_connection: Connection, _request: Request) -> None:
        raise Refuse(403, "No.")

    async with serve(on_websocket_connect=refuse) as server:
        found = await server.ask(handshake() + frame(TEXT, b"a" * 1000) * 100)

        assert (found.status, found.body) == (403, b"No.\n")


@both
@on_loop
async def test_pause_before_the_open_holds(*, secure: bool) -> None:
    """A client that was paused in on_websocket_connect is not read from until resume_recv."""
    journal = Journal()

    def decide(connection: Connection, _request: Request) -> None:
        connection.pause_recv()

    callbacks = journal.callbacks(on_websocket_connect=decide)
    async with serve(secure=secure, **callbacks) as server:
        client = await server.open()
        await client.send_frame(TEXT, b"a")
        await until_idle()
        assert journal.of("on_message") == []
        journal.connections[0].resume_recv()
        await journal.until("on_message", "a")


@on_loop
async def test_pause_before_the_open_may_be_taken_back() -> None:
    """Then it never was; and nothing can be unsent by then."""
    journal = Journal()

    def decide(connection: Connection, _request: Request) -> None:
        connection.pause_recv()
        connection.resume_recv()
        journal.note("unsent", connection.send_buffer_size)

    async with serve(**journal.callbacks(on_websocket_connect=decide)) as server:
        client = await server.open()
        await client.send_frame(TEXT, b"a")
        await journal.until("on_message", "a")

        assert journal.of("unsent") == [(0,)]


@on_loop
async def test_a_proxy_that_speaks_http_1_0_is_named() -> None:
    """As old versions of Nginx do unless told otherwise: the operator reads what to change."""
    async with serve() as server:
        answer = await server.ask(handshake().replace(b"HTTP/1.1", b"HTTP/1.0"))
        (line,) = server.lines()

        assert answer.status == 505
        assert "arrived at the service as HTTP/1.0" in line
        assert "nginx: proxy_http_version 1.1" in line
