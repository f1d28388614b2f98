"""What was seen of a service from its own machine. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

from ...errors import MasterSilent
from ...findings import Finding, Severity, Software
from ...http.client_address import TrustedProxies
from ...listen import ListenAddress
from ...master.control_requests import ListedArrival, ListedCause, SlotStatus, StatusAnswer
from ..target import bracketed
from .proxies.route import ProxyRoute, Upstream

_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared
_LOCAL_NAMES = frozenset({"localhost", "ip6-localhost", "localhost.localdomain"})

PROXY_PROGRAMS = {
    "nginx": Software.NGINX,
    "openresty": Software.NGINX,
    "apache2": Software.APACHE,
    "httpd": Software.APACHE,
    "haproxy": Software.HAPROXY,
    "caddy": Software.CADDY,
}
"""Proxies whose configuration can be read, by the names of their processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSeen:
    """A declared worker that clients connect to."""

    name: str
    listen: ListenAddress
    is_tls: bool = False
    requires_proxy: bool = False
    ping_interval: float | None = 25.0  # seconds; None for no pings
    max_connections_per_ip: int | None = 1000  # None for no limit
    has_allowed_origins: bool = False
    trusted: TrustedProxies = field(default_factory=TrustedProxies)
    is_socket_missing: bool = False  # whether there is no file at the path of its unix socket
    # The files, and how long each is still valid, in words.
    certificates: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()  # what is wrong with them

    @property
    def is_refused(self) -> bool:
        """Whether clients refuse one of its certificates."""
        return any(one.severity is Severity.CAUSE for one in self.findings)

    @property
    def address(self) -> str:
        """Where a proxy on this machine finds it."""
        if self.listen.path:
            return f"unix:{self.listen.path}"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(  # noqa: S104 - compared
            self.listen.host, self.listen.host
        )
        return f"{bracketed(host)}:{self.listen.port}"

    def is_at(self, upstream: Upstream) -> bool:
        """Return whether an upstream on this machine is this worker."""
        if upstream.path or self.listen.path:
            return upstream.path == self.listen.path
        if upstream.port != self.listen.port:
            return False
        if self.listen.host in _EVERYWHERE or upstream.host in _LOCAL_NAMES:
            return True
        return self.listen.host in _LOCAL_NAMES or same_address(upstream.host, self.listen.host)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListenerSeen:
    """A listening TCP socket of this machine."""

    address: str
    port: int
    owner: str = ""  # the process, such as ``"nginx (pid 7)"``; empty where that cannot be read
    is_own: bool = False  # whether a process of the service has it


@dataclass(frozen=True, kw_only=True, slots=True)
class ProxySeen:
    """A proxy of this machine, and what it does with the URL."""

    software: Software
    source: str  # where its configuration was read
    route: ProxyRoute | None = None  # None if it does not listen on the URL's port
    problem: str = ""  # why the configuration could not be read; else empty
    findings: tuple[Finding, ...] = ()  # what is wrong with the certificates that it shows


