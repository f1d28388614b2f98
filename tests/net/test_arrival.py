"""From accept to the transport, over real sockets: PROXY headers, TLS, deadlines."""

import asyncio
import contextlib
import hashlib
import resource
import socket
import ssl
from pathlib import Path

import pytest

from gateman.net.admission import TOO_MANY, Admission
from gateman.net.arrival import Arrival, Entrance, Visitor
from gateman.net.forwarded import TrustedProxies
from gateman.net.preamble import MAX_PROXY_SIZE
from gateman.options import Limits
from tests.support.loop import eventually, on_loop, turns
from tests.support.preambles import (
    LOCAL,
    PROXY,
    TCP4,
    UNIX_STREAM,
    UNSPECIFIED,
    arriving,
    dial,
    tlv,
    v1,
    v2,
    v2_header,
)
from tests.support.raw import EOF, RESET, TEXT, RawClient, frame, handshake, request
from tests.support.server import Journal, Server, authority, ssl_options
from tests.support.tickets import admission, serve_counted

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

# What the client of a header is seen as; the peer is 127.0.0.1 each time.
HEADERS = {
    "v1": (v1(), ("203.0.113.7", 50312)),
    "v1, IPv6": (v1("2001:db8::7"), ("2001:db8::7", 50312)),
    "v1, unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1, unknown with addresses": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "v2": (v2(), ("203.0.113.7", 50312)),
    "v2, IPv6": (v2("2001:db8::7"), ("2001:db8::7", 50312)),
    "v2, IPv4 mapped into IPv6": (v2("::ffff:203.0.113.7"), ("203.0.113.7", 50312)),
    "v2, TLVs": (
        v2(tlvs=tlv(0x01, b"http/1.1") + tlv(0x02, b"example.test") + tlv(0x03, bytes(4))),
        ("203.0.113.7", 50312),
    ),
    "v2, as large as it may be": (
        v2(tlvs=tlv(0x04, bytes(MAX_PROXY_SIZE - 16 - 12 - 3))),
        ("203.0.113.7", 50312),
    ),
    "v2, LOCAL": (v2_header(LOCAL, UNSPECIFIED), None),
    "v2, LOCAL with addresses": (v2_header(LOCAL, TCP4, bytes(12)), None),
    "v2, unspecified": (v2_header(PROXY, UNSPECIFIED, bytes(5)), None),
    "v2, unix": (v2_header(PROXY, UNIX_STREAM, bytes(216)), None),
}
headers = pytest.mark.parametrize(("header", "expected"), HEADERS.values(), ids=list(HEADERS))


async def shake(client: RawClient, path: str = "/") -> None:
    """Do a handshake, and see that a message arrives."""
    await client.send(handshake(path) + frame(TEXT, b"hello"))
    assert (await client.read_head()).status == 101


def only_line(server: Server) -> str:
    """The one line that was logged."""
    (line,) = server.lines()
    return line


