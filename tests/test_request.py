"""Request heads: found in received bytes, parsed by RFC 9112, checked by RFC 6455."""

from contextlib import suppress

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateman.errors import HandshakeError
from gateman.request import (
    LostFieldError,
    Request,
    check_handshake,
    head_end,
    parse_request,
    tokens,
    wants_websocket,
    without_fields,
)

from .support.heads import CHROMIUM, CLIENTS, FIREFOX_OF_2024, KEY

PROXY_HINT = "A proxy in front of this server that does not pass it on is the usual cause."
HTTP2_HINT = "It came to the proxy over HTTP/2 or 3: open it over HTTP/1.1 (curl: --http1.1)."

HANDSHAKE = {
    "Host": "example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


def head_of(*lines: str, line: str = "GET / HTTP/1.1") -> bytes:
    """Write a head; characters are bytes."""
    return "".join(f"{text}\r\n" for text in (line, *lines, "")).encode("latin-1")


def parse(head: bytes) -> Request:
    """Parse a head with the default limit."""
    return parse_request(head, max_header_count=100)


def request_of(*lines: str, target: str = "/") -> Request:
    """Make a request that is fine."""
    return parse(head_of("Host: example.com", *lines, line=f"GET {target} HTTP/1.1"))


def refusal_of(head: bytes) -> str:
    """Parse a head that is refused."""
    with pytest.raises(HandshakeError) as caught:
        parse(head)
    return str(caught.value)


def handshake_of(line: str = "GET / HTTP/1.1", **changes: str | None) -> Request:
    """Make a handshake; a field that is ``None`` is left out, ``|`` separates several lines."""
    fields = {**HANDSHAKE, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [
        f"{name}: {value}"
        for name, values in fields.items()
        if values is not None
        for value in values.split("|")
    ]
    return parse(head_of(*lines, line=line))


ASKED = ("method", "target", "version", "path", "query_string", "query", "headers", "cookies")


def look_at(request: Request) -> list[object]:
    """Ask a request everything that can be asked."""
    answers = [getattr(request, name) for name in (*ASKED, "subprotocols", "origin")]
    return [*answers, list(tokens(request, "Connection")), wants_websocket(request), repr(request)]


# Finding the end.


@pytest.mark.parametrize("head", CLIENTS.values(), ids=CLIENTS.keys())
def test_the_end_is_found_wherever_the_head_is_cut(head: bytes) -> None:
    """A head that comes in two parts ends where it ends in one, frames behind it or not."""
    for cut in range(len(head)):
        assert head_end(head[:cut]) == 0
        assert head_end(bytearray(head + b"\x81\x00"), searched=cut) == len(head)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        *((data, 0) for data in (b"", b"\r\n", b"A\r\n\r", b"A\r\r", b"A\n\rB\n")),
        *((data, 5) for data in (b"A\r\n\r\nB\r\n\r\n", b"A\r\n\r\nB\n\n")),
        *((data, 4) for data in (b"A\n\r\n", b"A\r\n\nB\r\n\r\n")),
        (b"A\n\n", 3),
    ],
)
def test_the_end_is_the_first_empty_line(data: bytes, expected: int) -> None:
    """Also one of bare line feeds, so that it is refused at once and not at the deadline."""
    assert head_end(data) == expected


@given(st.text("\r\nA", max_size=12).map(str.encode), st.data())
def test_what_was_searched_is_not_needed_again(data: bytes, draw: st.DataObject) -> None:
    """Wherever the last search stopped without success, the next one finds the same end."""
    end = head_end(data)
    searched = draw.draw(st.integers(0, max(end - 1, 0) if end else len(data)))

    assert head_end(data, searched) == end


# What real clients send.


@pytest.mark.parametrize("head", CLIENTS.values(), ids=CLIENTS.keys())
def test_handshakes_of_real_clients_are_accepted(head: bytes) -> None:
    """Browsers and WeChat's mini programs get in, whatever else they send."""
    request = parse(head)

    assert wants_websocket(request)
    assert check_handshake(request) == KEY
    assert (request.path, request.query_string) == ("/chat", "room=1")
    assert request.headers["host"] == "127.0.0.1:8282"
    assert request.subprotocols == ("chat.v2", "chat.v1")
    assert request.cookies == {"session": "abc"}


def test_a_head_is_parsed_again_after_its_release() -> None:
    """An open connection holds only bytes, and gives the same answers."""
    request = parse(FIREFOX_OF_2024)
    before = look_at(request)
    request.release()

    assert look_at(request) == before


