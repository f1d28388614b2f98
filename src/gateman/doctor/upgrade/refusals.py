"""
Judges answers to a handshake that are no 101. PURE.

A refusal of gateman's own has a code. Else the words of the body decide, and then the status
together with what answered; what several causes share is undecided.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

from ...findings import Declaration, Finding, Software
from ...findings import handshakes as H  # noqa: N812 - the codes stand out
from ...findings.network import (
    CLIENT_CERTIFICATE_REQUIRED,
    PLAIN_ON_TLS_PORT,
    PROXY_HEADER_EXPECTED,
    TLS_TWICE,
)
from ..protocols import protocol
from ..target import default_port
from .case import Case, status_of
from .fingerprints import REFUSED_FIELD, firewall, lost_field
from .observations import Answer, Kind

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OF_ORIGINS = frozenset({400, 401, 403, 404, 405})
_OF_PATHS = frozenset({*range(200, 300), 400, 403, 404, 405, 410})
_OF_FIREWALLS = frozenset({403, 405, 406, 418, 493, 501, 503})
_CHUNK = re.compile(r"^[0-9a-f]+\r\n")
_LOGIN = re.compile(
    r"log-?in|sign-?in|\bauth\b|oauth|\bsso\b|/cas/|openid|session/new|accounts\.", re.IGNORECASE
)
_PASSWORD = re.compile(r"""type\s*=\s*["']?password""", re.IGNORECASE)
_HTML = re.compile(r"^\s*(<!doctype html|<html|<\?xml[^>]*>\s*<!doctype html|<head)", re.IGNORECASE)
_ENGINE_IO = re.compile(r'"message":"(Transport unknown|Unsupported protocol version|Session ID)')
_PLAIN_ON_TLS = re.compile(
    r"plain HTTP request was sent to HTTPS port|speaking plain HTTP to an SSL-enabled"
    r"|Client sent an HTTP request to an HTTPS server|^This port speaks TLS: connect with wss"
)
_ORIGIN_TOLD = re.compile(
    r"origin (header|is |not |.{0,60}not allowed)|invalid origin", re.IGNORECASE
)

_SLOW = 1.0  # seconds

# What a status of Cloudflare says about the server behind it, and what to do.
_CLOUDFLARE_STATUS = {
    520: ("it gave an empty or an invalid answer", "read the log of the server behind Cloudflare"),
    521: (
        "it refuses the connection",
        "start the web server, and let its firewall accept Cloudflare's addresses",
    ),
    522: (
        "the TCP connection to it times out",
        "let its firewall accept Cloudflare's addresses, and correct the A record in the dashboard",
    ),
    523: ("no way leads to it", "correct the A record in Cloudflare's dashboard"),
    524: (
        "it accepts the connection and does not answer within 100 s",
        "find what blocks the service behind Cloudflare",
    ),
    525: (
        "the TLS handshake with it fails",
        "let the server behind Cloudflare speak TLS on port 443, or set the SSL mode to Flexible",
    ),
    526: (
        "its certificate is not valid",
        "renew it, or install an origin certificate of Cloudflare",
    ),
    530: (
        "its name does not resolve, or the tunnel to it is down",
        "correct the name of the origin in the dashboard, or start cloudflared",
    ),
}

_UPSTREAM = (
    H.UPSTREAM_DOWN,
    H.UPSTREAM_WRONG_PORT,
    H.UPSTREAM_ANSWERS_NOT_HTTP,
    H.UPSTREAM_SOCKET_DENIED,
    H.PEER_SPOKE_TLS,
    PROXY_HEADER_EXPECTED,
)
_ANSWERED_BADLY = (
    H.UPSTREAM_ANSWERS_NOT_HTTP,
    H.UPSTREAM_WRONG_PORT,
    H.PEER_SPOKE_TLS,
    PROXY_HEADER_EXPECTED,
    H.APPLICATION_FAILED,
)
HANGS = (H.APPLICATION_BLOCKS, H.UPSTREAM_WRONG_PORT)
"""What remains if a service behind a proxy does not answer."""

# Refusals of gateman whose sentence needs nothing.
_OWN = {
    one.code: one
    for one in (
        H.ADDRESS_LIMIT,
        H.SERVER_FULL,
        H.HANDSHAKE_RATE,
        H.SERVER_DRAINING,
        H.PROXY_HEADER_UNEXPECTED,
        H.CLIENT_HTTP2,
        H.UPGRADE_HTTP_1_0,
        H.ORIGIN_REFUSED,
        H.HEAD_TOO_LARGE,
    )
}


