"""What a router answers to requests about history. Pure."""

from collections.abc import Sequence

from .base import HistoryLimits, Position, StoredMessage
from .channel_log import MESSAGE_OVERHEAD
from .store import HistoryStore
from .wire import (
    MAX_PAGE_SIZE,
    Answer,
    Append,
    Read,
    Remove,
    Since,
    decode_request,
    encode,
    live,
)


def answer(store: HistoryStore, channel: str, data: bytes, now: float) -> tuple[bytes, bytes]:
    """Return the reply to a request, and what followers receive; raises ValueError."""
    request = decode_request(data)
    match request:
        case Append():
            limits = HistoryLimits(request.size, request.ttl)
            added = store.append(channel, request.payload, limits, now, request.key)
            reply = encode(Answer(store.epoch, added.offset))
            if not added.is_new:
                return reply, b""
            return reply, live(added.previous, added.offset, request.payload)
        case Since():
            missed = store.since(channel, _position(request), request.limit, now)
            messages, has_more = _page(missed.messages)
            return encode(Answer(*missed.position, messages, missed.is_complete, has_more)), b""
        case Read():
            page = store.read(
                channel,
                limit=request.limit,
                since=_position(request),
                is_reverse=request.is_reverse,
                now=now,
            )
            messages, has_more = _page(page.messages)
            return encode(Answer(*page.position, messages, has_more=has_more)), b""
        case Remove():
            store.remove(channel)
            top = store.since(channel, None, 0, now).position
            return encode(Answer(*top)), b""


def _position(request: Since | Read) -> Position | None:
    known = request.epoch or request.offset
    return Position(request.epoch, request.offset) if known else None


def _page(messages: Sequence[StoredMessage]) -> tuple[list[StoredMessage], bool]:
    """Return as many messages as one reply may have, and whether there are more."""
    size = 0
    for count, message in enumerate(messages):
        size += len(message.payload) + MESSAGE_OVERHEAD
        if count and size > MAX_PAGE_SIZE:
            return list(messages[:count]), True
    return list(messages), False
