"""
The way out of a connection: what becomes of each message that is sent to its client.

:meth:`SendBuffer.send` decides it, by the state of the connection, and returns it:

    EARLY       kept until the 101
    DIRECT      written at once: the kernel takes everything
    CORKED      the next small message is collected; nothing is collected yet
    COLLECTING  collected with those before it, to be written together
    WAITING     queued, up to a limit: the client reads slowly
    CLOSED      discarded

Corked are the answers to the messages of one read, until the last of those messages is handled. The
fan-out writes the frames of one iteration of the event loop here at once.
"""

import asyncio
from enum import Enum
from typing import Any

from ..connection import Connection, State
from ..connection_interfaces import PAUSED_BY_PEER, SendResult
from ..options import SlowConsumer
from ..websocket.close import TOO_SLOW
from ..websocket.deflate import Deflater
from ..websocket.encoding import as_payload, encode_frame
from .connection_events import ConnectionContext
from .send_queue import SendQueue
from .tcp_info import tcp_info

# Above this, a client that does not read is not read from either: its answers would only queue.
# Low enough that the answers to what is already read fit under max_send_buffer_size.
_PAUSE_READING_SIZE = 64 << 10  # bytes

# A smaller max_send_buffer_size disables joined writes, so that each message is checked against
# it. No joined write is larger.
_MIN_JOINED_SIZE = 64 << 10  # bytes

# The most answers that are written together: with more, the first would wait for the handlers of
# all the others, and a write for every 32 answers costs little.
MAX_CORKED_COUNT = 32

# As in picows, which copies messages up to 8 KiB, and writes larger ones without a copy.
MAX_COPIED_SIZE = 8 << 10  # bytes

# With the last frame, at most _MIN_JOINED_SIZE.
MAX_CORKED_SIZE = _MIN_JOINED_SIZE - MAX_COPIED_SIZE - 1024  # bytes

# The cost of a message that is kept until the 101, beside its bytes.
_EARLY_COST = 96  # bytes


class SendState(Enum):
    """What a send buffer does with the next message."""

    EARLY = "early"
    DIRECT = "direct"
    CORKED = "corked"
    COLLECTING = "collecting"
    WAITING = "waiting"
    CLOSED = "closed"

    # Members are compared by identity; the hash of an enum is a Python function.
    __hash__ = object.__hash__


# Globals of the module: an attribute of an enum class costs 40 ns, a global 10.
_EARLY = SendState.EARLY
_DIRECT = SendState.DIRECT
_CORKED = SendState.CORKED
_COLLECTING = SendState.COLLECTING
_WAITING = SendState.WAITING
_CLOSED = SendState.CLOSED

TRANSITIONS = {
    _EARLY: {_DIRECT, _CLOSED},  # the 101 is sent
    _DIRECT: {_CORKED, _WAITING, _CLOSED},  # more frames of the same read; the kernel is full
    _CORKED: {_DIRECT, _COLLECTING, _WAITING, _CLOSED},  # the last frame; a first message
    _COLLECTING: {_DIRECT, _WAITING, _CLOSED},  # written
    _WAITING: {_DIRECT, _CLOSED},  # the transport is empty
    _CLOSED: set[SendState](),
}
"""The states that may follow each state."""

RESULTS = {
    _DIRECT: SendResult.SENT,
    _WAITING: SendResult.QUEUED,
    _CLOSED: SendResult.CLOSED,
}
"""What has become of a message that was written, by the state to which the write has led."""

_DIRECT_STATES = {_DIRECT, _CORKED, _COLLECTING}

_SENT = SendResult.SENT
_QUEUED = SendResult.QUEUED


