"""What answers that are no 101 amount to."""

import pytest

from gateman.doctor.upgrade.case import status_of
from gateman.doctor.upgrade.observations import Answer, Attempt, Kind
from gateman.doctor.upgrade.refusals import judge_refusal
from gateman.findings import Client, Severity

from .cases import WS, WSS, answer, attempt, found, opening, told

NGINX = "nginx/1.22.1"
NGINX_PAGE = "<html>\r\n<center><h1>{}</h1></center>\r\n<hr><center>nginx</center>\r\n</html>"
APACHE_PAGE = (
    '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><head>\n<title>{}</title>\n</head>'
)
HAPROXY_PAGE = "<html><body><h1>{}</h1>\nNo server is available.\n</body></html>\n"
PASSED = "the handshake arrived at the service without 'Upgrade: websocket'"


def own(code: str, status: int = 400, **fields: str) -> Answer:
    """Make a refusal of gateman's."""
    return answer(status, Gateman_Refused=code, **fields)


def page(status: str, shape: str = NGINX_PAGE, **fields: str) -> Answer:
    number, _, reason = status.partition(" ")
    return answer(int(number), shape.format(status), reason, **fields)


def test_a_status_is_told_with_its_reason() -> None:
    assert status_of(answer(404, "", "Not Found")) == "404 Not Found"
    assert status_of(answer(404)) == "404"


def test_it_is_what_the_judgement_uses() -> None:
    assert judge_refusal.__module__ == "gateman.doctor.upgrade.refusals"


