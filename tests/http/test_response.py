"""Answers to plain HTTP: independent parsers read them, and no application can break one."""

import io
from http.client import HTTPResponse
from typing import Any

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateman.errors import ConfigError
from gateman.http import response
from gateman.http.response import Response, header_line

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"

Fields = list[tuple[str, str]]


class _Received:
    """Bytes that ``http.client`` takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def read_by_http_client(data: bytes, method: str) -> tuple[int, Fields, bytes]:
    """Read an answer as Python's own client does."""
    received: Any = _Received(data)
    answer = HTTPResponse(received, method=method)
    answer.begin()
    # It keeps blanks behind a value, which are no part of it (RFC 9112, section 5.1).
    fields = [
        (name, value.encode("latin-1").decode().rstrip(" \t"))
        for name, value in answer.msg.raw_items()
    ]
    return answer.status, fields, answer.read()


def read_by_h11(data: bytes, method: str) -> tuple[int, Fields, bytes]:
    """Read an answer as a strict client does, and that nothing comes behind it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    answer = client.next_event()
    assert isinstance(answer, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data == (b"", True)
    fields = [(name.decode(), value.decode()) for name, value in answer.headers.raw_items()]
    return answer.status_code, fields, body


def read(data: bytes, method: str = "GET") -> tuple[int, Fields, bytes]:
    """Read an answer by both, which have to agree."""
    answer = read_by_http_client(data, method)

    assert read_by_h11(data, method) == answer
    return answer


def refusal_of(name: object, value: object) -> str:
    """Write a header field that is refused."""
    with pytest.raises(ConfigError) as caught:
        header_line(name, value)
    return str(caught.value)


# Encoding.


def test_bytes_of_an_answer() -> None:
    """Every answer says how long it is, and that nothing follows."""
    assert Response(200, b"ok\n").encode(date=DATE) == (
        b"HTTP/1.1 200 OK\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Cache-Control: no-store\r\n"
        b"Content-Length: 3\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b"ok\n"
    )


def test_head_gets_the_length_without_the_body() -> None:
    """What GET would get is announced (RFC 9110, section 9.3.2)."""
    answer = Response(200, b"ok\n")
    head = answer.encode(date=DATE, head_only=True)

    assert head + b"ok\n" == answer.encode(date=DATE)
    assert read(head, "HEAD")[2] == b""


def test_not_modified_has_no_body() -> None:
    """A client would take it for the next answer (RFC 9110, section 15.4.5)."""
    data = response.refused(304, "", {}, "A").encode(date=DATE)

    assert data.endswith(b"\r\nContent-Length: 17\r\nConnection: close\r\n\r\n")
    assert read(data)[2] == b""


def test_upgrade_is_an_option_of_the_connection() -> None:
    """However the field is written (RFC 9110, section 7.8)."""
    for name in ("Upgrade", "upgrade"):
        fields = read(Response(426, headers={name: "websocket"}).encode(date=DATE))[1]

        assert fields[-3:] == [
            (name, "websocket"),
            ("Content-Length", "0"),
            ("Connection", "close, Upgrade"),
        ]


def test_chosen_fields_replace_the_usual_ones() -> None:
    """In any case, so that there are never two."""
    answer = Response(
        403,
        b"{}",
        headers={"content-type": "application/json", "CACHE-CONTROL": "private", "X-Why": "ä"},
    )

    assert read(answer.encode(date=DATE))[1] == [
        ("Date", DATE),
        ("content-type", "application/json"),
        ("CACHE-CONTROL", "private"),
        ("X-Why", "ä"),
        ("Content-Length", "2"),
        ("Connection", "close"),
    ]


@pytest.mark.parametrize(
    ("status", "phrase"), [(302, "Found"), (418, "I'm a Teapot"), (599, "Refused"), (300, None)]
)
def test_status_lines(status: int, phrase: str | None) -> None:
    """A status that has no name gets one, as some clients want one."""
    line, _, _ = Response(status).encode(date=DATE).partition(b"\r\n")

    assert line.decode() == f"HTTP/1.1 {status} {phrase or 'Multiple Choices'}"


# What applications may choose.

NAMES = st.text(st.sampled_from("abzAZ09-_!#$%&'*+.^`|~"), min_size=1, max_size=12)
ANY_TEXT = st.text(st.characters(), max_size=20)


@settings(max_examples=500)
@example(300, "", {"0": "0 "}, "GET")
@given(
    st.integers(300, 599),
    ANY_TEXT,
    st.dictionaries(
        NAMES | ANY_TEXT | st.sampled_from(["Content-Length", "Connection", "Date", "Upgrade"]),
        ANY_TEXT | st.sampled_from(["5", "chunked", "a\r\nB: c", "\r\n\r\nb"]),
        max_size=4,
    ),
    st.sampled_from(["GET", "HEAD"]),
)
def test_no_refusal_breaks_an_answer(
    status: int, text: str, headers: dict[str, str], method: str
) -> None:
    """Whatever an application gives is read back as it was given, or refused with a sentence."""
    answer = response.refused(status, text, headers, "A")
    try:
        data = answer.encode(date=DATE, head_only=method == "HEAD")
    except ConfigError:
        return
    read_status, fields, body = read(data, method)

    assert read_status == status
    assert body == (b"" if method == "HEAD" or status == 304 else answer.body)
    assert [field for field in fields if field[0] in headers] == [
        (name, value.strip(" \t")) for name, value in headers.items()
    ]
    assert [name for name, _ in fields if name.lower() in {"content-length", "connection"}] == [
        "Content-Length",
        "Connection",
    ]


@pytest.mark.parametrize("name", ["A", "x-request-id", "Set-Cookie", "!#$%&'*+.^_`|~9"])
@pytest.mark.parametrize("value", ["", "a b", "\ta", "ä€", 'a,b;c="d"', "\x85\u2028"])
def test_fields_that_are_fine(name: str, value: str) -> None:
    """Text of any language, tabs included."""
    assert header_line(name, value) == f"{name}: {value}"


@pytest.mark.parametrize("name", ["", " ", "a b", "a:", "ä", "a\r\nb", "a\0", 5, None, b"a"])
def test_names_that_are_none(name: object) -> None:
    """A name is a token (RFC 9110, section 5.1)."""
    assert refusal_of(name, "x") == (
        f"{name!r} is not a header field's name: use letters, digits and '-'."
    )


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "content-length", "TRANSFER-ENCODING", "Gateman-Refused"),
        *("Sec-WebSocket-Accept", "sec-websocket-extensions"),
    ],
)
def test_names_that_are_gateman_s(name: str) -> None:
    """Two lengths are two answers to the next reader (RFC 9112, section 11.1)."""
    assert refusal_of(name, "5") == f"the header field {name!r} is gateman's own: leave it out."


@pytest.mark.parametrize("value", [f"a{chr(code)}b" for code in (*range(9), *range(10, 32), 127)])
def test_values_with_control_characters(value: str) -> None:
    """Nothing breaks out of its line (RFC 9110, section 5.5)."""
    assert refusal_of("X-Why", value) == (
        "the value of the header field 'X-Why' holds a control character: leave line breaks out"
        " of it."
    )


@pytest.mark.parametrize("value", [5, None, b"a", ["a"], "\udc85"])
def test_values_that_are_no_text(value: object) -> None:
    """A number is to be written as text; half a character cannot be sent."""
    assert refusal_of("Retry-After", value) == (
        "the value of the header field 'Retry-After' is not text: make it a str."
    )


# The answers.


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (403, "", b"403 Forbidden\n"),
        (599, "", b"599 Refused\n"),
        (403, "nö", "nö\n".encode()),
        (400, "\udcff?", b"??\n"),
    ],
)
def test_refusals_say_why(status: int, text: str, expected: bytes) -> None:
    """With the text, or else with the status."""
    assert response.refused(status, text, {"A": "b"}, "CODE") == Response(
        status, expected, headers={"A": "b"}, code="CODE"
    )


def test_refusals_say_why_to_programs() -> None:
    data = response.refused(403, "", {}, "ORIGIN_REFUSED").encode(date=DATE)

    assert ("Gateman-Refused", "ORIGIN_REFUSED") in read(data)[1]
    assert "Gateman-Refused" not in response.health().encode(date=DATE).decode()


@pytest.mark.parametrize(
    ("answer", "status", "body", "more"),
    [
        (response.health(), 200, b"ok\n", {}),
        (response.health("draining"), 503, b"draining\n", {}),
        (
            response.upgrade_required(),
            426,
            b"This is a WebSocket service: connect with a WebSocket client, such as a browser's"
            b" new WebSocket(...).\n",
            {
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Connection": "close, Upgrade",
                "Gateman-Refused": "UPGRADE_LOST",
            },
        ),
        (
            response.wrong_scheme(),
            400,
            b"This port speaks TLS: connect with wss:// (or https://) instead of ws:// (or"
            b" http://).\n",
            {"Gateman-Refused": "PLAIN_ON_TLS_PORT"},
        ),
        (
            response.page(b"<!doctype html>"),
            200,
            b"<!doctype html>",
            {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline';"
                " script-src 'unsafe-inline'; connect-src ws: wss:; img-src data:;"
                " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
            },
        ),
    ],
)
def test_answers(answer: Response, status: int, body: bytes, more: dict[str, str]) -> None:
    """Each is complete, is not to be kept, and ends the connection."""
    read_status, fields, read_body = read(answer.encode(date=DATE))

    assert (read_status, read_body) == (status, body)
    assert dict(fields) == {
        "Date": DATE,
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "Connection": "close",
        **more,
    }
