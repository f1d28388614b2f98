"""
The URL of a WebSocket: what clients make of it. PURE.

Source:
    RFC 6455, section 3; https://url.spec.whatwg.org; https://fetch.spec.whatwg.org/#port-blocking;
    https://developers.cloudflare.com/fundamentals/reference/network-ports/;
    https://developers.weixin.qq.com/miniprogram/dev/framework/ability/network.html.
"""

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote

from ...errors import UsageMistake
from ...findings import Finding
from ...findings import network as declared
from ...listen import STREAMS
from ...tls.domain_names import wire_name
from ..target import Target, default_port

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?([^/?#]*)([^#]*)(#.*)?", re.DOTALL)
_SCHEMES = {"ws": False, "wss": True}
_OTHER_SCHEMES = {"http": "ws", "https": "wss", "websocket": "ws", "ssl": "wss"}

# What a path and a query may hold as they are (RFC 3986, section 3.3), and what is encoded already.
_KEPT = "/?:@!$&'()*+,;=-._~%[]|"

# Fetch, "bad port".
_BLOCKED_PORTS = frozenset(
    int(port)
    for port in (  # noqa: SIM905 - a list of one number a line is 80 lines
        "1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 "
        "101 102 103 104 109 110 111 113 115 117 119 123 135 137 139 143 161 "
        "179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 "
        "587 601 636 989 990 993 995 1719 1720 1723 2049 3659 4045 4190 5060 5061 "
        "6000 6566 6665 6666 6667 6668 6669 6679 6697 10080"
    ).split()
)

# RFC 6761, RFC 6762, RFC 8375, and what routers of homes and offices use.
_PRIVATE_ENDS = (
    *("localhost", "local", "test", "internal", "lan", "intranet", "home", "corp", "example"),
    *("invalid", "home.arpa"),
)


def parse(url: str) -> Target:
    """Read a URL; raises :class:`UsageMistake` if it is not that of a WebSocket."""
    found = _URL.fullmatch(url.strip())
    if found is None:
        raise UsageMistake(f"{url!r} is not a URL: write wss://HOST/PATH")
    scheme, slashes, authority, path, _ = found.groups()
    scheme = scheme.lower()
    if scheme in STREAMS:
        raise UsageMistake(
            f"{scheme}:// is not a WebSocket, and the doctor looks at WebSockets: `gateman status`"
            " and `gateman connections` show such a worker, and nc, or openssl s_client for TLS,"
            " tries its port"
        )
    if scheme not in _SCHEMES:
        other = _OTHER_SCHEMES.get(scheme)
        what = "a page's" if scheme in {"http", "https"} else "not a WebSocket's"
        suggestion = f"{other}://{authority or 'HOST'}{path or '/'}" if other else "wss://HOST/PATH"
        if "@" in authority:
            suggestion = f"{other or 'wss'}://HOST/PATH"
        raise UsageMistake(f"the scheme {scheme}:// is {what}: write {suggestion}")
    if not slashes or not authority:
        raise UsageMistake(f"the URL names no host: write {scheme}://HOST/PATH")
    *_, host_and_port = authority.rpartition("@")
    is_tls = _SCHEMES[scheme]
    host, port = _host_and_port(host_and_port, default_port(is_tls))
    path = quote(path if path.startswith("/") else f"/{path}", safe=_KEPT)
    return Target(url=url, is_tls=is_tls, host=host, port=port, path=path)


def findings(target: Target) -> Iterator[Finding]:
    """Find what clients of some kinds do not take in a URL that is one."""
    found = _URL.fullmatch(target.url.strip())
    assert found is not None
    _, _, authority, path, fragment = found.groups()
    if target.url.strip() != target.url or re.search(r"\s", path):
        yield declared.URL_SPACES.found()
    if fragment is not None:
        yield declared.URL_FRAGMENT.found()
    if "@" in authority:
        yield declared.URL_USER_INFO.found()
    if target.port in _BLOCKED_PORTS:
        yield declared.PORT_BLOCKED.found(port=target.port)
    if is_private_name(target.host):
        return
    if not target.is_tls:
        yield declared.URL_PLAIN.found(host=target.host)
    elif address_of(target.host) is not None:
        yield declared.URL_ADDRESS.found(host=target.host)


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """Read a host that is an IP address."""
    try:
        return IPv6Address(host) if ":" in host else IPv4Address(host)
    except AddressValueError:
        return None


def is_private_name(host: str) -> bool:
    """Return whether only a private network, or nobody, can know a host."""
    address = address_of(host)
    if address is not None:
        return address.is_private
    return "." not in host or any(host == one or host.endswith(f".{one}") for one in _PRIVATE_ENDS)


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        host, is_port = inside, rest.startswith(":")
        if not bracket or (rest and not is_port) or "%" in host or address_of(host) is None:
            raise UsageMistake(f"{text!r} is not a host: write an IPv6 address as [2001:db8::1]")
        return str(IPv6Address(host)), _port(rest[1:], default)
    host, _, port = text.partition(":")
    if ":" in port:
        raise UsageMistake(f"{text!r} is not a host: write an IPv6 address in brackets, as [::1]")
    if not host:
        raise UsageMistake("the URL names no host: write wss://HOST/PATH")
    if address_of(host) is not None:
        return host, _port(port, default)
    name = wire_name(host)
    # A host whose last label is a number is an address to browsers (WHATWG, "ends in a number").
    if name is None or name.rpartition(".")[2].isdigit():
        raise UsageMistake(f"{host!r} is not a host: write a domain or an IP address")
    return name, _port(port, default)


def _port(text: str, default: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise UsageMistake(f"{text!r} is not a port: write a number from 1 to 65535")
    return int(text)
