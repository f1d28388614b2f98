"""Where bodies end, cut at every byte, and what another hop could read differently."""

import pytest

from gateman.errors import HandshakeError
from gateman.http.request_body import Body, ChunkedBody, SizedBody, body_of
from gateman.request import parse_request
from tests.support.raw import request

CHUNKED = b"4\r\nwiki\r\n6;a=b\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nA: b\r\nC: d\r\n\r\n"


def taken(body: Body, data: bytes, cut: int) -> int:
    """Give a body its bytes in two parts, as a connection does: what is not taken comes again."""
    waiting = bytearray(data[:cut])
    first = body.take(waiting)
    del waiting[:first]
    waiting += data[cut:]
    return first + body.take(waiting)


def body_after(*lines: str, line: str = "POST / HTTP/1.1", max_size: int = 1000) -> Body | None:
    """Find the body of a head."""
    head = request(line, "Host: a", *lines)
    parsed = parse_request(head, max_header_count=100, is_plain=True)
    return body_of(parsed, max_size=max_size, max_trailer_size=100)


def refusal_of(*lines: str, line: str = "POST / HTTP/1.1", max_size: int = 1000) -> str:
    """Name why a head is refused."""
    with pytest.raises(HandshakeError) as refused:
        body_after(*lines, line=line, max_size=max_size)
    return str(refused.value)


@pytest.mark.parametrize("cut", range(len(CHUNKED) + 1))
def test_chunks_end_at_the_same_byte_wherever_they_are_cut(cut: int) -> None:
    """What follows belongs to the next request."""
    body = ChunkedBody(1000, 100)

    assert taken(body, CHUNKED + b"GET / ", cut) == len(CHUNKED)
    assert body.is_complete


@pytest.mark.parametrize("cut", range(6))
def test_a_size_ends_at_the_same_byte_wherever_it_is_cut(cut: int) -> None:
    body = SizedBody(3)

    assert taken(body, b"abcGET", cut) == 3
    assert body.is_complete


@pytest.mark.parametrize(
    "data",
    [
        b"g\r\n",
        b"-1\r\n",
        b"0x1\r\na\r\n",
        b"+1\r\na\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1\na\n",
        b"1\ra\r\n",
        b"\r\n",
        b"1;\0\r\na\r\n",
        b"1;a\nb\r\na\r\n",
        b"1" * 16 + b"\r\n",
        b"1;" + b"a" * 300,
        b"1;" + b"a" * 300 + b"\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n\n",
        b"1\r\na\rb",
        b"0\r\n\n",
        b"0\r\nA: b\n\r\n",
    ],
)
def test_malformed_chunks_are_refused(data: bytes) -> None:
    """Each may be read differently by some other server."""
    with pytest.raises(HandshakeError) as refused:
        ChunkedBody(1000, 100).take(data)

    assert refused.value.status == 400


def test_chunks_are_bounded() -> None:
    """All of them together, and the fields behind them."""
    with pytest.raises(HandshakeError) as large:
        ChunkedBody(5, 100).take(b"3\r\nabc\r\n3\r\n")
    with pytest.raises(HandshakeError) as fields:
        ChunkedBody(5, 10).take(b"0\r\nA: b\r\nC: d\r\n\r\n")
    with pytest.raises(HandshakeError) as endless:
        ChunkedBody(5, 10).take(b"0\r\nA: bbbbbbbbbbbb")

    assert [one.value.status for one in (large, fields, endless)] == [413, 431, 431]


def test_heads_tell_which_body_follows() -> None:
    assert body_after() is None
    assert body_after("Content-Length: 0") is None
    assert isinstance(body_after("Content-Length: 5"), SizedBody)
    assert isinstance(body_after("Content-Length: 0005"), SizedBody)
    assert isinstance(body_after("Transfer-Encoding: Chunked"), ChunkedBody)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("Content-Length: 1001",), "413"),
        (("Content-Length: " + "9" * 18,), "413"),
        (("Content-Length: " + "9" * 19,), "400"),
        (("Content-Length: 1, 1",), "400"),
        (("Content-Length: +1",), "400"),
        (("Content-Length: 1", "Content-Length: 1"), "400"),
        (("Content-Length: 1", "Transfer-Encoding: chunked"), "400"),
        (("Transfer-Encoding: gzip, chunked",), "501"),
        (("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "400"),
        (("Transfer-Encoding: identity",), "400"),
        (("Transfer-Encoding: chunked, identity",), "400"),
        (("Transfer-Encoding: xchunked",), "400"),
        (("Transfer-Encoding : chunked",), "400"),
    ],
)
def test_heads_that_do_not_tell_where_the_body_ends_are_refused(
    lines: tuple[str, ...], expected: str
) -> None:
    """By the parser or by the rules: none gets to the application."""
    assert refusal_of(*lines)[:3] == expected


def test_chunks_are_not_for_http_1_0() -> None:
    assert refusal_of("Transfer-Encoding: chunked", line="POST / HTTP/1.0")[:3] == "400"
