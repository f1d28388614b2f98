"""
One TCP connection from accept to its transport.

    accepted ─► PROXY header, if the worker requires one ─► ClientHello, on a TLS port ─► transport

The first bytes are peeked at and stay in the socket, so that OpenSSL, or the handshake's protocol,
reads them itself. One deadline, which begins at accept, bounds all of it.
"""

import asyncio
import contextlib
import select
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ..errors import PreambleError
from ..findings.certificates import CERTIFICATE_NOT_ISSUED
from ..findings.handshakes import PEER_SPOKE_PLAIN, PROXY_HEADER_UNEXPECTED
from ..findings.network import PROXY_HEADER_EXPECTED
from ..http.client_address import UNIX, TrustedProxies
from ..http.response import Response, refused, wrong_scheme
from .admission import Permit, Refusal
from .aiofastnet_adapter import abort, make_tls_transport
from .certificate_wait import CertificateWait
from .connection_events import ConnectionEvents
from .deadlines import Deadlines
from .preamble import (
    MAX_HELLO_SIZE,
    MAX_PROXY_SIZE,
    ClientHello,
    NeedMore,
    ProxyHeader,
    alert,
    looks_like_proxy,
    read_proxy,
    read_tls,
)
from .socket_transport import SocketTransport

if TYPE_CHECKING:
    from ..tls.contexts import TlsContexts

# Between two looks at the socket, where SO_RCVLOWAT does not help.
_PEEK_DELAY = 0.05  # seconds

# RFC 8446, section 6.2: an error that has nothing to do with the client (internal_error), and a
# name for which there is nothing (unrecognized_name).
_NO_CERTIFICATE = alert(80)
_NO_CHALLENGE = alert(112)


class PeerInfo(Struct):
    """What is known of a connection when it gets its transport."""

    deadline_at: float  # when its handshake has to be done; by the loop's clock
    permit: Permit
    peer: tuple[str, int]
    local_address: str  # host and port, or a path
    source: tuple[str, int] | None = None  # the client's address and port from a PROXY header
    refusal: Response | None = None  # the answer to its request if it is rejected
    server_name: str | None = None  # the name that its ClientHello asks for


ProtocolFactory = Callable[[PeerInfo], asyncio.BaseProtocol]
"""Makes the protocol of a connection: the handshake."""


class AcceptConfig(Struct, frozen=True, kw_only=True):
    """How one worker accepts connections."""

    deadlines: Deadlines
    make_protocol: ProtocolFactory
    events: ConnectionEvents
    contexts: "TlsContexts | None"  # None for a plain port
    certificate_wait: CertificateWait
    trusted_proxies: TrustedProxies  # the peers whose PROXY header is believed
    requires_proxy: bool  # whether every connection begins with a PROXY header
    speaks_http: bool = True  # whether a client that is refused may get an answer
    handshake_timeout: float  # seconds from accept to the end of the handshakes
    close_timeout: float  # seconds that a peer has for the end of TLS
    # Seconds after which the kernel gives up on a peer that acknowledges nothing; None for the
    # system's default of many minutes.
    user_timeout: float | None
    # Seconds of silence after which the kernel asks whether the peer is there; None for never.
    keepalive: float | None = None


