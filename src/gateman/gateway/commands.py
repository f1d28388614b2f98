"""
What a gateway asks a business process about an SDK client's command, and the answer. PURE.

A question is the payload of a :class:`~.protocol.MessageEvent`, and so it is as reliable as a
message: handled in the client's order, at least once, and through reloads.
"""

from typing import Any

import msgspec
from msgspec import Struct

from ..clients.allow import Allow
from ..clients.data import read_json
from ..cluster.publication import BINARY, TEXT, as_message
from ..errors import EnvelopeError
from ..runtime.client_callbacks import Disconnected, Refused

# How many texts a callback gets beside the client: a channel, a token or a method. Data may follow.
_TEXTS = {
    "on_client_connect": 1,
    "on_refresh": 1,
    "on_sub_refresh": 2,
    "on_subscribe": 1,
    "on_publish": 1,
    "on_rpc": 1,
    "on_message": 0,
}
CALLBACKS = frozenset(_TEXTS)


class Value(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Data of a client or of the application, as a message of the hub."""

    kind: int
    payload: bytes


class Question(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Which callback is to be called, and its arguments after the client."""

    number: int  # the answer has it, too
    callback: str
    texts: list[str]
    data: list[Value]  # none or one


class Allowed(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="a"):
    """An :class:`~gateman.Allow`."""

    data: Value
    info: Value
    expires_in: float | None
    publish: bool | None
    history: bool | None
    presence: bool | None


class Returned(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="v"):
    value: Value


class IsRefused(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="r"):
    code: int
    message: str
    is_temporary: bool | None


class IsDisconnected(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="d"):
    code: int
    reason: str


class NotDeclared(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="n"):
    """The process has no such callback."""


class Reply(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The answer to a question."""

    number: int
    result: Allowed | Returned | IsRefused | IsDisconnected | NotDeclared


_encode = msgspec.msgpack.Encoder().encode
_decode_question = msgspec.msgpack.Decoder(Question).decode
_decode_reply = msgspec.msgpack.Decoder(Reply).decode


def encode_question(number: int, callback: str, arguments: tuple[Any, ...]) -> bytes:
    count = _TEXTS[callback]
    texts, data = arguments[:count], arguments[count:]
    return _encode(Question(number, callback, list(texts), [_value(one) for one in data]))


def decode_question(payload: bytes) -> tuple[int, str, list[Any]]:
    """Return its number, the callback and the arguments after the client; EnvelopeError."""
    question = _decode(_decode_question, payload)
    if question.callback not in CALLBACKS:
        raise EnvelopeError(f"there is no callback {question.callback!r} for commands")
    arguments = [*question.texts, *(_read(value) for value in question.data)]
    return question.number, question.callback, arguments


def encode_result(number: int, result: object) -> bytes:
    """Encode what a callback returned, or a refusal; TypeError for what cannot be sent."""
    match result:
        case Refused(code, message, is_temporary):
            made: Any = IsRefused(code, message, is_temporary)
        case Disconnected(code, reason):
            made = IsDisconnected(code, reason)
        case Allow():
            made = Allowed(
                _value(result.data),
                _value(result.info),
                result.expires_in,
                result.publish,
                result.history,
                result.presence,
            )
        case _:
            made = Returned(_value(result))
    return _encode(Reply(number, made))


def encode_not_declared(number: int) -> bytes:
    return _encode(Reply(number, NotDeclared()))


def decode_result(payload: bytes) -> tuple[int, Any]:
    """Return the number, and what the callback returned, a refusal or :class:`NotDeclared`."""
    reply = _decode(_decode_reply, payload)
    result: Any = reply.result
    match reply.result:
        case IsRefused(code, message, is_temporary):
            result = Refused(code, message, is_temporary)
        case IsDisconnected(code, reason):
            result = Disconnected(code, reason)
        case Allowed(data, info, expires_in, publish, history, presence):
            result = Allow(
                data=_read(data),
                info=_read(info),
                expires_in=expires_in,
                publish=publish,
                history=history,
                presence=presence,
            )
        case Returned(value):
            result = _read(value)
    return reply.number, result


def _decode(decode: Any, payload: bytes) -> Any:
    try:
        return decode(payload)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise EnvelopeError(f"a question about a command is malformed ({error})") from None


def _value(value: object) -> Value:
    return Value(*as_message(value))


def _read(value: Value) -> Any:
    if value.kind == BINARY:
        return value.payload
    try:
        return value.payload.decode() if value.kind == TEXT else read_json(value.payload)
    except ValueError as error:
        raise EnvelopeError(f"data of a command are malformed ({error})") from None
