"""
The answers to plain HTTP: what a handshake refused gets, health checks, the test page. PURE.

Every answer ends the connection: one port speaks WebSocket, and HTTP only to say so.
"""

from collections.abc import Mapping
from http import HTTPStatus

from msgspec import Struct, field

from ..errors import ConfigError
from ..findings.handshakes import UPGRADE_LOST
from ..findings.network import PLAIN_ON_TLS_PORT

_TEXT = "text/plain; charset=utf-8"

# RFC 9110, section 5.6.2.
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

# Where an answer ends (RFC 9112, section 6), and what was agreed on (RFC 6455, section 4.2.2): a
# second one would say otherwise.
_OURS = frozenset(
    {
        "connection",
        "content-length",
        "gateman-refused",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "transfer-encoding",
    }
)

# Nothing but the page itself, and WebSockets to anywhere: it has a field for the address.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " connect-src ws: wss:; img-src data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


class Response(Struct, frozen=True):
    """One HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str = _TEXT
    # More fields; one that is set anyway is replaced.
    headers: Mapping[str, str] = field(default_factory=dict)
    # Why a handshake is refused: a kind of finding of ``docs/doctor.md``; empty for none.
    code: str = ""

    def encode(self, *, date: str, head_only: bool = False) -> bytes:
        """Write the answer as HTTP/1.1, which a client of HTTP/1.0 understands too."""
        chosen = [header_line(name, value) for name, value in self.headers.items()]
        names = {name.lower() for name in self.headers}
        defaults = {
            "Date": date,
            "Content-Type": self.content_type,
            "Cache-Control": "no-store",
        }
        lines = [
            f"HTTP/1.1 {self.status} {_phrase(self.status)}",
            *(f"{name}: {value}" for name, value in defaults.items() if name.lower() not in names),
            *chosen,
            *([f"Gateman-Refused: {self.code}"] if self.code else ()),
            f"Content-Length: {len(self.body)}",
            # RFC 9110, section 7.8: Upgrade is an option of the connection.
            f"Connection: {'close, Upgrade' if 'upgrade' in names else 'close'}",
        ]
        head = "\r\n".join(lines) + "\r\n\r\n"
        # RFC 9110, section 15.4.5: a 304 has no body either.
        is_bodiless = head_only or self.status == HTTPStatus.NOT_MODIFIED
        return head.encode() + (b"" if is_bodiless else self.body)


def is_token(text: str) -> bool:
    """Return whether a text is a token, as names of fields and of subprotocols are."""
    return bool(text) and _TOKEN.issuperset(text)


def header_line(name: object, value: object) -> str:
    """Write a header field of the application, or raise a ConfigError (RFC 9110, section 5.5)."""
    # Applications are not always typed: {"Retry-After": 5} is a natural mistake.
    if not isinstance(name, str) or not is_token(name):
        raise ConfigError(f"{name!r} is not a header field's name", "use letters, digits and '-'")
    if name.lower() in _OURS:
        raise ConfigError(f"the header field {name!r} is gateman's own", "leave it out")
    if not isinstance(value, str) or not _is_encodable(value):
        raise ConfigError(f"the value of the header field {name!r} is not text", "make it a str")
    if any((ord(char) < 0x20 and char != "\t") or ord(char) == 0x7F for char in value):
        raise ConfigError(
            f"the value of the header field {name!r} holds a control character",
            "leave line breaks out of it",
        )
    return f"{name}: {value}"


def refused(status: int, text: str, headers: Mapping[str, str], code: str) -> Response:
    """Answer a handshake or a request that is not accepted."""
    body = text or f"{status} {_phrase(status)}"
    return Response(status, f"{body}\n".encode("utf-8", "replace"), headers=headers, code=code)


def health(problem: str = "") -> Response:
    return Response(503, f"{problem}\n".encode()) if problem else Response(200, b"ok\n")


def upgrade_required() -> Response:
    """Answer a plain request to a WebSocket port."""
    return Response(
        426,
        b"This is a WebSocket service: connect with a WebSocket client, such as a browser's"
        b" new WebSocket(...).\n",
        headers={"Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
        code=UPGRADE_LOST.code,
    )


def wrong_scheme() -> Response:
    """Answer plain HTTP, or ws://, that arrived on a TLS port."""
    return Response(
        400,
        b"This port speaks TLS: connect with wss:// (or https://) instead of ws:// (or http://).\n",
        code=PLAIN_ON_TLS_PORT.code,
    )


def page(html: bytes) -> Response:
    """Answer with a page that may run its own script and connect to WebSockets, nothing else."""
    return Response(
        200,
        html,
        "text/html; charset=utf-8",
        {
            "Content-Security-Policy": _PAGE_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        },
    )


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"