class SendBuffer:
    """Sends the messages of one connection."""

    __slots__ = (
        "_collected",
        "_collected_size",
        "_context",
        "_deflater",
        "_drained",
        "_early",
        "_early_size",
        "_emptied_count",
        "_is_full",
        "_is_paused",
        "_picows_send",
        "_queue",
        "_transport",
        "_write",
        "connection",
        "dropped",
        "key",
        "state",
        "takes_frames",
    )

    connection: Connection
    has_channels = False

    def __init__(self, transport: Any, context: ConnectionContext) -> None:
        # What happens to the next message.
        self.state = _EARLY
        self.dropped = 0
        self._transport = transport
        self._context = context
        self._picows_send: Any = None
        # Writes one message: picows' `send`, or `_write_deflated`.
        self._write: Any = None
        self._deflater: Deflater | None = None
        # Whether `write_frames` may be called.
        self.takes_frames = False
        # Equal for connections that share frames; None if this one shares none.
        self.key: tuple[int, ...] | None = ()
        self._drained: asyncio.Future[None] | None = None
        self._is_full = False
        # Whether the transport has bytes that the kernel has not taken.
        self._is_paused = False
        # Messages that were sent before the 101.
        self._early: list[tuple[int, bytes]] | None = None
        self._early_size = 0
        # Frames to be written together.
        self._collected: list[bytes] | None = None
        self._collected_size = 0
        # Only while the client reads slowly.
        self._queue: SendQueue | None = None
        self._emptied_count = 0

    def _enter(self, state: SendState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"a send buffer cannot go from {self.state} to {state}")
        self.state = state
        # With frames collected, a write would overtake them.
        self.takes_frames = (
            state is _DIRECT or state is _CORKED
        ) and self._context.limits.max_send_buffer_size >= _MIN_JOINED_SIZE

    def send(self, opcode: int, payload: str | bytes) -> SendResult:
        """Send one message, and return what became of it."""
        state = self.state
        if state is _DIRECT:
            write = self._write
            try:
                write(opcode, payload)
            except RuntimeError:
                # picows checks the thread, so that nothing else has to.
                self._context.check_thread()
                raise
            # Mostly the same: the transport calls `paused` if the kernel did not take everything.
            return _SENT if self.state is _DIRECT else RESULTS[self.state]
        if state is _COLLECTING or state is _CORKED:
            return self._collect(opcode, payload)
        if state is _CLOSED:
            return SendResult.CLOSED
        self._context.check_thread()
        data = payload.encode() if isinstance(payload, str) else payload
        if self._queue is None:
            return self._keep_early(opcode, data)
        return self._enqueue(self._queue, opcode, data)

    def carries(self, _kind: int) -> bool:
        """Tell that a WebSocket carries every kind of message."""
        return True

    def open(self, send: Any, deflater: Deflater | None) -> None:
        """Start sending with picows' ``send``, after the 101."""
        self._deflater = deflater
        self.key = () if deflater is None else deflater.shared_key
        self.reopen(send)
        early, self._early, self._early_size = self._early, None, 0
        self._enter(_DIRECT)
        # `pause_writing` reports any byte that is not taken, so that `send` need not ask.
        self._transport.set_write_buffer_limits(high=0)
        for opcode, payload in early or ():
            self.send(opcode, payload)

    def reopen(self, send: Any) -> None:
        """Continue with the ``send`` of a new picows."""
        self._picows_send = send
        self._write = send if self._deflater is None else self._write_deflated

    as_payload = staticmethod(as_payload)

    def ping(self, ws: Any) -> None:
        """Ask the client for a sign of life."""
        ws.send_ping()

    def cork(self) -> None:
        """Collect the next messages, and write them together at :meth:`uncork`."""
        # A write costs as much as all else that a short message needs (bench/echo.py).
        if self.state is _DIRECT and self.takes_frames:
            self._enter(_CORKED)

    def uncork(self) -> None:
        """Write the collected messages; the next ones are written one by one."""
        if self.state is _CORKED:
            self._enter(_DIRECT)
        elif self.state is _COLLECTING:
            frames, self._collected = self._collected, None
            self._enter(_DIRECT)
            # Not a subclass's: each message was counted by `send`.
            SendBuffer.write_frames(self, b"".join(frames or ()))

    def uncork_soon(self) -> None:
        """Uncork, or in the next iteration if there is nothing yet: a callback may be ``async``."""
        if self.state is _CORKED:
            self._context.loop.call_soon(self.uncork)
        else:
            self.uncork()

    def close(self) -> None:
        """Discard what waits, and all later messages."""
        if self.state is _CLOSED:
            return
        self._enter(_CLOSED)
        self._early = self._collected = self._queue = None
        self._early_size = 0
        self._picows_send = self._write = self._deflater = None
        self._wake_drain()

    def finish(self) -> None:
        """Give everything that waits to the transport, so that a Close can follow, and close."""
        self.connection.flush_fanout()
        self.uncork()
        queue = self._queue
        self.close()
        while queue:
            self._transport.write(queue.pop())

    def detach(self) -> None:
        """Release the connection, which refers to this object, and its transport."""
        self.close()
        del self.connection
        self._transport = None

    @property
    def is_closed(self) -> bool:
        return self.state is _CLOSED

    @property
    def is_direct(self) -> bool:
        """Whether the connection is open, and its client not slow."""
        return self.state in _DIRECT_STATES

    @property
    def unsent_size(self) -> int:
        """Bytes that wait in this process for the client."""
        if self._transport is None:
            return 0
        waiting_size = self._early_size if self._queue is None else self._queue.waiting_size
        return waiting_size + int(self._transport.get_write_buffer_size())

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
        """Wait until nothing is unsent; return at once if the connection is not open."""
        if self.state is _EARLY or self.state is _CLOSED:
            return
        self.connection.flush_fanout()
        self.uncork()
        while self.state is _WAITING:
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
        if self._queue is not None:
            self._queue.kept_size = max(self._queue.kept_size, len(frames))

    # Called when the transport pauses and resumes writing.

    def paused(self, large_size: int = 0) -> None:
        """Queue messages from now on: the kernel did not take everything."""
        if self.state is _EARLY or self.state is _CLOSED:
            return
        self._is_paused = True
        collected, self._collected = self._collected, None
        if self.state is not _WAITING:
            self._enter(_WAITING)
        if self._queue is None:
            self._queue = SendQueue(is_joined=not self._drops_oldest)
        for frame in collected or ():
            self._queue.append(frame)
        self._queue.kept_size = max(large_size, int(self._transport.get_write_buffer_size()))
        self._check_fullness(self._queue)

    def resumed(self, first: bytes = b"") -> None:
        """Write ``first`` and the queue, then messages directly: the transport is empty."""
        queue = self._queue
        if queue is None:
            return
        connection = self.connection
        self._emptied_count += 1
        self._is_paused = False
        queue.kept_size = 0
        if first:
            self._transport.write(first)
        # Each write may call `paused` again.
        while queue and self._may_resume():
            chunk = queue.pop()
            self._transport.write(chunk)
            queue.kept_size = max(queue.kept_size, len(chunk)) if self._is_paused else 0
        if not self._may_resume():
            return
        self._queue = None
        self._enter(_DIRECT)
        connection.link.resume(PAUSED_BY_PEER)
        self._wake_drain()
        if self._is_full:
            self._is_full = False
            self._context.events.buffer_drained(connection)

    def _may_resume(self) -> bool:
        """Return whether the transport is empty, and no callback has closed the connection."""
        return self.state is _WAITING and not self._is_paused

    # What `send` does, by state.

    def _keep_early(self, opcode: int, data: bytes) -> SendResult:
        size = len(data) + _EARLY_COST
        if self._early_size + size > self._context.limits.max_send_buffer_size:
            return self._drop_early(len(data), "its handshake is not done")
        if self._early is None:
            self._early = []
        self._early.append((opcode, data))
        self._early_size += size
        return _QUEUED

    def _drop_early(self, size: int, reason: str) -> SendResult:
        self.dropped += 1
        self._context.events.noticed(
            "dropped_early",
            f"a message of {size} bytes to {self.connection!r} was dropped: {reason}, and"
            " limits.max_send_buffer_size is waiting for it already",
        )
        return SendResult.DROPPED

    def _write_deflated(self, opcode: int, payload: str | bytes) -> None:
        # First: with context takeover, a message that is compressed has to be sent.
        self._context.check_thread()
        data = payload.encode() if isinstance(payload, str) else payload
        deflated = self._deflate(data)
        if deflated is None:
            self._picows_send(opcode, data)
        else:
            self._picows_send(opcode, deflated, True, True)

    def _collect(self, opcode: int, payload: str | bytes) -> SendResult:
        data = payload.encode() if isinstance(payload, str) else payload
        if len(data) > MAX_COPIED_SIZE:
            return self._write_collected((opcode, data))
        collected = self._collected
        if collected is None:
            # Also if the event loop's thread has written them meanwhile: this is another thread.
            self._context.check_thread()
            collected = self._collected = []
            self._collected_size = 0
            self._enter(_COLLECTING)
        if self._deflater is None:
            frame = encode_frame(opcode, data)
        else:
            self._context.check_thread()  # As in `_write_deflated`.
            frame = self.encode(opcode, data)
        collected.append(frame)
        if self._collected is not collected:
            self._context.check_thread()
        self._collected_size += len(frame)
        if len(collected) >= MAX_CORKED_COUNT or self._collected_size > MAX_CORKED_SIZE:
            return self._write_collected()
        return _QUEUED

    def _write_collected(self, *behind: tuple[int, bytes]) -> SendResult:
        """Write the collected messages and ``behind``, then cork again; return the last result."""
        self._context.check_thread()
        self.uncork()
        result = RESULTS[self.state]
        for opcode, data in behind:
            result = self.send(opcode, data)
        self.cork()
        return result

    def _enqueue(self, queue: SendQueue, opcode: int, data: bytes) -> SendResult:
        result = self._admit(queue, len(data))
        if result is _QUEUED:
            queue.append(self.encode(opcode, data))
        self._check_fullness(queue, is_full=result is not _QUEUED)
        # In `on_buffer_full`, the application may have closed it.
        return SendResult.CLOSED if self.state is _CLOSED else result

    def _deflate(self, data: bytes) -> bytes | None:
        return None if self._deflater is None else self._deflater.deflate(data)

    # The limit.

    @property
    def _drops_oldest(self) -> bool:
        # With context takeover, the client cannot inflate the frames after a missing one.
        return self._context.slow_consumer is SlowConsumer.DROP_OLDEST and (
            self._deflater is None or not self._deflater.context_takeover
        )

    def _admit(self, queue: SendQueue, size: int) -> SendResult:
        """Apply the slow consumer policy to a message of ``size`` bytes."""
        limit = self._context.limits.max_send_buffer_size
        if queue.held_size + size <= limit:
            return _QUEUED
        if self._context.slow_consumer is SlowConsumer.CLOSE:
            self._count_dropped(size)
            # The Close follows what is unsent; at its deadline the connection is aborted.
            self.connection.link.close(*TOO_SLOW)
            return SendResult.CLOSED
        # Not if the message has no room even in an empty queue.
        if self._drops_oldest and queue.kept_size + size <= limit:
            for dropped_size in queue.drop_until(limit - size):
                self._count_dropped(dropped_size)
            return _QUEUED
        self._count_dropped(size)
        return SendResult.DROPPED

    def _count_dropped(self, size: int) -> None:
        self.dropped += 1
        self._context.events.dropped(self.connection, size)

    def _check_fullness(self, queue: SendQueue, *, is_full: bool = False) -> None:
        """Pause reading and report a full buffer, by the size that is held."""
        connection = self.connection
        if connection.state is not State.OPEN:
            return
        held_size = queue.held_size
        if held_size >= _PAUSE_READING_SIZE:
            connection.link.pause(PAUSED_BY_PEER)
        is_full = is_full or held_size >= self._context.limits.max_send_buffer_size
        if is_full and not self._is_full:
            self._is_full = True
            self._context.events.buffer_full(connection)

    def _wake_drain(self) -> None:
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained.set_result(None)