def judge_refusal(case: Case, answer: Answer) -> Iterator[Finding]:
    own = answer.get(REFUSED_FIELD)
    if own:
        yield _judge_own(case, own, answer)
    elif answer.status in _OF_ORIGINS and _opens_without_origin(case):
        yield case.found(H.ORIGIN_REFUSED)
    else:
        told = next(_by_body(case, answer), None)
        yield told or _by_status(case, answer) or _unknown(case)


def _judge_own(case: Case, code: str, answer: Answer) -> Finding:
    """Judge a refusal of gateman itself: the fix is the proxy's, or gateman's."""
    if code in {H.UPGRADE_LOST.code, H.HANDSHAKE_FIELD_LOST.code}:
        is_upgrade = code == H.UPGRADE_LOST.code
        default = "Upgrade: websocket" if is_upgrade else "Sec-WebSocket-Key"
        return case.lost(lost_field(answer) or default)
    if code == PLAIN_ON_TLS_PORT.code:
        is_twice = case.target.is_tls or case.front is not None
        return case.found(
            TLS_TWICE if is_twice else PLAIN_ON_TLS_PORT, software=case.front or Software.GATEMAN
        )
    if code == H.APPLICATION_REFUSED.code:
        return _application_refused(case, answer)
    if code == H.APPLICATION_FAILED.code:
        return case.found(H.APPLICATION_FAILED, how=f"it answers {status_of(answer)}")
    if code == H.WEBSOCKET_VERSION.code:
        return _version(case, answer)
    declaration = _OWN.get(code, H.REQUEST_REFUSED)
    return case.found(declaration, software=case.front or Software.GATEMAN)


def _opens_without_origin(case: Case) -> bool:
    native = case.native
    return native is not None and native.is_open and case.attempt.origin is not None


def _by_body(case: Case, answer: Answer) -> Iterator[Finding]:
    """Judge by words; the first that is found counts."""
    status, who, body = answer.status, case.who, answer.body
    if _PLAIN_ON_TLS.search(body):
        is_behind = who.front is not None and who.page not in {None, who.front}
        is_twice = case.target.is_tls or is_behind
        yield case.found(TLS_TWICE if is_twice else PLAIN_ON_TLS_PORT, software=case.front)
    if answer.get("cf-mitigated") == "challenge" or (
        status in {403, 503} and "Just a moment..." in body
    ):
        yield case.found(H.CDN_CHALLENGE, software=Software.CLOUDFLARE)
    if "No required SSL certificate was sent" in body:
        yield case.found(CLIENT_CERTIFICATE_REQUIRED)
    if field := lost_field(answer):
        yield case.lost(field)
    if status == 400 and _ENGINE_IO.search(body):
        yield case.found(H.SOCKET_IO)
    if status in {400, 403} and _ORIGIN_TOLD.search(body) and not _is_page(answer):
        yield case.found(H.ORIGIN_REFUSED)
    if status in _OF_FIREWALLS and (name := firewall(answer)):
        yield case.found(H.FIREWALL_REFUSED, server=name)
    # Apache takes anything for an answer of HTTP/0.9, and passes it on in a chunk.
    if service := protocol(_CHUNK.sub("", body).encode("latin-1", "replace")[:40]):
        yield case.found(H.WRONG_SERVICE, service=f"{service}, behind {who.name}")


def _by_status(case: Case, answer: Answer) -> Finding | None:
    status = answer.status
    if status in _REDIRECTS:
        return _redirected(case, answer)
    if status in _CLOUDFLARE_STATUS:
        meaning, remedy = _CLOUDFLARE_STATUS[status]
        return case.found(
            H.CDN_ORIGIN_FAILED, meaning=meaning, remedy=remedy, software=Software.CLOUDFLARE
        )
    if status in _OF_PATHS and (other := _at_other_path(case)):
        return case.found(H.PATH_ELSEWHERE, other=other)
    if status in _MEANINGS:
        return case.found(_MEANINGS[status])
    rule = _BY_STATUS.get(status, _success if 200 <= status < 300 else None)
    return None if rule is None else rule(case, answer)


def _at_other_path(case: Case) -> str:
    others = (one for one in case.seen.attempts if one.kind is Kind.OTHER_PATH and one.is_open)
    return next((one.path.partition("?")[0] for one in others), "")


def _unknown(case: Case) -> Finding:
    candidates = (H.UPGRADE_LOST, H.PATH_NOT_FOUND, H.APPLICATION_REFUSED)
    return case.found(H.REFUSED_UNKNOWN, candidates=candidates)


