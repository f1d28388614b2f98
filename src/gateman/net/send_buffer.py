"""
Sends messages at once while the client reads; queues them, up to a limit, while it does not.

A message goes directly to the transport as long as the kernel takes everything. Then frames are
queued here, joined to chunks, and each chunk is written when the transport is empty again. Joined,
so that 100 000 small messages cost their bytes, and not a Python object each; queued here, because
a transport cannot drop what it has taken; in chunks, because it keeps all of a write until the last
byte is sent.

The fan-out writes the frames of one iteration of the event loop here at once. Answers to messages
of one read are collected too (corked), until the last of those messages is handled.
"""

import asyncio
from collections import deque
from typing import Any

from ..connection import PAUSED_BY_PEER, Connection, SendResult, State, discard
from ..options import SlowConsumer
from ..websocket.deflate import Deflater
from ..websocket.encoding import encode_frame
from .connection_events import ConnectionContext
from .tcp_info import tcp_info

# Above this, a client that does not read is not read from either: its answers would only queue.
# Low enough that the answers to what is already read fit under max_send_buffer_size.
_PAUSE_READING_SIZE = 64 << 10  # bytes

# Frames are joined until a chunk has so many bytes: far more than the cost of a write, far less
# than max_send_buffer_size.
_CHUNK_SIZE = 64 << 10  # bytes

# A smaller max_send_buffer_size disables joined writes, so that each message is checked against
# it. No joined write is larger.
_MIN_JOINED_SIZE = 64 << 10  # bytes

# The most answers that are written together: with more, the first would wait for the handlers of
# all the others, and a write for every 32 answers costs little.
_MAX_CORKED_COUNT = 32

# As in picows, which copies messages up to 8 KiB, and writes larger ones without a copy.
_MAX_COPIED_SIZE = 8 << 10  # bytes

# With the last frame, at most _MIN_JOINED_SIZE.
_MAX_CORKED_SIZE = _MIN_JOINED_SIZE - _MAX_COPIED_SIZE - 1024  # bytes

# The cost of a chunk beside its bytes; with drop_oldest, each frame is a chunk.
_CHUNK_COST = 96  # bytes

_SENT = SendResult.SENT
_QUEUED = SendResult.QUEUED


