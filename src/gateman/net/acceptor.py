"""
Accepts connections: from the listening socket to the transport, with TLS where it is asked for.

The accept loop is ours because the engine's spins when descriptors run out (engine.md, 5),
and because on a TLS port the first bytes are looked at before TLS begins: the name that the
client asks for chooses the certificate, and plain HTTP is told that the port speaks TLS.
"""

import asyncio
import errno
import select
import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiofastnet

from .events import Events
from .preamble import MAX_HELLO_SIZE, ClientHello, NeedMore, NotTLS, read_tls
from .tls import Contexts

# Connections taken from the queue before the others on the loop get their turn.
_ACCEPTS_PER_TURN = 64

# asyncio's own ACCEPT_RETRY_DELAY: out of descriptors, wait for some to be given back.
_RETRY_DELAY = 1.0  # seconds

# Where the kernel cannot wait for bytes in our place.
_PEEK_DELAY = 0.05  # seconds

# Smallest buffers that aiofastnet takes; its defaults are 256 KiB each, per connection, of
# which all that was ever touched stays (bench/memory.py).
_BIO_SIZE = 16 << 10 | 512  # bytes

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

# What OpenSSL says when a handshake fails, and what an operator does about it.
_TLS_FAILURES = {
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust the certificate: serve the complete"
    " chain, and connect by a name that the certificate is for",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client does not accept the certificate: serve the"
    " complete chain, and connect by a name that the certificate is for",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client does not accept the certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client says that the certificate has expired",
    "UNSUPPORTED_PROTOCOL": "the client speaks only versions of TLS below 1.2",
    "UNKNOWN_PROTOCOL": "the client speaks only versions of TLS below 1.2",
    "NO_SHARED_CIPHER": "the client has no cipher in common with ssl.ciphers",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client showed no certificate, and"
    " ssl.verify_peer asks for one",
    "CERTIFICATE_VERIFY_FAILED": "the client's certificate is not from ssl.cafile",
}

Front = Callable[[float, bool], asyncio.BaseProtocol]
"""Makes the protocol of a connection: (the instant by which its handshake is done, whether it
is plain HTTP on a TLS port)."""