@pytest.mark.parametrize(
    ("answered", "code", "problem"),
    [
        # Refusals of gateman's own.
        (own("UPGRADE_LOST", Server=NGINX), "UPGRADE_LOST", PASSED),
        (
            own("HANDSHAKE_FIELD_LOST"),
            "HANDSHAKE_FIELD_LOST",
            "the handshake arrived at the service without 'Sec-WebSocket-Key'",
        ),
        (
            own("CLIENT_HTTP2"),
            "CLIENT_HTTP2",
            "the handshake came to the proxy over HTTP/2 or 3, which has no upgrade that could be"
            " passed on",
        ),
        (
            own("UPGRADE_HTTP_1_0", 505),
            "UPGRADE_HTTP_1_0",
            "the handshake arrived at the service as HTTP/1.0",
        ),
        (
            own("PLAIN_ON_TLS_PORT", Server=NGINX),
            "TLS_TWICE",
            "behind the TLS of port 443, the server at 192.0.2.1 expects TLS once more: a proxy"
            " already ends it",
        ),
        (
            own("PROXY_HEADER_UNEXPECTED"),
            "PROXY_HEADER_UNEXPECTED",
            "a connection begins with a PROXY header, and proxy_protocol='off'",
        ),
        (
            own("ORIGIN_REFUSED", 403),
            "ORIGIN_REFUSED",
            "the service refuses pages of the origin https://a.example",
        ),
        (own("SERVER_FULL", 503), "SERVER_FULL", "the service has as many connections as it takes"),
        (
            own("ADDRESS_LIMIT", 429),
            "ADDRESS_LIMIT",
            "one address has as many connections as the service takes from one",
        ),
        (
            own("HANDSHAKE_RATE", 503),
            "HANDSHAKE_RATE",
            "more clients connect per second than the service takes",
        ),
        (
            own("SERVER_DRAINING", 503),
            "SERVER_DRAINING",
            "the service is shutting down, or restarting",
        ),
        (
            answer(402, "no token\n", "Payment Required", Gateman_Refused="APPLICATION_REFUSED"),
            "APPLICATION_REFUSED",
            "the application refuses the client: it answers 402 Payment Required, and says"
            " 'no token'",
        ),
        (
            answer(500, "", "Internal Server Error", Gateman_Refused="APPLICATION_FAILED"),
            "APPLICATION_FAILED",
            "the application raises an error: it answers 500 Internal Server Error",
        ),
        (
            answer(431, "", "Too Large", Gateman_Refused="HEAD_TOO_LARGE"),
            "HEAD_TOO_LARGE",
            "the request head is larger than gateman takes: it answers 431 Too Large",
        ),
        (
            own("WEBSOCKET_VERSION", 426, Sec_WebSocket_Version="12"),
            "WEBSOCKET_VERSION",
            "the server speaks another version of the protocol than 13: 12",
        ),
        (
            answer(400, "", "Bad Request", Gateman_Refused="ANOTHER"),
            "REQUEST_REFUSED",
            "the service takes the request for malformed: it answers 400 Bad Request",
        ),
        # Other servers that say what is missing.
        (
            answer(
                426,
                "Failed to open a WebSocket connection: missing Connection header.\n\nYou cannot"
                " access a WebSocket server directly with a browser.",
                Server=NGINX,
            ),
            "UPGRADE_LOST",
            "the handshake arrived at the service without 'Connection: Upgrade'",
        ),
        (answer(426, "Upgrade Required", Server=NGINX), "UPGRADE_LOST", PASSED),
        (answer(400, "No WebSocket UPGRADE hdr: None", Server=NGINX), "UPGRADE_LOST", PASSED),
        (answer(400, 'Can "Upgrade" only to "WebSocket".'), "UPGRADE_LOST", PASSED),
        (
            answer(400, "Bad Request\n", Server=NGINX, Sec_WebSocket_Version="13"),
            "UPGRADE_LOST",
            PASSED,
        ),
        (answer(404, '{"detail":"Not Found"}', Server=NGINX), "UPGRADE_LOST", PASSED),
        (
            answer(404, "<pre>Cannot GET /ws</pre>", Server=NGINX, X_Powered_By="Express"),
            "UPGRADE_LOST",
            PASSED,
        ),
        (answer(426, "x", Server=NGINX, Upgrade="websocket"), "UPGRADE_LOST", PASSED),
        (answer(200, "<title>gateman test page</title>"), "UPGRADE_LOST", PASSED),
        (
            answer(426, "", Server="envoy"),
            "UPGRADE_HTTP_1_0",
            "the handshake arrived at the service as HTTP/1.0",
        ),
        (
            answer(426, "", "Upgrade Required", Sec_WebSocket_Version="8, 7"),
            "WEBSOCKET_VERSION",
            "the server speaks another version of the protocol than 13: 8, 7",
        ),
        (
            answer(400, "", Sec_WebSocket_Version="7"),
            "WEBSOCKET_VERSION",
            "the server speaks another version of the protocol than 13: 7",
        ),
        (
            page("505 HTTP Version Not Supported", Server=NGINX),
            "UPGRADE_HTTP_1_0",
            "the handshake arrived at the service as HTTP/1.0",
        ),
        # The path, and what is before it.
        (
            page("404 Not Found", Server=NGINX),
            "PATH_NOT_FOUND",
            "nginx has nothing at the path /ws: it answers 404 Not Found",
        ),
        (
            page("404 Not Found", Server="hidden"),
            "PATH_NOT_FOUND",
            "nginx has nothing at the path /ws: it answers 404 Not Found",
        ),
        (
            page("404 Not Found", APACHE_PAGE),
            "PATH_NOT_FOUND",
            "Apache has nothing at the path /ws: it answers 404 Not Found",
        ),
        (
            answer(404, "404 page not found\n", "Not Found"),
            "PATH_NOT_FOUND",
            "Traefik, or another server written in Go has nothing at the path /ws: it answers 404"
            " Not Found",
        ),
        (
            answer(200, "", "OK", Server="Caddy"),
            "PATH_NOT_FOUND",
            "Caddy has nothing at the path /ws: it answers 200 OK",
        ),
        (
            answer(200, "<!doctype html><div id=app>", "OK", Server=NGINX),
            "PAGE_ANSWERS",
            "a web page answers at the path /ws, with 200 OK, and not a WebSocket service",
        ),
        (
            answer(200, "", "OK", Content_Type="text/html", X_Powered_By="PHP/8.2"),
            "PAGE_ANSWERS",
            "a web page answers at the path /ws, with 200 OK, and not a WebSocket service",
        ),
        (
            answer(200, "<form><input type='password'></form>", "OK", Content_Type="text/html"),
            "LOGIN_PAGE",
            "a login stands before the path /ws: the server answers the handshake with 200 OK",
        ),
        (
            answer(200, "{}", "OK", Content_Type="application/json"),
            "SUCCESS_WITHOUT_UPGRADE",
            "the server answers the handshake at /ws with 200 OK, as a plain request",
        ),
        (
            answer(401, "", "Unauthorized", WWW_Authenticate='Basic realm="x"', Server=NGINX),
            "AUTHENTICATION_REQUIRED",
            "nginx asks for HTTP authentication (Basic) at the path /ws",
        ),
        (
            page("403 Forbidden", Server=NGINX),
            "FORBIDDEN",
            "nginx forbids the path /ws by a rule of its own: it answers 403 Forbidden",
        ),
        (
            answer(403, "not you", "Forbidden", Server="uvicorn"),
            "APPLICATION_REFUSED",
            "the application refuses the client: it answers 403 Forbidden, and says 'not you'",
        ),
        (
            answer(403, "", "Forbidden", Server=NGINX),
            "REFUSED_UNKNOWN",
            "nginx answers the handshake at /ws with 403 Forbidden and does not say why",
        ),
        (
            answer(403, "Origin not allowed", "Forbidden"),
            "ORIGIN_REFUSED",
            "the service refuses pages of the origin https://a.example",
        ),
        (
            answer(403, "blocked by Mod_Security", "Forbidden", Server="Apache"),
            "FIREWALL_REFUSED",
            "a web application firewall (ModSecurity) refuses the handshake with 403 Forbidden",
        ),
        (
            page("403 Forbidden", "<center><h1>{}</h1></center>", Server="awselb/2.0"),
            "FIREWALL_REFUSED",
            "a web application firewall (AWS WAF) refuses the handshake with 403 Forbidden",
        ),
        (
            answer(403, "Just a moment...", Server="cloudflare", cf_mitigated="challenge"),
            "CDN_CHALLENGE",
            "the CDN wants to see a browser solve a challenge before it passes the handshake on",
        ),
        (
            answer(429, "slow down", "Too Many Requests", Server=NGINX),
            "RATE_LIMITED",
            "nginx limits the rate or the number of requests from this address: it answers 429 Too"
            " Many Requests",
        ),
        (
            answer(421, "", "Misdirected Request", Server="Apache"),
            "HOST_UNKNOWN",
            "Apache does not serve the name a.example: it answers 421 Misdirected Request",
        ),
        (
            page("414 Request-URI Too Large"),
            "HEAD_TOO_LARGE",
            "the request head is larger than nginx takes: it answers 414 Request-URI Too Large",
        ),
        (
            answer(400, "<center>No required SSL certificate was sent</center>", Server=NGINX),
            "CLIENT_CERTIFICATE_REQUIRED",
            "the server at 192.0.2.1 lets in only clients that show a certificate of their own",
        ),
        (
            answer(400, '{"code":0,"message":"Transport unknown"}'),
            "SOCKET_IO",
            "a Socket.IO server answers at /ws, which wants a query of its own protocol",
        ),
        (
            answer(400, "", "Bad Request"),
            "REFUSED_UNKNOWN",
            "the server answers the handshake at /ws with 400 Bad Request and does not say why",
        ),
        (
            page("405 Not Allowed", Server=NGINX),
            "FORBIDDEN",
            "nginx forbids the path /ws by a rule of its own: it answers 405 Not Allowed",
        ),
        (
            answer(404, "", "Not Found", Server="Werkzeug/3"),
            "WEBSOCKET_UNSUPPORTED",
            "a WSGI server does not speak WebSocket: it answers the handshake with 404 Not Found",
        ),
        (
            answer(404, '{"detail":"Not Found"}', "Not Found", Server="uvicorn"),
            "WEBSOCKET_UNSUPPORTED",
            "an ASGI application behind uvicorn does not speak WebSocket: it answers the handshake"
            " with 404 Not Found",
        ),
        (
            answer(501, "", "Not Implemented"),
            "WEBSOCKET_UNSUPPORTED",
            "the server does not speak WebSocket: it answers the handshake with 501 Not"
            " Implemented",
        ),
        (
            answer(200, "11\r\nSSH-2.0-OpenSSH_9\r\n", Server="Apache"),
            "WRONG_SERVICE",
            "another service answers there: SSH, behind Apache",
        ),
        (
            answer(400, "The plain HTTP request was sent to HTTPS port", Server=NGINX),
            "TLS_TWICE",
            "behind the TLS of port 443, the server at 192.0.2.1 expects TLS once more: a proxy"
            " already ends it",
        ),
        # What is behind a proxy.
        (
            page("502 Bad Gateway", Server=NGINX),
            "UPSTREAM_FAILED",
            "nginx gets no good answer from the service behind it: it answers 502 Bad Gateway",
        ),
        (
            answer(502, "Reason: <strong>Error during SSL Handshake with remote server", "x"),
            "PEER_SPOKE_TLS",
            "the server spoke TLS to this plain port",
        ),
        (
            page("504 Gateway Time-out", Server=NGINX),
            "UPSTREAM_HANGS",
            "nginx answers, and the service behind it does not, within 0 s",
        ),
        (
            page("503 Service Unavailable", HAPROXY_PAGE),
            "PROXY_HAS_NO_BACKEND",
            "HAProxy has no server for the path /ws: it answers 503 Service Unavailable",
        ),
        (
            page(
                "503 Service Temporarily Unavailable",
                "<center><h1>{}</h1></center>",
                Server="awselb/2.0",
            ),
            "PROXY_HAS_NO_BACKEND",
            "an AWS load balancer has no server for the path /ws: it answers 503 Service"
            " Temporarily Unavailable",
        ),
        (
            answer(503, "no healthy upstream", "Service Unavailable", Server="envoy"),
            "PROXY_HAS_NO_BACKEND",
            "Envoy has no server for the path /ws: it answers 503 Service Unavailable",
        ),
        (
            page("503 Service Temporarily Unavailable", Server=NGINX),
            "SERVER_FAILED",
            "nginx fails itself: it answers 503 Service Temporarily Unavailable",
        ),
        (
            page("500 Internal Server Error", Server=NGINX),
            "SERVER_FAILED",
            "nginx fails itself: it answers 500 Internal Server Error",
        ),
        (
            answer(500, "Internal Server Error", "Internal Server Error", Server="uvicorn"),
            "APPLICATION_FAILED",
            "the application raises an error: it answers 500 Internal Server Error",
        ),
        (
            answer(521, "error code: 521", "", Server="cloudflare"),
            "CDN_ORIGIN_FAILED",
            "Cloudflare does not get an answer from the server behind it: 521, it refuses the"
            " connection",
        ),
        # Redirects.
        (
            answer(301, "", "Moved", Location="https://a.example/ws/", Server=NGINX),
            "REDIRECT_SLASH",
            "nginx redirects /ws to https://a.example/ws/, which differs by the slash at its end,"
            " and clients do not follow redirects of a handshake",
        ),
        (
            answer(302, "", "Found", Location="/login?next=/ws"),
            "LOGIN_PAGE",
            "a login stands before the path /ws: the server answers the handshake with 302 Found",
        ),
        (
            answer(308, "", "Moved", Location="https://www.a.example/ws", Server="Caddy"),
            "REDIRECTED",
            "Caddy redirects the handshake with 308 Moved to https://www.a.example/ws, and clients"
            " do not follow redirects of a handshake",
        ),
        (
            answer(301, "", "Moved", Location="http://["),
            "REDIRECTED",
            "the server redirects the handshake with 301 Moved to http://[, and clients do not"
            " follow redirects of a handshake",
        ),
    ],
)
def test_each_answer(answered: Answer, code: str, problem: str) -> None:
    assert told(attempt(answered)) == [(code, problem)]


