"""From accept to the transport, over real sockets: silence, departures, deadlines, TLS."""

import asyncio
import contextlib
import hashlib
import resource
import socket
import ssl
import time
from pathlib import Path

import pytest

from gateman.http.client_address import UNIX, TrustedProxies
from gateman.net.accepted_socket import AcceptConfig, AcceptedSocket, PeerInfo
from gateman.net.admission import TOO_MANY, Admission
from gateman.net.certificate_wait import CertificateWait
from gateman.net.deadlines import Deadlines
from gateman.options import Limits
from gateman.tls.contexts import TlsContexts
from tests.support.certificates import Issued
from tests.support.counted_server import admission, serve_counted
from tests.support.deadlines import TIMEOUT
from tests.support.loop import eventually, on_loop, turns, until_idle
from tests.support.preambles import (
    arriving,
    dial,
    tlv,
    v1,
    v2,
)
from tests.support.raw import (
    CLOSE,
    EOF,
    RESET,
    TEXT,
    close_payload,
    frame,
    handshake,
)
from tests.support.server import Journal, Server, authority, ssl_options

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])


def only_line(server: Server) -> str:
    """The one line that was logged."""
    (line,) = server.lines()
    return line


def cpu_seconds() -> float:
    """What this process has used so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


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
        await until_idle()
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
async def test_a_client_that_leaves_is_forgotten_at_once(
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
async def test_a_connection_without_its_first_bytes_ends_with_the_server(
    part: bytes, *, secure: bool, has_proxy: bool
) -> None:
    """A stop does not wait for them."""
    async with (
        serve_counted(
            secure=secure,
            proxy_protocol="required" if has_proxy else "off",
            timeouts={"handshake": 2 * TIMEOUT, "shutdown": 2 * TIMEOUT},
        ) as server,
        arriving(server, part, tls=False) as client,
    ):
        await eventually(lambda: admission(server).count == 1)
        await turns(5)
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        await server.service.stop(1001, "")

        assert (await client.read_end())[0] == b""
        assert loop.time() - begun_at < TIMEOUT


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
        async with asyncio.timeout(TIMEOUT):
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
        untrusting = ssl.create_default_context()
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            untrusting.wrap_socket(plain, server_hostname="localhost")

    async with serve_counted(secure=True) as server:
        for _ in range(3):
            await asyncio.to_thread(distrust, server.port)
        await eventually(lambda: admission(server).count == 0)

        assert server.service.counts == {"tls_tlsv1_alert_unknown_ca": 3}
        line = only_line(server)
        assert line.startswith(
            "worker: a TLS handshake failed: the client does not trust the authority of the"
            " certificate: ssl.local_cert names "
        )
        assert line.endswith(
            "whose certificate is from 'trustme v1.2.1', which is not a public authority: have the"
            " client trust that authority, or get a certificate from a public one; if it is an"
            " intermediate one, append its certificate to the file (CERTIFICATE_PRIVATE)"
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
        assert only_line(server).startswith("worker: a TLS handshake failed: ")


# All that a client may have written before its handshake was judged: more than one read takes.
EARLY = handshake() + frame(TEXT, bytes(1000)) * 60 + frame(CLOSE, close_payload(1000))


class HastyClient:
    """
    A client that sends its last handshake flight and application data in one write.

    Attributes:
        resumed: For each connection, whether it resumed the session of the one before.
    """

    def __init__(self, port: int, issued: Issued, version: ssl.TLSVersion) -> None:
        self._address = ("127.0.0.1", port)
        self._context = authority().trusting_client()
        self._context.minimum_version = self._context.maximum_version = version
        self._context.load_cert_chain(issued.certificate, issued.key)
        self._session: ssl.SSLSession | None = None
        self.resumed: list[bool] = []

    def attack(self) -> bytes:
        """Connect, send everything, and read all application data that comes back."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(
            incoming, outgoing, server_hostname="localhost", session=self._session
        )
        answer = b""
        with (
            socket.create_connection(self._address, timeout=TIMEOUT) as plain,
            # The end may be a reset.
            contextlib.suppress(ConnectionError),
        ):
            while not _is_done(tls):
                plain.sendall(outgoing.read())
                if not (data := plain.recv(1 << 16)):
                    # With TLS 1.2 the server may end it before its own last flight.
                    return answer
                incoming.write(data)
            tls.write(EARLY)
            plain.sendall(outgoing.read())
            while data := plain.recv(1 << 16):
                incoming.write(data)
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                    while part := tls.read(1 << 16):
                        answer += part
        self._session = tls.session or self._session
        self.resumed.append(bool(tls.session_reused))
        return answer


