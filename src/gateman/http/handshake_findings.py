"""Explains failed handshakes by what the proxy or the client has done. PURE."""

from ipaddress import ip_address

from ..findings import Finding
from ..findings.handshakes import (
    CLIENT_HTTP2,
    HANDSHAKE_FIELD_LOST,
    PEER_SPOKE_TLS,
    PROXY_NOT_TRUSTED,
    UPGRADE_HTTP_1_0,
    UPGRADE_LOST,
)
from ..request import LostFieldError

_OF_A_LOST_FIELD = {one.code: one for one in (CLIENT_HTTP2, HANDSHAKE_FIELD_LOST, UPGRADE_LOST)}


def lost_field(error: LostFieldError, peer: str) -> Finding:
    """Explain a handshake of which a part was lost on the way."""
    return _OF_A_LOST_FIELD[error.code].found(handshake=_from(peer), field=error.field)


def http_1_0(peer: str) -> Finding:
    return UPGRADE_HTTP_1_0.found(handshake=_from(peer))


def tls_on_plain_port(peer: str, *, is_proxy: bool) -> Finding:
    return PEER_SPOKE_TLS.found(client=peer if is_proxy else "a client")


def untrusted_forwarding(peer: str, field: str) -> Finding:
    """Explain a header field about the client that is not believed."""
    return PROXY_NOT_TRUSTED.found(handshake=_from(peer), field=field)


def is_private(ip: str) -> bool:
    """Return whether an address is of a network where proxies are more likely than clients."""
    try:
        return ip_address(ip).is_private
    except ValueError:
        return True


def _from(peer: str) -> str:
    return f"a handshake from {peer}"
