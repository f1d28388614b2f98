"""
Received frames: they become messages, wait while reading is paused, or end the connection.

picows (:mod:`gateman.net.picows_adapter`) delivers frames that are each well-formed. This module
does the rest, with :mod:`gateman.websocket`:

* It assembles messages, and checks the order of frames, size, UTF-8 and reserved bits.
* It holds frames that arrive while reading is paused: picows delivers all frames of one read, and
  cannot be stopped.
* It answers only the latest ping: picows' automatic pong is unbounded.
"""

from asyncio import CancelledError
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from ..connection import Connection, State
from ..connection_interfaces import PAUSED_BY_HELD, PAUSED_BY_INFLATION, PAUSED_BY_PEER
from ..errors import ProtocolError
from ..websocket.assembler import Assembler, check_control, not_utf8, reserved_bits
from ..websocket.close import message_flood
from ..websocket.held_frames import HeldFrames
from .aiofastnet_adapter import resume_tls_reading
from .connection_events import ConnectionContext
from .inflation import Inflation
from .picows_adapter import LARGE_SIZE
from .send_buffer import SendBuffer

# Globals of the module: an attribute of an enum class costs 40 ns, a global 10.
_TEXT = WSMsgType.TEXT
_BINARY = WSMsgType.BINARY
_CONTINUATION = WSMsgType.CONTINUATION
_PING = WSMsgType.PING
_PONG = WSMsgType.PONG
_OPEN = State.OPEN

_FIN = 0x80
_RSV1 = 0b100


def discard(_connection: Connection, _message: str | bytes) -> None:
    """Receives the messages of connections that are not open."""


# The assembler of connections that are not open.
UNUSED_ASSEMBLER = Assembler(1)


