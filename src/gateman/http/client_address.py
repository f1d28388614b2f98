"""
The client's address behind proxies. PURE: header lines in, an address out.

    client ── proxy A ── proxy B ── worker        X-Forwarded-For: client, A
                                                  Forwarded: for=client, for=A
                                                  X-Real-IP: A
                                                  peer of the socket: B

Headers are believed only from a peer that is a trusted proxy, and lists are walked from the
right, because each proxy appends the address that it saw itself and can vouch for nothing
further left: the first address that is not a trusted proxy is the client. An element that does not
tell an address (``unknown``, an obfuscated name, garbage) ends the walk, and the last trusted
address before it stands for the client.

**When the headers contradict each other, none is believed.** The nearest proxy sets one of the
three, seldom all. One that it does not set comes through as the client wrote it, and nothing
in the request tells which is which: Apache sends X-Forwarded-For and passes a forged X-Real-IP on,
many an nginx does the reverse, and neither touches Forwarded. To prefer any of them would
let the clients behind some proxies choose their address. So the headers that are present
must name the same client; if not, the answer is the peer itself, marked as a contradiction for
the caller to log, and the cure is to let the proxy set or delete all three. X-Real-IP names one
hop and no list: where that is a trusted proxy, it says nothing about who stands behind it, and
is not a contradiction to a header that does.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace
from multidict import MultiMapping

from ..errors import ConfigError

DEFAULT = ("127.0.0.0/8", "::1", "unix")
"""The proxies trusted unless others are named: those on the same machine."""

UNIX = "unix"
"""What stands for the address of a peer on a unix socket, which has none."""

# More proxies in a row than any service has; elements further left are ignored.
_MAX_ENTRY_COUNT = 32
_NAMES = ("X-Forwarded-For", "Forwarded", "X-Real-IP")
FORWARDING_FIELDS = frozenset(name.lower().encode() for name in _NAMES)

SCHEME_FIELDS = frozenset({b"forwarded", b"x-forwarded-proto"})
_SCHEMES = frozenset({"http", "https"})

# Addresses whose reading is remembered, of each kind.
_KNOWN_COUNT = 1024
# IPv6 has 45 with a dotted end, and a zone 16 more on Linux.
_MAX_ADDRESS_SIZE = 64  # characters

# RFC 7239, section 6: node = nodename [ ":" node-port ]; an obfuscated port tells nothing.
_NODE = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::(?:([0-9]{1,5})|_[A-Za-z0-9._-]+))?")
# RFC 7239, section 4: forwarded-pair = token "=" ( token / quoted-string ). Blanks around the
# ";" are not in the grammar, but in the world. Possessive (*+): a long run of blanks or letters
# would otherwise be tried in every division, and one header could take seconds.
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_PAIR = re.compile(
    rf"[ \t]*+(?:({_WORD})=(?:({_WORD})|" + r'"((?:[^"\\]|\\.)*+)"))?[ \t]*+(?:;|\Z)'
)
_QUOTES = re.compile(r'\\.|"')
_QUOTED_PAIR = re.compile(r"\\(.)")

_Address = IPv4Address | IPv6Address


class ClientAddress(Struct, frozen=True):
    """The address of a client."""

    # IPv4 also where it came mapped into IPv6; without a zone; ``"unix"`` for a peer on a unix
    # socket of which no header tells more.
    ip: str
    port: int | None
    contradiction: bool = False  # the headers named different clients, and ``ip`` is the peer's


class TrustedProxies:
    """The peers that are believed about the client's address."""

    __slots__ = ("_is_known", "_networks", "_trust_unix")

    def __init__(self, cidrs: Iterable[str] | object = DEFAULT) -> None:
        """Read what a user wrote, or raise a :class:`ConfigError`."""
        if isinstance(cidrs, str) or not isinstance(cidrs, Iterable):
            example = cidrs if isinstance(cidrs, str) else "10.0.0.0/8"
            raise ConfigError(
                f"trusted_proxies={cidrs!r} is not a list", f"write trusted_proxies=[{example!r}]"
            )
        entries = list(cidrs)
        self._trust_unix = UNIX in entries
        self._networks = tuple(_network(entry) for entry in entries if entry != UNIX)
        # Proxies are few, and come with every handshake.
        self._is_known = lru_cache(_KNOWN_COUNT)(self._look_up)

    def __contains__(self, ip: str | None) -> bool:
        """Whether this peer is a trusted proxy."""
        return self._trust_unix if ip is None else self._is_known(ip)

    def _look_up(self, ip: str) -> bool:
        address = _parse(ip)
        return address is not None and any(address in network for network in self._networks)


def client_address(
    peer: tuple[str | None, int | None], headers: MultiMapping[str], trusted: TrustedProxies
) -> ClientAddress:
    """Find the client's address, in at most 32 entries of a header (RFC 7239, 4, 5.2, 6 and 8)."""
    ip, port = peer
    own = ClientAddress(UNIX if ip is None else _normal(ip), port)
    if ip not in trusted:
        return own
    if forwarding_field(headers) is None:
        return own
    lists = (("X-Forwarded-For", _bare_node), ("Forwarded", _forwarded_node))
    walks = [
        _walk(map(node_of, _elements(headers.getall(name, []))), own, trusted)
        for name, node_of in lists
    ]
    answers = [answer for answer in walks if answer is not None]
    real_ip = ",".join(headers.getall("X-Real-IP", [])).strip(" \t")
    if real_ip:
        node = _bare_node(real_ip)
        if not answers or node is None or node.ip not in trusted:
            answers.append(node or own)
    if len({answer.ip for answer in answers}) > 1:
        return replace(own, contradiction=True)
    if not answers:
        return own
    ports = {answer.port for answer in answers} - {None}
    return ClientAddress(answers[0].ip, ports.pop() if len(ports) == 1 else None)


