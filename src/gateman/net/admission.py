"""
Who may come in: caps on connections, by address and in all, and on handshakes. PURE.

Counted per process: the processes of a worker share nothing, and the kernel spreads clients
evenly over them.
"""

from collections import Counter
from dataclasses import dataclass, replace

from ..http.client_address import rate_key
from ..options import Limits

# So many at a time, and handshakes per second, are told why they may not come in; the rest are
# just closed. They take nobody's place meanwhile: descriptors for them are set aside.
_MAX_TURNED_AWAY = 32  # connections


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    Why somebody may not come in.

    Attributes:
        cause: For counters; a literal of our code.
        status: The HTTP status to answer with.
        text: The body of the answer.
        retry_after: Seconds after which it may be tried again.
        hint: For the operator.
    """

    cause: str
    status: int
    text: str
    retry_after: int
    hint: str


TOO_MANY = Refusal(
    "max_connections",
    503,
    "This server has as many connections as it takes.",
    30,
    "as many connections are open as limits.max_connections allows: raise it, and the limit on"
    " open files (ulimit -n, LimitNOFILE=) with it",
)
OUT_OF_FILES = replace(
    TOO_MANY,
    cause="out_of_descriptors",
    hint="as many connections are open as the limit on open files leaves room for: raise it"
    " (ulimit -n, LimitNOFILE=)",
)
TOO_MANY_FROM_HERE = Refusal(
    "max_connections_per_ip",
    429,
    "Your address has as many connections as this server takes from one.",
    30,
    "one address has as many connections as limits.max_connections_per_ip allows: raise it if"
    " many clients share that address; if it is a proxy, add it to trusted_proxies",
)
TOO_FAST = Refusal(
    "max_handshakes_per_second",
    503,
    "This server is busy with others who connect; try again soon.",
    1,
    "more clients connect than limits.max_handshakes_per_second allows",
)

DRAINING = Refusal(
    "draining",
    503,
    "This server is shutting down; try again soon.",
    1,
    "",
)


class Permit:
    """
    One TCP connection that is counted in; exists once for each, and counts it out once.

    Attributes:
        ip: The address that it also counts for; empty for none.
        is_late: Whether it arrived while the process was draining.
    """

    __slots__ = ("_admission", "_is_turned_away", "ip", "is_late")

    def __init__(self, admission: "Admission") -> None:
        self._admission: Admission | None = admission
        self._is_turned_away = False
        self.ip = ""
        self.is_late = admission.is_draining

    def enter(self, ip: str) -> Refusal | None:
        """Count it for an address, too."""
        if self._admission is None or self.ip:
            return None
        refusal = self._admission.enter(ip)
        if refusal is None:
            self.ip = ip
        return refusal

    def begin_tls(self, now: float) -> Refusal | None:
        """Count a TLS handshake, which costs a thousand times what it costs to ask for one."""
        return None if self._admission is None else self._admission.begin_tls(now)

    def shake(self, now: float) -> Refusal | None:
        """Count a WebSocket handshake."""
        if self.is_late:
            return DRAINING
        return None if self._admission is None else self._admission.shake(now)

    def turn_away(self) -> bool:
        """Give its place up, while it is told why it may not stay."""
        if self._admission is None or not self._admission.turn_away():
            return False
        self._is_turned_away = True
        return True

    def leave(self) -> None:
        """Count it out; again does nothing."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.leave(self.ip, was_turned_away=self._is_turned_away)


class Admission:
    """
    The counts behind the caps.

    Memory is bounded by ``max_connections``: an address without a connection is forgotten.

    Attributes:
        count: TCP connections that are there.
        is_draining: Whether connections that arrive from now on get no WebSocket.
    """

    __slots__ = (
        "_by_ip",
        "_handshakes",
        "_limits",
        "_max_connections",
        "_tls_handshakes",
        "_turned_away",
        "_window_at",
        "count",
        "is_draining",
    )

    def __init__(self, limits: Limits, max_connections: int) -> None:
        self._limits = limits
        self._max_connections = max_connections
        self._by_ip: Counter[str] = Counter()
        self._handshakes = 0
        self._tls_handshakes = 0
        self._window_at = 0.0
        self._turned_away = 0
        self.count = 0
        self.is_draining = False

    def arrive(self) -> tuple[Permit, Refusal | None]:
        """Count a TCP connection in, whether it may stay or not."""
        self.count += 1
        is_full = self.count - self._turned_away > self._max_connections
        if not is_full:
            return Permit(self), None
        return Permit(self), OUT_OF_FILES if self._limits.max_connections is None else TOO_MANY

    def turn_away(self) -> bool:
        """Let a connection be told why it may not stay, without a place."""
        if self._turned_away >= _MAX_TURNED_AWAY:
            return False
        self._turned_away += 1
        return True

    def leave(self, ip: str, *, was_turned_away: bool) -> None:
        """Count a TCP connection out."""
        self.count -= 1
        self._turned_away -= was_turned_away
        if ip:
            key = rate_key(ip)
            self._by_ip[key] -= 1
            if self._by_ip[key] <= 0:
                del self._by_ip[key]

    def enter(self, ip: str) -> Refusal | None:
        """Count a connection for an address."""
        limit = self._limits.max_connections_per_ip
        key = rate_key(ip)
        if limit is not None and self._by_ip[key] >= limit:
            return TOO_MANY_FROM_HERE
        self._by_ip[key] += 1
        return None

    def begin_tls(self, now: float) -> Refusal | None:
        """Count a TLS handshake that is about to begin."""
        limit = self._limits.max_handshakes_per_second
        self._look_at_clock(now)
        self._tls_handshakes += 1
        is_over = limit is not None and self._tls_handshakes > limit + _MAX_TURNED_AWAY
        return TOO_FAST if is_over else None

    def shake(self, now: float) -> Refusal | None:
        """Count a WebSocket handshake."""
        limit = self._limits.max_handshakes_per_second
        self._look_at_clock(now)
        self._handshakes += 1
        return TOO_FAST if limit is not None and self._handshakes > limit else None

    def _look_at_clock(self, now: float) -> None:
        """Begin a new second when the last is over."""
        if now - self._window_at >= 1.0:
            self._window_at = now
            self._handshakes = self._tls_handshakes = 0

    @property
    def address_count(self) -> int:
        """Addresses that are remembered."""
        return len(self._by_ip)
