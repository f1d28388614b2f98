"""What the first bytes of an answer tell of a server: its protocol and its software. PURE."""

import re
from email.utils import parsedate_to_datetime

from ...findings import Software
from .observations import AnswerSeen, End

_HTTP = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})")

# A server that was sent plain HTTP where it expects TLS: nginx, Apache, Go (Caddy), gateman.
_EXPECTS_TLS = re.compile(
    rb"plain HTTP request was sent to HTTPS port|speaking plain HTTP to an SSL-enabled"
    rb"|Client sent an HTTP request to an HTTPS server|HTTP request to an HTTPS|wss://",
    re.IGNORECASE,
)

_NEEDS_CERTIFICATE = re.compile(
    rb"(?:no required )?ssl certificate was (?:sent|not)|client certificate|certificate required"
    rb"|ssl certificate error",
    re.IGNORECASE,
)

_SERVERS = (
    (re.compile(rb"^server: *(?:nginx|openresty|tengine)", re.IGNORECASE | re.MULTILINE), "NGINX"),
    (re.compile(rb"^server: *apache", re.IGNORECASE | re.MULTILINE), "APACHE"),
    (re.compile(rb"^server: *caddy", re.IGNORECASE | re.MULTILINE), "CADDY"),
    (re.compile(rb"^server: *cloudflare|^cf-ray:", re.IGNORECASE | re.MULTILINE), "CLOUDFLARE"),
    (re.compile(rb"^server: *awselb", re.IGNORECASE | re.MULTILINE), "AWS"),
    (re.compile(rb"^gateman-refused:", re.IGNORECASE | re.MULTILINE), "GATEMAN"),
    (re.compile(rb"<h1>\d{3} [^<]*</h1>\n[^<]*\n</body></html>"), "HAPROXY"),
    (re.compile(rb"Client sent an HTTP request to an HTTPS server"), "CADDY"),
)

# The first bytes of what is not HTTP.
_PROTOCOLS = (
    (re.compile(rb"SSH-"), "SSH"),
    (re.compile(rb"220[ -].*(?:FTP|FileZilla)", re.IGNORECASE), "FTP"),
    (re.compile(rb"220[ -]"), "SMTP (mail)"),
    (re.compile(rb"\* OK"), "IMAP (mail)"),
    (re.compile(rb"\+OK"), "POP3 (mail)"),
    (re.compile(rb".{3}\0\x0a\d+\.\d", re.DOTALL), "the protocol of MySQL"),
    (re.compile(rb".{3}\0\xff", re.DOTALL), "the protocol of MySQL"),
    (re.compile(rb"E\0\0\0|[NS]$"), "the protocol of PostgreSQL"),
    (re.compile(rb"-(?:ERR|DENIED|NOAUTH)"), "the protocol of Redis"),
    (re.compile(rb"INFO \{"), "the protocol of NATS"),
    (re.compile(rb"AMQP"), "AMQP (RabbitMQ)"),
    (re.compile(rb"RFB \d"), "VNC"),
    (re.compile(rb"\x03\0\0"), "RDP"),
    (re.compile(rb"\0\0[^\0]\x04\0|\0\0\0\x04\0\0\0\0\0", re.DOTALL), "HTTP/2 only"),
    (re.compile(rb"ERROR\r\n"), "the protocol of memcached"),
    (re.compile(rb"RTSP/|SIP/"), "RTSP or SIP"),
    (re.compile(rb"PROXY |\r\n\r\n\0\r\nQUIT\n"), "the PROXY protocol, as a client"),
    (re.compile(rb"\xff[\xfb-\xfe]"), "telnet"),
)


def status(data: bytes) -> int | None:
    """Return the status of an HTTP answer."""
    found = _HTTP.match(data)
    return int(found[1]) if found else None


def is_http(data: bytes) -> bool:
    return status(data) is not None


def is_complete(data: bytes) -> bool:
    """Return whether an HTTP answer is whole, as far as its length says so."""
    head, end, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE)
    return bool(end) and is_http(data) and length is not None and len(body) >= int(length[1])


def is_tls(data: bytes) -> bool:
    """Return whether an answer is a TLS record."""
    return len(data) >= 3 and data[0] in {21, 22} and data[1] == 3


def expects_tls(data: bytes) -> bool:
    """Return whether a server says that it was sent plain HTTP where it expects TLS."""
    return is_tls(data) or (status(data) == 400 and _EXPECTS_TLS.search(data) is not None)


def may_expect_tls(answer: AnswerSeen) -> bool:
    """Return whether the answer to plain HTTP may be that of a server that expects TLS."""
    return expects_tls(answer.data) or (not answer.data and answer.end is not End.OPEN)


def needs_certificate(data: bytes) -> bool:
    """Return whether an HTTP answer refuses a client that showed no certificate."""
    return status(data) in {400, 401, 403, 495, 496} and bool(_NEEDS_CERTIFICATE.search(data))


def software(data: bytes) -> Software | None:
    for pattern, name in _SERVERS:
        if is_http(data) and pattern.search(data):
            return Software[name]
    return None


def protocol(data: bytes) -> str:
    """Name what a server speaks that is neither TLS nor HTTP; empty if it is not known."""
    for pattern, name in _PROTOCOLS:
        if pattern.match(data):
            return name
    return ""


def date(data: bytes) -> float | None:
    """Return the server's time by an HTTP answer; seconds since 1970."""
    found = re.search(rb"^date: *([^\r\n]+)", data, re.IGNORECASE | re.MULTILINE)
    if found is None or not is_http(data):
        return None
    # A cache's answer is older than it (RFC 9111, section 5.1).
    age = re.search(rb"^age: *(\d{1,9})\b", data, re.IGNORECASE | re.MULTILINE)
    try:
        made_at = parsedate_to_datetime(found[1].decode("ascii")).timestamp()
        return made_at + (int(age[1]) if age else 0)
    except (ValueError, UnicodeDecodeError):
        return None


def shown(data: bytes, size: int = 80) -> str:
    """Show the first line of an answer."""
    return data.split(b"\n", 1)[0][:size].decode("utf-8", "backslashreplace").rstrip("\r")
