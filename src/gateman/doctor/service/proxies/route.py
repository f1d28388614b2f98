"""What a proxy does with the requests for one URL, in terms that all proxies share. PURE."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from ....findings import Software

MAX_CONFIGURATION_SIZE = 8 << 20  # bytes, of all files

# The fields that tell a service who its client is.
CLIENT_FIELDS = ("x-forwarded-for", "x-real-ip", "forwarded")

Files = Mapping[str, str]
"""Texts by their paths; the first is the main file."""


Known = bool | None
"""``None`` if it is not known."""


class UnreadableConfiguration(Exception):
    """It is not a configuration of this proxy, or a part of it cannot be understood."""


class Action(Enum):
    """What a proxy does with a request."""

    PASSES = "passes"
    """It passes the request on, to ``upstreams``."""
    ANSWERS = "answers"
    """It answers itself: files, a fixed answer, another kind of application."""
    REDIRECTS = "redirects"
    DENIES = "denies"
    UNKNOWN = "unknown"
    """A condition, a variable or a module decides that is not understood here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upstream:
    """
    Where a proxy passes requests on to.

    Attributes:
        host: A name or an IP address; empty for a unix socket, and where it is not known.
        path: Of a unix socket.
        is_tls: Whether the proxy speaks TLS to it.
        sends_proxy: Whether the proxy begins with a PROXY header.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    is_tls: bool = False
    sends_proxy: bool = False

    def __str__(self) -> str:
        """Write it as an address."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProxyRoute:
    """
    What a proxy does with a URL.

    Attributes:
        where: The file and line of the block that decides, such as ``"/etc/nginx/site.conf:12"``.
        block: That block, such as ``"location /wss"``.
        is_named: Whether a block of the proxy names the host; else its default answers.
        answer: What it does in place of passing the request on, in words.
        http_version: That it speaks to the upstream.
        lost_fields: The fields of a WebSocket handshake that it does not pass on.
        is_raw: Whether it passes bytes on as they are, without looking for HTTP.
        idle_timeout: Seconds of silence after which it ends a connection; ``None`` for never.
        idle_option: The option that sets this.
        stream_timeout: Seconds after which it ends any connection; ``None`` for never.
        keeps_host: Whether the upstream sees the Host that the client asked for.
        client_fields: The fields that it sets to tell who the client is; in lower case.
        certificates: The files that it shows to clients.
        is_http2_only: Whether clients cannot speak HTTP/1.1 to it.
        missing: What has to be added before it can pass anything on; empty if all is there.
        restrictions: Rules that may keep clients out, as they are written.
        user: As whom it connects; empty if not known.
        doubts: What was not understood.
    """

    software: Software
    where: str
    block: str
    action: Action
    is_named: bool = True
    answer: str = ""
    upstreams: tuple[Upstream, ...] = ()
    http_version: str = "1.1"
    lost_fields: tuple[str, ...] = ()
    is_raw: bool = False
    idle_timeout: float | None = None
    idle_option: str = ""
    stream_timeout: float | None = None
    keeps_host: bool = True
    client_fields: frozenset[str] = field(default_factory=frozenset)
    certificates: tuple[str, ...] = ()
    is_http2_only: bool = False
    missing: str = ""
    restrictions: tuple[str, ...] = ()
    user: str = ""
    doubts: tuple[str, ...] = ()


def any_of(values: Iterable[Known]) -> Known:
    found = list(values)
    return True if True in found else None if None in found else False


def all_of(values: Iterable[Known]) -> Known:
    found = list(values)
    return False if False in found else None if None in found else True


def host_and_port(text: str, default_port: int) -> tuple[str, int]:
    """
    Read ``host``, ``host:port``, ``[ipv6]:port`` or ``:port``.

    Raises:
        ValueError: The port is not a number.
    """
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest.removeprefix(":") or default_port)
    host, colon, port = text.partition(":")
    return host, int(port) if colon and port else default_port
