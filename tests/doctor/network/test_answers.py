"""What the first bytes of an answer tell."""

import pytest

from gateman.doctor.network import answers
from gateman.doctor.network.observations import AnswerSeen, End
from gateman.findings import Software

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (OK + b"Server: nginx/1.22.1\r\n\r\n", Software.NGINX),
        (OK + b"server: openresty\r\n\r\n", Software.NGINX),
        (OK + b"Server: Apache/2.4.57 (Debian)\r\n\r\n", Software.APACHE),
        (OK + b"Server: Caddy\r\n\r\n", Software.CADDY),
        (OK + b"Server: cloudflare\r\nCF-RAY: 1\r\n\r\n", Software.CLOUDFLARE),
        (OK + b"Server: awselb/2.0\r\n\r\n", Software.AWS),
        (
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/html\r\n\r\n"
            b"<html><body><h1>503 Service Unavailable</h1>\n"
            b"No server is available to handle this request.\n</body></html>\n",
            Software.HAPROXY,
        ),
        (
            # Caddy, Traefik, or another server written in Go.
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
            None,
        ),
        # The certificate is that of the proxy, and not of what made the page behind it.
        (OK + b"Server: Caddy\r\n\r\n<center>nginx</center>", Software.CADDY),
        (OK + b"Server: angie", Software.NGINX),
        (OK + b"Gateman-Refused: UPGRADE_LOST\r\n\r\n", Software.GATEMAN),
        (OK + b"Server: Jetty\r\n\r\n", None),
        (b"Server: nginx\r\n", None),
        (b"", None),
    ],
)
def test_software(data: bytes, expected: Software | None) -> None:
    assert answers.software(data) is expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x15\x03\x03\0\x02\x02\x0a", True),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n<center>The plain HTTP request was sent to HTTPS"
            b" port</center>",
            True,
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\nReason: You're speaking plain HTTP to an SSL-enabled"
            b" server port.",
            True,
        ),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        (OK + b"\r\nThe plain HTTP request was sent to HTTPS port", False),
        (b"", False),
    ],
)
def test_a_server_that_expects_tls(data: bytes, *, expected: bool) -> None:
    assert answers.expects_tls(data) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (AnswerSeen(), False),
        (AnswerSeen(end=End.CLOSED), True),
        (AnswerSeen(end=End.RESET), True),
        (AnswerSeen(data=OK, end=End.CLOSED), False),
        (AnswerSeen(data=b"\x15\x03\x01\0\x02\x02\x0a"), True),
    ],
)
def test_one_that_may_expect_it(answer: AnswerSeen, *, expected: bool) -> None:
    assert answers.may_expect_tls(answer) is expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", False),
        (OK, False),
        (OK + b"Content-Length: 3\r\n\r\nab", False),
        (OK + b"Content-Length: 3\r\n\r\nabc", True),
        (OK + b"\r\nabc", False),
    ],
)
def test_a_whole_answer(data: bytes, *, expected: bool) -> None:
    assert answers.is_complete(data) is expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (OK + b"Date: Thu, 01 Jan 1970 00:01:40 GMT\r\n\r\n", 100.0),
        (OK + b"Date: Thu, 01 Jan 1970 00:01:40 GMT\r\nAge: 50\r\n\r\n", 150.0),
        (OK + b"Date: yesterday\r\n\r\n", None),
        (OK + b"Date: \xff\r\n\r\n", None),
        (OK + b"\r\n", None),
        (b"date: Thu, 01 Jan 1970 00:01:40 GMT\r\n", None),
    ],
)
def test_the_servers_time(data: bytes, expected: float | None) -> None:
    assert answers.date(data) == expected


def test_one_line_is_shown() -> None:
    assert answers.shown(b"one\xff\x1b[31m\r\ntwo") == "one\\xff\x1b[31m"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 400 x\r\n\r\nNo required SSL certificate was sent", True),
        (b"HTTP/1.1 400 x\r\n\r\nThe SSL certificate error", True),
        (b"HTTP/1.1 400 x\r\n\r\nBad Request", False),
        (b"HTTP/1.1 200 x\r\n\r\nclient certificate", False),
    ],
)
def test_one_that_wants_the_clients_certificate(data: bytes, *, expected: bool) -> None:
    assert answers.needs_certificate(data) is expected
