"""What the first bytes of an HTTP answer tell of a server. PURE."""

import re
from email.utils import parsedate_to_datetime

from ...findings import Software
from ..protocols import is_tls
from ..upgrade.fingerprints import recognise
from ..upgrade.observations import parse_answer
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
    """Name what is nearest to the client: it has the certificate, and the port."""
    head, end, body = data.partition(b"\r\n\r\n")
    answer = parse_answer(head + end, body)
    return None if answer is None else recognise(answer).nearest_software


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
