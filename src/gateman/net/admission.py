"""
Who may come in: caps on connections, by address and in all, and on handshakes. PURE.

Counted per process: the processes of a worker share nothing, and the kernel spreads clients
evenly over them.
"""

from collections import Counter
from dataclasses import dataclass

from ..options import Limits
from .forwarded import rate_key

# Beyond max_connections, so many at a time are told why; the rest are just closed.
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


class Ticket:
    """
    One TCP connection that is counted in; exists once for each, and counts it out once.

    Attributes:
        ip: The address that it also counts for; empty for none.
    """

    __slots__ = ("_admission", "ip")

    def __init__(self, admission: "Admission") -> None:
        """
        Count it in; :meth:`Admission.arrive` does.

        Args:
            admission: The counts.
        """
        self._admission: Admission | None = admission
        self.ip = ""

    def enter(self, ip: str) -> Refusal | None:
        """
        Count it for an address, too.

        Args:
            ip: The client's address.

        Returns:
            Why it may not stay, or ``None``. Refused, it counts for no address.
        """
        if self._admission is None or self.ip:
            return None
        refusal = self._admission.enter(ip)
        if refusal is None:
            self.ip = ip
        return refusal

    def leave(self) -> None:
        """Count it out; again does nothing."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.leave(self.ip)


class Admission:
    """
    The counts behind the caps.

    Memory is bounded by ``max_connections``: an address without a connection is forgotten.

    Attributes:
        count: TCP connections that are there.
    """

    __slots__ = ("_by_ip", "_handshakes", "_limits", "_max_connections", "_window_at", "count")

    def __init__(self, limits: Limits, max_connections: int) -> None:
        """
        Start with nobody.

        Args:
            limits: The caps.
            max_connections: ``limits.max_connections``, or what the system allows.
        """
        self._limits = limits
        self._max_connections = max_connections
        self._by_ip: Counter[str] = Counter()
        self._handshakes = 0
        self._window_at = 0.0
        self.count = 0

    def arrive(self) -> tuple[Ticket, Refusal | None]:
        """
        Count a TCP connection in, whether it may stay or not.

        Returns:
            Its ticket, and why it may not stay, or ``None``.
        """
        self.count += 1
        return Ticket(self), TOO_MANY if self.count > self._max_connections else None

    @property
    def is_crowded(self) -> bool:
        """Whether even those who are told that there is no room are too many."""
        return self.count >= self._max_connections + _MAX_TURNED_AWAY

    def leave(self, ip: str) -> None:
        """
        Count a TCP connection out.

        Args:
            ip: The address that it counted for; empty for none.
        """
        self.count -= 1
        if ip:
            key = rate_key(ip)
            self._by_ip[key] -= 1
            if self._by_ip[key] <= 0:
                del self._by_ip[key]

    def enter(self, ip: str) -> Refusal | None:
        """
        Count a connection for an address.

        Args:
            ip: The client's address.

        Returns:
            Why it may not stay, or ``None``.
        """
        limit = self._limits.max_connections_per_ip
        key = rate_key(ip)
        if limit is not None and self._by_ip[key] >= limit:
            return TOO_MANY_FROM_HERE
        self._by_ip[key] += 1
        return None

    def shake(self, now: float) -> Refusal | None:
        """
        Count a handshake.

        Args:
            now: Monotonic seconds.

        Returns:
            Why it is not done, or ``None``.
        """
        limit = self._limits.max_handshakes_per_second
        if now - self._window_at >= 1.0:
            self._window_at = now
            self._handshakes = 0
        self._handshakes += 1
        return TOO_FAST if limit is not None and self._handshakes > limit else None

    @property
    def address_count(self) -> int:
        """Addresses that are remembered."""
        return len(self._by_ip)
