"""
The origins of web pages that may connect: how a user writes them, and which header matches. PURE.

    https://example.com         that origin; a default port (443, with http 80) may be written
    https://*.example.com       every subdomain at any depth, and not example.com itself
    http://localhost:*          every port
    null                        pages without an origin, such as files

Wildcards mean what they mean in a Content-Security-Policy.

Source:
    RFC 6454, sections 4 to 7; Content Security Policy Level 3, section 6.7.2.
"""

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from ipaddress import IPv6Address

from ..errors import ConfigError
from ..tls.domain_names import wire_name

# Browsers leave these out of the header.
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_WRITTEN = re.compile(
    r"([a-z][a-z0-9+.-]*)://(\[[^\[\]]*\]|[^\[\]:/?#]*)(?::([0-9]{1,5}|\*))?", re.IGNORECASE
)
_ADDRESS = re.compile(r"(?:(https?)://)?([\w.-]+\.[\w.-]+(?::[0-9]+)?)(?:[/?#]|$)", re.IGNORECASE)
_SENT = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]*)(?::([0-9]{1,5}))?")
# A name has 253 bytes at most; scheme and port come to it.
_MAX_ORIGIN_SIZE = 300  # bytes


def parse_origin(text: str) -> str:
    """Read one entry of ``allowed_origins``; a ConfigError if no browser could send a match."""
    if text == "null":
        return text
    if text == "*":
        raise _refusal(text, "allows every page", "leave allowed_origins out for that")
    match = _WRITTEN.fullmatch(text if text.endswith("://") else text.removesuffix("/"))
    if match is None or not (match[2] or match[1].lower() == "file"):
        example = "https://example.com"
        found = _ADDRESS.match(text)
        if found is not None:
            example = f"{(found[1] or 'https').lower()}://{found[2]}"
        raise _refusal(text, "is not an origin", f"write scheme and host, such as {example!r}")
    scheme, host, port = match[1].lower(), match[2], match[3]
    if scheme in {"ws", "wss"}:
        page = f"http{scheme[2:]}{text[len(scheme) :]}"
        raise _refusal(
            text, "is the address of a WebSocket, not of a page", f"write {page.rstrip('/')!r}"
        )
    spelled = _spell(host)
    if spelled is None:
        raise _refusal(
            text,
            "is not an origin that a browser could send",
            "write one host, such as 'https://example.com', or all below a domain:"
            " 'https://*.example.com'",
        )
    if port not in {None, "*"} and int(port) > 0xFFFF:
        raise _refusal(text, "has a port that does not exist", "use 1 to 65535")
    return _join(scheme, spelled, port)


def is_allowed(origin: str, allowed: AbstractSet[str]) -> bool:
    """Return whether a page may connect: one lookup, and another for each label of the name."""
    if len(origin) > _MAX_ORIGIN_SIZE:
        return False
    return any(one in allowed for one in _matching(origin.lower()))


def _matching(origin: str) -> Iterator[str]:
    """Write every entry that would match an origin."""
    if origin == "null":
        yield origin
    match = _SENT.fullmatch(origin)
    if match is None:
        return
    scheme, host, port = match.groups()
    hosts = [host]
    if not host.startswith("["):
        labels = host.split(".")
        hosts += [f"*.{'.'.join(labels[start:])}" for start in range(1, len(labels))]
    for one in hosts:
        yield _join(scheme, one, port)
        yield _join(scheme, one, "*")


def _join(scheme: str, host: str, port: str | None) -> str:
    number = port if port in {None, "*"} else str(int(port or 0))
    is_default = number is None or number == _DEFAULT_PORTS.get(scheme)
    return f"{scheme}://{host}" if is_default else f"{scheme}://{host}:{number}"


def _spell(host: str) -> str | None:
    if not host:
        return host
    if host.startswith("["):
        try:
            return f"[{IPv6Address(host[1:-1])}]"
        except ValueError:
            return None
    return wire_name(host)


def _refusal(text: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError(f"{text!r} in allowed_origins {problem}", remedy)
