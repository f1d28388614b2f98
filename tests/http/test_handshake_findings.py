"""What a handshake that fails tells about who sent it: sentences by equality."""

import pytest

from gateman.http.handshake_findings import (
    http_1_0,
    is_private,
    lost_field,
    tls_on_plain_port,
    untrusted_forwarding,
)
from gateman.request import LostFieldError, parse_request


def lost(field: str, *fields: str) -> str:
    """Explain a handshake without a field."""
    head = "\r\n".join(["GET / HTTP/1.1", "Host: a", *fields]) + "\r\n\r\n"
    request = parse_request(head.encode(), max_header_count=100)
    return str(lost_field(LostFieldError(field, request), "10.0.0.1"))


def test_a_lost_upgrade_is_the_proxys() -> None:
    assert lost("Upgrade: websocket") == (
        "a handshake from 10.0.0.1 arrived at the service without 'Upgrade: websocket': the proxy"
        " in front must pass the upgrade on; `gateman proxy nginx` and `gateman proxy apache` print"
        " configurations that do. Was it curl, over HTTP/2? Then --http1.1"
    )


def test_an_upgrade_that_never_was_is_the_clients() -> None:
    assert lost("Upgrade: websocket", "Via: 2.0 nginx") == (
        "a handshake from 10.0.0.1 came to the proxy over HTTP/2 or 3, which has no upgrade that"
        " could be passed on: have the client open it over HTTP/1.1, as browsers do"
        " (curl: --http1.1)"
    )


def test_a_stripped_field_is_named() -> None:
    assert lost("Sec-WebSocket-Key") == (
        "a handshake from 10.0.0.1 arrived at the service without 'Sec-WebSocket-Key': let the"
        " proxy or firewall in front pass all fields on that begin with Sec-WebSocket-; a client"
        " that sends none is not a WebSocket client"
    )


def test_http_1_0_is_the_proxys() -> None:
    assert str(http_1_0("10.0.0.1")).startswith(
        "a handshake from 10.0.0.1 arrived at the service as HTTP/1.0: "
    )


def test_tls_on_a_plain_port_is_a_proxys_or_a_clients() -> None:
    """A proxy that is told to take a certificate would make it double TLS."""
    assert str(tls_on_plain_port("10.0.0.1", is_proxy=True)) == (
        "10.0.0.1 spoke TLS to this plain port: if that is a proxy, have it speak plain HTTP"
        " (nginx: proxy_pass http://, not https://; HAProxy: a server line without ssl); if it is a"
        " client, connect with ws://, or give the worker a certificate and transport='ssl'"
    )
    assert str(tls_on_plain_port("203.0.113.7", is_proxy=False)).startswith(
        "a client spoke TLS to this plain port: if that is a proxy, "
    )


def test_a_log_line_has_the_code() -> None:
    assert http_1_0("10.0.0.1").line.endswith(" (UPGRADE_HTTP_1_0)")


def test_a_field_that_is_not_believed_is_named() -> None:
    assert "has X-Real-IP, which is not believed" in str(
        untrusted_forwarding("10.0.0.1", "X-Real-IP")
    )


@pytest.mark.parametrize(
    ("ip", "expected"),
    [("10.0.0.1", True), ("::1", True), ("unix", True), ("198.41.128.1", False)],
)
def test_proxies_are_mostly_in_private_networks(ip: str, *, expected: bool) -> None:
    assert is_private(ip) is expected