class Acceptor:
    """One listening socket, and the connections that have not got as far as a transport."""

    def __init__(
        self,
        sock: socket.socket,
        front: Front,
        events: Events,
        *,
        contexts: Contexts | None,
        handshake_timeout: float,
        close_timeout: float,
        user_timeout: float | None,
    ) -> None:
        """
        Prepare to accept; nothing is accepted before :meth:`start`.

        Args:
            sock: A listening, non-blocking socket; it stays the caller's.
            front: Makes the protocol for each connection.
            events: Whom to tell what goes wrong.
            contexts: The TLS contexts; ``None`` for a plain port.
            handshake_timeout: Seconds from accept to the end of the WebSocket handshake.
            close_timeout: Seconds that a peer has for the end of TLS.
            user_timeout: Seconds after which the kernel gives up on a peer that acknowledges
                nothing; ``None`` for the system's own patience of many minutes.
        """
        self._sock = sock
        self._front = front
        self._events = events
        self._contexts = contexts
        self._handshake_timeout = handshake_timeout
        self._close_timeout = close_timeout
        self._user_timeout = user_timeout
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._is_accepting = False
        self._peeking: dict[socket.socket, asyncio.TimerHandle] = {}
        self._arriving: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Accept."""
        if not self._is_accepting:
            self._is_accepting = True
            self._loop.add_reader(self._sock, self._accept)

    def stop(self) -> None:
        """Accept no more; connections that are arriving are let go on."""
        if self._is_accepting:
            self._is_accepting = False
            self._loop.remove_reader(self._sock)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def abort_arriving(self) -> None:
        """End the connections that have no transport yet."""
        for sock in list(self._peeking):
            self._forget(sock)
            sock.close()
        for task in self._arriving:
            task.cancel()

    @property
    def arriving_count(self) -> int:
        """Connections that have no transport yet."""
        return len(self._peeking) + len(self._arriving)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    # accept(2): errors pending on the new connection; it is gone.
                    continue
                self._pause(error)
                return
            self._arrived(sock)

    def _pause(self, error: OSError) -> None:
        """Wait for descriptors: the socket stays readable, and would spin the loop."""
        self._events.noticed(
            "out_of_descriptors",
            f"no connection can be accepted ({(error.strerror or '').lower()}): raise the limit"
            " on open files (ulimit -n, LimitNOFILE=)",
        )
        self.stop()
        self._retry = self._loop.call_later(_RETRY_DELAY, self.start)

    def _arrived(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        is_tcp = sock.family != socket.AF_UNIX
        # Absent on macOS, whose keepalive has to do.
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if is_tcp and option is not None and self._user_timeout is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, int(self._user_timeout * 1000))
        deadline_at = self._loop.time() + self._handshake_timeout
        if self._contexts is None:
            self._connect(sock, deadline_at, None)
        elif is_tcp:
            self._peeking[sock] = self._loop.call_at(deadline_at, self._expired, sock)
            self._loop.add_reader(sock, self._peek, sock)
        else:
            # A unix socket has no low-water mark, so that waiting for bytes would spin; and
            # who connects to one knows what it speaks.
            self._connect(sock, deadline_at, self._contexts.select(None))

    # Looking at the first bytes.

    def _peek(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(MAX_HELLO_SIZE, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data or (len(data) < self._low_water(sock) and _has_ended(sock)):
            self._forget(sock)
            sock.close()
            return
        verdict = read_tls(data)
        if isinstance(verdict, NeedMore):
            self._wait_for(sock, verdict.size)
            return
        deadline_at = self._forget(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        if isinstance(verdict, ClientHello) and self._contexts is not None:
            self._connect(sock, deadline_at, self._contexts.select(verdict.server_name))
        elif isinstance(verdict, NotTLS) and verdict.is_http:
            self._events.noticed(
                "plain_on_tls_port",
                "a client spoke plain HTTP or ws:// to this TLS port: it must connect with wss://"
                " (or https://); if a proxy in front does the TLS, leave out transport='ssl'",
            )
            self._connect(sock, deadline_at, None, is_refused=True)
        else:
            self._events.noticed("garbage_on_tls_port", "")
            sock.close()

    def _wait_for(self, sock: socket.socket, size: int) -> None:
        """
        Be woken when there are more bytes.

        They stay in the socket, which stays readable: the low-water mark makes the kernel
        wait for enough of them, or for the peer's end. It may also wake for less, when it is
        short of memory; then waiting for the same again would spin.
        """
        if size > self._low_water(sock):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            return
        self._loop.remove_reader(sock)
        self._loop.call_later(_PEEK_DELAY, self._peek_again, sock)

    def _peek_again(self, sock: socket.socket) -> None:
        if sock in self._peeking:
            self._loop.add_reader(sock, self._peek, sock)

    @staticmethod
    def _low_water(sock: socket.socket) -> int:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

    def _forget(self, sock: socket.socket) -> float:
        """Stop looking at a socket; gives the instant of its deadline."""
        self._loop.remove_reader(sock)
        timer = self._peeking.pop(sock)
        timer.cancel()
        return timer.when()

    def _expired(self, sock: socket.socket) -> None:
        self._forget(sock)
        sock.close()
        self._events.noticed("handshake_timeout", "")

    # From the socket to a transport.

    def _connect(
        self,
        sock: socket.socket,
        deadline_at: float,
        context: ssl.SSLContext | None,
        *,
        is_refused: bool = False,
    ) -> None:
        task = self._loop.create_task(
            self._transport(sock, deadline_at, context, is_refused=is_refused)
        )
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _transport(
        self,
        sock: socket.socket,
        deadline_at: float,
        context: ssl.SSLContext | None,
        *,
        is_refused: bool,
    ) -> None:
        options: dict[str, Any] = {}
        if context is not None:
            options = {
                "ssl": context,
                "ssl_handshake_timeout": max(deadline_at - self._loop.time(), 0.001),
                "ssl_shutdown_timeout": self._close_timeout,
                "ssl_incoming_bio_size": _BIO_SIZE,
                "ssl_outgoing_bio_size": _BIO_SIZE,
            }
        try:
            transport, _ = await aiofastnet.connect_accepted_socket(
                self._loop, lambda: self._front(deadline_at, is_refused), sock, **options
            )
        except OSError as error:
            sock.close()
            self._tls_failed(error)
            return
        except BaseException:
            sock.close()
            raise
        if self._contexts is not None and context is not None:
            shown = transport.get_extra_info("ssl_object").getpeercert(True)
            if not self._contexts.check_peer(shown):
                self._events.noticed(
                    "peer_fingerprint",
                    "a client's certificate is not the one that ssl.peer_fingerprint names",
                )
                transport.abort()

    def _tls_failed(self, error: OSError) -> None:
        if not isinstance(error, ssl.SSLError):
            # Gone or too slow: port scanners, impatient browsers. Nothing to change here.
            self._events.noticed("tls_not_finished", "")
            return
        reason = error.reason or "unknown"
        advice = _TLS_FAILURES.get(reason, reason.lower().replace("_", " "))
        self._events.noticed(f"tls_{reason.lower()}", f"a TLS handshake failed: {advice}")


def _has_ended(sock: socket.socket) -> bool:
    """Tell whether the peer has ended the connection, with bytes still to be read."""
    poll = select.poll()
    # POLLRDHUP is Linux's; elsewhere the deadline ends what is left over.
    poll.register(sock, getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))
