"""
The bytes between a process, the store, and followers of a channel. Pure.

Wire format:
    What followers receive, as a message of the bus on the subject of the channel::

        marker(1) · previous offset(8) · offset(8) · payload

    Numbers are big-endian. A marker is 1 where an offset was used without a message for anybody.
    Requests to a router and its replies are MessagePack.
"""

import struct
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from .base import StoredMessage

_LIVE = struct.Struct(">?QQ")

# bytes; what a store and the frames of a bus add to a payload.
OVERHEAD = 1024

MAX_KEY_LENGTH = 256
"""Characters of an idempotency key."""

# bytes of messages in one reply; the reader asks for the rest.
MAX_PAGE_SIZE = 1024 * 1024


def live(previous: int, offset: int, payload: bytes, *, is_marker: bool = False) -> bytes:
    """Write what followers receive."""
    return _LIVE.pack(is_marker, previous, offset) + payload


class Live(Struct):
    is_marker: bool
    previous: int
    offset: int
    payload: bytes


def read_live(data: bytes) -> Live:
    """Read what followers receive; raises ValueError."""
    if len(data) < _LIVE.size:
        raise ValueError(data[: _LIVE.size])
    is_marker, previous, offset = _LIVE.unpack_from(data)
    return Live(is_marker, previous, offset, data[_LIVE.size :])


_Count = Annotated[int, Meta(ge=0)]


class Append(Struct, array_like=True, tag=1):
    payload: bytes
    size: Annotated[int, Meta(ge=1)]
    ttl: Annotated[float, Meta(gt=0)]
    key: Annotated[str, Meta(max_length=MAX_KEY_LENGTH)]


class Since(Struct, array_like=True, tag=2):
    """No epoch and no offset ask for the end of the channel."""

    epoch: str
    offset: _Count
    limit: _Count


class Read(Struct, array_like=True, tag=3):
    """No epoch and no offset mean from the first, or the last one."""

    epoch: str
    offset: _Count
    limit: _Count
    is_reverse: bool


class Remove(Struct, array_like=True, tag=4):
    pass


class Answer(Struct, array_like=True):
    """The answer to each request; a page of messages if there are more."""

    epoch: str
    offset: int
    messages: list[StoredMessage] = []
    is_complete: bool = True
    has_more: bool = False


HistoryRequest = Append | Since | Read | Remove

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
decode_request = msgspec.msgpack.Decoder(HistoryRequest).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