def _redirected(case: Case, answer: Answer) -> Finding:
    target = case.target
    location = answer.get("Location")
    scheme = "https" if target.is_tls else "http"
    try:
        there = urljoin(f"{scheme}://{target.authority}{target.path}", location)
        parts = urlsplit(there)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return case.found(H.REDIRECTED, where=location[:200], suggested="the URL that it leads to")
    path = target.bare_path
    is_tls = parts.scheme == "https"
    netloc = host if port in {None, default_port(is_tls)} else f"{host}:{port}"
    suggested = f"{'wss' if is_tls else 'ws'}://{netloc}{parts.path or '/'}"
    fields: dict[str, Any] = {"where": there.partition("?")[0][:200], "suggested": suggested}
    if _LOGIN.search(f"{host}{parts.path}") and not _LOGIN.search(f"{target.host}{path}"):
        return case.found(H.LOGIN_PAGE, **fields)
    if host == target.host and parts.path != path and parts.path.rstrip("/") == path.rstrip("/"):
        # A proxy that does not know that TLS ends before it writes http:// and its own port.
        fields["suggested"] = f"{'wss' if target.is_tls else 'ws'}://{target.authority}{parts.path}"
        return case.found(H.REDIRECT_SLASH, **fields)
    if host == target.host and is_tls and not target.is_tls:
        return case.found(H.REDIRECT_TO_TLS, **fields)
    return case.found(H.REDIRECTED, **fields)


def _success(case: Case, answer: Answer) -> Finding:
    who = case.who
    if answer.status == 200 and not answer.body and case.front is Software.CADDY:
        return case.found(H.PATH_NOT_FOUND, software=Software.CADDY)
    if _PASSWORD.search(answer.body):
        return case.found(H.LOGIN_PAGE)
    if _is_page(answer):
        return case.found(H.PAGE_ANSWERS, software=who.software or case.front)
    if who.page is not None and who.page.name == "gateman":
        return case.lost()
    candidates = (H.PATH_NOT_FOUND, H.UPGRADE_LOST, H.WEBSOCKET_UNSUPPORTED)
    return case.found(H.SUCCESS_WITHOUT_UPGRADE, candidates=candidates)


def _bad_request(case: Case, answer: Answer) -> Finding | None:
    if answer.has_token("Sec-WebSocket-Version", "13"):
        # Gorilla and others in Go say only which version they speak.
        return case.lost()
    if answer.get("Sec-WebSocket-Version"):
        return _version(case, answer)
    if "Header Or Cookie Too Large" in answer.body:
        return case.found(H.HEAD_TOO_LARGE)
    return None


def _version(case: Case, answer: Answer) -> Finding:
    return case.found(H.WEBSOCKET_VERSION, versions=answer.get("Sec-WebSocket-Version"))


def _unauthorized(case: Case, answer: Answer) -> Finding:
    scheme = answer.get("WWW-Authenticate").split(" ")[0] or "no scheme told"
    return case.found(
        H.AUTHENTICATION_REQUIRED, scheme=scheme, software=case.who.software or case.front
    )


def _forbidden(case: Case, answer: Answer) -> Finding:
    who = case.who
    if who.page is not None and who.page.software is Software.AWS:
        return case.found(H.FIREWALL_REFUSED, server="AWS WAF", software=Software.AWS)
    if who.is_own_page:
        return case.found(H.FORBIDDEN)
    native = case.native
    if native is not None and native.answer is not None and native.answer.status != answer.status:
        return case.found(H.ORIGIN_REFUSED)
    if who.front is not None and who.front.software is not None and not answer.body:
        candidates = (H.APPLICATION_REFUSED, H.FORBIDDEN, H.PATH_NOT_FOUND)
        return case.found(H.REFUSED_UNKNOWN, candidates=candidates)
    return _application_refused(case, answer)


def _application_refused(case: Case, answer: Answer) -> Finding:
    said = " ".join(re.sub(r"<[^>]*>", " ", answer.body).split())[:100]
    how = f"it answers {status_of(answer)}" + (f", and says {said!r}" if said else "")
    return case.found(H.APPLICATION_REFUSED, how=how)


def _not_found(case: Case, _answer: Answer) -> Finding:
    who = case.who
    names = {one.name for one in (who.front, who.page) if one is not None}
    is_proxied = who.front is not None and who.front.software is not None
    if names & {"an ASGI application", "Express"}:
        # Of these, a handshake never gets to what answers 404: it arrived as a plain request.
        if is_proxied:
            return case.lost()
        return case.found(H.WEBSOCKET_UNSUPPORTED)
    if names & {"Flask", "a WSGI server", "gunicorn", "Python's http.server"}:
        return case.found(H.WEBSOCKET_UNSUPPORTED)
    return case.found(H.PATH_NOT_FOUND)


def _method(case: Case, answer: Answer) -> Finding:
    if case.who.is_own_page:
        return case.found(H.FORBIDDEN)
    return _unknown(case) if answer.body else case.found(H.PATH_NOT_FOUND)


