"""
Limits on connections, in all and by address, and on handshakes per second. PURE.

Each process counts its own: the processes of a worker share nothing, and the kernel distributes
clients evenly over them.
"""

from collections import Counter
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ..findings.handshakes import ADDRESS_LIMIT, HANDSHAKE_RATE, SERVER_DRAINING, SERVER_FULL
from ..http.client_address import rate_key
from ..options import Limits

# As many rejected connections at a time, and handshakes per second above the limit, get an answer
# that says why; the others are closed without one. They have descriptors reserved for them.
_MAX_REJECTED = 32  # connections


class Refusal(Struct, frozen=True):
    """Why a connection or a handshake is rejected."""

    cause: str  # for counters; a literal of our code
    status: int  # the HTTP status to answer with
    text: str  # the body of the answer
    retry_after: int  # seconds
    hint: str  # for the operator, in the log
    code: str  # for programs: a kind of finding

    @property
    def line(self) -> str:
        """What the log tells: the hint with the code; empty for a refusal that needs none."""
        return f"{self.hint} ({self.code})" if self.hint else ""


TOO_MANY = Refusal(
    "max_connections",
    503,
    "This server has as many connections as it takes.",
    30,
    "as many connections are open as limits.max_connections allows: raise it, and the limit on"
    " open files (ulimit -n, LimitNOFILE=) with it",
    SERVER_FULL.code,
)
OUT_OF_FILES = replace(
    TOO_MANY,
    cause="out_of_descriptors",
    hint="as many connections are open as the limit on open files leaves room for: raise it"
    " (ulimit -n, LimitNOFILE=)",
)
TOO_MANY_FROM_ADDRESS = Refusal(
    "max_connections_per_ip",
    429,
    "Your address has as many connections as this server takes from one.",
    30,
    "one address has as many connections as limits.max_connections_per_ip allows: raise it if"
    " many clients share that address; if it is a proxy, add it to trusted_proxies",
    ADDRESS_LIMIT.code,
)
TOO_FAST = Refusal(
    "max_handshakes_per_second",
    503,
    "This server is busy with others who connect; try again soon.",
    1,
    "more clients connect than limits.max_handshakes_per_second allows",
    HANDSHAKE_RATE.code,
)

TOO_MANY_REQUESTS = Refusal(
    "max_requests",
    503,
    "This server handles as many requests as it takes.",
    1,
    "the HTTP application handles as many requests as limits.max_requests allows: raise it if"
    " streams of events take them",
    SERVER_FULL.code,
)
DRAINING = Refusal(
    "draining",
    503,
    "This server is shutting down; try again soon.",
    1,
    "",
    SERVER_DRAINING.code,
)


class Permit:
    """One counted TCP connection, until :meth:`release`."""

    __slots__ = ("_admission", "_is_rejected", "file", "ip", "is_late")

    def __init__(self, admission: "Admission", file: Any) -> None:
        self._admission: Admission | None = admission
        self.file = file
        self._is_rejected = False
        # The address for which it counts; empty for none.
        self.ip = ""
        # Whether it was accepted while the process drained.
        self.is_late = admission.is_draining

    def count_address(self, ip: str) -> Refusal | None:
        """Count the connection for an address, too."""
        if self._admission is None or self.ip:
            return None
        refusal = self._admission.count_address(ip)
        if refusal is None:
            self.ip = ip
        return refusal

    def release_address(self) -> None:
        """Stop counting the connection for its address; the next request may be of another."""
        if self._admission is not None and self.ip:
            self._admission.release_address(self.ip)
            self.ip = ""

    def count_tls_handshake(self, now: float) -> Refusal | None:
        """Count a TLS handshake; it costs the server a thousand times what the client pays."""
        return None if self._admission is None else self._admission.count_tls_handshake(now)

    def count_handshake(self, now: float) -> Refusal | None:
        if self.is_late:
            return DRAINING
        return None if self._admission is None else self._admission.count_handshake(now)

    def reject(self) -> bool:
        """Stop counting it for the limit while it gets an answer; false if too many do."""
        if self._admission is None or not self._admission.reject():
            return False
        self._is_rejected = True
        return True

    def release(self) -> None:
        """Stop counting the connection; a second call does nothing."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.release(self.ip, self.file, was_rejected=self._is_rejected)


class Admission:
    """The counters behind the limits."""

    __slots__ = (
        "_by_ip",
        "_handshakes",
        "_limits",
        "_max_connections",
        "_rejected",
        "_tls_handshakes",
        "_window_at",
        "count",
        "files",
        "is_draining",
    )

    def __init__(self, limits: Limits, max_connections: int) -> None:
        self._limits = limits
        self._max_connections = max_connections
        # Bounded by max_connections: addresses without connections are removed.
        self._by_ip: Counter[str] = Counter()
        self._handshakes = 0
        self._tls_handshakes = 0
        self._window_at = 0.0
        self._rejected = 0
        # Open TCP connections, and their sockets.
        self.count = 0
        self.files: set[Any] = set()
        # Whether connections accepted from now on get no WebSocket.
        self.is_draining = False

    def admit(self, file: Any = None) -> tuple[Permit, Refusal | None]:
        """Count a TCP connection, whether it may stay or not."""
        self.count += 1
        self.files.add(file)
        refusal = None
        if self.count - self._rejected > self._max_connections:
            refusal = OUT_OF_FILES if self._limits.max_connections is None else TOO_MANY
        return Permit(self, file), refusal

    def reject(self) -> bool:
        if self._rejected >= _MAX_REJECTED:
            return False
        self._rejected += 1
        return True

    def release(self, ip: str, file: Any, *, was_rejected: bool) -> None:
        self.count -= 1
        self.files.discard(file)
        self._rejected -= was_rejected
        if ip:
            self.release_address(ip)

    def release_address(self, ip: str) -> None:
        key = rate_key(ip)
        self._by_ip[key] -= 1
        if self._by_ip[key] <= 0:
            del self._by_ip[key]

    def count_address(self, ip: str) -> Refusal | None:
        limit = self._limits.max_connections_per_ip
        key = rate_key(ip)
        if limit is not None and self._by_ip[key] >= limit:
            return TOO_MANY_FROM_ADDRESS
        self._by_ip[key] += 1
        return None

    def count_tls_handshake(self, now: float) -> Refusal | None:
        limit = self._limits.max_handshakes_per_second
        self._update_window(now)
        self._tls_handshakes += 1
        is_over = limit is not None and self._tls_handshakes > limit + _MAX_REJECTED
        return TOO_FAST if is_over else None

    def count_handshake(self, now: float) -> Refusal | None:
        limit = self._limits.max_handshakes_per_second
        self._update_window(now)
        self._handshakes += 1
        return TOO_FAST if limit is not None and self._handshakes > limit else None

    def _update_window(self, now: float) -> None:
        if now - self._window_at >= 1.0:
            self._window_at = now
            self._handshakes = self._tls_handshakes = 0

    @property
    def address_count(self) -> int:
        return len(self._by_ip)
