"""
Close codes and reasons: what a peer may send, what we may send, and their bytes.

Wire format:
    The payload of a Close frame is empty, or a 16-bit code, big-endian, and a reason of at
    most 123 bytes of UTF-8 (RFC 6455, sections 5.5.1 and 7.4).

This module knows no frames and no connection: bytes in, code and text out.
"""

from enum import IntEnum

from ..errors import ConfigError, ProtocolError

MAX_REASON_SIZE = 123  # bytes: a control frame's 125 less the code's 2 (RFC 6455, 5.5)


class CloseCode(IntEnum):
    """
    The close codes with a meaning of their own.

    Source:
        RFC 6455, section 7.4.1, and IANA's WebSocket Close Code Number Registry.
    """

    NORMAL_CLOSURE = 1000
    """What the connection was for is done."""
    GOING_AWAY = 1001
    """The server stops, or the browser left the page."""
    PROTOCOL_ERROR = 1002
    """The peer broke the protocol."""
    UNSUPPORTED_DATA = 1003
    """A kind of message that the endpoint does not take, such as binary."""
    NO_STATUS_RECEIVED = 1005
    """Never sent: the Close frame that came had no code."""
    ABNORMAL_CLOSURE = 1006
    """Never sent: the connection ended without a Close frame."""
    INVALID_PAYLOAD_DATA = 1007
    """A message that is not what its type says, such as text that is not UTF-8."""
    POLICY_VIOLATION = 1008
    """The peer broke a rule that no other code names."""
    MESSAGE_TOO_BIG = 1009
    """A message beyond what the endpoint takes."""
    MANDATORY_EXTENSION = 1010
    """Sent by clients only: the server did not agree to an extension."""
    INTERNAL_ERROR = 1011
    """The server met a fault of its own."""
    SERVICE_RESTART = 1012
    """The service restarts; come back in a while."""
    TRY_AGAIN_LATER = 1013
    """The service is overloaded."""
    BAD_GATEWAY = 1014
    """A server behind this one gave no good answer."""
    TLS_HANDSHAKE = 1015
    """Never sent: the TLS handshake failed."""


# The closes that gateman begins itself: code and reason.
GOING_AWAY = (1001, "server is shutting down")
NO_CLOSE = (1006, "")
GATEWAY_GONE = (1006, "the gateway is gone")
NO_LOGIN = (1008, "no login in time")
INTERNAL_ERROR = (1011, "internal error")
SERVICE_RESTART = (1012, "service restart")
TOO_SLOW = (1013, "client reads too slowly")
UNSERVED = (1013, "no business worker is available")
LOGGED_IN_ELSEWHERE = (4409, "logged in elsewhere")
"""With this, an exclusive login closes older ones by default."""

# Sets of plain int: membership is asked for every Close frame.
_RECEIVABLE = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
# 7.4.1: 1010 is a client's; a server that needs an extension refuses the handshake.
_SENDABLE = _RECEIVABLE - {int(CloseCode.MANDATORY_EXTENSION)}


def parse_close(payload: bytes | bytearray | memoryview) -> tuple[int, str]:
    """Read a Close frame's payload; an empty one is 1005 (RFC 6455, 5.5.1, 7.1.5, 7.1.6, 7.4)."""
    if not payload:
        return int(CloseCode.NO_STATUS_RECEIVED), ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or code not in _RECEIVABLE:
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "invalid close code", cause="bad_close")
    try:
        return code, str(payload[2:], "utf-8")
    except UnicodeDecodeError:
        raise ProtocolError(
            CloseCode.INVALID_PAYLOAD_DATA, "the close reason is not UTF-8", cause="bad_close"
        ) from None


def check_close(code: object, reason: object) -> None:
    """Refuse what an application may not close a connection with (RFC 6455, 5.5.1 and 7.4)."""
    if not isinstance(code, int) or code not in _SENDABLE:
        raise ConfigError(
            f"close code {code!r} may not be sent",
            "use 1000, or one of your own from 4000 to 4999",
        )
    if not isinstance(reason, str):
        raise ConfigError(f"close reason {reason!r} is not a str", "write it as text")
    try:
        size = len(reason.encode())
    except UnicodeEncodeError:
        raise ConfigError(
            f"close reason {reason!r} has a lone surrogate", "write text that UTF-8 can encode"
        ) from None
    if size > MAX_REASON_SIZE:
        raise ConfigError(
            f"the close reason has {size} bytes of UTF-8, and a frame has room for"
            f" {MAX_REASON_SIZE}",
            "shorten it, or send it as a message before closing",
        )


def message_flood() -> ProtocolError:
    return ProtocolError(
        CloseCode.POLICY_VIOLATION,
        "too many messages per second",
        cause="message_flood",
        limit="limits.max_messages_per_second",
    )