class SendBuffer:
    """
    Sends the messages of one open connection.

    Attributes:
        connection: The connection.
        takes_frames: Whether :meth:`write_frames` may be called.
        key: Equal for connections that share frames; ``None`` if this one shares none.
    """

    __slots__ = (
        "_chunks",
        "_context",
        "_corked",
        "_corked_size",
        "_deflater",
        "_drained",
        "_emptied_count",
        "_is_full",
        "_is_paused",
        "_kept_size",
        "_send",
        "_transport",
        "_waiting_size",
        "connection",
        "key",
        "takes_frames",
    )

    def __init__(self, connection: Connection, transport: Any, context: ConnectionContext) -> None:
        self.connection = connection
        self._transport = transport
        self._context = context
        self._send: Any = None
        self._deflater: Deflater | None = None
        self.takes_frames = False
        self.key: tuple[int, ...] | None = ()
        self._drained: asyncio.Future[None] | None = None
        self._is_full = False
        self._is_paused = False
        # Frames to be written together; `None` while each is written by itself.
        self._corked: list[bytes] | None = None
        self._corked_size = 0
        # Made when the first message has to wait: most connections never need it.
        self._chunks: deque[bytes | bytearray] | None = None
        self._waiting_size = 0
        # Bytes that the transport keeps, sent or not, until it is empty.
        self._kept_size = 0
        self._emptied_count = 0

    def open(self, send: Any, deflater: Deflater | None) -> None:
        """Start sending, after the 101."""
        self._send = send
        self._deflater = deflater
        self.key = () if deflater is None else deflater.shared_key
        self._set_direct()
        # `pause_writing` reports any byte that is not taken, so that `send` need not ask.
        self._transport.set_write_buffer_limits(high=0)

    def reopen(self, send: Any) -> None:
        """Continue with the ``send`` of a new picows."""
        self._send = send
        if not self._is_paused and self._corked is None:
            self._set_direct()

    def cork(self) -> None:
        """
        Collect the next messages, and write them together at :meth:`uncork`.

        For answers to the messages of one read: a write costs as much as all else that a short
        message needs (bench/echo.py).
        """
        if self._corked is None and self.takes_frames:
            self._corked = []
            self._corked_size = 0
            self.connection.transmit = self._cork_message
            self.connection.transmit_result = _QUEUED

    def uncork(self) -> None:
        """Write the collected messages; the next ones are written one by one."""
        if self._corked is None:
            return
        frames, self._corked = self._corked, None
        self._set_direct()
        if frames:
            self.write_frames(b"".join(frames))

    def uncork_soon(self) -> None:
        """Uncork, or in the next iteration if there is nothing yet: a callback may be ``async``."""
        if self._corked:
            self.uncork()
        elif self._corked is not None:
            self._context.loop.call_soon(self.uncork)

    def stop(self) -> None:
        """Stop sending, and discard the queue."""
        self._corked = None
        self.connection.transmit = discard
        self.connection.transmit_result = SendResult.CLOSED
        self.takes_frames = False
        self._chunks = None
        self._waiting_size = 0
        self._send = self._deflater = None
        self._wake_drain()

    def flush(self) -> None:
        """Write the whole queue to the transport, so that a Close can follow."""
        self.connection.flush_fanout()
        self.uncork()
        while self._chunks:
            self._transport.write(self._chunks.popleft())
        self._waiting_size = 0

    @property
    def is_direct(self) -> bool:
        """Whether nothing is queued."""
        return not self._is_paused

    @property
    def unsent_size(self) -> int:
        return self._waiting_size + int(self._transport.get_write_buffer_size())

    @property
    def progress(self) -> tuple[int, int, bool]:
        """How much the client has read, for :meth:`has_progressed`."""
        unsent_size = int(self._transport.get_write_buffer_size())
        # The kernel's own buffer may take a slow client minutes to read, and meanwhile the kernel
        # takes nothing from the transport.
        counted = tcp_info(self._transport.get_extra_info("socket"))
        taken = -unsent_size if counted is None else counted[1]
        return self._emptied_count, taken, unsent_size > 0

    def has_progressed(self, mark: tuple[int, int, bool]) -> bool:
        """Return whether the client has read anything since the mark."""
        emptied_count, taken, is_unsent = self.progress
        if emptied_count > mark[0]:
            return True
        return (is_unsent or mark[2]) and taken > mark[1]

    async def drain(self) -> None:
        """Wait until nothing is unsent, or the connection is no longer open."""
        self.connection.flush_fanout()
        self.uncork()
        while self.connection.state is State.OPEN and self._is_paused:
            if self._drained is None:
                self._drained = self._context.loop.create_future()
            await asyncio.shield(self._drained)

    # Called by the fan-out.

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """Make a frame for this connection and all that have the same key."""
        deflated = None if self._deflater is None else self._deflater.deflate(payload)
        if deflated is None:
            return encode_frame(opcode, payload)
        return encode_frame(opcode, deflated, rsv1=True)

    def write_frames(self, frames: bytes) -> None:
        """Write frames at once; only while :attr:`takes_frames`."""
        self._transport.write(frames)
        if self._is_paused:
            self._kept_size = max(self._kept_size, len(frames))

    def send(self, opcode: int, payload: bytes) -> None:
        """Send one message as ``connection.send`` does."""
        self.connection.transmit(opcode, payload)

    # Called when the transport pauses and resumes writing.

    def paused(self, large_size: int = 0) -> None:
        """Queue messages from now on: the kernel did not take everything."""
        if self.connection.state is not State.OPEN:
            return
        self._is_paused = True
        corked, self._corked = self._corked, None
        for frame in corked or ():
            self._append(frame)
        self._kept_size = max(large_size, int(self._transport.get_write_buffer_size()))
        self.takes_frames = False
        self.connection.transmit = self._enqueue
        self.connection.transmit_result = _QUEUED
        self._check_fullness()

    def resumed(self, first: bytes = b"") -> None:
        """Write ``first`` and the queue, then messages directly: the transport is empty."""
        connection = self.connection
        if connection.state is not State.OPEN:
            return
        self._emptied_count += 1
        self._is_paused = False
        self._kept_size = 0
        if first:
            self._transport.write(first)
        # Each write may call `paused` again.
        while self._chunks and self.is_direct:
            chunk = self._chunks.popleft()
            self._waiting_size -= len(chunk) + _CHUNK_COST
            self._transport.write(chunk)
            self._kept_size = max(self._kept_size, len(chunk)) if self._is_paused else 0
        if not self.is_direct or self._send is None:
            return
        self._set_direct()
        connection.link.resume(PAUSED_BY_PEER)
        self._wake_drain()
        if self._is_full:
            self._is_full = False
            self._context.events.buffer_drained(connection)

    # The values of `connection.transmit`, by state: direct (picows' `send`, or `_send_deflated`),
    # corked, queued.

    def _set_direct(self) -> None:
        self.takes_frames = self._context.limits.max_send_buffer_size >= _MIN_JOINED_SIZE
        self.connection.transmit = self._send if self._deflater is None else self._send_deflated
        self.connection.transmit_result = _SENT

    def _send_deflated(self, opcode: int, payload: str | bytes) -> None:
        # First: with context takeover, a message that is compressed has to be sent.
        self._context.check_thread()
        data = payload.encode() if isinstance(payload, str) else payload
        deflated = self._deflate(data)
        if deflated is None:
            self._send(opcode, data)
        else:
            self._send(opcode, deflated, True, True)

    def _cork_message(self, opcode: int, payload: str | bytes) -> None:
        data = payload.encode() if isinstance(payload, str) else payload
        if len(data) > _MAX_COPIED_SIZE:
            self._write_corked((opcode, data))
            return
        corked = self._corked
        if corked is None:
            # Called from another thread, which `transmit` refuses.
            self.connection.transmit(opcode, data)
            return
        if not corked:
            # A direct write would overtake it.
            self.takes_frames = False
            self.connection.transmit_result = _QUEUED
        if self._deflater is None:
            frame = encode_frame(opcode, data)
        else:
            self._context.check_thread()  # As in `_send_deflated`.
            frame = self.encode(opcode, data)
        corked.append(frame)
        if self._corked is not corked:
            # The event loop's thread has uncorked meanwhile: this is another thread.
            self._context.check_thread()
        self._corked_size += len(frame)
        if len(corked) >= _MAX_CORKED_COUNT or self._corked_size > _MAX_CORKED_SIZE:
            self._write_corked()

    def _write_corked(self, *behind: tuple[int, bytes]) -> None:
        """Write the collected messages and ``behind``, then cork again."""
        self._context.check_thread()
        connection = self.connection
        self.uncork()
        for opcode, data in behind:
            connection.transmit(opcode, data)
        result = connection.transmit_result
        self.cork()
        # The result of the last message, which may have been sent; the next message sets its own.
        connection.transmit_result = result

    def _enqueue(self, opcode: int, payload: str | bytes) -> None:
        self._context.check_thread()
        data = payload.encode() if isinstance(payload, str) else payload
        # First: with context takeover, a message that is compressed has to be sent.
        result = self._admit(len(data))
        if result is _QUEUED:
            self._append(self.encode(opcode, data))
        self.connection.transmit_result = result
        self._check_fullness(is_full=result is not _QUEUED)

    def _deflate(self, data: bytes) -> bytes | None:
        return None if self._deflater is None else self._deflater.deflate(data)

    # The queue.

    def _append(self, frame: bytes) -> None:
        if self._chunks is None:
            self._chunks = deque()
        chunks = self._chunks
        last = chunks[-1] if chunks else b""
        if isinstance(last, bytearray) and len(last) < _CHUNK_SIZE:
            last += frame
            self._waiting_size += len(frame)
            return
        is_alone = len(frame) >= _CHUNK_SIZE or self._drops_oldest
        chunks.append(frame if is_alone else bytearray(frame))
        self._waiting_size += len(frame) + _CHUNK_COST

    @property
    def _drops_oldest(self) -> bool:
        # With context takeover, the client cannot inflate the frames after a missing one.
        return self._context.slow_consumer is SlowConsumer.DROP_OLDEST and (
            self._deflater is None or not self._deflater.context_takeover
        )

    def _admit(self, size: int) -> SendResult:
        """Apply the slow consumer policy to a message of ``size`` bytes."""
        limit = self._context.limits.max_send_buffer_size
        if self._held_size + size <= limit:
            return _QUEUED
        if self._context.slow_consumer is SlowConsumer.CLOSE:
            self._count_dropped(size)
            # The Close follows what is unsent; at its deadline the connection is aborted.
            self.connection.link.close(1013, "client reads too slowly")
            return SendResult.CLOSED
        # Not if the message has no room even in an empty queue.
        if self._drops_oldest and self._kept_size + size <= limit:
            while self._chunks and self._held_size + size > limit:
                oldest = self._chunks.popleft()
                self._waiting_size -= len(oldest) + _CHUNK_COST
                self._count_dropped(len(oldest))
            return _QUEUED
        self._count_dropped(size)
        return SendResult.DROPPED

    @property
    def _held_size(self) -> int:
        """Bytes held for the client; some of them may be sent already."""
        return self._waiting_size + self._kept_size

    def _count_dropped(self, size: int) -> None:
        self.connection.dropped += 1
        self._context.events.dropped(self.connection, size)

    def _check_fullness(self, *, is_full: bool = False) -> None:
        """Pause reading and report a full buffer, by the size that is held."""
        connection = self.connection
        if connection.state is not State.OPEN:
            return
        held_size = self._held_size
        if held_size >= _PAUSE_READING_SIZE:
            connection.link.pause(PAUSED_BY_PEER)
        if is_full or held_size >= self._context.limits.max_send_buffer_size:
            result = connection.transmit_result
            self._report_full()
            # In the callback, the application may have sent more, closed or destroyed it.
            if self._send is not None:
                connection.transmit_result = result

    def _report_full(self) -> None:
        if not self._is_full:
            self._is_full = True
            self._context.events.buffer_full(self.connection)

    def _wake_drain(self) -> None:
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained.set_result(None)
