r"""
Parses the peeked first bytes of a TCP connection. PURE; nothing is consumed.

A connection may begin with a PROXY header, and then with a TLS handshake or an HTTP request:

    v1   PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n
    v2   \r\n\r\n\0\r\nQUIT\n · version(4) command(4) · family(4) transport(4) · length(16)
         then length bytes: source, destination, their ports, TLVs
    TLS  22 · 3 · any · length(16) · length bytes of handshake, and more such records until the
         ClientHello is whole: 1 · length(24) · version(16) · random(32 bytes) · session<8>
         · ciphers<16> · compression<8> · extensions<16>     (<n>: n bits of length before it)

Every function takes all the bytes from the start and keeps nothing between calls. When they
do not suffice, the answer is a :class:`NeedMore` with a lower bound of what will: a caller that
waits for that many (``SO_RCVLOWAT``) never spins on a socket that stays readable, and a peer that
sends byte by byte cannot make it parse at every byte.

Of a TLS handshake only what has to be known before there is an ``SSLContext`` is read. What
is wrong with one is for OpenSSL to say, with the alert that belongs to it: a malformed
ClientHello is a :class:`ClientHello` that names nothing.
"""

import contextlib
import struct
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from msgspec import Struct

from ..errors import PreambleError

# RFC 8446, section 5.1: a record carries at most 16 KiB. Chromium's hellos with a post-quantum
# key have 2 KiB; OpenSSL takes 128 KiB, which nobody sends.
_MAX_RECORD_SIZE = 16 << 10  # bytes
# One full record's worth, and the headers of its fragments.
MAX_HELLO_SIZE = 17 << 10  # bytes
# A hello in fragments of one byte would cost as much as many handshakes; what splits them for
# real (middleboxes, clients that evade those) makes a handful.
_MAX_RECORD_COUNT = 64

# Proxy-protocol.txt, section 2.1: the longest line that a version 1 sender can make.
_MAX_V1_SIZE = 107  # bytes
_MIN_V1_SIZE = len(b"PROXY UNKNOWN\r\n")
_V1_SIGNATURE = b"PROXY "
PROXY_V1_STARTS = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN")
_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED_SIZE = 16  # bytes
# Section 2 promises that a header fits into 536 bytes; TLVs with a certificate's name and a
# cloud's identifiers make it longer. Precedent: nginx takes 4096 bytes.
MAX_PROXY_SIZE = 4 << 10  # bytes

# The commands, address families and transports of version 2 (section 2.2).
_LOCAL, _PROXY = 0, 1
_UNSPECIFIED, _INET, _INET6, _UNIX = 0, 1, 2, 3
_DATAGRAM = 2
# By family: two addresses and, with IP, two ports.
_V2_ADDRESS_SIZES = {_UNSPECIFIED: 0, _INET: 12, _INET6: 36, _UNIX: 216}  # bytes

# A record of type handshake, whose version is 3 point anything.
TLS_START = bytes((22, 3))
_CLIENT_HELLO = 1
_LENGTH = struct.Struct("!H")
_EXTENSION_HEADER = struct.Struct("!HH")
_FIRST_NAME = struct.Struct("!HBH")  # the list's size, the type, the name's size
_SERVER_NAME = 0
_ALPN = 16


def alert(description: int) -> bytes:
    """Make the record of a fatal alert that is sent before there are keys (RFC 8446, 5.1 and 6)."""
    return bytes((21, 3, 3, 0, 2, 2, description))


TLS_ALERT = alert(10)
"""
The fatal alert that answers a ClientHello on a port that does not speak TLS.

``unexpected_message`` (10) says what is the matter: this message is inappropriate here (RFC 8446,
section 6.2). ``handshake_failure`` (40) and ``protocol_version`` (70) would do as well, but
browsers report both as "unsupported version or cipher", and the operator would look in the
wrong place. The record's version is the 0x0303 that section 5.1 demands.
"""

# RFC 9110, section 9.1; RFC 5789 (PATCH); RFC 9113, section 3.4 (the preface "PRI * HTTP/2.0").
HTTP_STARTS = tuple(
    method + b" "
    for method in (
        b"GET",
        b"HEAD",
        b"POST",
        b"PUT",
        b"DELETE",
        b"CONNECT",
        b"OPTIONS",
        b"TRACE",
        b"PATCH",
        b"PRI",
    )
)

# Host names as DNS has them, with the underscore that some have. Nothing else can be the name of
# a certificate, and what passes may be logged.
_NAME_CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-._")
_MAX_NAME_SIZE = 255  # bytes; RFC 1035, section 2.3.4


class NeedMore(Struct, frozen=True):
    """The bytes do not suffice to decide."""

    # From the start: always more than there were, and at most MAX_HELLO_SIZE or MAX_PROXY_SIZE.
    size: int