class AcceptedSocket:
    """One accepted connection that has no transport yet."""

    __slots__ = (
        "_accept_config",
        "_done",
        "_is_challenge",
        "_is_read",
        "_is_trusted",
        "_is_waiting",
        "_loop",
        "_low_water",
        "_peeker",
        "_peer",
        "_peer_info",
        "_sock",
        "_task",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer_info: PeerInfo,
        accept_config: AcceptConfig,
        done: Callable[["AcceptedSocket"], None],
    ) -> None:
        self._sock = sock
        self._peer = peer_info.peer
        self._accept_config = accept_config
        self._done = done
        # Whether the peer is a trusted proxy whose client is not known yet.
        self._is_trusted = False
        # Whether it waits for a certificate, and whether an authority asks for a challenge's.
        self._is_waiting = self._is_challenge = False
        self._loop = asyncio.get_running_loop()
        self._peer_info = peer_info
        self._peeker: Callable[[], None] | None = None
        self._is_read = False
        self._task: asyncio.Task[None] | None = None
        # SO_RCVLOWAT: the socket becomes readable when it holds so many bytes.
        self._low_water = 1

    @property
    def is_late(self) -> bool:
        """Whether it was accepted while the process drained."""
        return self._peer_info.permit.is_late

    def begin(self, refusal: Refusal | None) -> None:
        """Look at the first bytes of the connection, or reject it."""
        self._sock.setblocking(False)
        if refusal is not None:
            self._reject(refusal)
            return
        if not self._accept_config.requires_proxy:
            self._identified(self._peer[0])
            return
        ip = None if self._is_unix else self._peer[0]
        if ip not in self._accept_config.trusted_proxies:
            self._noticed(
                "proxy_not_trusted",
                f"{self._peer[0]} is not a trusted proxy, and proxy_protocol='required': add it to"
                " trusted_proxies if it is yours",
            )
            self._drop()
            return
        self._watch(self._peek_proxy)

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self._drop()

    @property
    def _contexts(self) -> "TlsContexts":
        if self._accept_config.contexts is None:
            raise RuntimeError("a plain port has no certificates")
        return self._accept_config.contexts

    @property
    def _is_unix(self) -> bool:
        return self._peer[0] == UNIX

    def _noticed(self, cause: str, line: str = "") -> None:
        self._accept_config.events.noticed(cause, line)

    # Peeking at the first bytes.

    def _peek_proxy(self) -> None:
        data = self._peek(MAX_PROXY_SIZE)
        if data is None:
            return
        try:
            header = read_proxy(data)
        except PreambleError as error:
            self._noticed(
                error.cause,
                f"{self._peer[0]} did not send a valid PROXY header ({error}), and"
                " proxy_protocol='required': let the proxy send it (HAProxy: send-proxy-v2), or"
                f" leave the option out ({PROXY_HEADER_EXPECTED.code})",
            )
            self._unwatch()
            self._drop()
            return
        if isinstance(header, NeedMore):
            self._wait_for(header.size)
            return
        self._unwatch()
        self._consume(header)

    def _consume(self, header: ProxyHeader) -> None:
        self._sock.recv(header.size)
        self._peer_info.source = header.source
        self._identified((header.source or self._peer)[0])

    def _identified(self, ip: str) -> None:
        """Continue when the address is known, from TCP or the PROXY header."""
        self._is_trusted = (None if ip == UNIX else ip) in self._accept_config.trusted_proxies
        # A trusted proxy's clients count at their handshake, when their address is known.
        refusal = None if self._is_trusted else self._peer_info.permit.count_address(ip)
        if refusal is not None:
            self._reject(refusal)
        elif self._accept_config.contexts is None:
            self._connect(None)
        elif self._is_unix:
            # A unix socket has no low-water mark, and its clients know that it speaks TLS.
            self._connect_tls()
        else:
            self._watch(self._peek_tls)

    def _peek_tls(self) -> None:
        data = self._peek(MAX_HELLO_SIZE)
        if data is None:
            return
        verdict = read_tls(data)
        if isinstance(verdict, NeedMore):
            self._wait_for(verdict.size)
            return
        self._unwatch()
        if isinstance(verdict, ClientHello):
            self._begin_tls(verdict)
        elif verdict.is_http:
            self._noticed("plain_on_tls_port", PEER_SPOKE_PLAIN.found(client="a client").line)
            if not self._accept_config.speaks_http:
                self._drop()
                return
            self._peer_info.refusal = wrong_scheme()
            self._connect(None)
        else:
            self._drop_garbage(data)

    def _begin_tls(self, hello: ClientHello) -> None:
        contexts = self._contexts
        refusal = None
        if not self._is_trusted:
            refusal = self._peer_info.permit.count_tls_handshake(self._loop.time())
        if refusal is not None:
            self._reject(refusal)
        elif contexts.is_challenge(hello.alpn):
            self._answer_challenge(contexts.challenge(hello.server_name))
        else:
            self._peer_info.server_name = hello.server_name
            self._connect_tls()

    def _connect_tls(self) -> None:
        """Begin TLS, or wait until the certificate was issued."""
        context = self._contexts.select(self._peer_info.server_name)
        if context is not None:
            self._connect(context)
            return
        self._is_waiting = True
        self._accept_config.certificate_wait.add(self)
        self._accept_config.deadlines.add(self, self._peer_info.deadline_at)

    def certificate_arrived(self) -> None:
        self._is_waiting = False
        self._accept_config.deadlines.discard(self)
        self._connect_tls()

    def _answer_challenge(self, context: ssl.SSLContext | None) -> None:
        """Show an authority the certificate that answers its challenge (RFC 8737, section 3)."""
        if context is None:
            self._noticed("acme_challenge_unknown")
            self._alert(_NO_CHALLENGE)
            return
        self._noticed("acme_challenge")
        self._is_challenge = True
        self._connect(context)

    def _alert(self, record: bytes) -> None:
        """Answer a ClientHello with an alert, and end the connection."""
        # What is not read when a socket is closed makes the kernel reset the connection, and the
        # client would not see the alert.
        with contextlib.suppress(OSError):
            self._sock.recv(MAX_HELLO_SIZE)
            self._sock.send(record)
        self._drop()

    def _drop_garbage(self, data: bytes) -> None:
        if looks_like_proxy(data):
            self._noticed("unexpected_proxy_header", PROXY_HEADER_UNEXPECTED.found().line)
        else:
            self._noticed("garbage_on_tls_port")
        self._drop()

    def _peek(self, size: int) -> bytes | None:
        """Peek at the received bytes; ``None`` if there are none, or the peer has left."""
        try:
            data = self._sock.recv(size, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            data = b""
        if not data or (len(data) < self._low_water and _has_ended(self._sock)):
            self._unwatch()
            self._noticed("left_early")
            self._drop()
            return None
        return data

    def _watch(self, peek: Callable[[], None]) -> None:
        self._accept_config.deadlines.add(self, self._peer_info.deadline_at)
        self._peeker = peek
        # At once: under load, the first bytes have arrived before the socket was accepted.
        peek()
        self._read()

    def _read(self) -> None:
        """Peek whenever bytes arrive."""
        # Without a peeker it is done, has expired or was aborted.
        if self._peeker is not None and not self._is_read:
            self._is_read = True
            # By its number: asyncio looks for it first, and writes down whatever it does not find.
            self._loop.add_reader(self._sock.fileno(), self._peeker)

    def _stop_reading(self) -> None:
        if self._is_read:
            self._is_read = False
            self._loop.remove_reader(self._sock.fileno())

    def _unwatch(self) -> None:
        self._stop_reading()
        self._peeker = None
        self._accept_config.deadlines.discard(self)
        if self._low_water > 1:
            self._set_low_water(1)

    def _set_low_water(self, size: int) -> None:
        # macOS: EINVAL once the peer is gone, which the next look at the socket will tell.
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            self._low_water = size

    def _wait_for(self, size: int) -> None:
        """Look again when the socket holds so many bytes."""
        # The bytes stay in the socket, which would stay readable: the low-water mark makes the
        # kernel wait for enough of them, or for EOF. On unix sockets, and if the kernel is short of
        # memory, it reports fewer; then a timer prevents that the loop spins.
        if size > self._low_water and not self._is_unix:
            self._set_low_water(size)
            return
        self._stop_reading()
        self._loop.call_later(_PEEK_DELAY, self._read)

    def expired(self) -> None:
        if self._is_waiting:
            name = self._peer_info.server_name
            self._noticed(
                "certificate_missing", CERTIFICATE_NOT_ISSUED.found(name=name or "this server").line
            )
            self._alert(_NO_CERTIFICATE)
            return
        self._unwatch()
        self._noticed("handshake_timeout")
        self._drop()

    # Rejecting, dropping, connecting.

    def _reject(self, refusal: Refusal) -> None:
        self._noticed(refusal.cause, refusal.line)
        # With TLS an answer costs a whole handshake, which is what an attacker wants.
        config = self._accept_config
        if (
            config.contexts is not None
            or not config.speaks_http
            or not self._peer_info.permit.reject()
        ):
            self._drop()
            return
        retry = {"Retry-After": str(refusal.retry_after)}
        self._peer_info.refusal = refused(refusal.status, refusal.text, retry, refusal.code)
        self._connect(None)

    def _drop(self) -> None:
        if self._peeker is not None:
            self._unwatch()
        if self._is_waiting:
            self._is_waiting = False
            self._accept_config.certificate_wait.discard(self)
            self._accept_config.deadlines.discard(self)
        self._close()
        self._done(self)

    def _close(self) -> None:
        self._sock.close()
        self._peer_info.permit.release()

    def _connect(self, context: ssl.SSLContext | None) -> None:
        if context is not None:
            self._task = self._loop.create_task(self._begin(context))
            self._task.add_done_callback(self._connected)
            return
        protocol = self._accept_config.make_protocol(self._peer_info)
        self._done(self)
        SocketTransport(self._loop, self._sock, protocol, self._peer)

    def _connected(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            # If it was cancelled before its first step, the coroutine did not run at all.
            self._close()
        self._done(self)

    async def _begin(self, context: ssl.SSLContext) -> None:
        remaining = self._peer_info.deadline_at - self._loop.time()
        try:
            await make_tls_transport(
                self._loop,
                self._sock,
                self._make_protocol,
                context,
                handshake_timeout=max(remaining, 0.001),
                shutdown_timeout=self._accept_config.close_timeout,
            )
        except OSError as error:
            self._failed(error)
            return
        except BaseException:
            self._close()
            raise

    def _make_protocol(self) -> asyncio.BaseProtocol:
        if self._is_challenge:
            return _ChallengeAnswered(self._peer_info)
        contexts = self._accept_config.contexts
        if contexts is not None and contexts.checks_peers:
            return _PeerCheck(self._accept_config, self._peer_info)
        return self._accept_config.make_protocol(self._peer_info)

    def _failed(self, error: OSError) -> None:
        self._close()
        contexts, name = self._accept_config.contexts, self._peer_info.server_name
        if contexts is not None:
            self._noticed(*contexts.explain(error, name))


class _ChallengeAnswered(asyncio.Protocol):
    """Ends an authority's connection after its TLS handshake, which was all that it came for."""

    __slots__ = ("_peer_info",)

    def __init__(self, peer_info: PeerInfo) -> None:
        self._peer_info = peer_info

    def connection_made(self, transport: Any) -> None:
        transport.close()

    def connection_lost(self, _exc: BaseException | None) -> None:
        self._peer_info.permit.release()


class _PeerCheck(asyncio.Protocol):
    """Checks the client's certificate after the TLS handshake; then the next protocol follows."""

    # It has to happen here. A TLS 1.3 client may send application data together with its
    # certificate, and the transport continues to read in the same iteration: code that awaits the
    # handshake runs after that data was processed.
    __slots__ = ("_accept_config", "_peer_info")

    def __init__(self, accept_config: AcceptConfig, peer_info: PeerInfo) -> None:
        self._accept_config = accept_config
        self._peer_info = peer_info

    def connection_made(self, transport: Any) -> None:
        """Check the peer; aiofastnet calls this before it reads any application data."""
        contexts = self._accept_config.contexts
        shown = transport.get_extra_info("ssl_object").getpeercert(True)
        if contexts is None or contexts.check_peer(shown):
            protocol: Any = self._accept_config.make_protocol(self._peer_info)
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            return
        self._accept_config.events.noticed(
            "peer_fingerprint",
            "a client's certificate is not the one that ssl.peer_fingerprint names",
        )
        abort(transport)

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Release the permit of a peer that was refused."""
        self._peer_info.permit.release()


def _has_ended(sock: socket.socket) -> bool:
    """Return whether the peer has sent EOF; there may be unread bytes before it."""
    poll = select.poll()
    # POLLRDHUP is Linux's; elsewhere the deadline ends such a connection.
    poll.register(sock, getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))
