"""Explains failed handshakes by what the proxy or the client has done. PURE."""

from ipaddress import ip_address

from ..findings import Finding, Severity, Stage
from ..request import LostFieldError

_PRINTED = "`gateman proxy nginx` and `gateman proxy apache` print configurations that do"


def lost_field(error: LostFieldError, peer: str) -> Finding:
    """Explain a handshake of which a part was lost on the way."""
    if error.is_http2:
        return Finding(
            code="CLIENT_HTTP2",
            stage=Stage.UPGRADE,
            severity=Severity.WARNING,
            problem=f"a handshake from {peer} came to the proxy over HTTP/2 or 3, which has no"
            " upgrade that could be passed on",
            fix="have the client open it over HTTP/1.1, as browsers do (curl: --http1.1)",
        )
    if error.field.startswith("Sec-"):
        return Finding(
            code="HANDSHAKE_FIELD_LOST",
            stage=Stage.UPGRADE,
            severity=Severity.WARNING,
            problem=f"a handshake from {peer} arrived without '{error.field}'",
            fix="let the proxy or firewall in front pass all fields on that begin with"
            " Sec-WebSocket-; a client that sends none is not a WebSocket client",
        )
    return Finding(
        code="UPGRADE_LOST",
        stage=Stage.UPGRADE,
        severity=Severity.WARNING,
        problem=f"a handshake from {peer} arrived without '{error.field}'",
        fix=f"the proxy in front must pass the upgrade on; {_PRINTED}. Was it curl, over HTTP/2?"
        " Then --http1.1",
    )


def http_1_0(peer: str) -> Finding:
    return Finding(
        code="UPGRADE_HTTP_1_0",
        stage=Stage.UPGRADE,
        severity=Severity.WARNING,
        problem=f"a handshake from {peer} arrived as HTTP/1.0",
        fix=f"the proxy in front must speak HTTP/1.1 (nginx: proxy_http_version 1.1); {_PRINTED}",
    )


def tls_on_plain_port(peer: str, *, is_proxy: bool) -> Finding:
    if is_proxy:
        return Finding(
            code="TLS_ON_PLAIN_PORT",
            stage=Stage.UPGRADE,
            severity=Severity.WARNING,
            problem=f"{peer} spoke TLS to this plain port",
            fix="if that is a proxy, have it speak plain HTTP (nginx: proxy_pass http://, not"
            " https://; HAProxy: a server line without ssl); if it is a client, connect with ws://,"
            " or give the worker a certificate and transport='ssl'",
        )
    return Finding(
        code="TLS_ON_PLAIN_PORT",
        stage=Stage.UPGRADE,
        severity=Severity.WARNING,
        problem="a client spoke TLS (wss:// or https://) to this plain port",
        fix="give the worker a certificate and transport='ssl', or connect with ws://",
    )


def untrusted_forwarding(peer: str, field: str) -> Finding:
    """Explain a header field about the client that is not believed."""
    return Finding(
        code="PROXY_NOT_TRUSTED",
        stage=Stage.UPGRADE,
        severity=Severity.NOTE,
        problem=f"a handshake from {peer} has {field}, which is not believed",
        fix="if that address is a proxy of yours, add it to trusted_proxies; if it is a client,"
        " leave all as it is",
    )


def is_private(ip: str) -> bool:
    """Return whether an address is of a network where proxies are more likely than clients."""
    try:
        return ip_address(ip).is_private
    except ValueError:
        return True
