"""
How messages go out: at once while the peer reads, waiting within a bound while it does not.

A message is handed to the transport directly as long as the kernel takes everything. From the
first byte that it does not take, frames wait here, joined, and go to the transport together
when that is empty again. Joined, because 100 000 small messages cost as much as their bytes
and not a Python object each; here, because what a transport has taken cannot be dropped.
"""

import asyncio
from collections import deque
from typing import Any

from ..connection import PAUSED_BY_PEER, Connection, Sent, State, discard
from ..options import SlowConsumer
from ..websocket.deflate import Deflater
from ..websocket.encoding import encode_frame
from .events import Wiring

# Above this, a peer that does not read is not read from either: what it asks for would only
# pile up. Low enough that the answers to what is already read fit under max_send_buffer_size.
_PAUSE_READING_SIZE = 64 << 10  # bytes

# What a frame costs beside its bytes where each is an object of its own (drop_oldest).
_FRAME_COST = 96  # bytes

_SENT = Sent.SENT
_QUEUED = Sent.QUEUED


class Outbox:
    """The way out of one open connection."""

    __slots__ = (
        "_connection",
        "_deflater",
        "_drained",
        "_frames",
        "_is_full",
        "_is_paused",
        "_joined",
        "_send",
        "_transport",
        "_waiting_size",
        "_wiring",
    )

    def __init__(self, connection: Connection, transport: Any, wiring: Wiring) -> None:
        """
        Prepare; nothing is sent before :meth:`open`.

        Args:
            connection: Whose.
            transport: Where to.
            wiring: Its worker's.
        """
        self._connection = connection
        self._transport = transport
        self._wiring = wiring
        self._send: Any = None
        self._deflater: Deflater | None = None
        self._drained: asyncio.Future[None] | None = None
        self._is_full = False
        self._is_paused = False
        # Made when the first message has to wait: most connections never need them.
        self._joined: bytearray | None = None
        self._frames: deque[bytes] | None = None
        self._waiting_size = 0

    def open(self, send: Any, deflater: Deflater | None) -> None:
        """
        Let messages out.

        Args:
            send: The engine's ``send(opcode, payload, fin, rsv1)``.
            deflater: Compresses; ``None`` for a connection without.
        """
        self._send = send
        self._deflater = deflater
        self._go_direct()
        # Any byte that is not taken is told, so that `send` need not ask.
        self._transport.set_write_buffer_limits(high=0)

    def reopen(self, send: Any) -> None:
        """
        Go on with another way out.

        Args:
            send: The engine's new ``send``.
        """
        self._send = send
        if not self._is_paused:
            self._go_direct()

    def stop(self) -> None:
        """Let nothing out any more, and forget what waits."""
        self._connection._wire = discard  # noqa: SLF001 - the row above's hot path
        self._connection._fate = Sent.CLOSED  # noqa: SLF001
        self._joined = self._frames = None
        self._waiting_size = 0
        self._send = self._deflater = None
        self._wake()

    def flush(self) -> None:
        """Hand all that waits to the transport, so that a Close can follow it."""
        waiting = self._take_waiting()
        if waiting:
            self._transport.write(waiting)

    @property
    def is_direct(self) -> bool:
        """Whether the peer has taken everything so far."""
        return not self._is_paused

    @property
    def unsent_size(self) -> int:
        """Bytes that wait for the peer."""
        return self._waiting_size + int(self._transport.get_write_buffer_size())

    async def drain(self) -> None:
        """Wait until nothing is unsent, or the connection is no longer open."""
        while self._connection.state is State.OPEN and self._is_paused:
            if self._drained is None:
                self._drained = self._wiring.loop.create_future()
            await asyncio.shield(self._drained)

    # What the transport tells.

    def paused(self) -> None:
        """Let messages wait: the kernel did not take everything."""
        if self._connection.state is State.OPEN:
            self._is_paused = True
            self._connection._wire = self._wait  # noqa: SLF001
            self._connection._fate = _QUEUED  # noqa: SLF001
            self._check(self.unsent_size)

    def resumed(self, first: bytes = b"") -> None:
        """
        Send what waited, and then directly again: the transport is empty.

        Args:
            first: Frames to send before it.
        """
        if self._connection.state is not State.OPEN:
            return
        waiting = first + self._take_waiting()
        self._go_direct()
        if waiting:
            # This may pause again, from within.
            self._transport.write(waiting)
        if not self._is_paused:
            self._connection._link.resume(PAUSED_BY_PEER)  # noqa: SLF001
            self._wake()
            if self._is_full:
                self._is_full = False
                self._wiring.events.buffer_drained(self._connection)

    # The three ways of a message.

    def _go_direct(self) -> None:
        self._is_paused = False
        self._connection._wire = (  # noqa: SLF001
            self._send if self._deflater is None else self._send_deflated
        )
        self._connection._fate = _SENT  # noqa: SLF001

    def _send_deflated(self, opcode: int, payload: str | bytes) -> None:
        data = payload.encode() if isinstance(payload, str) else payload
        deflated = self._deflate(data)
        if deflated is None:
            self._send(opcode, data)
        else:
            self._send(opcode, deflated, True, True)

    def _wait(self, opcode: int, payload: str | bytes) -> None:
        """Take a message while others are unsent; in place of the engine's ``send``."""
        connection = self._connection
        data = payload.encode() if isinstance(payload, str) else payload
        # Before it is compressed: with context takeover, what was compressed has to be sent.
        if self.unsent_size + len(data) > self._wiring.limits.max_send_buffer_size:
            self._full()
            if not self._make_room(len(data)):
                if connection.state is State.OPEN:
                    connection._fate = Sent.DROPPED  # noqa: SLF001
                    self._count_dropped(len(data))
                return
        deflated = None if self._deflater is None else self._deflate(data)
        if deflated is None:
            frame = encode_frame(opcode, data)
        else:
            frame = encode_frame(opcode, deflated, rsv1=True)
        self._append(frame)
        connection._fate = _QUEUED  # noqa: SLF001
        self._check(self.unsent_size)

    def _deflate(self, data: bytes) -> bytes | None:
        return None if self._deflater is None else self._deflater.deflate(data)

    # What waits.

    def _append(self, frame: bytes) -> None:
        if self._wiring.slow_consumer is SlowConsumer.DROP_OLDEST:
            if self._frames is None:
                self._frames = deque()
            self._frames.append(frame)
            self._waiting_size += len(frame) + _FRAME_COST
        else:
            if self._joined is None:
                self._joined = bytearray()
            self._joined += frame
            self._waiting_size += len(frame)

    def _take_waiting(self) -> bytes:
        waiting = b"".join(self._frames or ()) + bytes(self._joined or b"")
        self._joined = self._frames = None
        self._waiting_size = 0
        return waiting

    def _make_room(self, size: int) -> bool:
        """Do what the policy says about a message for which there is no room."""
        policy = self._wiring.slow_consumer
        if policy is SlowConsumer.CLOSE:
            self._count_dropped(size)
            # The Close waits behind what is unsent, and the peer is cut off at its deadline.
            self._connection._link.close(1013, "client reads too slowly")  # noqa: SLF001
            return False
        limit = self._wiring.limits.max_send_buffer_size
        # With compression in context, a frame that is missing spoils all that come after it.
        if policy is SlowConsumer.DROP_OLDEST and (
            self._deflater is None or not self._deflater.context_takeover
        ):
            while self._frames and self.unsent_size + size > limit:
                oldest = self._frames.popleft()
                self._waiting_size -= len(oldest) + _FRAME_COST
                self._count_dropped(len(oldest))
        return self.unsent_size + size <= limit

    def _count_dropped(self, size: int) -> None:
        self._connection.dropped += 1
        self._wiring.events.dropped(self._connection, size)

    def _check(self, unsent: int) -> None:
        if unsent >= _PAUSE_READING_SIZE:
            self._connection._link.pause(PAUSED_BY_PEER)  # noqa: SLF001
        if unsent >= self._wiring.limits.max_send_buffer_size:
            self._full()

    def _full(self) -> None:
        if not self._is_full:
            self._is_full = True
            self._wiring.events.buffer_full(self._connection)

    def _wake(self) -> None:
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained.set_result(None)