def test_a_redirect_to_tls() -> None:
    answered = answer(301, "", "Moved", Location="https://a.example/ws", Server=NGINX)

    (finding,) = found(attempt(answered), target=WS)

    assert (finding.code, finding.fix) == ("REDIRECT_TO_TLS", "connect with wss://a.example/ws")


def test_a_tls_port_on_a_plain_url() -> None:
    body = "Client sent an HTTP request to an HTTPS server.\n"

    assert [one.code for one in found(attempt(answer(400, body)), target=WS)] == [
        "PLAIN_ON_TLS_PORT"
    ]


@pytest.mark.parametrize(
    ("answered", "duration", "candidates"),
    [
        (
            page("502 Bad Gateway", Server=NGINX),
            0.0,
            (
                *("UPSTREAM_DOWN", "UPSTREAM_WRONG_PORT", "UPSTREAM_ANSWERS_NOT_HTTP"),
                *("UPSTREAM_SOCKET_DENIED", "PEER_SPOKE_TLS", "PROXY_HEADER_EXPECTED"),
            ),
        ),
        (
            page("502 Bad Gateway", HAPROXY_PAGE),
            0.0,
            (
                *("UPSTREAM_ANSWERS_NOT_HTTP", "UPSTREAM_WRONG_PORT", "PEER_SPOKE_TLS"),
                *("PROXY_HEADER_EXPECTED", "APPLICATION_FAILED"),
            ),
        ),
        (
            page("502 Proxy Error", APACHE_PAGE),
            2.0,
            ("APPLICATION_BLOCKS", "UPSTREAM_WRONG_PORT"),
        ),
        (
            page("503 Service Unavailable", APACHE_PAGE),
            0.0,
            ("UPSTREAM_DOWN", "UPSTREAM_WRONG_PORT", "UPSTREAM_SOCKET_DENIED"),
        ),
        (
            page("503 Service Unavailable", HAPROXY_PAGE),
            3.1,
            ("UPSTREAM_DOWN", "UPSTREAM_WRONG_PORT", "PEER_SPOKE_TLS"),
        ),
        (
            page("503 Service Unavailable", HAPROXY_PAGE),
            0.0,
            ("UPSTREAM_DOWN", "PATH_NOT_FOUND"),
        ),
        (answer(503, "busy"), 0.0, ("SERVER_FULL", "SERVER_DRAINING", "UPSTREAM_DOWN")),
    ],
)
def test_what_remains_of_the_502_family(
    answered: Answer, duration: float, candidates: tuple[str, ...]
) -> None:
    (finding,) = found(attempt(answered, duration=duration))

    assert finding.severity is Severity.UNDECIDED
    assert finding.candidates == candidates
    assert "gateman doctor server.py wss://a.example/ws" in finding.fix or answered.body == "busy"


