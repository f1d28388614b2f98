"""Codes of the client protocol: of errors, unsubscribes and disconnects. PURE."""

from enum import IntEnum
from typing import TypeVar

from ..websocket.close import MAX_REASON_SIZE, CloseCode
from .data import one_line_of_json

E = TypeVar("E", bound=IntEnum)


def _named(codes: type[E]) -> dict[E, str]:
    """Return the protocol's texts, most of which are the names of the codes."""
    return {code: code.name.lower().replace("_", " ") for code in codes}


class ErrorCode(IntEnum):
    """Codes of an error reply below 400; those of applications are 400 to 1999."""

    INTERNAL = 100
    UNAUTHORIZED = 101
    UNKNOWN_CHANNEL = 102
    PERMISSION_DENIED = 103
    METHOD_NOT_FOUND = 104
    ALREADY_SUBSCRIBED = 105
    LIMIT_EXCEEDED = 106
    BAD_REQUEST = 107
    NOT_AVAILABLE = 108
    TOKEN_EXPIRED = 109
    """The SDK asks its application for a new token."""
    EXPIRED = 110
    TOO_MANY_REQUESTS = 111
    UNRECOVERABLE_POSITION = 112


ERROR_MESSAGES = {
    **_named(ErrorCode),
    ErrorCode.INTERNAL: "internal server error",
}

# After these an SDK repeats a connect, a subscribe or a refresh by itself.
TEMPORARY_ERRORS = frozenset({ErrorCode.INTERNAL, ErrorCode.TOO_MANY_REQUESTS})


class UnsubscribeCode(IntEnum):
    """Why the server ends a subscription; from 2500 on, the SDK subscribes again and recovers."""

    SERVER = 2000
    INSUFFICIENT_STATE = 2500
    """Publications may be missing."""
    EXPIRED = 2501
    STATE_INVALIDATED = 2502
    """As INSUFFICIENT_STATE; the SDK also drops its token and its position."""


UNSUBSCRIBE_REASONS = {
    **_named(UnsubscribeCode),
    UnsubscribeCode.SERVER: "server unsubscribe",
    UnsubscribeCode.EXPIRED: "subscription expired",
}


class DisconnectCode(IntEnum):
    """
    Close codes: SDKs come back after 3000 to 3499 and 4000 to 4499.

    After 3500 to 3999 and 4500 to 4999 they do not. Below 3000 they come back, too, except after
    1009.
    """

    SHUTDOWN = 3001
    SERVER_ERROR = 3004
    EXPIRED = 3005
    SLOW = 3008
    INSUFFICIENT_STATE = 3010
    """Publications of a server-side subscription may be missing: the SDK comes back, recovers."""
    FORCE_RECONNECT = 3011
    NO_PONG = 3012
    TOO_MANY_REQUESTS = 3013
    STATE_INVALIDATED = 3014
    """The SDK drops its tokens and positions, and comes back."""
    INVALID_TOKEN = 3500
    BAD_REQUEST = 3501
    STALE = 3502
    """No connect command in time."""
    FORCE_DISCONNECT = 3503
    CONNECTION_LIMIT = 3504
    CHANNEL_LIMIT = 3505
    INAPPROPRIATE_PROTOCOL = 3506
    PERMISSION_DENIED = 3507
    NOT_AVAILABLE = 3508
    TOO_MANY_ERRORS = 3509


DISCONNECT_REASONS = {
    **_named(DisconnectCode),
    DisconnectCode.SERVER_ERROR: "internal server error",
    DisconnectCode.EXPIRED: "connection expired",
}

# A plain client comes back or not by its own rules; an SDK by the number alone.
_OF_PLAIN_CLIENTS = {
    CloseCode.NORMAL_CLOSURE: DisconnectCode.FORCE_DISCONNECT,
    CloseCode.GOING_AWAY: DisconnectCode.SHUTDOWN,
    CloseCode.PROTOCOL_ERROR: DisconnectCode.BAD_REQUEST,
    CloseCode.UNSUPPORTED_DATA: DisconnectCode.INAPPROPRIATE_PROTOCOL,
    CloseCode.INVALID_PAYLOAD_DATA: DisconnectCode.BAD_REQUEST,
    CloseCode.POLICY_VIOLATION: DisconnectCode.PERMISSION_DENIED,
    CloseCode.MANDATORY_EXTENSION: DisconnectCode.BAD_REQUEST,
    CloseCode.INTERNAL_ERROR: DisconnectCode.SERVER_ERROR,
    CloseCode.SERVICE_RESTART: DisconnectCode.SHUTDOWN,
    CloseCode.TRY_AGAIN_LATER: DisconnectCode.SLOW,
}
# As final as the others of its kind: an SDK that came back would log the other client out.
_LOGGED_IN_ELSEWHERE = (4409, 4509)


def sdk_close(code: int, reason: str = "") -> tuple[int, str]:
    """
    Return what an SDK client's connection is closed with where a plain client's gets ``code``.

    1009 stays, for SDKs know it as final; so do codes of applications from 3000 on.
    """
    code = sdk_close_code(code)
    reason = reason or DISCONNECT_REASONS.get(code, "disconnected")  # type: ignore[call-overload]
    # The JS SDK takes a reason that is JSON as an order in place of the code, and comes back after
    # a final code without a reason.
    if one_line_of_json(reason.encode()) is not None:
        reason = f"code {code}: {reason}".encode()[:MAX_REASON_SIZE].decode(errors="ignore")
    return code, reason


def sdk_close_code(code: int) -> int:
    if code == _LOGGED_IN_ELSEWHERE[0]:
        return _LOGGED_IN_ELSEWHERE[1]
    return int(_OF_PLAIN_CLIENTS.get(code, code))  # type: ignore[call-overload]