# RFC 9112: what is accepted.


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a/b", "/a/b", ""),
        ("/a?b=c", "/a", "b=c"),
        ("/?a?b", "/", "a?b"),
        ("//a//b", "//a//b", ""),
        ("/x://y", "/x://y", ""),
        ("/a%20b%C3%A4%2F", "/a bä/", ""),
        ("/%ff%", "/\ufffd%", ""),
        ("/a%00b", "/a\0b", ""),
        ("/{a}|b", "/{a}|b", ""),
        ("http://example.com", "/", ""),
        ("http://example.com?a=/b", "/", "a=/b"),
        ("ws://example.com:80/a?b=c://d", "/a", "b=c://d"),
        ("HTTP://[::1]/a", "/a", ""),
    ],
)
def test_paths(target: str, path: str, query: str) -> None:
    """The path is decoded and stands without query, scheme and host."""
    request = request_of(target=target)

    assert (request.target, request.path, request.query_string) == (target, path, query)


def test_fields_are_found_in_any_case_and_order() -> None:
    """Names are case-insensitive, blanks around values do not count, bytes never raise."""
    request = request_of("A:", "B: \t ", "a:\t1 2 ", "C: \xc3\xa4\xff", "D:x")

    assert list(request.headers.items()) == [
        ("Host", "example.com"),
        ("A", ""),
        ("B", ""),
        ("a", "1 2"),
        ("C", "ä\udcff"),
        ("D", "x"),
    ]
    assert request.headers.getall("A") == ["", "1 2"]


@pytest.mark.parametrize("host", ["", "a.example:", "a_b:80", "127.0.0.1:1", "[::1]", "[::1]:80"])
def test_hosts(host: str) -> None:
    """A Host is a name or an address, with a port or without."""
    assert parse(head_of(f"Host: {host}")).headers["Host"] == host


@pytest.mark.parametrize(
    "head",
    [
        head_of(line="GET /healthz HTTP/1.0"),
        head_of("Host: a", line="HEAD /healthz HTTP/1.0"),
        head_of("Host: a", line="HEAD / HTTP/1.1"),
        head_of(line="OPTIONS / HTTP/1.0"),
        head_of("Host: a", line="OPTIONS * HTTP/1.1"),
        head_of("Host: a", "Content-Length: 0"),
        head_of("Host: a", "Content-Length: 000"),
        head_of("Host: a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"),
        head_of("Host: a", "A: " + 65536 * "a"),
        head_of("Host: a", line=f"GET /{65536 * 'a'} HTTP/1.1"),
    ],
)
def test_plain_requests_are_accepted(head: bytes) -> None:
    """Probes of proxies are requests too; how long one may be is not decided here."""
    request = parse(head)

    assert not wants_websocket(request)
    assert head.decode().startswith(f"{request.method} {request.target} HTTP/{request.version}\r")


# RFC 9112: what is refused.

LINE = "400: The request line is malformed."
TARGET = "400: The request target is malformed."
FIELDS = "400: The request head is malformed."
HOST = "400: An HTTP/1.1 request has exactly one Host field."
NAME = "400: The Host field names no host."
BODY = "400: A request to this server has no body."
METHOD = "405: This server answers GET, HEAD and OPTIONS."
VERSION = "505: This server speaks HTTP/1.1."


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        *((line, LINE) for line in ("", "hello", "GET /", "GET / RTSP/1.0", "\x16\x03\x01\x02")),
        *((line, LINE) for line in ("GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET / HTTP/1.1 ")),
        *((line, LINE) for line in (" GET / HTTP/1.1", "\r\nGET / HTTP/1.1", "GET\t/ HTTP/1.1")),
        *((line, LINE) for line in ("GET / http/1.1", "GET / HTTP/1.10", "GET / HTTP/2")),
        *((f"GET /{byte} HTTP/1.1", LINE) for byte in (" b", "\t", "\xe4", "\0", "\x7f", "\r")),
        *((f"{name} / HTTP/1.1", LINE) for name in ("{GET}", "", "G\xc4T", "GET\0")),
        *((f"GET {target} HTTP/1.1", TARGET) for target in ("*", "?a", "a", "/a#b", "http:///a")),
        *((f"GET {target} HTTP/1.1", TARGET) for target in ("example.com:443", "http://a#b")),
        (f"GET http://{65536 * 'a'}# HTTP/1.1", TARGET),
        *((f"GET / HTTP/{version}", VERSION) for version in ("0.9", "1.2", "2.0", "9.9")),
        ("PRI * HTTP/2.0", VERSION),
        ("GET / HTTP/1.0\r\nHost: b", HOST),
        *((f"{name} / HTTP/1.1", METHOD) for name in ("POST", "get", "GETS", "BREW", "DESCRIBE")),
        *((f"{name} HTTP/1.0", METHOD) for name in ("PUT *", "M-SEARCH *", "CONNECT a:1")),
    ],
)
def test_request_lines_that_are_refused(line: str, expected: str) -> None:
    """One space, an origin or absolute form, GET or HEAD, HTTP/1.0 or 1.1."""
    assert refusal_of(head_of("Host: a", line=line)) == expected


