"""
Whether a Content-Security-Policy lets a page open a WebSocket. PURE.

Source:
    Content Security Policy Level 3, sections 2.2.1 and 6.7.2.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from ..target import Target, default_port

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_HOST = re.compile(
    r"(?:([a-z][a-z0-9+.-]*)://)?(\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])"
    r"(?::(\d+|\*))?(/.*)?",
    re.IGNORECASE,
)
_DEFAULT_PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443}
# What a scheme matches beside itself (section 6.7.2.8, "scheme-part matches").
_UPGRADES = {("ws", "wss"), ("http", "https")}


def blocking(policies: Sequence[str], page: str, target: Target) -> str:
    """Return the directive that blocks the WebSocket; empty if none does."""
    for policy in policies:
        # A list in one field is several policies.
        for one in policy.split(","):
            directives = parse(one)
            name = "connect-src" if "connect-src" in directives else "default-src"
            sources = directives.get(name)
            if sources is not None and not any(_matches(it, page, target) for it in sources):
                return f"{name} {' '.join(sources) or chr(39) + 'none' + chr(39)}"
    return ""


def upgrades(policies: Sequence[str]) -> bool:
    """Return whether the page turns ws:// into wss://."""
    return any("upgrade-insecure-requests" in parse(one) for one in policies)


def parse(policy: str) -> dict[str, list[str]]:
    """Read one policy; of a directive that is there twice, the first counts."""
    directives: dict[str, list[str]] = {}
    for directive in policy.split(";"):
        words = directive.split()
        if words:
            directives.setdefault(words[0].lower(), words[1:])
    return directives


def _matches(source: str, page: str, target: Target) -> bool:
    lower = source.lower()
    scheme = "wss" if target.is_tls else "ws"
    if lower == "*":
        return True
    if lower == "'self'":
        return _is_self(page, target)
    if _SCHEME.fullmatch(lower):
        return _is_scheme(lower[:-1], scheme)
    found = _HOST.fullmatch(source)
    if found is None:
        return False
    given, host, port, path = found.groups()
    return (
        _is_scheme((given or urlsplit(page).scheme).lower(), scheme)
        and _is_host(host.lower(), target.host)
        and _is_port(port, given, target)
        and _is_path(path, target.bare_path)
    )


def _is_self(page: str, target: Target) -> bool:
    parts = urlsplit(page)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    is_default = port == _DEFAULT_PORTS.get(parts.scheme)
    is_same_port = port == target.port or (
        is_default and target.port == default_port(target.is_tls)
    )
    is_safe = target.is_tls or parts.scheme == "http"
    return parts.hostname == target.host and is_same_port and is_safe


def _is_scheme(source: str, scheme: str) -> bool:
    return source == scheme or (source, scheme) in _UPGRADES


def _is_host(source: str, host: str) -> bool:
    if source == "*":
        return True
    if source.startswith("*."):
        return host.endswith(source[1:])
    return source.strip("[]") == host


def _is_port(source: str | None, scheme: str | None, target: Target) -> bool:
    if source == "*":
        return True
    default = default_port(target.is_tls)
    if source is None:
        return target.port == default
    # A page's ws://host:80 also means wss://host (section 6.7.2.10).
    is_upgraded = scheme == "ws" and source == "80" and target.port == 443
    return int(source) == target.port or is_upgraded


def _is_path(source: str | None, path: str) -> bool:
    if source in {None, "/", ""}:
        return True
    assert source is not None
    return path.startswith(source) if source.endswith("/") else path == source