class FrameReceiver(WSListener):
    """What an open connection does with received frames; the subclass ends the connection."""

    __slots__ = (
        "_adapter",
        "_assembler",
        "_connection",
        "_context",
        "_counted",
        "_deliver",
        "_frames_without_message",
        "_has_pong",
        "_held",
        "_inflation",
        "_is_corked",
        "_is_simple",
        "_messages_left",
        "_paused",
        "_pong",
        "_transport",
        "_window_at",
        "_ws",
        "send_buffer",
    )

    def __init__(
        self,
        transport: Any,
        connection: Connection,
        send_buffer: SendBuffer,
        context: ConnectionContext,
    ) -> None:
        self._transport = transport
        self._connection = connection
        self._context = context
        self.send_buffer = send_buffer
        self._deliver: Any = context.events.deliver
        self._assembler = UNUSED_ASSEMBLER
        # Whether the next frame may be a whole message: no fragments, compression or pause.
        self._is_simple = True
        # `None` without compression.
        self._inflation: Inflation | None = None
        # Frames that arrived while reading was paused; `None` for none.
        self._held: HeldFrames | None = None
        # Whether the send buffer is corked until the last frame of this read.
        self._is_corked = False
        self._adapter: Any = None
        self._ws: Any = None
        self._paused = 0
        self._pong: bytes | None = None
        # The messages left until the clock is read again, so that the rate limit and the counter
        # cost the hot path one subtraction.
        self._messages_left = context.limits.max_messages_per_second
        self._window_at = context.loop.time()
        self._counted = 0
        # Control frames and fragments: they count for the rate limit, and are not messages.
        self._frames_without_message = 0
        self._has_pong = False

    def _fail(self, error: ProtocolError) -> None:
        """Fail the WebSocket connection (RFC 6455, section 7.1.7)."""
        raise NotImplementedError

    def _peer_closed(self, payload: bytes) -> None:
        """Answer the peer's Close, unless it answers ours, and end the connection."""
        raise NotImplementedError

    def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
        """Deliver a message, or handle another frame."""
        # A whole message in one frame, the common case, is checked here and not in the assembler.
        # While more frames of the same read follow, answers are collected and written together.
        kind = frame.msg_type
        message: str | bytes | None = None
        if (
            self._is_simple
            and (kind is _TEXT or kind is _BINARY)
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
        ):
            try:
                message = (
                    frame.get_payload_as_utf8_text()
                    if kind is _TEXT
                    else frame.get_payload_as_bytes()
                )
            except UnicodeDecodeError:
                self._fail(not_utf8())
                return
            self._messages_left -= 1
            if self._messages_left < 0 and not self._next_window():
                return
            if len(message) > LARGE_SIZE:
                self._adapter.widen()
        elif self._connection.state is not State.CLOSED:
            try:
                message = self._handle_frame(kind, frame)
            except ProtocolError as error:
                self._fail(error)
        if message is not None:
            if not frame.last_in_buffer:
                self._is_corked = True
                self.send_buffer.cork()
            deliver = self._deliver
            try:
                deliver(self._connection, message)
            except (Exception, CancelledError) as error:  # noqa: BLE001 - an application's
                self._context.events.handler_failed(self._connection, error)
        if self._is_corked and frame.last_in_buffer:
            self._is_corked = False
            self.send_buffer.uncork_soon()
        if not self._is_simple:
            self._bound_buffering(frame)

    @property
    def message_count(self) -> int:
        taken = self._context.limits.max_messages_per_second - self._messages_left
        return self._counted + taken - self._frames_without_message

    # Frames that are not whole messages.

    def _handle_frame(self, kind: WSMsgType, frame: WSFrame) -> str | bytes | None:
        """Handle a frame; return the message, if it completes one."""
        self._messages_left -= 1
        if self._messages_left < 0 and not self._next_window():
            return None
        if self._held is not None and self._held.close is not None:
            # RFC 6455, section 5.5.1: what follows a Close is ignored.
            return None
        rsv = frame.rsv1 << 2 | frame.rsv2 << 1 | frame.rsv3
        if kind is _TEXT or kind is _BINARY or kind is _CONTINUATION:
            if frame.payload_size > LARGE_SIZE:
                self._adapter.widen()
            payload, fin = frame.get_payload_as_memoryview(), bool(frame.fin)
            if not self._paused and (self._inflation is None or not self._must_wait(rsv)):
                return self._feed_data(kind.value, payload, fin, rsv)
            if rsv or self._held is None:
                self._hold(kind.value, payload, fin, rsv)
            else:
                self._held.append(kind.value, payload, fin, rsv)
        else:
            self._handle_control_frame(kind, rsv, frame)
        return None

    def _handle_control_frame(self, kind: WSMsgType, rsv: int, frame: WSFrame) -> None:
        self._frames_without_message += 1
        check_control(rsv)
        if kind is _PING:
            if self._connection.state is not State.OPEN:
                return
            self.send_buffer.uncork()
            # RFC 6455, section 5.5.3: only the latest ping need be answered.
            if self.send_buffer.is_direct:
                self._ws.send_pong(frame.get_payload_as_bytes())
            else:
                self._pong = frame.get_payload_as_bytes()
        elif kind is _PONG:
            self._has_pong = True
            self._adapter.narrow()
            self._release_buffer(frame)  # Once per ping interval: off the hot path.
        elif self._held is None:
            self._peer_closed(frame.get_payload_as_bytes())
        else:
            # The frames before it are still to be delivered.
            self._held.close = frame.get_payload_as_bytes()

    def _feed_data(
        self,
        opcode: int,
        payload: bytes | memoryview,
        fin: bool,  # noqa: FBT001 - a frame's fields, by position: some have one byte
        rsv: int,
    ) -> str | bytes | None:
        """Feed the assembler; return the message, if the frame completes one."""
        if self._deliver is discard:
            return None
        assembler = self._assembler
        if self._inflation is None or not (rsv or assembler.is_inflating):
            message = assembler.feed(opcode, fin, rsv, payload)
        else:
            message = self._inflation.feed(assembler, opcode, payload, fin=fin, rsv=rsv)
        if message is None:
            self._frames_without_message += 1
            self._is_simple = False
        return message

    def _must_wait(self, rsv: int) -> bool:
        """Return whether a frame waits because its client's budget is spent; pause reading then."""
        inflation = self._inflation
        if (
            inflation is None
            or not (rsv or self._assembler.is_inflating)
            or self._deliver is discard
            or not inflation.must_wait()
        ):
            return False
        self.pause(PAUSED_BY_INFLATION)
        if inflation.is_over:
            self._context.events.noticed(
                "inflate_limit",
                f"{self._connection!r} sends more compressed data than"
                " Deflate.max_inflated_per_second, and has to wait",
            )
        return True

    def _bound_buffering(self, frame: WSFrame) -> None:
        """Bound the buffered bytes of an incomplete message, and of frames that are held."""
        if self._connection.state is not _OPEN:
            return
        assembler = self._assembler
        is_limited = assembler.in_message or self._held is not None
        if not is_limited:
            self._adapter.stop_limiting()
            self._is_simple = not (self._inflation or self._paused)
            if not self._paused:
                return
        # For the others, this happens at the last frame of the read.
        if frame.last_in_buffer:
            self._release_buffer(frame)
            if is_limited:
                self._adapter.limit_next_frame(frame, assembler.size)

    def _release_buffer(self, frame: WSFrame) -> None:
        """Release a read buffer that has grown, now that its frame is handled."""
        if self._adapter.release_buffer(frame):
            self.send_buffer.reopen(self._ws.send)

    # Pauses, and the frames that arrive meanwhile.

    def pause(self, reason: int) -> None:
        """Stop reading for one more reason; has no effect during the closing handshake."""
        if self._connection.state is not State.OPEN:
            return
        if not self._paused:
            self._transport.pause_reading()
        self._paused |= reason
        self._is_simple = False

    def resume(self, reason: int) -> None:
        """Remove a reason to pause, and resume reading after the last."""
        if not self._paused & reason:
            return
        self._paused &= ~reason
        if self._paused & ~PAUSED_BY_HELD:
            return
        self._has_pong |= reason != PAUSED_BY_PEER  # The pong may be among the unread bytes.
        if self._paused:
            # Not at once: a callback may have called this.
            self._context.loop.call_soon(self._process_held)
        else:
            self._is_simple = not (self._inflation or self._assembler.in_message)
            self._resume_reading()

    def _resume_reading(self) -> None:
        if self._connection.is_secure:
            self._context.loop.call_soon(self._resume_tls_reading)
        else:
            self._transport.resume_reading()

    def _resume_tls_reading(self) -> None:
        if not self._paused and self._connection.state is not State.CLOSED:
            resume_tls_reading(self._transport)

    def _hold(
        self,
        opcode: int,
        payload: bytes | memoryview,
        fin: bool,  # noqa: FBT001 - as in `_feed_data`
        rsv: int,
    ) -> None:
        if rsv and (rsv != _RSV1 or self._inflation is None):
            raise reserved_bits()
        held = self._held
        if held is None:
            held = self._held = HeldFrames()
            self.pause(PAUSED_BY_HELD)
        held.append(opcode, payload, fin, rsv)

    def _inflate_again(self) -> None:
        self._paused &= ~PAUSED_BY_INFLATION
        self._process_held()

    def _process_held(self) -> None:
        """Handle the held frames until reading is paused again; after the last, resume reading."""
        held, connection = self._held, self._connection
        if held is None or connection.state is State.CLOSED:
            return
        data = held.data
        if self._deliver is discard:
            data.clear()
        while data and self._paused == PAUSED_BY_HELD and self._deliver is not discard:
            first = data[0]
            rsv = first >> 4 & 0b111
            try:
                if self._inflation is not None and self._must_wait(rsv):
                    break
                message = self._feed_data(first & 0x0F, held.pop(), first >= _FIN, rsv)
            except ProtocolError as error:
                self._fail(error)
                return
            if message is not None:
                if data:
                    self.send_buffer.cork()
                try:
                    self._deliver(connection, message)
                except (Exception, CancelledError) as error:  # noqa: BLE001 - an application's
                    self._context.events.handler_failed(connection, error)
        self.send_buffer.uncork_soon()
        if data or self._adapter is None:
            return
        if held.close is None:
            self._finish_held()
        elif self._paused == PAUSED_BY_HELD:
            self._peer_closed(held.close)

    def _finish_held(self) -> None:
        self._held = None
        self._paused &= ~PAUSED_BY_HELD
        if self._assembler.in_message:
            self._adapter.limit(self._assembler.size)
        else:
            self._adapter.stop_limiting()
        self._is_simple = not (
            self._inflation
            or self._paused
            or self._assembler.in_message
            or self._connection.state is not State.OPEN
        )
        if not self._paused:
            self._resume_reading()

    # The rate limit.

    def _next_window(self) -> bool:
        """Begin a new second of the rate limit, or close if the last second is not over."""
        limit = self._context.limits.max_messages_per_second
        now = self._context.loop.time()
        if now - self._window_at < 1.0:
            self._messages_left = 0
            self._fail(message_flood())
            return False
        self._window_at = now
        self._counted += limit
        self._messages_left += limit
        return True
