"""What clients say first on a port of lines, wherever it is cut."""

import pytest

from gateman.net.first_bytes import mistake_in
from tests.support.hellos import hello, records
from tests.support.preambles import v2


@pytest.mark.parametrize(
    ("first", "cause"),
    [
        (b"GET / HTTP/1.1\r\n", "http_request"),
        (b"POST /a HTTP/1.0\n\ncommand\n", "http_request"),
        (v2(), "unexpected_proxy_header"),
        (records(hello()), "tls_on_plain_port"),
    ],
)
def test_what_is_no_packet(first: bytes, cause: str) -> None:
    found = mistake_in(first)

    assert found is not None
    assert found[0].cause == cause


@pytest.mark.parametrize("first", [b"GET / HTTP\n", b"GET\nx HTTP/1.1\n", b"hello\n", b"\x16\n"])
def test_what_may_be_a_packet(first: bytes) -> None:
    for cut in range(1, len(first) + 1):
        assert mistake_in(first[:cut]) is None
