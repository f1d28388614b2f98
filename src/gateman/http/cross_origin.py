"""
Detects handshakes of pages of other sites, and the credentials in them. PURE.

A browser lets every page open a WebSocket to every server, and sends the user's cookies and HTTP
authentication with the handshake. A service that takes those for the user's will is open to
cross-site WebSocket hijacking. So where ``allowed_origins`` is not set, they are withheld from a
page of another host.

A page cannot choose ``Origin``, ``Host`` or ``X-Forwarded-Host``, so they can be compared. Ports
and schemes are not compared: proxies change both, and cookies ignore ports as well.

Source:
    RFC 6455, section 10.2; CWE-1385.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from ipaddress import ip_address
from urllib.parse import urlsplit

from ..errors import HandshakeError
from ..findings.handshakes import CREDENTIALS_WITHHELD, ORIGIN_REFUSED
from ..request import Request, without_fields
from .client_address import forwarded_hosts
from .origins import is_allowed

CREDENTIALS = ("Cookie", "Authorization")
"""The header fields that a browser adds by itself and that tell who the user is."""

# Last labels of names that no public site has.
_PRIVATE_DOMAINS = frozenset({"internal", "lan", "local", "localdomain", "localhost"})

_PROXY_HINT = (
    "; if the page is of this service's own site, the proxy in front replaces the Host: let it pass"
    " that on (nginx: proxy_set_header Host $http_host; Apache: ProxyPreserveHost On)"
)


_REFUSED_PAGE = "Pages of this origin may not connect."


def check_page(
    request: Request,
    allowed_origins: AbstractSet[str] | None,
    *,
    is_proxied: bool,
    has_certificate: Callable[[], bool],
    noticed: Callable[[str, str], object],
) -> Request:
    """Return what the application may see of the request; HandshakeError (403) refuses the page."""
    if allowed_origins is None:
        return _without_credentials(
            request, is_proxied=is_proxied, has_certificate=has_certificate, noticed=noticed
        )
    origin = request.origin or ""
    if is_allowed(origin, allowed_origins):
        return request
    noticed(
        "origin_refused",
        f"a browser page of the origin {origin[:200]!r} was refused: add it to"
        f" allowed_origins if it is yours ({ORIGIN_REFUSED.code})",
    )
    raise HandshakeError(403, _REFUSED_PAGE, code=ORIGIN_REFUSED.code)


def _without_credentials(
    request: Request,
    *,
    is_proxied: bool,
    has_certificate: Callable[[], bool],
    noticed: Callable[[str, str], object],
) -> Request:
    """Remove what a browser sends in its user's name for a page of another host."""
    if not is_cross_origin(request, is_proxied=is_proxied):
        return request
    if has_certificate():
        noticed(
            "origin_refused",
            "a browser page was refused, as a browser shows its user's certificate for every"
            f" page: {explain(request, is_proxied=is_proxied)} ({ORIGIN_REFUSED.code})",
        )
        raise HandshakeError(403, _REFUSED_PAGE, code=ORIGIN_REFUSED.code)
    if not has_credentials(request):
        return request
    noticed(
        "credentials_withheld",
        "a browser page connects without the cookies and the HTTP authentication that the"
        f" browser sent: {explain(request, is_proxied=is_proxied)} ({CREDENTIALS_WITHHELD.code})",
    )
    return without_fields(request, CREDENTIALS)


def is_cross_origin(request: Request, *, is_proxied: bool) -> bool:
    """Return whether a page of another host opens this connection."""
    origin = request.origin
    if origin is None:
        return False
    page = _host_of_origin(origin)
    return page is None or page not in map(_name, _asked_hosts(request, is_proxied=is_proxied))


def has_credentials(request: Request) -> bool:
    """Return whether the browser added something that could be withheld."""
    return any(name in request.headers for name in CREDENTIALS)


def explain(request: Request, *, is_proxied: bool) -> str:
    """Explain to the operator which page connects from which other host."""
    origin = request.origin or ""
    host = request.headers.get("Host", "")
    asked = ", ".join(_asked_hosts(request, is_proxied=is_proxied))
    sentence = (
        f"the page is of {origin[:200]!r} and the service of {asked[:200]!r}: add the page's origin"
        " to allowed_origins if it is yours"
    )
    page = _host_of_origin(origin)
    if page is None or _is_private(page):
        return sentence
    if not is_proxied and page in map(_name, forwarded_hosts(request.headers)):
        return f"{sentence}, or the proxy that sent X-Forwarded-Host to trusted_proxies"
    if is_proxied and asked == host and _is_private(_name(host)):
        return sentence + _PROXY_HINT
    return sentence


def _asked_hosts(request: Request, *, is_proxied: bool) -> list[str]:
    """Give the hosts that the browser may have asked for."""
    forwarded = list(forwarded_hosts(request.headers)) if is_proxied else []
    return forwarded or [request.headers.get("Host", "")]


def _host_of_origin(origin: str) -> str | None:
    try:
        return (urlsplit(origin).hostname or "").removesuffix(".") or None
    except ValueError:
        return None


def _name(host: str) -> str | None:
    """Return the host of a Host field, without the port."""
    return _host_of_origin(f"//{host}")


def _is_private(name: str | None) -> bool:
    if name is None:
        return True
    try:
        return not ip_address(name).is_global
    except ValueError:
        return "." not in name or name.rpartition(".")[2] in _PRIVATE_DOMAINS
