"""What a proxy does with the requests for one URL, in terms that all proxies share. PURE."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from ....findings import Software
from ...target import bracketed

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
    """Where a proxy passes requests on to."""

    host: str = ""  # a name or an IP address; empty for a unix socket, and where it is not known
    port: int = 0
    path: str = ""  # of a unix socket
    is_tls: bool = False  # whether the proxy speaks TLS to it
    sends_proxy: bool = False  # whether the proxy begins with a PROXY header

    def __str__(self) -> str:
        """Write it as an address."""
        if self.path:
            return f"unix:{self.path}"
        return f"{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProxyRoute:
    """What a proxy does with a URL."""

    software: Software
    # The file and line of the block that decides, such as ``"/etc/nginx/site.conf:12"``.
    where: str
    block: str  # that block, such as ``"location /wss"``
    action: Action
    is_named: bool = True  # whether a block of the proxy names the host; else its default answers
    answer: str = ""  # what it does in place of passing the request on, in words
    upstreams: tuple[Upstream, ...] = ()
    http_version: str = "1.1"  # that it speaks to the upstream
    # The fields of a WebSocket handshake that it does not pass on.
    lost_fields: tuple[str, ...] = ()
    is_raw: bool = False  # whether it passes bytes on as they are, without looking for HTTP
    # Seconds of silence after which it ends a connection; None for never.
    idle_timeout: float | None = None
    idle_option: str = ""  # the option that sets this
    # Seconds after which it ends any connection; None for never.
    stream_timeout: float | None = None
    keeps_host: bool = True  # whether the upstream sees the Host that the client asked for
    # The fields that it sets to tell who the client is; in lower case.
    client_fields: frozenset[str] = field(default_factory=frozenset)
    certificates: tuple[str, ...] = ()  # the files that it shows to clients
    is_http2_only: bool = False  # whether clients cannot speak HTTP/1.1 to it
    missing: str = ""  # what has to be added before it can pass anything on; empty if all is there
    restrictions: tuple[str, ...] = ()  # rules that may keep clients out, as they are written
    user: str = ""  # as whom it connects; empty if not known
    doubts: tuple[str, ...] = ()  # what was not understood


def any_of(values: Iterable[Known]) -> Known:
    found = list(values)
    return True if True in found else None if None in found else False


def all_of(values: Iterable[Known]) -> Known:
    found = list(values)
    return False if False in found else None if None in found else True


def host_and_port(text: str, default_port: int) -> tuple[str, int]:
    """Read ``host``, ``host:port``, ``[ipv6]:port`` or ``:port``; ``ValueError`` for a bad port."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest.removeprefix(":") or default_port)
    host, colon, port = text.partition(":")
    return host, int(port) if colon and port else default_port
