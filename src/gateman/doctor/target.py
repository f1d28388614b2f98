"""What the doctor is asked to look at, and how. PURE."""

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import GatemanError

DEFAULT_TIMEOUT = 10.0  # seconds


class UsageMistake(GatemanError):
    """What was asked for makes no sense; the sentence says what to give instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """
    The URL of a WebSocket.

    Attributes:
        host: A name (in its ASCII form) or an IP address, without brackets.
        path: With its query; begins with a slash.
    """

    url: str
    is_tls: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host field (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """
    A way to the service on which the next probe can send HTTP.

    Attributes:
        address: An IP address.
        is_tls: Whether TLS comes first; the certificate may be faulty, so it is not verified.
        server_name: What SNI says; ``None`` for an address.
    """

    address: str
    port: int
    is_tls: bool
    server_name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """
    How to look.

    Attributes:
        timeout: Seconds for all probes without ``idle_time``, ``message_size`` and ``connections``.
        ca_file: PEM; its roots count as trusted by all clients.
        address: An IP address to connect to, in place of those that the name has.
        headers: Sent with each handshake; their values never appear in a report.
        idle_time: Seconds for which a connection is kept without sending; 0 for none.
        message_size: Bytes of a message to send; 0 for none.
        connections: How many to open at the same time; 0 for none.
        page: The URL of the page that opens the WebSocket.
        proxy_config: The file of a proxy on this machine, where it cannot be found by itself.
    """

    timeout: float = DEFAULT_TIMEOUT
    ca_file: Path | None = None
    origin: str | None = None
    subprotocols: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    address: str | None = None
    idle_time: float = 0
    message_size: int = 0
    connections: int = 0
    page: str | None = None
    proxy_config: Path | None = None
