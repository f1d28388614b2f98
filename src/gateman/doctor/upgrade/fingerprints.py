"""
Which software answered: by its fields, and by the shape of its pages. PURE.

A proxy in front names itself in Server and leaves the page of the server behind it as it is; so
both are looked at. Server may be hidden: the page of an error then still has its shape.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from ...findings import Software
from .observations import Answer

T = TypeVar("T")

REFUSED_FIELD = "Gateman-Refused"


@dataclass(frozen=True, slots=True)
class Named:
    """Software by its name, and as fixes know it."""

    name: str
    software: Software | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognised:
    """What answered."""

    front: Named | None = None  # what the fields name: the proxy that is nearest to the client
    page: Named | None = None  # what the body is of; None if that tells nothing

    @property
    def name(self) -> str:
        if self.front is not None and self.page is not None and self.front.name != self.page.name:
            return f"{self.page.name} behind {self.front.name}"
        found = self.page or self.front
        return "the server" if found is None else found.name

    @property
    def software(self) -> Software | None:
        """Whose configuration has to be changed: that of what made the page."""
        found = self.page or self.front
        return None if found is None else found.software

    @property
    def nearest_software(self) -> Software | None:
        """Whose configuration has to be changed if the page does not matter."""
        found = self.front or self.page
        return None if found is None else found.software

    @property
    def is_own_page(self) -> bool:
        """Whether a proxy made the page itself, in place of an application behind it."""
        return self.page is not None and self.page.name in _PROXIES


_NGINX = Named("nginx", Software.NGINX)
_APACHE = Named("Apache", Software.APACHE)
_CADDY = Named("Caddy", Software.CADDY)
_HAPROXY = Named("HAProxy", Software.HAPROXY)
_CLOUDFLARE = Named("Cloudflare", Software.CLOUDFLARE)
_AWS = Named("an AWS load balancer", Software.AWS)
_GATEMAN = Named("gateman", Software.GATEMAN)
_ASGI = Named("an ASGI application")
_EXPRESS = Named("Express")
_TRAEFIK = Named("Traefik, or another server written in Go")

_PROXIES = frozenset(
    one.name
    for one in (
        _NGINX,
        _APACHE,
        _CADDY,
        _HAPROXY,
        _CLOUDFLARE,
        _AWS,
        _TRAEFIK,
        Named("Envoy"),
        Named("IIS"),
        Named("LiteSpeed"),
        Named("Varnish"),
        Named("CloudFront"),
        Named("lighttpd"),
    )
)

# The first that matches the Server field.
_SERVERS = (
    (r"^cloudflare", _CLOUDFLARE),
    (r"^awselb", _AWS),
    (r"^(nginx|openresty|tengine|angie|freenginx)", _NGINX),
    (r"^apache-coyote", Named("Tomcat")),
    (r"^apache", _APACHE),
    (r"^caddy", _CADDY),
    (r"^haproxy", _HAPROXY),
    (r"^(istio-)?envoy", Named("Envoy")),
    (r"^traefik", _TRAEFIK),
    (r"^uvicorn", Named("uvicorn")),
    (r"^(hypercorn|granian)", Named("an ASGI server")),
    (r"^daphne", Named("Daphne")),
    (r"^gunicorn", Named("gunicorn")),
    (r"^(werkzeug|wsgiserver|waitress|cheroot)", Named("a WSGI server")),
    (r"\bwebsockets/", Named("websockets (Python)")),
    (r"\baiohttp/", Named("aiohttp")),
    (r"^tornado", Named("Tornado")),
    (r"^workerman", Named("Workerman")),
    (r"^swoole", Named("Swoole")),
    (r"^microsoft-(iis|httpapi)", Named("IIS")),
    (r"^kestrel", Named("Kestrel (ASP.NET)")),
    (r"^jetty", Named("Jetty")),
    (r"^(litespeed|openlitespeed)", Named("LiteSpeed")),
    (r"^lighttpd", Named("lighttpd")),
    (r"^akamai", Named("Akamai")),
    (r"^cloudfront", Named("CloudFront")),
    (r"^varnish", Named("Varnish")),
    (r"^(simplehttp|basehttp)", Named("Python's http.server")),
    (r"^cowboy", Named("Cowboy")),
    (r"^(gws|google frontend|gse|esf)", Named("Google")),
    (r"^(vercel|netlify|github\.com|heroku)", Named("a hosting platform")),
)

_FIELDS = (
    ("CF-RAY", r".", _CLOUDFLARE),
    ("Via", r"\bcaddy\b", _CADDY),
    ("Via", r"\bvarnish\b", Named("Varnish")),
    ("Via", r"cloudfront", Named("CloudFront")),
    ("X-Amz-Cf-Id", r".", Named("CloudFront")),
    ("X-Varnish", r".", Named("Varnish")),
    ("X-Envoy-Upstream-Service-Time", r".", Named("Envoy")),
    ("X-Powered-By", r"express", _EXPRESS),
    ("X-Powered-By", r"php", Named("PHP")),
    ("X-Powered-By", r"asp\.net", Named("ASP.NET")),
)

# The first that matches the beginning of the body.
_PAGES = (
    (r"<title>gateman test page|^This is a WebSocket service: connect with", _GATEMAN),
    (r"^The handshake arrived without '|^A WebSocket handshake needs HTTP/1\.1", _GATEMAN),
    (r"^This port speaks TLS: connect with wss", _GATEMAN),
    (r"<center>(nginx|openresty|tengine|angie|freenginx)", _NGINX),
    (r"cf-error-details|cloudflare ray id|^error code: 1?\d{3}\s*$", _CLOUDFLARE),
    (r"<title>Apache Tomcat|<h3>Apache Tomcat", Named("Tomcat")),
    (r"<address>Apache|You're speaking plain HTTP to an SSL-enabled", _APACHE),
    (
        r"^<!DOCTYPE HTML PUBLIC \"-//(IETF|W3C)//DTD HTML[^>]*>\s*<html><head>\s*<title>[45]",
        _APACHE,
    ),
    (r"^<html><body><h1>\d{3} [^<]+</h1>\s*[^<]+\s*</body></html>", _HAPROXY),
    (r"upstream connect error or disconnect/reset|^no healthy upstream", Named("Envoy")),
    (r"default backend - 404", _NGINX),
    (r"Guru Meditation", Named("Varnish")),
    (r"Proudly powered by LiteSpeed", Named("LiteSpeed")),
    (r"<title>[^<]*IIS|Internet Information Services", Named("IIS")),
    (r"^Client sent an HTTP request to an HTTPS server", Named("a server written in Go")),
    (r"^404 page not found\s*$|^Bad Gateway\s*$|^Gateway Timeout\s*$", _TRAEFIK),
    (r"Failed to open a WebSocket connection:", Named("websockets (Python)")),
    (r"^\{\"detail\": ?\"Not Found\"\}", _ASGI),
    (r"<pre>Cannot (GET|POST) /|^Cannot GET /", _EXPRESS),
    (r"wp-content/|wp-includes/|wp-json", Named("WordPress")),
    (
        r"Werkzeug|<h1>Not Found</h1>\s*<p>The requested URL was not found on the server\.",
        Named("Flask"),
    ),
    (r"<h1>WebSocket</h1>\s*<hr>\s*workerman", Named("Workerman")),
    (r"Whitelabel Error Page", Named("Spring")),
    (
        r"<h1>Not Found</h1>\s*<p>The requested resource was not found on this server",
        Named("Django"),
    ),
)

# How the front of a hosting page of nginx looks if it hides its name.
_NGINX_SHAPE = re.compile(r"<center><h1>\d{3} [^<]+</h1></center>")


def _first(table: Iterable[tuple[str, T]], text: str) -> T | None:
    """Return what belongs to the first pattern that a text has."""
    flags = re.IGNORECASE | re.DOTALL
    return next((found for pattern, found in table if re.search(pattern, text, flags)), None)


def recognise(answer: Answer) -> Recognised:
    """Name what answered."""
    server = answer.get("Server")
    front = _first(_SERVERS, server)
    if front is None:
        told = (_first([(pattern, named)], answer.get(field)) for field, pattern, named in _FIELDS)
        front = next(filter(None, told), None)
    page = _first(_PAGES, answer.body)
    if answer.get(REFUSED_FIELD):
        page = _GATEMAN
    if page is None and _NGINX_SHAPE.search(answer.body):
        # An AWS load balancer's pages have the same heading, and no name below it.
        page = _AWS if front == _AWS else _NGINX
    if page is None and not answer.body and front in {_CADDY, _CLOUDFLARE}:
        page = front
    if page is None and front is None and server:
        front = Named(re.sub(r"[^\w .()/-]", "", server)[:40] or "the server")
    return Recognised(front=front, page=page)


_WEB_APPLICATION_FIREWALLS = (
    (r"mod_security|modsecurity|This error was generated by Mod_Security", "ModSecurity"),
    (r"Attention Required! \| Cloudflare|you have been blocked", "Cloudflare"),
    (r"error code: 10(06|07|08|10|20)|Error 10(06|07|08|10|20)", "Cloudflare"),
    (r"Incapsula incident ID|_Incapsula_Resource", "Imperva"),
    (r"Access Denied.{0,400}Reference&#32;&#35;|errors\.edgesuite\.net", "Akamai"),
    (r"Sucuri WebSite Firewall", "Sucuri"),
    (r"Generated by Wordfence|wordfence", "Wordfence"),
    (r"errors\.aliyun\.com|aliyun_waf|阿里云", "Aliyun WAF"),
    (r"waf\.tencent-cloud|腾讯云.{0,20}防火墙|T-Sec", "Tencent Cloud WAF"),
    (r"安全狗|safedog", "Safedog"),
    (r"云锁|yunsuo|网站防火墙|宝塔.{0,10}防火墙|btwaf", "a panel's firewall"),
    (r"The requested URL was rejected\. Please consult with your administrator", "F5 BIG-IP"),
    (r"Fortigate|FortiWeb|Web Page Blocked", "Fortinet"),
    (r"Barracuda|Palo Alto Networks|Request blocked by (the )?WAF", "a firewall"),
    (r"The request could not be satisfied.{0,600}Request blocked", "AWS WAF"),
)


def firewall(answer: Answer) -> str:
    """Name a web application firewall by its page; empty for none."""
    return _first(_WEB_APPLICATION_FIREWALLS, answer.body) or ""


_UPGRADE, _CONNECTION = "Upgrade: websocket", "Connection: Upgrade"

# How WebSocket servers say that a field of the handshake is missing.
_LOST = (
    (r"No CONNECTION upgrade hdr", _CONNECTION),
    (r'"Connection" must be "Upgrade"', _CONNECTION),
    (r"'upgrade' token not found in 'Connection' header", _CONNECTION),
    (r'Connection header "[^"]*" does not contain Upgrade', _CONNECTION),
    (r"invalid Connection header|Connection header: |missing Connection header", _CONNECTION),
    (r"No WebSocket UPGRADE hdr", _UPGRADE),
    (r'Can "Upgrade" only to "WebSocket"', _UPGRADE),
    (r"Invalid Upgrade header|missing Upgrade header|Upgrade header: ", _UPGRADE),
    (r"'websocket' token not found in 'Upgrade' header", _UPGRADE),
    (r'Upgrade header "[^"]*" does not contain websocket', _UPGRADE),
    (r"You cannot access a WebSocket server directly with a browser", _UPGRADE),
    (r"^This is a WebSocket service: connect with|<title>gateman test page", _UPGRADE),
    (r"<h1>WebSocket</h1>\s*<hr>\s*workerman", "Sec-WebSocket-Key"),
    (r"^(Upgrade|WebSocket) (is )?required\s*\.?$|Expected Upgrade: websocket", _UPGRADE),
    (r"not a websocket (handshake|request|upgrade)|websocket upgrade (is )?required", _UPGRADE),
    (r"expected (a )?websocket (upgrade|request|connection|handshake)", _UPGRADE),
    (r"requires? (a )?websocket|use of the websocket protocol", _UPGRADE),
)
_LOST_OF_GATEMAN = re.compile(r"^The handshake arrived without '([^']+)'")


def lost_field(answer: Answer) -> str:
    """Return the field that a WebSocket server says is missing; empty if it says no such thing."""
    told = _LOST_OF_GATEMAN.match(answer.body)
    if told is not None:
        return told[1]
    # Of a page of a site, the words tell nothing.
    if len(answer.body) > 1500 and "gateman test page" not in answer.body:
        return ""
    return _first(_LOST, answer.body) or ""
