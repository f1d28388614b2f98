"""What the probes of lasting connections, and of the page, saw. PURE."""

import re
from dataclasses import dataclass
from html import unescape
from urllib.parse import urlsplit

from ..target import bracketed, default_port
from ..upgrade.observations import Answer, Attempt, Exchange

_META = re.compile(r"<meta\s[^>]*>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([\w-]+)\s*=\s*("[^"]*"|'[^']*'|[^\s>]+)""")


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSeen:
    """The page that opens the WebSocket."""

    url: str  # the last one, after redirects
    answer: Answer | None = None
    error: str = ""  # why it could not be read; empty if it was
    duration: float = 0.0

    @property
    def policies(self) -> tuple[str, ...]:
        """The Content-Security-Policies that a browser enforces."""
        if self.answer is None:
            return ()
        fields = [
            value for name, value in self.answer.fields if name.lower() == "content-security-policy"
        ]
        return (*fields, *_meta_policies(self.answer.body))

    @property
    def origin(self) -> str:
        """What the browser sends as Origin (RFC 6454, section 6.1)."""
        if any("sandbox" in one and "allow-same-origin" not in one for one in self.policies):
            return "null"
        parts = urlsplit(self.url)
        port = parts.port
        host = bracketed(parts.hostname or "")
        is_default = port in {None, default_port(parts.scheme == "https")}
        return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class IdleSeen:
    """A connection on which nothing was sent but pongs; ``failure`` if it did not open."""

    asked: float
    exchange: Exchange | None = None
    failure: Attempt | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeSeen:
    """A message of ``size`` bytes, and a ping behind it."""

    size: int
    exchange: Exchange | None = None
    failure: Attempt | None = None
    waited: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionsSeen:
    """Many connections at the same time."""

    asked: int
    opened: int
    # What came in place of the ones that did not open, the first one first.
    failures: tuple[Attempt, ...] = ()
    lost: int = 0  # how many of the opened ones ended by themselves
    local_error: str = ""  # why this machine could not open more; empty for nothing
    duration: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LastingSeen:
    page: PageSeen | None = None
    idle: IdleSeen | None = None
    size: SizeSeen | None = None
    connections: ConnectionsSeen | None = None


def _meta_policies(body: str) -> list[str]:
    policies = []
    for element in _META.findall(body):
        values = {name.lower(): value.strip("\"'") for name, value in _ATTRIBUTE.findall(element)}
        if values.get("http-equiv", "").lower() == "content-security-policy":
            policies.append(unescape(values.get("content", "")))
    return policies