def _upgrade_required(case: Case, answer: Answer) -> Finding:
    versions = answer.get("Sec-WebSocket-Version")
    if versions and not answer.has_token("Sec-WebSocket-Version", "13"):
        return _version(case, answer)
    names = {one.name for one in (case.who.front, case.who.page) if one is not None}
    if (
        not versions
        and not answer.has_token("Upgrade", "websocket")
        and ("Envoy" in names or not answer.body)
    ):
        # Envoy wants HTTP/1.1 of nginx, which speaks 1.0 unless it is told otherwise.
        return case.found(H.UPGRADE_HTTP_1_0, software=case.front)
    return case.lost()


def _internal(case: Case, answer: Answer) -> Finding:
    if case.who.is_own_page:
        candidates = (H.SERVER_FULL, H.APPLICATION_FAILED)
        return case.found(H.SERVER_FAILED, candidates=candidates)
    return case.found(H.APPLICATION_FAILED, how=f"it answers {status_of(answer)}")


def _http_version(case: Case, _answer: Answer) -> Finding:
    return case.found(H.UPGRADE_HTTP_1_0, software=case.front)


def _bad_gateway(case: Case, answer: Answer) -> Finding:
    software = case.who.software or case.front
    candidates: tuple[Declaration, ...] = _UPSTREAM
    if software in {Software.HAPROXY, Software.APACHE}:
        # Of a refused connection, these say 503.
        candidates = _ANSWERED_BADLY if case.attempt.duration < _SLOW else HANGS
    if "Error during SSL Handshake with remote server" in answer.body:
        return case.found(H.PEER_SPOKE_TLS, software=software, client=case.who.name)
    return case.found(H.UPSTREAM_FAILED, software=software, candidates=candidates)


def _unavailable(case: Case, _answer: Answer) -> Finding:
    software = case.who.software or case.front
    if case.who.page is not None and case.who.page.name == "Envoy":
        return case.found(H.PROXY_HAS_NO_BACKEND, candidates=(H.UPSTREAM_DOWN,))
    if software is Software.HAPROXY and case.attempt.duration > _SLOW:
        # It has tried again, a second apart: the connection is refused, or times out.
        candidates: tuple[Declaration, ...] = (
            H.UPSTREAM_DOWN,
            H.UPSTREAM_WRONG_PORT,
            H.PEER_SPOKE_TLS,
        )
        return case.found(H.UPSTREAM_FAILED, software=software, candidates=candidates)
    if software in {Software.HAPROXY, Software.AWS}:
        candidates = (H.UPSTREAM_DOWN, H.PATH_NOT_FOUND)
        return case.found(H.PROXY_HAS_NO_BACKEND, software=software, candidates=candidates)
    if software is Software.APACHE and case.who.is_own_page:
        candidates = (H.UPSTREAM_DOWN, H.UPSTREAM_WRONG_PORT, H.UPSTREAM_SOCKET_DENIED)
        return case.found(H.UPSTREAM_FAILED, software=software, candidates=candidates)
    if software is Software.NGINX and case.who.is_own_page:
        return case.found(
            H.SERVER_FAILED, software=software, candidates=(H.RATE_LIMITED, H.SERVER_FULL)
        )
    return case.found(
        H.SERVER_FAILED, candidates=(H.SERVER_FULL, H.SERVER_DRAINING, H.UPSTREAM_DOWN)
    )


def _gateway_timeout(case: Case, _answer: Answer) -> Finding:
    return case.found(
        H.UPSTREAM_HANGS,
        seconds=case.attempt.duration,
        software=case.who.software or case.front,
        candidates=HANGS,
    )


_BY_STATUS: dict[int, Callable[[Case, Answer], Finding | None]] = {
    400: _bad_request,
    401: _unauthorized,
    403: _forbidden,
    404: _not_found,
    405: _method,
    407: _unauthorized,
    410: _not_found,
    426: _upgrade_required,
    500: _internal,
    502: _bad_gateway,
    503: _unavailable,
    504: _gateway_timeout,
    505: _http_version,
}
# A status with one meaning, whichever server answers with it.
_MEANINGS = {
    413: H.HEAD_TOO_LARGE,
    414: H.HEAD_TOO_LARGE,
    421: H.HOST_UNKNOWN,
    429: H.RATE_LIMITED,
    431: H.HEAD_TOO_LARGE,
    494: H.HEAD_TOO_LARGE,
    501: H.WEBSOCKET_UNSUPPORTED,
}


def _is_page(answer: Answer) -> bool:
    return "html" in answer.get("Content-Type").lower() or bool(_HTML.match(answer.body))
