"""
How messages go out: at once while the peer reads, waiting within a bound while it does not.

A message is handed to the transport directly as long as the kernel takes everything. From the
first byte that it does not take, frames wait here, joined to chunks, and go to the transport one
chunk after the other, each when it is empty again. Joined, because 100 000 small messages cost as
much as their bytes and not a Python object each; here, because what a transport has taken cannot
be dropped; in chunks, because it keeps all of what it has taken until the last byte is sent.

Whoever sends to many collects what it sends in one turn of the loop, and writes it here at once.
Answers to messages that have come together are collected too, until the last of those is handled.
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

# Above this, a peer that does not read is not read from either: what it asks for would only
# pile up. Low enough that the answers to what is already read fit under max_send_buffer_size.
_PAUSE_READING_SIZE = 64 << 10  # bytes

# Frames are joined until a chunk has as much. Far above what is lost on the way to the transport
# and back, far below what may wait.
_CHUNK_SIZE = 64 << 10  # bytes

# Whoever may let less than this wait for a peer has its messages one by one, for each to find its
# room. It is what is written here at once, at most.
_MIN_JOINED_SIZE = 64 << 10  # bytes

# As many answers to messages that have come together are written together at most: with more, the
# first would wait for ever slower handlers, and a write for each of so many is no longer felt.
_MAX_CORKED_COUNT = 32

# picows copies what is up to 8 KiB, too, and hands on what is larger as it is.
_MAX_COPIED_SIZE = 8 << 10  # bytes

# With the last frame, no more than what may be written at once.
_MAX_CORKED_SIZE = _MIN_JOINED_SIZE - _MAX_COPIED_SIZE - 1024  # bytes

# What a chunk costs beside its bytes; with drop_oldest, each frame is one.
_CHUNK_COST = 96  # bytes

_SENT = SendResult.SENT
_QUEUED = SendResult.QUEUED


class SendBuffer:
    """
    The way out of one open connection.

    Attributes:
        connection: Whose.
        takes_frames: Whether frames may be written at once that are for many connections.
        key: What is equal for connections whose frames are equal; ``None`` if nobody's are.
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
        # Frames that are to be written with those that follow; `None` while each goes by itself.
        self._corked: list[bytes] | None = None
        self._corked_size = 0
        # Made when the first message has to wait: most connections never need it.
        self._chunks: deque[bytes | bytearray] | None = None
        self._waiting_size = 0
        # What the transport keeps, sent or not, until it is empty.
        self._kept_size = 0
        self._emptied_count = 0

    def open(self, send: Any, deflater: Deflater | None) -> None:
        """Let messages out."""
        self._send = send
        self._deflater = deflater
        self.key = () if deflater is None else deflater.shared_key
        self._go_direct()
        # Any byte that is not taken is told, so that `send` need not ask.
        self._transport.set_write_buffer_limits(high=0)

    def reopen(self, send: Any) -> None:
        """Go on with another way out."""
        self._send = send
        if not self._is_paused and self._corked is None:
            self._go_direct()

    def cork(self) -> None:
        """
        Write what is sent from now on together, at :meth:`uncork` at the latest.

        For answers to messages that have come together: writing takes as long as all the rest of
        a short one (bench/echo.py). A slow client's way out sees each of them.
        """
        if self._corked is None and self.takes_frames:
            self._corked = []
            self._corked_size = 0
            self.connection.transmit = self._collect
            self.connection.transmit_result = _QUEUED

    def uncork(self) -> None:
        """Write what is collected, and let each message go by itself again."""
        if self._corked is None:
            return
        frames, self._corked = self._corked, None
        self._go_direct()
        if frames:
            self.write_frames(b"".join(frames))

    def uncork_soon(self) -> None:
        """Uncork; if nothing is collected yet, in the next turn: a callback may be ``async``."""
        if self._corked:
            self.uncork()
        elif self._corked is not None:
            self._context.loop.call_soon(self.uncork)

    def stop(self) -> None:
        """Let nothing out any more, and forget what waits."""
        self._corked = None
        self.connection.transmit = discard
        self.connection.transmit_result = SendResult.CLOSED
        self.takes_frames = False
        self._chunks = None
        self._waiting_size = 0
        self._send = self._deflater = None
        self._wake()

    def flush(self) -> None:
        """Hand all that waits to the transport, so that a Close can follow it."""
        self.connection.flush_fanout()
        self.uncork()
        while self._chunks:
            self._transport.write(self._chunks.popleft())
        self._waiting_size = 0

    @property
    def is_direct(self) -> bool:
        """Whether the peer has taken everything so far."""
        return not self._is_paused

    @property
    def unsent_size(self) -> int:
        """Bytes that wait for the peer."""
        return self._waiting_size + int(self._transport.get_write_buffer_size())

    @property
    def progress(self) -> tuple[int, int, bool]:
        """How far the peer has got: a mark for :meth:`has_progressed`."""
        unsent_size = int(self._transport.get_write_buffer_size())
        # The kernel keeps MiB of its own, which a slow peer takes minutes for, and meanwhile it
        # takes nothing more from the transport.
        counted = tcp_info(self._transport.get_extra_info("socket"))
        taken = -unsent_size if counted is None else counted[1]
        return self._emptied_count, taken, unsent_size > 0

    def has_progressed(self, mark: tuple[int, int, bool]) -> bool:
        """Tell whether the peer has taken anything of what it had not taken."""
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

    # What those who send to many call.

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """Make a frame, as it has to be for this connection and all of the same key."""
        deflated = None if self._deflater is None else self._deflater.deflate(payload)
        if deflated is None:
            return encode_frame(opcode, payload)
        return encode_frame(opcode, deflated, rsv1=True)

    def write_frames(self, frames: bytes) -> None:
        """Write frames; only while :attr:`takes_frames`."""
        self._transport.write(frames)
        if self._is_paused:
            self._kept_size = max(self._kept_size, len(frames))

    def send(self, opcode: int, payload: bytes) -> None:
        """Send one message, in whatever way it is done now."""
        self.connection.transmit(opcode, payload)

    # What the transport tells.

    def paused(self, large_size: int = 0) -> None:
        """Let messages wait: the kernel did not take everything."""
        if self.connection.state is not State.OPEN:
            return
        self._is_paused = True
        corked, self._corked = self._corked, None
        for frame in corked or ():
            self._append(frame)
        self._kept_size = max(large_size, int(self._transport.get_write_buffer_size()))
        self.takes_frames = False
        self.connection.transmit = self._wait
        self.connection.transmit_result = _QUEUED
        self._check()

    def resumed(self, first: bytes = b"") -> None:
        """Send what waited, and then directly again: the transport is empty."""
        connection = self.connection
        if connection.state is not State.OPEN:
            return
        self._emptied_count += 1
        self._is_paused = False
        self._kept_size = 0
        if first:
            self._transport.write(first)
        # Each may pause again, from within.
        while self._chunks and self.is_direct:
            chunk = self._chunks.popleft()
            self._waiting_size -= len(chunk) + _CHUNK_COST
            self._transport.write(chunk)
            self._kept_size = max(self._kept_size, len(chunk)) if self._is_paused else 0
        if not self.is_direct or self._send is None:
            return
        self._go_direct()
        connection.link.resume(PAUSED_BY_PEER)
        self._wake()
        if self._is_full:
            self._is_full = False
            self._context.events.buffer_drained(connection)

    # The four ways of a message.

    def _go_direct(self) -> None:
        self.takes_frames = self._context.limits.max_send_buffer_size >= _MIN_JOINED_SIZE
        self.connection.transmit = self._send if self._deflater is None else self._send_deflated
        self.connection.transmit_result = _SENT

    def _send_deflated(self, opcode: int, payload: str | bytes) -> None:
        # Before it is compressed: with context takeover, what was compressed has to be sent.
        self._context.check_thread()
        data = payload.encode() if isinstance(payload, str) else payload
        deflated = self._deflate(data)
        if deflated is None:
            self._send(opcode, data)
        else:
            self._send(opcode, deflated, True, True)

    def _collect(self, opcode: int, payload: str | bytes) -> None:
        """Take a message that others follow; in place of the engine's ``send``."""
        data = payload.encode() if isinstance(payload, str) else payload
        if len(data) > _MAX_COPIED_SIZE:
            self._write_corked((opcode, data))
            return
        corked = self._corked
        if corked is None:
            # Called from another thread, which the way out refuses.
            self.connection.transmit(opcode, data)
            return
        if not corked:
            # What is written at once would overtake it.
            self.takes_frames = False
            self.connection.transmit_result = _QUEUED
        if self._deflater is None:
            frame = encode_frame(opcode, data)
        else:
            self._context.check_thread()  # As in `_send_deflated`.
            frame = self.encode(opcode, data)
        corked.append(frame)
        if self._corked is not corked:
            # Written meanwhile, in the event loop's thread: this is another, and comes too late.
            self._context.check_thread()
        self._corked_size += len(frame)
        if len(corked) >= _MAX_CORKED_COUNT or self._corked_size > _MAX_CORKED_SIZE:
            self._write_corked()

    def _write_corked(self, *behind: tuple[int, bytes]) -> None:
        """Write what is collected, and messages behind it; then collect again."""
        self._context.check_thread()
        connection = self.connection
        self.uncork()
        for opcode, data in behind:
            connection.transmit(opcode, data)
        fate = connection.transmit_result
        self.cork()
        # Of the last message, which may have gone out; of the next it is told when it is taken.
        connection.transmit_result = fate

    def _wait(self, opcode: int, payload: str | bytes) -> None:
        """Take a message while others are unsent; in place of the engine's ``send``."""
        self._context.check_thread()
        data = payload.encode() if isinstance(payload, str) else payload
        # Before it is compressed: with context takeover, what was compressed has to be sent.
        fate = self._admit(len(data))
        if fate is _QUEUED:
            self._append(self.encode(opcode, data))
        self.connection.transmit_result = fate
        self._check(is_full=fate is not _QUEUED)

    def _deflate(self, data: bytes) -> bytes | None:
        return None if self._deflater is None else self._deflater.deflate(data)

    # What waits.

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
        # With compression in context, a frame that is missing spoils all that come after it.
        return self._context.slow_consumer is SlowConsumer.DROP_OLDEST and (
            self._deflater is None or not self._deflater.context_takeover
        )

    def _admit(self, size: int) -> SendResult:
        """Do what the policy says about a message for which there may be no room."""
        limit = self._context.limits.max_send_buffer_size
        if self._held_size + size <= limit:
            return _QUEUED
        if self._context.slow_consumer is SlowConsumer.CLOSE:
            self._count_dropped(size)
            # The Close waits behind what is unsent, and the peer is cut off at its deadline.
            self.connection.link.close(1013, "client reads too slowly")
            return SendResult.CLOSED
        # All that wait are not worth one that has no room even so.
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
        """Bytes that are held for the peer; those that are sent already may be among them."""
        return self._waiting_size + self._kept_size

    def _count_dropped(self, size: int) -> None:
        self.connection.dropped += 1
        self._context.events.dropped(self.connection, size)

    def _check(self, *, is_full: bool = False) -> None:
        """Do what has to be done about a peer that does not read, when the message is kept."""
        connection = self.connection
        if connection.state is not State.OPEN:
            return
        held_size = self._held_size
        if held_size >= _PAUSE_READING_SIZE:
            connection.link.pause(PAUSED_BY_PEER)
        if is_full or held_size >= self._context.limits.max_send_buffer_size:
            fate = connection.transmit_result
            self._full()
            # The application may have sent more, closed or destroyed it, from within.
            if self._send is not None:
                connection.transmit_result = fate

    def _full(self) -> None:
        if not self._is_full:
            self._is_full = True
            self._context.events.buffer_full(self.connection)

    def _wake(self) -> None:
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained.set_result(None)