def test_a_method_that_is_not_answered_learns_which_are() -> None:
    """A 405 has to name them (RFC 9110, section 15.5.6)."""
    with pytest.raises(HandshakeError) as caught:
        parse(head_of("Host: a", line="POST / HTTP/1.1"))

    assert caught.value.headers == {"Allow": "GET, HEAD, OPTIONS"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        *((lines, HOST) for lines in ([], ["Host: a", "Host: a"], ["Host: a", "hOST: b"])),
        *(
            ([f"Host: {host}"], NAME)
            for host in ("a b", "a, b", "a/b", "me@a", "a:b", "[a", "\xe4")
        ),
        (["Host: a", "Content-Length: 5"], BODY),
        (["Host: a", "transfer-encoding: gzip, chunked"], BODY),
        (["Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"], FIELDS),
        (["Host: a", "Content-Length: 0", "Content-Length: 0"], FIELDS),
        *((["Host: a", f"Content-Length:{size}"], FIELDS) for size in ("", "0, 0", "+0", "0x0")),
        (["Host: a", "Transfer-Encoding: identity"], FIELDS),
        *(([line], FIELDS) for line in ("Host : a", "Host\t: a", " Host: a", "Host: a\nB: c")),
        *((["Host: a", line], FIELDS) for line in (" b", "\tb", "B", ": b", "B(C): d", "B\xe4: c")),
        *((["Host: a", line], FIELDS) for line in ("B: c\rd", "B: c\r", "B: c\nD: e", "B\0: c")),
        *((["Host: a", f"B: {byte}c"], FIELDS) for byte in ("\0", "\x01", "\x1f", "\x7f")),
    ],
)
def test_fields_that_are_refused(lines: list[str], expected: str) -> None:
    """What another server could read otherwise is never let through (RFC 9112, section 11.2)."""
    assert refusal_of(head_of(*lines)) == expected


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\n", b"\n\r\n"])
def test_bare_line_feeds_are_refused(end: bytes) -> None:
    """The end of a line is CR LF."""
    assert refusal_of(b"GET / HTTP/1.1\r\nHost: a" + end) == FIELDS


def test_a_head_without_end_is_refused() -> None:
    """An incomplete head cannot be checked."""
    assert refusal_of(CHROMIUM[:-2]) == FIELDS


def test_a_hundred_fields_and_no_more() -> None:
    """The limit itself is accepted."""
    lines = ["Host: a", *(f"B{number}: c" for number in range(9))]

    assert len(parse_request(head_of(*lines), max_header_count=10).headers) == 10
    with pytest.raises(HandshakeError) as caught:
        parse_request(head_of(*lines, "D: e"), max_header_count=10)
    assert str(caught.value) == "431: More than 10 header fields."


# What the application reads.


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", []),
        ("a", [("a", "")]),
        ("a=1&b=2&a=3", [("a", "1"), ("b", "2"), ("a", "3")]),
        ("&&a=&=b&", [("a", ""), ("", "b")]),
        ("a=b=c;d", [("a", "b=c;d")]),
        ("%C3%A4=+%2B%26", [("ä", " +&")]),
        ("a=%ff%zz%", [("a", "\ufffd%zz%")]),
    ],
)
def test_queries(query: str, expected: list[tuple[str, str]]) -> None:
    """Parameters are decoded, in order, each as often as it was sent."""
    assert list(request_of(target=f"/?{query}").query.items()) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], {}),
        (["Cookie: a=1; b=2"], {"a": "1", "b": "2"}),
        (["Cookie: a=1", "cookie: b=2"], {"a": "1", "b": "2"}),
        (["Cookie: a=1; a=2"], {"a": "1"}),
        (["Cookie: a=b=c=="], {"a": "b=c=="}),
        (['Cookie: a="b c"; d="; e="'], {"a": "b c", "d": '"', "e": '"'}),
        (["Cookie: a=;b =\t1 ;; =c; d;"], {"a": "", "b": "1"}),
        (["Cookie: a=\xc3\xa4\xff"], {"a": "ä\udcff"}),
        (["Cookie: a=\xc2\x85"], {"a": "\x85"}),
    ],
)
def test_cookies(lines: list[str], expected: dict[str, str]) -> None:
    """Pairs over all lines, the first of a name; other parts are ignored."""
    assert request_of(*lines).cookies == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ()),
        (["Sec-WebSocket-Protocol: a"], ("a",)),
        (["Sec-WebSocket-Protocol: a,b ,\tC"], ("a", "b", "C")),
        (["Sec-WebSocket-Protocol: a", "sec-websocket-protocol: b"], ("a", "b")),
        (["Sec-WebSocket-Protocol: ,, ,"], ()),
        (["Sec-WebSocket-Protocol:"], ()),
        (["Sec-WebSocket-Protocol: \xff"], ("\udcff",)),
    ],
)
def test_subprotocols(lines: list[str], expected: tuple[str, ...]) -> None:
    """Several lines are one list, in the client's order."""
    assert request_of(*lines).subprotocols == expected


