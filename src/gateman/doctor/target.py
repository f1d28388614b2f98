"""What the doctor is asked to look at, and how. PURE."""

from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_TIMEOUT = 10.0  # seconds


def default_port(is_tls: object) -> int:
    return 443 if is_tls else 80


def bracketed(host: str) -> str:
    """Write a host as a URL has it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The URL of a WebSocket."""

    url: str
    is_tls: bool
    host: str  # a name (in its ASCII form) or an IP address, without brackets
    port: int
    path: str  # with its query; begins with a slash

    @property
    def authority(self) -> str:
        """The value of the Host field (RFC 9110, section 7.2)."""
        host = bracketed(self.host)
        return host if self.port == default_port(self.is_tls) else f"{host}:{self.port}"

    @property
    def bare_path(self) -> str:
        """The path without the query."""
        return self.path.partition("?")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """A way to the service on which the next probe can send HTTP."""

    address: str  # an IP address
    port: int
    is_tls: bool  # whether TLS comes first; the certificate may be faulty, so it is not verified
    server_name: str | None = None  # what SNI says; None for an address


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How to look."""

    # Seconds for all probes without ``idle_time``, ``message_size`` and ``connections``.
    timeout: float = DEFAULT_TIMEOUT
    ca_file: Path | None = None  # PEM; its roots count as trusted by all clients
    origin: str | None = None
    subprotocols: tuple[str, ...] = ()
    # Sent with each handshake; their values never appear in a report.
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    address: str | None = None  # an IP address to connect to, in place of those that the name has
    idle_time: float = 0  # seconds for which a connection is kept without sending; 0 for none
    message_size: int = 0  # bytes of a message to send; 0 for none
    connections: int = 0  # how many to open at the same time; 0 for none
    page: str | None = None  # the URL of the page that opens the WebSocket
    # The file of a proxy on this machine, where it cannot be found by itself.
    proxy_config: Path | None = None
