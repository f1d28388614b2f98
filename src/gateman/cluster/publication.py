"""
Publications: messages as SDK clients get them, with a channel, an offset and who published. Pure.

Plain clients get the payload of the same object.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ..errors import EnvelopeError
from ..websocket.encoding import as_payload
from .names import MAX_CLIENT_LENGTH, MAX_NAME_SIZE, PERSONAL, ClientId

# What a payload is. The first two are opcodes of WebSocket; clients never see the others.
TEXT = 1  # for SDK clients a JSON string
BINARY = 2
JSON = 3  # the UTF-8 of a JSON value
PACKED = 4  # a PackedPublication


class ClientInfo(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """
    A client in a channel, as others see it.

    Attributes:
        client: Its client id.
        user: Its uid; ``""`` without one.
        connection_info: What the application has said about it when it connected: JSON, as bytes;
            ``b""`` for nothing.
        channel_info: The same of when it subscribed.
    """

    client: Annotated[ClientId, Meta(min_length=3, max_length=MAX_CLIENT_LENGTH)]
    user: Annotated[str, Meta(max_length=MAX_NAME_SIZE)] = ""
    connection_info: bytes = b""
    channel_info: bytes = b""


class PackedPublication(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A message with what else SDK clients get of it; the payload that a history keeps."""

    kind: int
    data: bytes
    info: ClientInfo | None = None
    tags: dict[str, str] = {}
    exclude: tuple[str, ...] = ()


_JSON_TYPES = (dict, list, tuple, int, float, type(None))

_encode_json = msgspec.json.Encoder().encode
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PackedPublication).decode


class Publication(bytes):
    """
    The payload of a message, and what SDK clients get beside it.

    Attributes:
        kind: TEXT, BINARY or JSON.
        channel: Empty for a message that was sent to clients, and not to a channel.
        offset: 0 without history.
        info: The client that published; ``None`` for the server.
        encoded: The pushes that were made of it, by form.
    """

    kind: int
    channel: str
    offset: int
    info: ClientInfo | None
    tags: dict[str, str]
    encoded: dict[Any, bytes]

    @classmethod
    def of(cls, kind: int, payload: bytes, channel: str = "", offset: int = 0) -> "Publication":
        """Make one; raises EnvelopeError for what another process has packed wrongly."""
        packed = unpack(payload) if kind == PACKED else PackedPublication(kind, payload)
        return cls.of_packed(packed, channel, offset)

    @classmethod
    def of_packed(cls, packed: PackedPublication, channel: str, offset: int) -> "Publication":
        made = cls(packed.data)
        made.kind, made.channel, made.offset = packed.kind, channel, offset
        made.info, made.tags, made.encoded = packed.info, packed.tags, {}
        return made

    @property
    def opcode(self) -> int:
        """For plain clients."""
        return BINARY if self.kind == BINARY else TEXT


def as_message(message: object) -> tuple[int, bytes]:
    """Turn what an application sends into TEXT, BINARY or JSON, and bytes."""
    # Most messages are text.
    if message.__class__ is str and message.isascii():
        return TEXT, message.encode()
    # A bool is an int.
    if not isinstance(message, _JSON_TYPES):
        return as_payload(message)
    return JSON, as_json(message)


def as_json(value: object) -> bytes:
    """Encode a JSON value; raises TypeError for one that holds what JSON cannot carry."""
    try:
        return _encode_json(value)
    except (TypeError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TypeError(
            f"This cannot be written as JSON ({error}): use text, numbers, lists and dictionaries."
        ) from None


def pack(packed: PackedPublication) -> bytes:
    return _encode(packed)


def unpack(payload: bytes) -> PackedPublication:
    """Unpack and check; raises EnvelopeError."""
    try:
        packed = _decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EnvelopeError(f"a publication is malformed ({error})") from None
    if packed.kind not in (TEXT, BINARY, JSON):
        raise EnvelopeError("a publication has a field that is not valid")
    return packed


def personal_channel(uid: str) -> str:
    """Name the channel of a user."""
    return PERSONAL + uid
