"""
The answers to plain HTTP: what a handshake refused gets, health checks, the test page. PURE.

Every answer ends the connection: one port speaks WebSocket, and HTTP only to say so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from ..errors import ConfigError

_TEXT = "text/plain; charset=utf-8"

# RFC 9110, section 5.6.2.
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

# Nothing but the page itself, and WebSockets to anywhere: it has a field for the address.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " connect-src ws: wss:; img-src data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Response:
    """
    One HTTP answer.

    Attributes:
        status: The status code.
        body: The body; empty for none.
        content_type: The body's media type.
        headers: More fields.
    """

    status: int
    body: bytes = b""
    content_type: str = _TEXT
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, *, date: str, head_only: bool = False) -> bytes:
        """
        Write the answer as HTTP/1.1, which a client of HTTP/1.0 understands too.

        Args:
            date: The ``Date`` field's value (RFC 9110, section 6.6.1).
            head_only: Leave the body out, for HEAD; its length is still announced.

        Returns:
            The bytes.

        Raises:
            ConfigError: A header field that the application chose would break the answer.
        """
        fields = {
            "Date": date,
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            "Cache-Control": "no-store",
            **self.headers,
            # RFC 9110, section 7.6.1: Upgrade is an option of the connection.
            "Connection": "close, Upgrade" if "Upgrade" in self.headers else "close",
        }
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}"]
        lines += [header_line(name, value) for name, value in fields.items()]
        head = "\r\n".join(lines) + "\r\n\r\n"
        return head.encode("utf-8", "surrogateescape") + (b"" if head_only else self.body)


def header_line(name: str, value: str) -> str:
    """
    Write one header field of an answer, or refuse what would break out of it.

    Args:
        name: The field's name.
        value: The field's value.

    Returns:
        ``"Name: value"``.

    Raises:
        ConfigError: The name is no token, or the value holds CR, LF, NUL or another control
            character (RFC 9110, section 5.5).
    """
    if not name or not _TOKEN.issuperset(name):
        raise ConfigError(f"{name!r} is no name of a header field", "use letters, digits and '-'")
    if any((ord(char) < 0x20 and char != "\t") or ord(char) == 0x7F for char in value):
        raise ConfigError(
            f"the value of the header field {name!r} holds a control character",
            "leave line breaks out of it",
        )
    return f"{name}: {value}"


def refused(status: int, text: str, headers: Mapping[str, str]) -> Response:
    """
    Answer a handshake or a request that is not accepted.

    Args:
        status: The status code.
        text: What to tell the peer.
        headers: More fields.

    Returns:
        The answer.
    """
    body = text or f"{status} {_phrase(status)}"
    return Response(status, f"{body}\n".encode("utf-8", "replace"), headers=headers)


def health(*, is_draining: bool) -> Response:
    """
    Answer a health check: 200 while serving, 503 while draining.

    Args:
        is_draining: Whether the process is on its way out.

    Returns:
        The answer.
    """
    return Response(503, b"draining\n") if is_draining else Response(200, b"ok\n")


def upgrade_required() -> Response:
    """
    Answer a plain request to a WebSocket port.

    Returns:
        A 426 that names the protocol (RFC 9110, section 15.5.22).
    """
    return Response(
        426,
        b"This is a WebSocket service: connect with a WebSocket client, such as a browser's"
        b" new WebSocket(...).\n",
        headers={"Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
    )


def wrong_scheme() -> Response:
    """
    Answer plain HTTP, or ws://, that arrived on a TLS port.

    Returns:
        A 400 that says how to connect.
    """
    return Response(
        400,
        b"This port speaks TLS: connect with wss:// (or https://) instead of ws:// (or http://).\n",
    )


def page(html: bytes) -> Response:
    """
    Answer with a page that may run its own script and connect to WebSockets, nothing else.

    Args:
        html: The page.

    Returns:
        The answer.
    """
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


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"