@dataclass(frozen=True, kw_only=True, slots=True)
class RightsSeen:
    """A right that the proxy's user does not have on the way to the unix socket of a worker."""

    path: str
    right: str  # ``"enter"`` or ``"write to"``
    mode: str  # as ``ls -l`` has it
    owner: str  # user and group
    user: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BusSeen:
    """The bus of a worker."""

    worker: str
    servers: str  # the addresses of its URL
    problem: str = ""  # why none of them can be connected to; empty if one can


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrivalsSeen:
    """What became of the handshake that the doctor has sent through the URL."""

    status: int | None = None  # of the answer that came back; None without one
    server: str = ""  # what the answer says of the server
    problem: str = ""  # why no answer came
    text: str = ""  # the beginning of the answer's body
    arrivals: tuple[ListedArrival, ...] = ()
    causes: tuple[ListedCause, ...] = ()
    silent: tuple[int, ...] = ()
    refused: str = ""  # why the running service could not be asked; else empty
    duration: float = 0.0

    @property
    def answer(self) -> str:
        return f"the status {self.status}" if self.status is not None else self.problem


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceSeen:
    """What was seen of a service."""

    script: str  # as the user calls it
    mistake: str = ""  # why it would not start; else empty
    workers: tuple[WorkerSeen, ...] = ()
    status: StatusAnswer | None = None  # of the running service; None if none answers
    # Processes that did not answer, each time they were asked.
    busy_pids: frozenset[int] = frozenset()
    problem: str = ""  # why a running service could not be asked; else empty
    silent_master: MasterSilent | None = None
    # The listening sockets of the ports that matter; None if they are not known.
    listeners: tuple[ListenerSeen, ...] | None = None
    addresses: tuple[str, ...] = ()  # those that the URL's name has
    own_addresses: tuple[str, ...] = ()  # those of ``addresses`` that are this machine's
    # The limit on open files of each process.
    open_files: Mapping[int, int] = field(default_factory=dict)
    now: float = 0.0  # wall-clock seconds
    # Files of the service that are younger than the clock, with their time.
    future_files: tuple[tuple[str, float], ...] = ()
    proxies: tuple[ProxySeen, ...] = ()
    denied: tuple[RightsSeen, ...] = ()
    buses: tuple[BusSeen, ...] = ()
    handshake: ArrivalsSeen | None = None
    after: StatusAnswer | None = None  # the status after the handshake
    log: tuple[str, ...] = ()  # the last lines of its log that are warnings or errors
    duration: float = 0.0

    @property
    def route(self) -> ProxyRoute | None:
        """What the proxy of the URL's port does with it."""
        return next((one.route for one in self.proxies if one.route is not None), None)

    @property
    def listens(self) -> str:
        """Where it is declared to listen, or where it does."""
        if self.workers or self.status is None:
            found = [one.address for one in self.workers]
        else:
            listen = [one["listen"] for one in self.status["workers"]]
            found = [one.rpartition("://")[2] for one in listen if one != "-"]
        return " and ".join(found) or "no address"

    @property
    def ended(self) -> list[SlotStatus]:
        """The slots whose process has crashed while the handshake was sent."""
        before, after = self.status, self.after
        if before is None or after is None:
            return []
        crashes = {_key(one): one.get("recent_crashes", 0) for one in before["slots"]}
        return [
            one
            for one in after["slots"]
            if one.get("recent_crashes", 0) > crashes.get(_key(one), 0)
        ]

    @property
    def lag_after(self) -> dict[int, float]:
        """How long each process was blocked lately, the handshake included."""
        slots = () if self.after is None else self.after["slots"]
        return {one["pid"]: one["lag"] or 0.0 for slot in slots for one in slot["processes"]}

    @property
    def is_running(self) -> bool:
        return self.status is not None or bool(self.problem) or self.silent_master is not None

    @property
    def software(self) -> Software | None:
        """That of this proxy."""
        return None if self.route is None else self.route.software

    @property
    def proxy_name(self) -> str:
        return "the proxy" if self.software is None else self.software.value

    @property
    def has_opened(self) -> bool:
        """Whether the doctor's handshake arrived here, and its answer came back."""
        seen = self.handshake
        return (
            seen is not None
            and seen.status == 101
            and any(one["status"] == 101 for one in seen.arrivals)
        )

    def listening(self, port: int) -> list[ListenerSeen]:
        return [one for one in self.listeners or () if one.port == port]


def _key(slot: SlotStatus) -> tuple[str, int]:
    return slot["worker"], slot["slot"]


def is_loopback(address: str) -> bool:
    if address in _LOCAL_NAMES:
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def same_address(one: str, other: str) -> bool:
    try:
        return ip_address(one) == ip_address(other)
    except ValueError:
        return one.lower() == other.lower()


def is_ipv6(address: str) -> bool:
    try:
        return isinstance(ip_address(address), IPv6Address)
    except ValueError:
        return False
