"""
The request head of a handshake. PURE: bytes in, values and errors out.

httptools parses it (llhttp, strict). This module checks what RFC 9112 forbids and llhttp accepts,
and what RFC 6455, section 4.2.1 requires. A request keeps its head as bytes, and parses it again
when an application reads its fields later, so an idle connection holds no dictionaries.
"""

import binascii
import re
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from urllib.parse import parse_qsl, unquote

import httptools
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy

from .errors import HandshakeError
from .findings.handshakes import (
    CLIENT_HTTP2,
    HANDSHAKE_FIELD_LOST,
    HEAD_TOO_LARGE,
    UPGRADE_HTTP_1_0,
    UPGRADE_LOST,
    WEBSOCKET_VERSION,
)

_METHODS = ("GET", "HEAD", "OPTIONS")
ALLOW = {"Allow": ", ".join(_METHODS)}
"""The ``Allow`` field (RFC 9110, section 10.2.1)."""

# RFC 9112, section 3. llhttp accepts several spaces, and only some methods and versions.
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/([0-9]\.[0-9])\r\n")

# RFC 9112, sections 3.2.1 and 3.2.2: a path, or a whole URL; both without fragment. Possessive, or
# the search for a fragment would take quadratic time.
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*+://[^/?#]++")
_TARGET = re.compile(rf"(?:/|{_AUTHORITY.pattern})[^#]*")

# RFC 3986, section 3.2: a name or address, and a port; RFC 9112, section 3.2: may be empty.
_HOST = re.compile(rb"(?:\[[0-9A-Za-z.:]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")

