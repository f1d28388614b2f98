"""What clients say first on a port of lines, wherever it is cut."""

import pytest

from gateman.net.first_bytes import may_become_mistake, mistake_in
from tests.support.hellos import hello, records
from tests.support.preambles import v2


@pytest.mark.parametrize(
    ("first", "cause"),
    [
        (b"GET / HTTP/1.1\r\n", "http_request"),
        (b"POST /a HTTP/1.0\n\ncommand\n", "http_request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http_request"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nline\n", "unexpected_proxy_header"),
        (v2(), "unexpected_proxy_header"),
        (records(hello()), "tls_on_plain_port"),
    ],
)
def test_what_is_no_packet(first: bytes, cause: str) -> None:
    found = mistake_in(first)

    assert found is not None
    assert found[0].cause == cause


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\x16\x03\x01\x00\n",
        b"POST /" + b"a" * 300 + b" HTTP/1.1\r\n",
    ],
)
def test_a_mistake_is_seen_wherever_it_is_cut(first: bytes) -> None:
    for cut in range(1, len(first) + 1):
        assert mistake_in(first[:cut]) or may_become_mistake(first[:cut])

    assert mistake_in(first)


@pytest.mark.parametrize(
    "first",
    [b"GET / HTTP\n", b"GET\nx HTTP/1.1\n", b"PRI * HTTP/2.0 x\n", b"hello\n", b"\x16\n", b"\r\n"],
)
def test_what_may_be_a_packet(first: bytes) -> None:
    for cut in range(1, len(first) + 1):
        assert mistake_in(first[:cut]) is None
    assert not may_become_mistake(first)
