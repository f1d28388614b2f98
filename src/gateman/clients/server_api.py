"""
Requests of Centrifugo's HTTP API, as server libraries send them, and its answers. PURE.

A request is a method and a JSON object: ``POST /api/publish`` with ``{"channel": …, "data": …}``.
The answer is ``{"result": {…}}`` or ``{"error": {"code": …, "message": …}}``. Fields that only
later versions know are ignored.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from .channel import is_personal
from .codes import ERROR_MESSAGES, ErrorCode

PREFIX = "/api/"

# Of one broadcast or batch: each is some work, and a body may name hundreds of thousands.
_MAX_COUNT = 10_000

_ABSENT = Raw()
_Channel = Annotated[str, Meta(min_length=1)]
_Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]

# The status of an error, for clients that want one. Precedent: Centrifugo's own mapping.
_STATUSES = {
    ErrorCode.INTERNAL: 500,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.UNKNOWN_CHANNEL: 404,
    ErrorCode.PERMISSION_DENIED: 403,
    ErrorCode.METHOD_NOT_FOUND: 404,
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.NOT_AVAILABLE: 501,
    ErrorCode.TOO_MANY_REQUESTS: 429,
    ErrorCode.UNRECOVERABLE_POSITION: 416,
}


class ApiError(Exception):
    """A request of the API cannot be executed."""

    def __init__(self, code: ErrorCode, message: str = "") -> None:
        """Say why with a code of the protocol, and, if it is known, in words."""
        super().__init__(code, message)
        self.code = code
        self.message = message or ERROR_MESSAGES[code]

    @property
    def status(self) -> int:
        """The HTTP status, for clients that do not want errors in a 200."""
        return _STATUSES.get(self.code, 400)


class Payload(Struct, kw_only=True):
    """What is published: a JSON value, or binary data as base64."""

    data: Raw = _ABSENT
    b64data: str = ""
    skip_history: bool = False
    tags: dict[str, str] | None = None
    idempotency_key: str = ""

    def value(self) -> Any:
        """Decode the data: a JSON value, or bytes; raises ApiError."""
        if self.b64data:
            return _from_base64(self.b64data, "b64data")
        if not bytes(self.data):
            raise ApiError(ErrorCode.BAD_REQUEST, "data is missing")
        try:
            return msgspec.json.decode(self.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            # What was only skipped before: a number such as 1e999, or text that is not UTF-8.
            raise ApiError(ErrorCode.BAD_REQUEST, f"bad request: data: {error}") from None


class Publish(Payload, kw_only=True):
    channel: _Channel


class Broadcast(Payload, kw_only=True):
    channels: Annotated[list[_Channel], Meta(min_length=1, max_length=_MAX_COUNT)]


class _OfUser(Struct, kw_only=True):
    """A request about the clients of a user, or one of them."""

    user: str = ""
    client: str = ""


class Subscribe(_OfUser, kw_only=True):
    channel: _Channel


class Unsubscribe(_OfUser, kw_only=True):
    channel: _Channel


class DisconnectAs(Struct):
    """The close code and the reason that clients get."""

    code: _Count = 0
    reason: str = ""


class Disconnect(_OfUser, kw_only=True):
    whitelist: list[str] = []
    disconnect: DisconnectAs | None = None


class Refresh(_OfUser, kw_only=True):
    expired: bool = False
    expire_at: _Count = 0


class Presence(Struct, kw_only=True):
    channel: _Channel


class PresenceStats(Struct, kw_only=True):
    channel: _Channel


class Since(Struct):
    """A position in a channel's history."""

    offset: _Count = 0
    epoch: str = ""


class History(Struct, kw_only=True):
    """Reads a channel's history; without a limit, only where it ends."""

    channel: _Channel
    limit: Annotated[int, Meta(ge=-1)] = 0
    since: Since | None = None
    reverse: bool = False


class HistoryRemove(Struct, kw_only=True):
    channel: _Channel


class Channels(Struct, kw_only=True):
    pattern: str = ""


class Info(Struct, kw_only=True):
    pass


class Rpc(Struct, kw_only=True):
    method: str = ""
    params: Raw = _ABSENT


class Batch(Struct, kw_only=True):
    """Commands, each an object with one method."""

    commands: Annotated[list[dict[str, Raw]], Meta(min_length=1, max_length=_MAX_COUNT)]
    parallel: bool = False


Request = (
    Publish
    | Broadcast
    | Subscribe
    | Unsubscribe
    | Disconnect
    | Refresh
    | Presence
    | PresenceStats
    | History
    | HistoryRemove
    | Channels
    | Info
    | Rpc
    | Batch
)

METHODS: Mapping[str, type[Request]] = {
    "publish": Publish,
    "broadcast": Broadcast,
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "disconnect": Disconnect,
    "refresh": Refresh,
    "presence": Presence,
    "presence_stats": PresenceStats,
    "history": History,
    "history_remove": HistoryRemove,
    "channels": Channels,
    "info": Info,
    "rpc": Rpc,
    "batch": Batch,
}

_encoder = msgspec.json.Encoder()


def decode(method: str, body: bytes | Raw) -> Request:
    """Decode a request; raises ApiError."""
    kind = METHODS.get(method)
    if kind is None:
        raise ApiError(ErrorCode.METHOD_NOT_FOUND)
    # PHP writes an empty object as a list.
    if bytes(body).strip() in {b"", b"[]", b"null"}:
        body = b"{}"
    try:
        request = msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(ErrorCode.BAD_REQUEST, f"bad request: {error}") from None
    if isinstance(request, _OfUser) and not (request.user or request.client):
        raise ApiError(ErrorCode.BAD_REQUEST, "bad request: user is missing")
    if isinstance(request, Subscribe) and is_personal(request.channel):
        raise ApiError(
            ErrorCode.BAD_REQUEST, "bad request: a personal channel is for its user alone"
        )
    return request


def command(one: dict[str, Raw]) -> tuple[str, Request]:
    """Decode a command of a batch; raises ApiError."""
    if len(one) != 1:
        raise ApiError(ErrorCode.BAD_REQUEST, "bad request: a command is an object with one method")
    ((method, body),) = one.items()
    if method == "batch":
        raise ApiError(ErrorCode.BAD_REQUEST, "bad request: a batch has no batches")
    return method, decode(method, body)


def json_value(data: bytes) -> Raw | None:
    """Prepare what an application has attached for an answer: JSON is passed on as it is."""
    if not data:
        return None
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Raw(_encoder.encode(base64.b64encode(data).decode()))
    return Raw(data)


def error(failure: ApiError) -> dict[str, Any]:
    return {"error": {"code": int(failure.code), "message": failure.message}}


def encode(answer: object) -> bytes:
    return _encoder.encode(answer)


def _from_base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(ErrorCode.BAD_REQUEST, f"bad request: {name} is not base64") from None