class ClientHello(Struct, frozen=True):
    """The peer speaks TLS."""

    # Lower case, without a final dot, only letters, digits, hyphens, underscores and dots. None if
    # the client asks for none, or for something else, or if the hello is malformed, too large or
    # too fragmented.
    server_name: str | None
    alpn: tuple[str, ...]  # in the client's order; bytes as latin-1


class NotTLS(Struct, frozen=True):
    """The peer does not speak TLS."""

    is_http: bool  # it begins with an HTTP method, so that an HTTP answer makes sense


class ProxyHeader(Struct, frozen=True):
    """A PROXY header, whole and valid."""

    size: int  # in bytes: what the caller consumes before anything else
    # The client. None if the header does not tell (a health check of the proxy itself, an unknown
    # protocol, a unix socket): the peer remains.
    source: tuple[str, int] | None
    # The address that the client connected to; None with `source`.
    destination: tuple[str, int] | None


class _MalformedError(Exception):
    """The bytes are not a ClientHello; OpenSSL will say why."""


class _Reader:
    """Read the vectors of a handshake message (RFC 8446, section 3.4) one after the other."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise _MalformedError
        self._at += size
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, length_size: int) -> bytes:
        return self.take(self.number(length_size))


def read_tls(data: bytes) -> NeedMore | ClientHello | NotTLS:
    """Tell what a client of a TLS port speaks, and which server name it asks for."""
    # RFC 8446, sections 4, 4.1.2 and 5.1; RFC 6066, section 3; RFC 7301, section 3.1.
    if not data:
        return NeedMore(1)
    if not _begins(data, TLS_START):
        return _read_http(data)
    try:
        hello = _read_records(data)
        return hello if isinstance(hello, NeedMore) else _read_hello(hello)
    except _MalformedError:
        return ClientHello(None, ())


def looks_like_tls(data: bytes | bytearray) -> bool:
    """Return whether a peer of a plain port speaks TLS."""
    return data.startswith(TLS_START)


def looks_like_proxy(data: bytes | bytearray) -> bool:
    """Return whether a connection begins with an unexpected PROXY header."""
    return data.startswith((_V2_SIGNATURE, *PROXY_V1_STARTS))


def looks_like_http(data: bytes | bytearray) -> bool:
    """Return whether a connection begins with an HTTP request, or with the preface of HTTP/2."""
    if not data.startswith(HTTP_STARTS):
        return False
    line = data.partition(b"\n")[0]
    return b" HTTP/1." in line or line == b"PRI * HTTP/2.0\r"


def read_proxy(data: bytes) -> NeedMore | ProxyHeader:
    """Read the PROXY header that a connection must begin with (proxy-protocol.txt, section 2)."""
    # TLVs are skipped, the checksum among them: TCP has one, and only trusted proxies are heard.
    if not data:
        return NeedMore(1)
    if _begins(data, _V1_SIGNATURE):
        return _read_proxy_v1(data)
    if _begins(data, _V2_SIGNATURE):
        return _read_proxy_v2(data)
    raise PreambleError("no_proxy_header")


def _begins(data: bytes, signature: bytes) -> bool:
    """Return whether the data begins with the signature, or with a part of it."""
    return signature.startswith(data[: len(signature)])


def _read_http(data: bytes) -> NeedMore | NotTLS:
    if data.startswith(HTTP_STARTS):
        return NotTLS(is_http=True)
    candidates = [len(method) for method in HTTP_STARTS if method.startswith(data)]
    return NeedMore(min(candidates)) if candidates else NotTLS(is_http=False)


def _read_records(data: bytes) -> NeedMore | bytes:
    """Join the fragments of the ClientHello."""
    message = bytearray()
    needed = 4  # bytes of the message: of its header, then of all
    start = count = 0
    while len(header := data[start : start + 5]) == 5:
        count += 1
        size = int.from_bytes(header[3:])
        # Section 5.1: no other record comes between the fragments, and none of them is empty.
        if header[:2] != TLS_START or not 0 < size <= _MAX_RECORD_SIZE:
            raise _MalformedError
        if count > _MAX_RECORD_COUNT:
            raise _MalformedError
        start += 5 + size
        message += data[start - size : start]
        if message and message[0] != _CLIENT_HELLO:
            raise _MalformedError
        if len(message) >= 4:
            needed = 4 + int.from_bytes(message[1:4])
        if len(message) >= needed:
            return bytes(message[4:needed])
    missing = needed - len(message)
    # What the last record still owes; negative when the header of the next has begun to come.
    owed = start - len(data)
    least = len(data) + missing if missing <= owed else start + 5 + missing - max(owed, 0)
    if least > MAX_HELLO_SIZE:
        raise _MalformedError
    return NeedMore(least)


def _read_hello(message: bytes) -> ClientHello:
    """Read a complete ClientHello, without its header."""
    # By offsets: a dozen readers and their slices took a tenth of a handshake's Python.
    try:
        at = 2 + 32  # the legacy version and the random
        at += 1 + message[at]  # the session
        at += 2 + _LENGTH.unpack_from(message, at)[0]  # the ciphers
        at += 1 + message[at]  # the compression methods
        if at == len(message):
            # Section 4.1.2: old clients send no extensions at all.
            return ClientHello(None, ())
        end = at + 2 + _LENGTH.unpack_from(message, at)[0]
        at += 2
        # One extension sent twice is OpenSSL's to refuse.
        names = protocols = None
        while at < end:
            kind, size = _EXTENSION_HEADER.unpack_from(message, at)
            at += 4 + size
            if kind == _SERVER_NAME:
                names = message[at - size : at]
            elif kind == _ALPN:
                protocols = message[at - size : at]
    except (IndexError, struct.error):
        raise _MalformedError from None
    if at != end or end > len(message):
        raise _MalformedError
    return ClientHello(_server_name(names), _protocols(protocols))


def _server_name(extension: bytes | None) -> str | None:
    if extension is None:
        return None
    if len(extension) < _FIRST_NAME.size:
        raise _MalformedError
    list_size, kind, size = _FIRST_NAME.unpack_from(extension)
    # RFC 6066 leaves room for other types of names and for several; OpenSSL and all others
    # know one host name (0), first and alone.
    if kind != 0:
        return None
    name = extension[_FIRST_NAME.size : _FIRST_NAME.size + size]
    if len(name) < size or not size + 3 <= list_size <= len(extension) - 2:
        raise _MalformedError
    name = name.lower().removesuffix(b".")
    if not 0 < len(name) <= _MAX_NAME_SIZE or not _NAME_CHARACTERS.issuperset(name):
        return None
    return name.decode("ascii")


def _protocols(extension: bytes | None) -> tuple[str, ...]:
    if extension is None:
        return ()
    names = _Reader(_Reader(extension).vector(2))
    protocols = []
    while names:
        # Not ASCII by definition: clients send made-up names on purpose (RFC 8701).
        protocols.append(names.vector(1).decode("latin-1"))
    return tuple(protocols)


def _read_proxy_v1(data: bytes) -> NeedMore | ProxyHeader:
    end = data.find(b"\r\n", 0, _MAX_V1_SIZE)
    if end < 0:
        missing = 1 if data.endswith(b"\r") else 2
        if len(data) + missing > _MAX_V1_SIZE:
            raise PreambleError("bad_proxy_header")
        return NeedMore(max(len(data) + missing, _MIN_V1_SIZE))
    match data[:end].split(b" "):
        case [_, b"UNKNOWN", *_]:
            # Whatever follows is ignored, as the specification demands.
            return ProxyHeader(end + 2, None, None)
        case [_, (b"TCP4" | b"TCP6") as family, source_ip, destination_ip, source, destination]:
            kind = IPv4Address if family == b"TCP4" else IPv6Address
            return ProxyHeader(
                end + 2,
                (_text_ip(source_ip, kind), _text_port(source)),
                (_text_ip(destination_ip, kind), _text_port(destination)),
            )
        case _:
            raise PreambleError("bad_proxy_header")


def _text_ip(text: bytes, kind: type[IPv4Address | IPv6Address]) -> str:
    # A zone is not part of the format, though Python reads it.
    if b"%" not in text:
        with contextlib.suppress(AddressValueError, UnicodeDecodeError):
            return _ip(kind(text.decode("ascii")))
    raise PreambleError("bad_proxy_header")


def _text_port(text: bytes) -> int:
    # No leading zero, sign or blank: it must be what its number prints as.
    if text.isdigit() and len(text) <= 5:
        port = int(text)
        if port <= 0xFFFF and b"%d" % port == text:
            return port
    raise PreambleError("bad_proxy_header")


def _read_proxy_v2(data: bytes) -> NeedMore | ProxyHeader:
    if len(data) < _V2_FIXED_SIZE:
        return NeedMore(_V2_FIXED_SIZE)
    version, command = divmod(data[12], 16)
    family, transport = divmod(data[13], 16)
    size = _V2_FIXED_SIZE + int.from_bytes(data[14:16])
    if version != 2 or command > _PROXY:
        raise PreambleError("bad_proxy_header")
    # A LOCAL header's family is not looked at, as the specification demands.
    if command == _PROXY and (
        transport > _DATAGRAM
        or family not in _V2_ADDRESS_SIZES
        or size < _V2_FIXED_SIZE + _V2_ADDRESS_SIZES[family]
    ):
        raise PreambleError("bad_proxy_header")
    if size > MAX_PROXY_SIZE:
        raise PreambleError("proxy_header_too_large")
    if len(data) < size:
        return NeedMore(size)
    if command == _LOCAL or transport == _UNSPECIFIED or family not in {_INET, _INET6}:
        return ProxyHeader(size, None, None)
    block = _Reader(data[_V2_FIXED_SIZE:size])
    ips = [
        _ip(IPv4Address(block.take(4)) if family == _INET else IPv6Address(block.take(16)))
        for _ in range(2)
    ]
    return ProxyHeader(size, (ips[0], block.number(2)), (ips[1], block.number(2)))


def _ip(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