def forwarding_field(headers: MultiMapping[str]) -> str | None:
    """Name a field that tells who the client is; ``None`` if there is none."""
    return next((name for name in _NAMES if name in headers), None)


def forwarded_hosts(headers: MultiMapping[str]) -> Iterator[str]:
    """Read the hosts that the client asked the proxies for; each proxy may have added its own."""
    # Nginx sets X-Forwarded-Host, and Apache appends to it; RFC 7239, section 5.3.
    yield from islice(_elements(headers.getall("X-Forwarded-Host", [])), _MAX_ENTRY_COUNT)
    for element in islice(_elements(headers.getall("Forwarded", [])), _MAX_ENTRY_COUNT):
        host = (_parameters(element) or {}).get("host")
        if host:
            yield host


def client_scheme(headers: MultiMapping[str]) -> str | None:
    """Read by which scheme the client came; ``None`` if proxies do not tell, or contradict."""
    told = set(islice(_elements(headers.getall("X-Forwarded-Proto", [])), _MAX_ENTRY_COUNT))
    for element in islice(_elements(headers.getall("Forwarded", [])), _MAX_ENTRY_COUNT):
        proto = (_parameters(element) or {}).get("proto")
        if proto:
            told.add(proto)
    schemes = {scheme.lower() for scheme in told}
    return schemes.pop() if len(schemes) == 1 and schemes <= _SCHEMES else None


@lru_cache(_KNOWN_COUNT)
def rate_key(ip: str) -> str:
    """Return what limits per address count as one client: an IPv4 address, or an IPv6 /64."""
    address = _parse(ip)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return _normal(ip)


def _network(entry: object) -> IPv4Network | IPv6Network:
    try:
        # Of a number, ip_network would make an address.
        network = ip_network(str(entry), strict=False)
    except ValueError:
        raise ConfigError(
            f"{entry!r} in trusted_proxies is neither an address nor a network",
            "write one such as '10.0.0.0/8', or 'unix' (names are not looked up)",
        ) from None
    try:
        ip_network(str(entry))
    except ValueError:
        raise ConfigError(
            f"{entry!r} in trusted_proxies has bits set beyond its prefix",
            f"did you mean {str(network)!r}",
        ) from None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _walk(
    nodes: Iterator[ClientAddress | None], own: ClientAddress, trusted: TrustedProxies
) -> ClientAddress | None:
    """Walk to the first address that is not a trusted proxy."""
    answer = None
    for node in islice(nodes, _MAX_ENTRY_COUNT):
        if node is None:
            return answer or own
        answer = node
        if node.ip not in trusted:
            break
    return answer


def _elements(lines: list[str]) -> Iterator[str]:
    """Split a list header at its commas, except those in quoted strings, from the right."""
    # From the right: a client that writes an opening quote spoils its own element only.
    line = ",".join(lines)
    end = at = len(line)
    is_quoted = False
    while at >= 0:
        comma = line.rfind(",", 0, at)
        quotes = _QUOTES.findall(line, comma + 1, at).count('"')
        is_quoted ^= quotes % 2 == 1
        at = comma
        if not is_quoted or comma < 0:
            element = line[comma + 1 : end].strip(" \t")
            if element:
                yield element
            end = comma


def _bare_node(text: str) -> ClientAddress | None:
    """Read an address as X-Forwarded-For has it: also IPv6 without brackets."""
    address = _parse(text)
    return _node(text) if address is None else ClientAddress(str(address), None)


def _forwarded_node(element: str) -> ClientAddress | None:
    node = (_parameters(element) or {}).get("for")
    return None if node is None else _node(node)


def _parameters(element: str) -> dict[str, str] | None:
    """Read an element of Forwarded; ``None`` if it is malformed."""
    parameters: dict[str, str] = {}
    at = 0
    while at < len(element):
        pair = _PAIR.match(element, at)
        if pair is None:
            return None
        at = pair.end()
        name, token, quoted = pair.groups()
        if name is None:
            continue
        if name.lower() in parameters:
            # Section 4: each parameter once.
            return None
        parameters[name.lower()] = _QUOTED_PAIR.sub(r"\1", quoted) if token is None else token
    return parameters


def _node(text: str) -> ClientAddress | None:
    """Read a node of RFC 7239, section 6, if it tells an address."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    ip6, ip4, port = match.groups()
    if ip6 is not None and ":" not in ip6:
        return None
    address = _parse(ip6 or ip4)
    if address is None or int(port or 0) > 0xFFFF:
        return None
    return ClientAddress(str(address), None if port is None else int(port))


def _parse(ip: str) -> _Address | None:
    """Parse an address, without its zone, and IPv4-mapped ones as IPv4."""
    if len(ip) > _MAX_ADDRESS_SIZE:
        return None
    try:
        address = ip_address(ip)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    # Of the integer, because the address would keep its zone, which may be any text.
    return address.ipv4_mapped or IPv6Address(int(address))


@lru_cache(_KNOWN_COUNT)
def _normal(ip: str) -> str:
    address = _parse(ip)
    return ip if address is None else str(address)
