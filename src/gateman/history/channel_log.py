"""The last messages of one channel, in memory. Pure."""

from bisect import bisect_right

from .base import HistoryLimits, StoredMessage

# bytes; what a message takes beside its payload: two tuples, its offset and its time.
MESSAGE_OVERHEAD = 200


class ChannelLog:
    """
    A ring of messages, bounded in number, age and bytes.

    Attributes:
        last: The offset of the last message that was ever appended.
        floor: The offset of the last message that is gone: from it on, the log is complete.
        size: bytes that its messages take.
        saved: The offset up to which its messages are in a file, if there is one.
    """

    __slots__ = ("_messages", "_times", "floor", "last", "limits", "saved", "size")

    def __init__(self, floor: int) -> None:
        self.last = self.floor = floor
        self.size = self.saved = 0
        self.limits = HistoryLimits(size=1, ttl=0)
        # Lists: they are smaller than deques, and can be searched.
        self._messages: list[StoredMessage] = []
        self._times: list[float] = []

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def expires_at(self) -> float:
        """When the next message expires; in seconds since 1970."""
        return self._times[0] + self.limits.ttl

    def append(self, message: StoredMessage, limits: HistoryLimits, now: float) -> None:
        self.limits = limits
        self.last = message.offset
        self._messages.append(message)
        # The wall clock may be set back.
        self._times.append(max(now, self._times[-1]) if self._times else now)
        self.size += len(message.payload) + MESSAGE_OVERHEAD
        self._drop(len(self._messages) - limits.size)

    def expire(self, now: float) -> None:
        """Drop what is too old."""
        if self._messages and self.expires_at <= now:
            # Not by `now - ttl`, which may round in another direction than `expires_at`: this call
            # then drops nothing, and its caller repeats it without end.
            ttl = self.limits.ttl
            self._drop(bisect_right(self._times, now, key=lambda at: at + ttl))

    def shrink(self, max_size: int) -> None:
        """Drop the oldest messages until the rest takes at most so many bytes."""
        count = 0
        size = self.size
        while size > max_size:
            size -= len(self._messages[count].payload) + MESSAGE_OVERHEAD
            count += 1
        self._drop(count)

    def clear(self) -> None:
        self._drop(len(self._messages))

    def after(self, offset: int, count: int) -> list[StoredMessage]:
        """Return the first messages after an offset."""
        start = bisect_right(self._messages, offset, key=_offset)
        return self._messages[start : start + count]

    def before(self, offset: int, count: int) -> list[StoredMessage]:
        """Return the last messages before an offset, latest first."""
        end = bisect_right(self._messages, offset - 1, key=_offset)
        return self._messages[max(end - count, 0) : end][::-1]

    def with_times(self, offset: int) -> list[tuple[float, StoredMessage]]:
        """Return all messages after an offset, and when they came."""
        start = bisect_right(self._messages, offset, key=_offset)
        return list(zip(self._times[start:], self._messages[start:], strict=True))

    def _drop(self, count: int) -> None:
        if count <= 0:
            return
        for message in self._messages[:count]:
            self.size -= len(message.payload) + MESSAGE_OVERHEAD
        self.floor = self._messages[count - 1].offset
        del self._messages[:count]
        del self._times[:count]


def _offset(message: StoredMessage) -> int:
    return message.offset