# What most plain requests are like, so that they are checked with less; never what is refused.
_SIMPLE_LINE = re.compile(rb"(?!CONNECT )[A-Z]+ (/[!-\"$&->@-~]*)(?:\?[!-\"$-~]*)? HTTP/1\.1\r\n")
_SPECIAL_FIELDS = frozenset(
    {
        b"content-length",
        b"expect",
        b"forwarded",
        b"host",
        b"sec-websocket-key",
        b"transfer-encoding",
        b"upgrade",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)

# Optional whitespace around a value. str.strip() would remove more, such as U+0085.
_BLANKS = " \t"

Fields = dict[bytes, list[bytes]]
"""Header fields: the values by name, in lower case."""

# RFC 6455, section 4.2.1: 16 bytes, base64-encoded.
_KEY_SIZE = 16  # bytes


class Request:
    """
    The HTTP request of a client's handshake.

    Attributes:
        method: ``"GET"`` for every WebSocket; plain requests may be ``"HEAD"`` or ``"OPTIONS"``.
        target: The request target as sent, such as ``"/chat?room=1"``.
        version: ``"1.0"`` or ``"1.1"``.
    """

    __slots__ = ("_fields", "_head", "_headers", "method", "target", "version")

    def __init__(self, head: bytes, method: str, target: str, version: str, fields: Fields) -> None:
        """Make a request from its parsed head, as :func:`parse_request` does."""
        self._head = head
        self._fields: Fields | None = fields
        # Made when the application asks: it costs as much as parsing.
        self._headers: CIMultiDictProxy[str] | None = None
        self.method = method
        self.target = target
        self.version = version

    @property
    def head(self) -> bytes:
        """The whole head as received, with its empty line."""
        return self._head

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """
        The header fields: case-insensitive, several per name possible (``getall``).

        Values are decoded as UTF-8 with ``surrogateescape``, so decoding never fails.
        """
        if self._headers is None:
            headers: CIMultiDict[str] = CIMultiDict()
            for name, value in _parse(self._head).lines:
                headers.add(name.decode("ascii", "surrogateescape"), _decode(value))
            self._headers = CIMultiDictProxy(headers)
        return self._headers

    @property
    def fields(self) -> Fields:
        """The header fields, as bytes, by name in lower case; for gateman's own modules."""
        if self._fields is None:
            self._fields = fields_by_name(_parse(self._head).lines)
        return self._fields

    @property
    def path(self) -> str:
        """The path, percent-decoded as UTF-8, without the query; begins with ``"/"``."""
        return unquote(origin_form(self.target).partition("?")[0], errors="replace")

    @property
    def query_string(self) -> str:
        """The part of the target after ``?``, as sent; may be empty."""
        return origin_form(self.target).partition("?")[2]

    @property
    def query(self) -> MultiDictProxy[str]:
        """The query's parameters, percent-decoded; several per name possible (``getall``)."""
        pairs = parse_qsl(self.query_string, keep_blank_values=True, errors="replace")
        return MultiDictProxy(MultiDict(pairs))

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name; of equal names, the first (RFC 6265, section 5.4, order)."""
        cookies: dict[str, str] = {}
        for line in self.headers.getall("Cookie", []):
            for pair in line.split(";"):
                name, equals, value = pair.partition("=")
                name, value = name.strip(_BLANKS), value.strip(_BLANKS)
                if equals and name:
                    if len(value) > 1 and value[0] == value[-1] == '"':
                        value = value[1:-1]
                    cookies.setdefault(name, value)
        return cookies

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the client offers, in its order of preference."""
        lines = self.fields.get(b"sec-websocket-protocol")
        return () if lines is None else tuple(map(_decode, _tokens(lines)))

    @property
    def origin(self) -> str | None:
        """The ``Origin`` that a browser sends; ``None`` from other clients."""
        lines = self.fields.get(b"origin")
        return None if lines is None else _decode(lines[0])

    def release(self) -> None:
        """Drop the parsed fields; the next access parses them again."""
        self._fields = self._headers = None

    def __repr__(self) -> str:
        # Without the query: it often carries a token (docs/conformance.md, row 59).
        return f"<Request {self.method} {self.path!r}>"


def has_field(request: Request, names: AbstractSet[bytes]) -> bool:
    """Return whether there is a field of one of these names, in lower case."""
    return not names.isdisjoint(request.fields)


def field_values(request: Request, name: bytes) -> list[str]:
    """Return the values of the fields of one name, in lower case."""
    return [_decode(line) for line in request.fields.get(name, ())]


def tokens(request: Request, name: str) -> Iterator[str]:
    """Yield the elements of a field that is a list of tokens; stripped, in their case as sent."""
    return map(_decode, _tokens(request.fields.get(name.lower().encode(), ())))


def _tokens(lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        for element in line.split(b","):
            if stripped := element.strip(b" \t"):
                yield stripped


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def head_end(data: bytes | bytearray, searched: int = 0) -> int:
    """Return the index after a request head, or 0 before its end; skip ``searched`` bytes."""
    start = max(searched - 3, 0)
    crlf = data.find(b"\n\r\n", start)
    # Found too, so that the parser refuses the head at once with a reason, and not the deadline
    # without one (RFC 9112, section 2.2).
    bare = data.find(b"\n\n", start)
    if bare >= 0 and not 0 <= crlf < bare:
        return bare + 2
    return crlf + 3 if crlf >= 0 else 0


class _Parsed:
    """Collects the fields of one head from httptools."""

    __slots__ = ("complete", "lines")

    def __init__(self) -> None:
        self.lines: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.lines.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def fields_by_name(lines: list[tuple[bytes, bytes]]) -> Fields:
    fields: Fields = {}
    for name, value in lines:
        key = name.lower()
        if key in fields:
            fields[key].append(value)
        else:
            fields[key] = [value]
    return fields


def _parse(head: bytes) -> _Parsed:
    parsed = _Parsed()
    try:  # noqa: SIM105 - `suppress` costs three calls
        httptools.HttpRequestParser(parsed).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    return parsed


def parse_request(head: bytes, *, max_header_count: int, is_plain: bool = False) -> Request:
    """Parse a whole request head (RFC 9112, sections 2.2, 3.2, 5.1, 5.2, 6.3 and 11.2)."""
    # ``is_plain``: any method, and a body may follow, which is not checked.
    method, target, version = read_request_line(head, any_method=is_plain)
    try:
        parsed = _parse(head)
    except httptools.HttpParserError:
        # The error's text quotes the peer's bytes, so it is not sent (docs/conformance.md, row 13).
        raise HandshakeError(400, "The request head is malformed.") from None
    if not parsed.complete:
        raise HandshakeError(400, "The request head is malformed.")
    fields = fields_by_name(parsed.lines)
    check_fields(fields, len(parsed.lines), version, max_header_count=max_header_count)
    if not is_plain:
        check_no_body(fields)
    return Request(bytes(head), method, target, version, fields)


def simple_path(head: bytes) -> bytes | None:
    """Return the path of a head whose first line needs no further check; ``None`` of others."""
    line = _SIMPLE_LINE.match(head)
    return None if line is None else line[1]


def is_simple(lines: list[tuple[bytes, bytes]]) -> bool:
    """Return whether fields, with names in lower case, tell of no body, proxy or upgrade."""
    special = [line for line in lines if line[0] in _SPECIAL_FIELDS]
    return (
        len(special) == 1
        and special[0][0] == b"host"
        and _HOST.fullmatch(special[0][1]) is not None
    )


def read_request_line(head: bytes, *, any_method: bool = False) -> tuple[str, str, str]:
    """Return the method, the target and the version, such as ``"1.1"``."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise HandshakeError(400, "The request line is malformed.")
    method, target, version = map(bytes.decode, line.groups())
    if version not in {"1.0", "1.1"}:
        raise HandshakeError(505, "This server speaks HTTP/1.1.", code=UPGRADE_HTTP_1_0.code)
    if method not in _METHODS and (not any_method or method == "CONNECT"):
        raise HandshakeError(405, "This server answers GET, HEAD and OPTIONS.", ALLOW)
    # RFC 9112, section 3.2.4: OPTIONS may ask about the server as a whole.
    if not _TARGET.fullmatch(target) and (method, target) != ("OPTIONS", "*"):
        raise HandshakeError(400, "The request target is malformed.")
    return method, target, version


def without_fields(request: Request, names: Collection[str]) -> Request:
    """Return a request without some header fields, which its head does not contain either."""
    hidden = {name.lower().encode() for name in names}
    first, *lines = request.head.split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].lower() not in hidden]
    head = b"\r\n".join((first, *kept))
    fields = fields_by_name(_parse(head).lines)
    return Request(head, request.method, request.target, request.version, fields)


def check_fields(fields: Fields, count: int, version: str, *, max_header_count: int) -> None:
    """Refuse fields that are too many, or that another hop could interpret differently."""
    if count > max_header_count:
        raise HandshakeError(
            431,
            f"More than {max_header_count} header fields.",
            limit="limits.max_header_count",
            code=HEAD_TOO_LARGE.code,
        )
    # RFC 9112, section 3.2: in HTTP/1.1 a missing, repeated or invalid Host gets 400.
    hosts = fields.get(b"host", ())
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        raise HandshakeError(400, "An HTTP/1.1 request has exactly one Host field.")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise HandshakeError(400, "The Host field names no host.")


def check_no_body(fields: Fields) -> None:
    """Refuse a request that has a body, as a handshake has none (RFC 9112, section 6.3)."""
    lengths = fields.get(b"content-length")
    if b"transfer-encoding" in fields or (lengths is not None and lengths[0].strip(b"0")):
        raise HandshakeError(400, "A request to this server has no body.")


def wants_websocket(request: Request) -> bool:
    """Return whether a request is a handshake, even an invalid one."""
    # A proxy that drops ``Upgrade`` forwards the key.
    return _has_token(request, b"upgrade", b"websocket") or b"sec-websocket-key" in request.fields


def check_handshake(request: Request) -> str:
    """Return the ``Sec-WebSocket-Key``, or raise a HandshakeError (RFC 6455, section 4.2.1)."""
    if request.method != "GET":
        raise HandshakeError(405, "A WebSocket handshake is a GET.", {"Allow": "GET"})
    # Before the version: a proxy without configuration sends HTTP/1.0 and no upgrade.
    if not _has_token(request, b"upgrade", b"websocket"):
        raise LostFieldError("Upgrade: websocket", request)
    if not _has_token(request, b"connection", b"upgrade"):
        raise LostFieldError("Connection: Upgrade", request)
    if request.version != "1.1":
        raise HandshakeError(
            505,
            "A WebSocket handshake needs HTTP/1.1. A proxy in front of this server that speaks"
            " HTTP/1.0 to it is the usual cause (nginx: proxy_http_version 1.1).",
            code=UPGRADE_HTTP_1_0.code,
        )
    keys = request.fields.get(b"sec-websocket-key")
    if keys is None:
        raise LostFieldError("Sec-WebSocket-Key", request)
    if request.fields.get(b"sec-websocket-version") != [b"13"]:
        # RFC 6455, section 4.4: the answer names the supported version.
        raise HandshakeError(
            426,
            "This server speaks version 13 of the WebSocket protocol.",
            {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
            code=WEBSOCKET_VERSION.code,
        )
    if len(keys) != 1 or not _is_key(keys[0]):
        raise HandshakeError(400, "Sec-WebSocket-Key must be 16 bytes, base64-encoded, once.")
    return keys[0].decode("ascii")


class LostFieldError(HandshakeError):
    """A handshake without one of its fields, most often because of a proxy."""

    def __init__(self, field: str, request: Request) -> None:
        self.field = field
        self.is_http2 = _is_from_http2(request)
        cause = (
            "It came to the proxy over HTTP/2 or 3: open it over HTTP/1.1 (curl: --http1.1)."
            if self.is_http2
            else "A proxy in front of this server that does not pass it on is the usual cause."
        )
        kind = HANDSHAKE_FIELD_LOST if field.startswith("Sec-") else UPGRADE_LOST
        if self.is_http2:
            kind = CLIENT_HTTP2
        super().__init__(400, f"The handshake arrived without '{field}'. {cause}", code=kind.code)


def _is_from_http2(request: Request) -> bool:
    # RFC 9110, section 7.6.3: the first element has the protocol of the client.
    via = next(tokens(request, "Via"), "").split(" ")[0]
    return via.rpartition("/")[2].startswith(("2", "3"))


def _has_token(request: Request, name: bytes, wanted: bytes) -> bool:
    lines = request.fields.get(name, ())
    # Of bytes, only ASCII has two cases: the Kelvin sign is a "k" to str.lower().
    if len(lines) == 1 and lines[0].lower() == wanted:
        return True
    return any(token.lower() == wanted for token in _tokens(lines))


def _is_key(key: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(key, strict_mode=True)) == _KEY_SIZE
    except binascii.Error:
        return False


def origin_form(target: str) -> str:
    """Strip the scheme and authority that RFC 9112, section 3.2.2 lets a client send."""
    authority = _AUTHORITY.match(target)
    if authority is None:
        return target
    rest = target[authority.end() :]
    return rest if rest.startswith("/") else f"/{rest}"