def _is_done(tls: ssl.SSLObject) -> bool:
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    # TLS 1.2 and resumed 1.3: the last flight is still to be written.
    return True


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@on_loop
async def test_client_of_another_certificate_is_not_heard(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """Not a byte of what it wrote is read, however early it came; the pinned one is served."""
    ours = authority().issue(tmp_path, "me@example.test", stem="ours")
    other = authority().issue(tmp_path, "you@example.test", stem="other")
    pinned = hashlib.sha256(ours.der).hexdigest()
    options = ssl_options(verify_peer=True, cafile=ours.authority, peer_fingerprint=pinned)
    journal = Journal()
    async with serve_counted(
        context={"ssl": options}, secure=True, **journal.callbacks()
    ) as server:
        attacker = HastyClient(server.port, other, version)
        answers = [await asyncio.to_thread(attacker.attack) for _ in range(8)]

        assert answers == [b""] * 8
        assert journal.entries == []
        assert server.service.counts == {"peer_fingerprint": 8}
        assert "is not the one that ssl.peer_fingerprint names" in only_line(server)

        friend = HastyClient(server.port, ours, version)
        answers = [await asyncio.to_thread(friend.attack) for _ in range(2)]
        assert [answer[:12] for answer in answers] == [b"HTTP/1.1 101"] * 2
        assert friend.resumed == [False, True]
        assert len(journal.of("on_message")) == 2 * 60


# Arrivals by themselves.


class RecordingListener:
    """What an arrival needs, and what came of it."""

    def __init__(self) -> None:
        self.noticed_causes: list[str] = []
        self.done: list[AcceptedSocket] = []
        self.transports: list[asyncio.BaseTransport] = []
        self.admission = Admission(Limits(), 10)

    def noticed(self, cause: str, _message: str, _detail: str = "") -> None:
        """Take note."""
        self.noticed_causes.append(cause)

    def make_protocol(self, _peer_info: PeerInfo) -> asyncio.Protocol:
        """Make the protocol of a connection."""
        return _Front(self.transports)

    async def arrival(
        self, *, contexts: TlsContexts | None = None
    ) -> tuple[AcceptedSocket, socket.socket]:
        """Accept a connection on a unix socket, or TCP; return the server's socket, too."""
        accept_config = AcceptConfig(
            certificate_wait=CertificateWait(asyncio.get_running_loop()),
            deadlines=Deadlines(asyncio.get_running_loop()),
            make_protocol=self.make_protocol,
            events=self,  # type: ignore[arg-type] # only what is noticed
            contexts=contexts,
            trusted_proxies=TrustedProxies(),
            requires_proxy=False,
            handshake_timeout=5.0,
            close_timeout=1.0,
            user_timeout=None,
        )
        sock, self.client = socket.socketpair()
        permit, _ = self.admission.admit(sock)
        peer_info = PeerInfo(5.0, permit, (UNIX, 0), "/run/a.sock")
        return AcceptedSocket(sock, peer_info, accept_config, self.done.append), sock


class _Front(asyncio.Protocol):
    def __init__(self, transports: list[asyncio.BaseTransport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transports.append(transport)


@on_loop
async def test_arrival_that_is_aborted_at_once_leaves_nothing() -> None:
    """Before its task has run a single step."""
    listener = RecordingListener()
    arrival, sock = await listener.arrival(
        contexts=TlsContexts.load(ssl_options(), now=time.time())
    )

    arrival.begin(None)
    arrival.abort()
    await eventually(lambda: bool(listener.done))

    assert (sock.fileno(), listener.admission.count, listener.done) == (-1, 0, [arrival])
    listener.client.close()


@on_loop
async def test_only_so_many_are_told_that_there_is_no_room() -> None:
    """The rest is closed without a transport."""
    listener = RecordingListener()
    told = [listener.admission.admit()[0].reject() for _ in range(32)]
    arrival, sock = await listener.arrival()

    arrival.begin(TOO_MANY)

    assert (told, sock.fileno(), listener.done) == ([True] * 32, -1, [arrival])
    assert listener.noticed_causes == ["max_connections"]
    listener.client.close()