def test_the_rest() -> None:
    """Browsers send an origin; a request is shown without its query, which may hold a token."""
    assert request_of("Origin: https://example.com").origin == "https://example.com"
    assert request_of().origin is None
    assert repr(request_of(target="/chat?token=secret")) == "<Request GET '/chat'>"


# RFC 6455.


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Upgrade: websocket"], True),
        (["Upgrade: h2c, WebSocket"], True),
        (["Upgrade: h2c", "Upgrade: websocket"], True),
        (["Sec-WebSocket-Key: x"], True),
        (["Upgrade: websocket/13"], False),
        (["Connection: Upgrade", "Upgrade: h2c"], False),
        ([], False),
    ],
)
def test_what_wants_to_be_a_websocket(lines: list[str], *, expected: bool) -> None:
    """A key alone shows a handshake whose upgrade a proxy has dropped."""
    assert wants_websocket(request_of(*lines)) is expected


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "keep-alive|Upgrade"},
        {"Connection": ",UPGRADE ,"},
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA=="},
    ],
)
def test_handshakes_that_are_right(changes: dict[str, str]) -> None:
    """Lists are lists, over several lines too, and tokens have no case."""
    assert check_handshake(handshake_of(**changes)) == changes.get("Sec_WebSocket_Key", KEY)


NO_UPGRADE = f"400: The handshake arrived without 'Upgrade: websocket'. {PROXY_HINT}"
NO_CONNECTION = f"400: The handshake arrived without 'Connection: Upgrade'. {PROXY_HINT}"
NO_KEY = f"400: The handshake arrived without 'Sec-WebSocket-Key'. {PROXY_HINT}"
WRONG_VERSION = "426: This server speaks version 13 of the WebSocket protocol."
WRONG_KEY = "400: Sec-WebSocket-Key must be 16 bytes, base64-encoded, once."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"line": "HEAD / HTTP/1.1"}, "405: A WebSocket handshake is a GET."),
        (
            {"line": "GET / HTTP/1.0"},
            "505: A WebSocket handshake needs HTTP/1.1. A proxy in front of this server that"
            " speaks HTTP/1.0 to it is the usual cause (nginx: proxy_http_version 1.1).",
        ),
        ({"line": "GET / HTTP/1.0", "Upgrade": None, "Connection": "close"}, NO_UPGRADE),
        ({"Upgrade": None}, NO_UPGRADE),
        ({"Upgrade": "h2c"}, NO_UPGRADE),
        ({"Upgrade": "webSoc\u212aet".encode().decode("latin-1")}, NO_UPGRADE),
        *(
            ({"Connection": value}, NO_CONNECTION)
            for value in (None, "", "close", "Upgrade2", "keep-alive Upgrade", "Upgrade\xc2\x85")
        ),
        *(
            ({"Sec_WebSocket_Version": value}, WRONG_VERSION)
            for value in (None, "", "8", "013", "13, 8", "13|8", "13|13")
        ),
        *(
            ({"Sec_WebSocket_Key": value}, WRONG_KEY)
            for value in ("", f"{KEY}|{KEY}", f"{KEY}, {KEY}", KEY[:-1], KEY[4:], "\xff")
        ),
        ({"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZ-=="}, WRONG_KEY),
        ({"Sec_WebSocket_Key": None}, NO_KEY),
        ({"Sec_WebSocket_Key": None, "Sec_WebSocket_Version": None}, NO_KEY),
    ],
)
def test_handshakes_that_are_wrong(changes: dict[str, str | None], expected: str) -> None:
    """The error names what is missing."""
    line = changes.pop("line", None) or "GET / HTTP/1.1"
    with pytest.raises(HandshakeError) as caught:
        check_handshake(handshake_of(line, **changes))

    assert str(caught.value) == expected