@pytest.mark.parametrize(
    ("others", "code"),
    [
        ((attempt(opening(), Kind.NATIVE),), "ORIGIN_REFUSED"),
        ((attempt(answer(401), Kind.NATIVE),), "ORIGIN_REFUSED"),
        ((attempt(opening(), Kind.OTHER_PATH, path="/ws/"),), "PATH_ELSEWHERE"),
        ((attempt(answer(403, "x"), Kind.NATIVE),), "APPLICATION_REFUSED"),
    ],
)
def test_other_requests_tell_apart(others: tuple[Attempt, ...], code: str) -> None:
    assert [one.code for one in found(attempt(answer(403, "x")), *others)] == [code]


def test_the_other_path_is_named() -> None:
    other = attempt(opening(), Kind.OTHER_PATH, path="/ws/?a=b")

    assert told(attempt(page("404 Not Found", Server=NGINX)), other) == [
        (
            "PATH_ELSEWHERE",
            "a WebSocket opens at the path /ws/, and not at /ws, which nginx answers with 404 Not"
            " Found",
        )
    ]


def test_only_pages_fail_for_their_origin() -> None:
    (finding,) = found(attempt(own("ORIGIN_REFUSED", 403)))

    assert finding.fails_for == {Client.BROWSERS, Client.WECHAT}


def test_a_hidden_proxy_is_recognised_by_its_page_of_a_bad_request() -> None:
    bad = attempt(page("400 Bad Request"), Kind.MALFORMED)

    (finding,) = found(attempt(own("UPGRADE_LOST")), bad)

    assert finding.fix.startswith("write into the location of this path: proxy_http_version 1.1;")


def test_a_fault_through_two_addresses_is_told_once() -> None:
    answered = page("404 Not Found", Server=NGINX)

    findings = found(attempt(answered), attempt(answered, address="2001:db8::1"), target=WSS)

    assert [one.code for one in findings] == ["PATH_NOT_FOUND"]
    assert findings[0].evidence.startswith("192.0.2.1: 404 Not Found, Server: nginx/1.22.1, ")
