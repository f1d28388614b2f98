"""
Accepts connections from one listening socket.

gateman accepts itself, because aiofastnet's accept loop spins when descriptors run out, and because
:mod:`.accepted_socket` reads the first bytes of a TLS port before TLS begins.
"""

import asyncio
import errno
import socket

from ..http.client_address import UNIX
from .accepted_socket import AcceptConfig, AcceptedSocket
from .admission import Admission

# Connections taken from the queue before the others on the loop get their turn.
_ACCEPTS_PER_TURN = 64

# asyncio's own ACCEPT_RETRY_DELAY: out of descriptors, wait for some to be given back.
_RETRY_DELAY = 1.0  # seconds

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """One listening socket, and the connections that have not got as far as a transport."""

    def __init__(
        self, sock: socket.socket, accept_config: AcceptConfig, admission: Admission
    ) -> None:
        self._sock = sock
        self._accept_config = accept_config
        self._admission = admission
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._is_accepting = False
        self._arrivals: set[AcceptedSocket] = set()

    def start(self) -> None:
        """Accept."""
        self._retry = None
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

    def abort_arrivals(self) -> None:
        """End the connections that have no transport yet."""
        for arrival in list(self._arrivals):
            arrival.abort()

    @property
    def early_count(self) -> int:
        """Connections that have no transport yet, and arrived before a drain."""
        return sum(not arrival.is_late for arrival in self._arrivals)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
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
            self._arrived(sock, address)

    def _arrived(self, sock: socket.socket, address: object) -> None:
        permit, refusal = self._admission.arrive()
        arrival = AcceptedSocket(
            sock, client_of(address), permit, self._accept_config, self._arrivals.discard
        )
        self._arrivals.add(arrival)
        arrival.begin(refusal)

    def _pause(self, error: OSError) -> None:
        """Wait for descriptors: the socket stays readable, and would spin the loop."""
        self._accept_config.events.noticed(
            "out_of_descriptors",
            f"no connection can be accepted ({(error.strerror or '').lower()}): raise the limit"
            " on open files (ulimit -n, LimitNOFILE=)",
        )
        self.stop()
        self._retry = self._loop.call_later(_RETRY_DELAY, self.start)


def client_of(address: object) -> tuple[str, int]:
    """Read an address as the socket module gives it."""
    if isinstance(address, tuple) and len(address) > 1:
        host = str(address[0])
        return host.removeprefix("::ffff:") if "." in host else host, int(address[1])
    return UNIX, 0
