"""Counts what is sent to clients; only a service that shows metrics does."""

from typing import Any

from ..connection_interfaces import SendResult
from .connection_events import ConnectionContext
from .send_buffer import SendBuffer
from .send_queue import SendQueue

# The most of the last one to two of these is shown.
_WINDOW = 60.0  # seconds

# Frames that are remembered with their count: the fan-out writes the same to many clients.
_MAX_REMEMBERED_SIZE = 64 << 10  # bytes


class Traffic:
    """The counters of all connections of one worker."""

    __slots__ = (
        "_counted",
        "_high",
        "_high_before",
        "_high_since",
        "buffer_full_count",
        "received_size",
        "sent_count",
        "sent_size",
    )

    def __init__(self) -> None:
        self.sent_count = 0
        self.sent_size = 0
        self.received_size = 0
        self.buffer_full_count = 0
        self._high = self._high_before = 0
        self._high_since = 0.0
        self._counted: tuple[bytes, int, int] = (b"", 0, 0)

    def received(self, message: str | bytes) -> None:
        self.received_size += size_of(message)

    def frames_sent(self, frames: bytes) -> None:
        """Count the messages in unmasked frames, which the same bytes object has for many."""
        known, count, size = self._counted
        if known is not frames:
            count, size = count_frames(frames)
            if len(frames) <= _MAX_REMEMBERED_SIZE:
                self._counted = (frames, count, size)
        self.sent_count += count
        self.sent_size += size

    def waits(self, size: int, now: float) -> None:
        """Note how much waits for a slow client."""
        self._turn_window(now)
        self._high = max(self._high, size)

    def high_water(self, now: float) -> int:
        """The most that has waited for one client in this window and the one before."""
        self._turn_window(now)
        return max(self._high, self._high_before)

    def _turn_window(self, now: float) -> None:
        if now - self._high_since >= _WINDOW:
            is_next = now - self._high_since < 2 * _WINDOW
            self._high_before = self._high if is_next else 0
            self._high, self._high_since = 0, now


class MeasuredSendBuffer(SendBuffer):
    """A send buffer that counts what it sends."""

    __slots__ = ("_traffic", "_write_uncounted")

    def __init__(self, transport: Any, context: ConnectionContext, traffic: Traffic) -> None:
        super().__init__(transport, context)
        self._traffic = traffic
        self._write_uncounted: Any = None

    def reopen(self, send: Any) -> None:
        """Continue with the ``send`` of a new picows."""
        super().reopen(send)
        self._write_uncounted, self._write = self._write, self._write_counted

    def close(self) -> None:
        """Discard what waits, and all later messages."""
        super().close()
        self._write_uncounted = None

    def write_frames(self, frames: bytes) -> None:
        """Write and count frames of the fan-out."""
        self._traffic.frames_sent(frames)
        super().write_frames(frames)

    # What `send` does with a message, by state; a message that is kept until the 101 comes again.

    def _write_counted(self, opcode: int, payload: str | bytes) -> None:
        write, traffic = self._write_uncounted, self._traffic
        write(opcode, payload)
        traffic.sent_count += 1
        # As `size_of`, without a call.
        traffic.sent_size += (
            len(payload)
            if payload.__class__ is bytes or payload.isascii()
            else len(payload.encode())  # type: ignore[union-attr] # it is not bytes
        )

    def _collect(self, opcode: int, payload: str | bytes) -> SendResult:
        traffic = self._traffic
        before = traffic.sent_count
        result = super()._collect(opcode, payload)
        # A large one was written, and counted, at once.
        if traffic.sent_count == before:
            traffic.sent_count += 1
            traffic.sent_size += size_of(payload)
        return result

    def _enqueue(self, queue: SendQueue, opcode: int, data: bytes) -> SendResult:
        result = super()._enqueue(queue, opcode, data)
        if result is SendResult.QUEUED:
            self._traffic.sent_count += 1
            self._traffic.sent_size += len(data)
        return result

    def _check_fullness(self, queue: SendQueue, *, is_full: bool = False) -> None:
        self._traffic.waits(queue.held_size, self._context.loop.time())
        super()._check_fullness(queue, is_full=is_full)


def size_of(message: str | bytes) -> int:
    """Return the bytes of a message; text is UTF-8."""
    if message.__class__ is bytes or message.isascii():
        return len(message)
    return len(message.encode()) if isinstance(message, str) else len(message)


def count_frames(frames: bytes) -> tuple[int, int]:
    """Count unmasked frames, and the bytes of their payloads."""
    count = size = at = 0
    while at + 1 < len(frames):
        length = frames[at + 1]
        at += 2
        if length >= 126:
            width = 2 if length == 126 else 8
            length = int.from_bytes(frames[at : at + width])
            at += width
        at += length
        count += 1
        size += length
    return count, size
