"""
Accepts connections from one listening socket.

gateman accepts itself, because aiofastnet's accept loop spins when descriptors run out, and because
:mod:`.accepted_socket` reads the first bytes of a TLS port before TLS begins.
"""

import asyncio
import errno
import socket

from ..connection import join_address
from ..http.client_address import UNIX
from .accepted_socket import AcceptConfig, AcceptedSocket, PeerInfo
from .admission import Admission

# Connections accepted in one iteration of the event loop. A TLS handshake takes a millisecond, and
# open connections wait for all of them; meanwhile the others wait in the kernel, where no deadline
# has begun (bench/handshakes.py --storm).
_ACCEPTS_PER_TURN = 64
_TLS_ACCEPTS_PER_TURN = 8

# As asyncio's ACCEPT_RETRY_DELAY: how long to wait when there are no free descriptors.
_RETRY_DELAY = 1.0  # seconds

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """One listening socket, and its connections that have no transport yet."""

    def __init__(
        self, sock: socket.socket, accept_config: AcceptConfig, admission: Admission
    ) -> None:
        self._sock = sock
        self._accept_config = accept_config
        self._admission = admission
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._is_accepting = False
        self._early: set[AcceptedSocket] = set()
        _set_options(sock, accept_config.user_timeout, accept_config.keepalive)
        # Equal for all, unless the socket listens on all addresses.
        is_wildcard = client_of(sock.getsockname())[0] in {"0.0.0.0", "::"}  # noqa: S104
        self._local_address = "" if is_wildcard else _local_address(sock)

    def start(self) -> None:
        self._retry = None
        if not self._is_accepting:
            self._is_accepting = True
            self._loop.add_reader(self._sock, self._accept)

    def stop(self) -> None:
        """Stop accepting; connections accepted before continue."""
        if self._is_accepting:
            self._is_accepting = False
            self._loop.remove_reader(self._sock)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def abort_early(self) -> None:
        for accepted in list(self._early):
            accepted.abort()

    @property
    def early_count(self) -> int:
        """Connections that have no transport yet, and were accepted before a drain."""
        return sum(not accepted.is_late for accepted in self._early)

    def _accept(self) -> None:
        is_plain = self._accept_config.contexts is None
        for _ in range(_ACCEPTS_PER_TURN if is_plain else _TLS_ACCEPTS_PER_TURN):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    self._pause(error)
                    return
                # accept(2): errors that were pending on the new connection, which is gone.
                continue
            self._add(sock, address)

    def _add(self, sock: socket.socket, address: object) -> None:
        permit, refusal = self._admission.admit(sock)
        peer_info = PeerInfo(
            self._loop.time() + self._accept_config.handshake_timeout,
            permit,
            client_of(address),
            self._local_address or _local_address(sock),
        )
        accepted = AcceptedSocket(sock, peer_info, self._accept_config, self._early.discard)
        self._early.add(accepted)
        accepted.begin(refusal)

    def _pause(self, error: OSError) -> None:
        """Stop accepting for a while: the socket stays readable, and the loop would spin."""
        self._accept_config.events.noticed(
            "out_of_descriptors",
            f"no connection can be accepted ({(error.strerror or '').lower()}): raise the limit"
            " on open files (ulimit -n, LimitNOFILE=)",
        )
        self.stop()
        self._retry = self._loop.call_later(_RETRY_DELAY, self.start)


def _set_options(sock: socket.socket, user_timeout: float | None, keepalive: float | None) -> None:
    """Set what accepted sockets inherit, so that it need not be set for each."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # macOS does not have it; keepalive ends such connections there.
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None and user_timeout is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, int(user_timeout * 1000))
    if keepalive is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        seconds = max(1, round(keepalive))
        # macOS calls the first of them differently; there, the system's two hours hold.
        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, seconds)


def _local_address(sock: socket.socket) -> str:
    address = sock.getsockname()
    return join_address(*client_of(address)) if isinstance(address, tuple) else str(address)


def client_of(address: object) -> tuple[str, int]:
    """Return the host and port of a socket's address; IPv4-mapped addresses as IPv4."""
    if isinstance(address, tuple) and len(address) > 1:
        host = str(address[0])
        return host.removeprefix("::ffff:") if "." in host else host, int(address[1])
    return UNIX, 0