def cpu_seconds() -> float:
    """What this process has used so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# PROXY headers.


@both
@headers
@pytest.mark.parametrize("is_joined", [False, True], ids=["alone", "joined"])
@on_loop
async def test_header_names_the_client(
    header: bytes, expected: tuple[str, int] | None, *, is_joined: bool, secure: bool
) -> None:
    """
    It is taken off, alone in its segment or with a handshake or a ClientHello behind it.

    Where it names nobody, the peer remains.
    """
    journal = Journal()
    async with (
        serve_counted(secure=secure, proxy_protocol="required", **journal.callbacks()) as server,
        arriving(server, header, is_joined=is_joined) as client,
    ):
        await shake(client)
        await journal.until("on_message", "hello")
        (connection,) = journal.connections

        assert connection.peer_ip == "127.0.0.1"
        assert (connection.remote_ip, connection.remote_port) == (
            expected or client.socket.getsockname()
        )
        assert connection.is_secure is secure


@both
@pytest.mark.parametrize("header", [v1(), v2(), v2_header(LOCAL, UNSPECIFIED)])
@on_loop
async def test_header_may_come_byte_by_byte(header: bytes, *, secure: bool) -> None:
    """Each byte in a segment of its own; the server sees every one of them alone."""
    async with serve_counted(secure=secure, proxy_protocol="required") as server:
        sock = await dial(server.address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in header:
            sock.send(bytes([byte]))
            await turns(2)
        async with asyncio.timeout(5):
            client = RawClient(
                *await asyncio.open_connection(
                    sock=sock,
                    ssl=server.tls,
                    server_hostname="localhost" if secure else None,
                )
            )
        await shake(client)
        await client.close()


@pytest.mark.parametrize("header", [v1(), v2(tlvs=tlv(4, b"abc"))], ids=["v1", "v2"])
@on_loop
async def test_header_may_be_cut_anywhere(header: bytes) -> None:
    """Wherever it is cut, its rest may have the request behind it."""
    journal = Journal()
    async with serve_counted(proxy_protocol="required", **journal.callbacks()) as server:
        for cut in range(1, len(header)):
            async with arriving(server, header[:cut]) as client:
                await turns(2)
                await client.send(header[cut:] + handshake())

                assert (await client.read_head()).status == 101

        assert {one.remote_ip for one in journal.connections} == {"203.0.113.7"}
        assert server.lines() == []


WRONG = {
    "a request": (handshake(), "no_proxy_header"),
    "a ClientHello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "no_proxy_header"),
    "empty lines": (b"\r\n\r\n\r\n", "no_proxy_header"),
    "another protocol": (b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", "bad_proxy_header"),
    "a name": (b"PROXY TCP4 localhost 5.6.7.8 1 2\r\n", "bad_proxy_header"),
    "a port above 65535": (b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", "bad_proxy_header"),
    "a line above 107 bytes": (b"PROXY UNKNOWN " + b"a" * 100, "bad_proxy_header"),
    "version 3": (v2_header(0x31, TCP4, bytes(12)), "bad_proxy_header"),
    "an unknown command": (v2_header(0x22, TCP4, bytes(12)), "bad_proxy_header"),
    "addresses that are cut off": (v2_header(PROXY, TCP4, bytes(11)), "bad_proxy_header"),
    "64 KiB of TLVs": (v2_header(PROXY, TCP4, size=0xFFFF), "proxy_header_too_large"),
    "a byte too much": (
        v2_header(PROXY, TCP4, size=MAX_PROXY_SIZE - 15),
        "proxy_header_too_large",
    ),
}


@both
@pytest.mark.parametrize(("data", "cause"), WRONG.values(), ids=list(WRONG))
@on_loop
async def test_wrong_header_ends_the_connection(data: bytes, cause: str, *, secure: bool) -> None:
    """Without an answer and without the application; the operator gets one line, and counts."""
    journal = Journal()
    async with serve_counted(
        secure=secure, proxy_protocol="required", **journal.callbacks()
    ) as server:
        for _ in range(3):
            async with arriving(server, data, tls=False) as client:
                assert (await client.read_end())[0] == b""

        assert server.service.counts == {cause: 3}
        assert only_line(server) == (
            f"none: 127.0.0.1 sent no good PROXY header ({cause.replace('_', ' ')}), and"
            " proxy_protocol='required': let the proxy send it (HAProxy: send-proxy-v2), or leave"
            " the option out"
        )
        assert journal.entries == []


@both
@on_loop
async def test_header_of_a_stranger_is_not_read(*, secure: bool) -> None:
    """Who is no trusted proxy has no say, even with a good header."""
    journal = Journal()
    async with serve_counted(
        secure=secure,
        proxy_protocol="required",
        trusted_proxies=["192.0.2.0/24"],
        **journal.callbacks(),
    ) as server:
        for header in (v1(), v2(), b""):
            async with arriving(server, header, tls=False) as client:
                assert (await client.read_end())[0] == b""

        assert server.service.counts == {"proxy_not_trusted": 3}
        assert only_line(server) == (
            "none: 127.0.0.1 is no trusted proxy, and proxy_protocol='required': add it to"
            " trusted_proxies if it is yours"
        )
        assert journal.entries == []


@both
@pytest.mark.parametrize("header", [v1(), v2()], ids=["v1", "v2"])
@on_loop
async def test_header_that_nobody_expects_is_told_to_the_operator(
    header: bytes, *, secure: bool
) -> None:
    """Who has set up the proxy only, learns what is missing; nobody is believed."""
    journal = Journal()
    async with serve_counted(secure=secure, **journal.callbacks()) as server:
        for _ in range(2):
            async with arriving(server, header + handshake(), tls=False) as client:
                answer, _ = await client.read_end()
                client.end()
                assert answer.startswith(b"" if secure else b"HTTP/1.1 400 ")

        assert server.service.counts["unexpected_proxy_header"] == 2
        assert only_line(server) == (
            "none: a connection begins with a PROXY header, and proxy_protocol='off': set it to"
            " 'required', or let the proxy send none (HAProxy: no send-proxy)"
        )
        assert journal.of("on_open") == []


@both
@on_loop
async def test_health_check_of_the_proxy_is_answered(*, secure: bool) -> None:
    """LOCAL stands for the proxy itself, whose request is one as any other."""
    async with (
        serve_counted(secure=secure, proxy_protocol="required") as server,
        arriving(server, v2_header(LOCAL, UNSPECIFIED)) as client,
    ):
        await client.send(request("GET /healthz HTTP/1.0"))

        assert (await client.read_response()).status == 200


@on_loop
async def test_unix_socket_has_headers_too(tmp_path: Path) -> None:
    """A proxy on the same machine names its clients through a unix socket."""
    journal = Journal()
    async with serve_counted(
        f"websocket+unix://{tmp_path}/s", proxy_protocol="required", **journal.callbacks()
    ) as server:
        header = v2()
        async with arriving(server, header[:20]) as client:
            await turns()
            await client.send(header[20:])
            await shake(client)
            await journal.until("on_message", "hello")
            (connection,) = journal.connections

            assert (connection.peer_ip, connection.remote_ip) == ("unix", "203.0.113.7")


# Who takes his time, or leaves.

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
PARTS = {
    "nothing, before a PROXY header": (b"", False, True),
    "half a line": (v1()[:20], False, True),
    "half a binary header": (v2()[:20], False, True),
    "nothing, before TLS": (b"", True, False),
    "half a ClientHello": (HELLO, True, False),
    "a PROXY header, and half a ClientHello": (v2() + HELLO, True, True),
    "half a method": (b"GE", True, False),
}
parts = pytest.mark.parametrize(("part", "secure", "has_proxy"), PARTS.values(), ids=list(PARTS))


@parts
@on_loop
async def test_silence_is_cut_off_and_costs_no_time(
    part: bytes, *, secure: bool, has_proxy: bool
) -> None:
    """The bytes stay in the socket, which stays readable; the loop sleeps all the same."""
    async with (
        serve_counted(
            secure=secure,
            proxy_protocol="required" if has_proxy else "off",
            timeouts={"handshake": 0.5},
        ) as server,
        arriving(server, part, tls=False) as client,
    ):
        await eventually(lambda: admission(server).count == 1)
        await turns(20)
        begun = cpu_seconds()
        assert (await client.read_end())[0] == b""

        # A loop that spins uses all of the half second.
        assert cpu_seconds() - begun < 0.2
        assert server.service.counts == {"handshake_timeout": 1}
        assert server.lines() == []


@pytest.mark.parametrize(
    ("secure", "has_proxy"),
    [(True, False), (False, True), (True, True)],
    ids=["TLS", "PROXY", "PROXY and TLS"],
)
@on_loop
async def test_deadline_is_not_moved_by_a_byte_now_and_then(
    *, secure: bool, has_proxy: bool
) -> None:
    """It is absolute, from accept on."""
    drip = (v2(tlvs=tlv(4, bytes(2000))) if has_proxy else b"") + HELLO + bytes(500)
    async with (
        serve_counted(
            secure=secure,
            proxy_protocol="required" if has_proxy else "off",
            timeouts={"handshake": 0.3},
        ) as server,
        arriving(server, tls=False) as client,
    ):
        for byte in drip:
            client.push(bytes([byte]))
            await asyncio.sleep(0.001)
            if server.service.counts["handshake_timeout"]:
                break

        assert server.service.counts == {"handshake_timeout": 1}


@parts
@pytest.mark.parametrize("how", ["end", "reset"])
@on_loop
async def test_who_leaves_is_forgotten_at_once(
    part: bytes, how: str, *, secure: bool, has_proxy: bool
) -> None:
    """Long before the deadline, counted and without a line: port scanners do it."""
    async with (
        serve_counted(secure=secure, proxy_protocol="required" if has_proxy else "off") as server,
        arriving(server, part, tls=False) as client,
    ):
        await eventually(lambda: admission(server).count == 1)
        await turns(5)
        if how == "end":
            client.end()
            assert await client.read_end() in ((b"", EOF), (b"", RESET))
        else:
            client.reset()
        await eventually(lambda: admission(server).count == 0)

        assert server.service.counts == {"left_early": 1}
        assert server.lines() == []


@on_loop
async def test_half_a_header_on_a_unix_socket_costs_no_time(tmp_path: Path) -> None:
    """Which has no low-water mark: the loop looks again now and then."""
    async with (
        serve_counted(
            f"websocket+unix://{tmp_path}/s", proxy_protocol="required", timeouts={"handshake": 0.5}
        ) as server,
        arriving(server, v2()[:20]) as client,
    ):
        await eventually(lambda: admission(server).count == 1)
        begun = cpu_seconds()
        assert (await client.read_end())[0] == b""

        assert cpu_seconds() - begun < 0.2
        assert server.service.counts == {"handshake_timeout": 1}


@parts
@on_loop
async def test_who_has_not_arrived_is_ended_with_the_server(
    part: bytes, *, secure: bool, has_proxy: bool
) -> None:
    """A stop does not wait for them."""
    async with (
        serve_counted(secure=secure, proxy_protocol="required" if has_proxy else "off") as server,
        arriving(server, part, tls=False) as client,
    ):
        await eventually(lambda: admission(server).count == 1)
        await turns(5)
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        await server.service.stop(1001, "")

        assert (await client.read_end())[0] == b""
        assert loop.time() - begun_at < 2.0


# TLS.


@on_loop
async def test_hello_may_come_byte_by_byte() -> None:
    """OpenSSL reads it from the socket, where all of it stayed."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority().trusting_client().wrap_bio(incoming, outgoing, server_hostname="localhost")
    loop = asyncio.get_running_loop()
    async with serve_counted(secure=True) as server:
        sock = await dial(server.address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(10):
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    for byte in outgoing.read():
                        sock.send(bytes([byte]))
                        await turns(1)
                    incoming.write(await loop.sock_recv(sock, 1 << 16))
            await loop.sock_sendall(sock, outgoing.read())

        assert tls.version() == "TLSv1.3"
        sock.close()


@pytest.mark.parametrize("cut", [1, 3, 4, 16])
@on_loop
async def test_plain_http_on_a_tls_port_is_told_so(cut: int) -> None:
    """In HTTP, wherever the request is cut; the operator gets one line."""
    journal = Journal()
    async with serve_counted(secure=True, **journal.callbacks()) as server:
        for _ in range(2):
            async with arriving(server, handshake()[:cut], tls=False) as client:
                await turns(5)
                await client.send(handshake()[cut:])
                answer = await client.read_response()

                assert answer.status == 400
                assert b"This port speaks TLS: connect with wss://" in answer.body

        assert server.service.counts == {"plain_on_tls_port": 2}
        assert "a client spoke plain HTTP or ws:// to this TLS port" in only_line(server)
        assert journal.entries == []


@pytest.mark.parametrize("data", [b"\0", b"SSH-2.0-x\r\n", b"\x80\x2e\x01\x00\x02", bytes(5000)])
@on_loop
async def test_garbage_on_a_tls_port_is_dropped(data: bytes) -> None:
    """Silently, and counted."""
    async with serve_counted(secure=True) as server:
        async with arriving(server, data, tls=False) as client:
            assert (await client.read_end())[0] == b""

        assert server.service.counts == {"garbage_on_tls_port": 1}
        assert server.lines() == []


@on_loop
async def test_failed_handshakes_are_one_line_each_way() -> None:
    """A client that does not trust us says so; the operator reads what to do, once."""

    def distrust(port: int) -> None:
        # Not asyncio's TLS, which leaves without a word.
        stranger = ssl.create_default_context()
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            stranger.wrap_socket(plain, server_hostname="localhost")

    async with serve_counted(secure=True) as server:
        for _ in range(3):
            await asyncio.to_thread(distrust, server.port)
        await eventually(lambda: admission(server).count == 0)

        assert server.service.counts == {"tls_tlsv1_alert_unknown_ca": 3}
        assert only_line(server).startswith(
            "none: a TLS handshake failed: the client does not trust the certificate: serve the"
        )


@pytest.mark.parametrize(
    "record",
    [
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\xff\xff" + bytes(100),
    ],
)
@on_loop
async def test_malformed_hello_is_openssl_s_to_refuse(record: bytes) -> None:
    """Whatever is wrong with it, all of it is one cause and one line."""
    async with serve_counted(secure=True) as server:
        for _ in range(2):
            async with arriving(server, record, tls=False) as client:
                await client.read_end()
        await eventually(lambda: admission(server).count == 0)

        assert server.service.counts == {"tls_failed": 2}
        assert only_line(server).startswith("none: a TLS handshake failed: ")


@on_loop
async def test_client_of_another_certificate_is_not_heard(tmp_path: Path) -> None:
    """Where one certificate is pinned, another of the same authority does not do."""
    ours = authority().issue(tmp_path, "me@example.test", stem="ours")
    other = authority().issue(tmp_path, "you@example.test", stem="other")
    pinned = hashlib.sha256(ours.der).hexdigest()
    options = ssl_options(verify_peer=True, cafile=ours.authority, peer_fingerprint=pinned)
    async with serve_counted(context={"ssl": options}, secure=True) as server:
        statuses = []
        for issued in (ours, other):
            context = authority().trusting_client()
            context.load_cert_chain(issued.certificate, issued.key)
            client = await RawClient.connect(server.address, tls=context)
            client.push(handshake())
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                statuses.append(await client.read(12))
            await client.close()

        assert statuses == [b"HTTP/1.1 101"]
        assert server.service.counts["peer_fingerprint"] == 1
        assert "is not the one that ssl.peer_fingerprint names" in only_line(server)


# Arrivals by themselves.


class Desk:
    """What an arrival needs, and what came of it."""

    def __init__(self) -> None:
        self.noticed_causes: list[str] = []
        self.done: list[Arrival] = []
        self.transports: list[asyncio.BaseTransport] = []
        self.admission = Admission(Limits(), 10)

    def noticed(self, cause: str, _message: str) -> None:
        """Take note."""
        self.noticed_causes.append(cause)

    def front(self, _visitor: Visitor) -> asyncio.Protocol:
        """Make the protocol of a connection."""
        return _Front(self.transports)

    async def arrival(self, *, user_timeout: float | None = None) -> tuple[Arrival, socket.socket]:
        """Let a connection arrive over TCP; gives our end's socket, too."""
        entrance = Entrance(
            front=self.front,
            events=self,  # type: ignore[arg-type] # only what is noticed
            contexts=None,
            trusted_proxies=TrustedProxies(),
            requires_proxy=False,
            handshake_timeout=5.0,
            close_timeout=1.0,
            user_timeout=user_timeout,
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = await dial(listener.getsockname())
            sock, peer = listener.accept()
        ticket, _ = self.admission.arrive()
        return Arrival(sock, peer, ticket, entrance, self.done.append), sock


class _Front(asyncio.Protocol):
    def __init__(self, transports: list[asyncio.BaseTransport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transports.append(transport)


@on_loop
async def test_arrival_that_is_aborted_at_once_leaves_nothing() -> None:
    """Before its task has run a single step."""
    desk = Desk()
    arrival, sock = await desk.arrival()

    arrival.begin(None)
    arrival.abort()
    await eventually(lambda: bool(desk.done))

    assert (sock.fileno(), desk.admission.count, desk.done) == (-1, 0, [arrival])
    desk.client.close()


@on_loop
async def test_kernel_gives_up_on_a_peer_that_acknowledges_nothing() -> None:
    """The socket has the time that a ping and its pong have."""
    desk = Desk()
    arrival, sock = await desk.arrival(user_timeout=45.0)

    arrival.begin(None)
    await eventually(lambda: bool(desk.transports))

    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 45_000
    assert desk.done == [arrival]
    desk.transports[0].abort()  # type: ignore[attr-defined]
    desk.client.close()
    await turns()


@on_loop
async def test_only_so_many_are_told_that_there_is_no_room() -> None:
    """The rest is closed without a transport."""
    desk = Desk()
    told = [desk.admission.arrive()[0].turn_away() for _ in range(32)]
    arrival, sock = await desk.arrival()

    arrival.begin(TOO_MANY)

    assert (told, sock.fileno(), desk.done) == ([True] * 32, -1, [arrival])
    assert desk.noticed_causes == ["max_connections"]
    desk.client.close()