def test_a_refused_handshake_learns_what_would_be_right() -> None:
    """The answers carry what RFC 9110 and RFC 6455, section 4.4 want in them."""
    with pytest.raises(HandshakeError) as method:
        check_handshake(handshake_of("HEAD / HTTP/1.1"))
    with pytest.raises(HandshakeError) as version:
        check_handshake(handshake_of(Sec_WebSocket_Version="8"))
    with pytest.raises(LostFieldError) as upgrade:
        check_handshake(handshake_of(Upgrade=None))

    assert method.value.headers == {"Allow": "GET"}
    assert version.value.headers == {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    assert upgrade.value.field == "Upgrade: websocket"


@pytest.mark.parametrize(
    ("via", "is_http2"),
    [
        ("HTTP/2.0 nginx", True),
        ("2.0 gateway", True),
        ("2 gateway, 1.1 nginx", True),
        ("HTTP/3.0 nginx", True),
        ("1.1 gateway, 2.0 nginx", False),
        ("HTTP/1.1 nginx", False),
        ("", False),
        (",", False),
        ("/", False),
        (None, False),
    ],
)
def test_a_proxy_tells_whether_a_client_came_over_http2(via: str | None, *, is_http2: bool) -> None:
    """There, the upgrade is not lost: it never was."""
    with pytest.raises(LostFieldError) as caught:
        check_handshake(handshake_of(Upgrade=None, Via=via))

    assert caught.value.is_http2 is is_http2
    assert caught.value.text.endswith(HTTP2_HINT if is_http2 else PROXY_HINT)


# Anything at all.

PIECES = st.sampled_from(
    [
        *(b"GET ", b"HEAD ", b"POST ", b"/", b"*", b"http://a", b"?b=%ff&", b"#", b" HTTP/1.1"),
        *(b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b"\x00", b"\x85", b"\xff"),
        *(b"Host: a", b"Host", b":", b"Cookie: a=", b'"', b";", b",", b"=", b"Upgrade: websocket"),
        *(b"Connection: Upgrade", b"Content-Length: 0", b"Transfer-Encoding: chunked"),
    ]
)
GARBAGE = st.binary(max_size=80) | st.lists(PIECES, max_size=14).map(b"".join)


@st.composite
def damaged_heads(draw: st.DrawFn) -> bytes:
    """Replace a part of a good head by anything."""
    head = draw(st.sampled_from([FIREFOX_OF_2024, head_of("Host: a"), head_of("Host: a", "B: c")]))
    start = draw(st.integers(0, len(head)))
    return head[:start] + draw(GARBAGE) + head[start + draw(st.integers(0, 8)) :]


# One in twenty is accepted.
@settings(max_examples=1000)
@given(GARBAGE | damaged_heads())
@example(b"GET / HTTP/1.1\r\nHost:a\r\n:b\r\n\r\n")
@example(b"GET / HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n")
def test_nothing_but_a_handshake_error_is_raised(data: bytes) -> None:
    """Whatever is sent is refused with a status, or understood as h11 understands it."""
    head = data[: head_end(data)]
    try:
        request = parse(head)
    except HandshakeError:
        return
    look_at(request)
    with suppress(HandshakeError):
        check_handshake(request)
    oracle = h11.Connection(h11.SERVER)
    oracle.receive_data(head)
    expected = oracle.next_event()

    assert isinstance(expected, h11.Request)
    assert (request.method.encode(), request.target.encode()) == (expected.method, expected.target)
    assert [
        (name.lower().encode(), value.encode("utf-8", "surrogateescape"))
        for name, value in request.headers.items()
    ] == list(expected.headers)


def test_fields_are_taken_away_from_the_head_too() -> None:
    """All lines of the name in whatever case; the others stay, in their order."""
    fields = ("Host: a.example", "COOKIE: a=b", "X: Cookie: c", "cookie: d=e", "X: 2")
    request = parse(head_of(*fields, line="GET /a?b HTTP/1.1"))

    less = without_fields(request, ["Cookie", "Authorization"])

    assert less.head == head_of(*fields[::2], line="GET /a?b HTTP/1.1")
    assert list(less.headers.items()) == [("Host", "a.example"), ("X", "Cookie: c"), ("X", "2")]
    assert (less.method, less.target, less.version) == ("GET", "/a?b", "1.1")
    assert less.cookies == {}


@pytest.mark.parametrize("head", CLIENTS.values(), ids=list(CLIENTS))
def test_unknown_and_missing_fields(head: bytes) -> None:
    """Nothing else changes, byte for byte."""
    assert without_fields(parse(head), ["X-None"]).head == head
