"""
One open WebSocket: received frames, sent frames, and the closing handshake.

picows (:mod:`gateman.net.picows_adapter`) delivers frames that are each well-formed. This module
does the rest, with :mod:`gateman.websocket`:

* It assembles messages, and checks the order of frames, size, UTF-8 and reserved bits.
* It holds frames that arrive while reading is paused: picows delivers all frames of one read, and
  cannot be stopped.
* It closes for a frame that picows refuses, and does the closing handshake with a deadline.
* It answers only the latest ping: picows' automatic pong is unbounded.
"""

from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from ..connection import Connection, State
from ..connection_interfaces import PAUSED_BY_HELD, PAUSED_BY_INFLATION, PAUSED_BY_PEER
from ..errors import ProtocolError
from ..websocket.assembler import Assembler, check_control, not_utf8, reserved_bits, too_big
from ..websocket.close import CloseCode, parse_close
from ..websocket.deflate import Agreement
from ..websocket.encoding import Opcode, encode_frame
from ..websocket.held_frames import HeldFrames
from .aiofastnet_adapter import abort, resume_tls_reading
from .connection_events import ConnectionContext
from .inflation import Inflation
from .lingering_close import close_lingering
from .picows_adapter import LARGE_SIZE, PicowsAdapter, PicowsTransport, received_close
from .send_buffer import SendBuffer
from .tcp_info import silence

# Globals of the module: an attribute of an enum class costs 40 ns, a global 10.
_TEXT = WSMsgType.TEXT
_BINARY = WSMsgType.BINARY
_CONTINUATION = WSMsgType.CONTINUATION
_PING = WSMsgType.PING
_PONG = WSMsgType.PONG
_OPEN = State.OPEN

_FIN = 0x80
_RSV1 = 0b100

# Close codes with which a client says that it was sent something wrong.
_CLIENT_COMPLAINTS = frozenset(
    {
        CloseCode.PROTOCOL_ERROR,
        CloseCode.UNSUPPORTED_DATA,
        CloseCode.INVALID_PAYLOAD_DATA,
        CloseCode.MESSAGE_TOO_BIG,
        CloseCode.MANDATORY_EXTENSION,
    }
)


def _discard(_connection: Connection, _message: str | bytes) -> None:
    """Receives the messages of connections that are not open."""


# The assembler of connections that are not open.
_UNUSED_ASSEMBLER = Assembler(1)


class WebSocketProtocol(WSListener):
    """The link of an open connection; ``slot`` and ``waited`` belong to the heartbeat."""

    __slots__ = (
        "_adapter",
        "_assembler",
        "_connection",
        "_context",
        "_count_at_ping",
        "_counted",
        "_deliver",
        "_end_info",
        "_frames_without_message",
        "_has_pong",
        "_held",
        "_inflation",
        "_is_corked",
        "_is_simple",
        "_messages_left",
        "_paused",
        "_picows_transport",
        "_pong",
        "_progress_at_ping",
        "_transport",
        "_window_at",
        "_ws",
        "send_buffer",
        "slot",
        "waited",
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
        self._deliver: Any = context.events.deliver
        self._assembler = _UNUSED_ASSEMBLER
        # Whether the next frame may be a whole message: no fragments, compression or pause.
        self._is_simple = True
        # `None` without compression.
        self._inflation: Inflation | None = None
        # Frames that arrived while reading was paused; `None` for none.
        self._held: HeldFrames | None = None
        # Whether the send buffer is corked until the last frame of this read.
        self._is_corked = False
        self._picows_transport: Any = PicowsTransport(self, transport)
        self._adapter: Any = None
        self.send_buffer = send_buffer
        self._ws: Any = None
        self._paused = 0
        self._pong: bytes | None = None
        self._end_info: tuple[int, str] = (CloseCode.ABNORMAL_CLOSURE, "")
        # The messages left until the clock is read again, so that the rate limit and the counter
        # cost the hot path one subtraction.
        self._messages_left = context.limits.max_messages_per_second
        self._window_at = context.loop.time()
        self._counted = 0
        # Control frames and fragments: they count for the rate limit, and are not messages.
        self._frames_without_message = 0
        self._has_pong = False
        self._count_at_ping = 0
        self._progress_at_ping = (0, 0, False)
        self.slot = -1
        self.waited = -1

    def start(
        self,
        *,
        key: str,
        headers: list[tuple[str, str]],
        early: bytes,
        agreement: Agreement | None,
        paused: int,
    ) -> None:
        """Send the 101 and become the connection's link; it is then ``OPEN``, or closed again."""
        context = self._context
        max_message_size = max_frame_size = context.limits.max_message_size
        inflater = None
        if agreement is not None:
            headers = [*headers, ("Sec-WebSocket-Extensions", agreement.response)]
            self._inflation = Inflation(
                agreement, context.loop, context.inflate_turns, self._inflate_again
            )
            inflater = self._inflation.inflater
            self._is_simple = False
            # A message that does not compress grows: by 5 bytes in 16 KiB, and a flush's 5.
            max_frame_size += max_frame_size // 8 + 1024
        self._assembler = Assembler(max_message_size, inflater)
        connection = self._connection
        self._adapter = PicowsAdapter(
            self, self._transport, self._picows_transport, max_frame_size=max_frame_size
        )
        self._adapter.begin(key, headers)
        connection.link = self
        if connection.state is State.CONNECTING:
            connection.state = State.OPEN
            deflater = None if agreement is None else agreement.make_deflater()
            self.send_buffer.open(self._ws.send, deflater)
            if paused:
                self.pause(paused)
            if context.heartbeat is not None:
                context.heartbeat.add(self)
            context.events.opened(connection)
        if early and self._adapter is not None:
            self._adapter.feed(early)
        if not self._paused:
            self._resume_reading()

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._ws = transport

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
            except Exception as error:  # noqa: BLE001 - an application's fault is its own
                self._context.events.handler_failed(self._connection, error)
        if self._is_corked and frame.last_in_buffer:
            self._is_corked = False
            self.send_buffer.uncork_soon()
        if not self._is_simple:
            self._bound_buffering(frame)

    def too_big(self) -> None:
        self._fail(too_big(self._context.limits.max_message_size))

    def peer_ended(self) -> None:
        """End without a Close: after everything is sent, or after ``timeouts.close``."""
        self.send_buffer.uncork()
        self._note_cut()
        self._report_closed(*self._end_info)
        self._abort_after(self._context.timeouts.close)

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        self._connection_lost()

    def pause_writing(self) -> None:
        """Called when the kernel did not take everything."""
        self.send_buffer.paused(self._picows_transport.large_size)

    def resume_writing(self) -> None:
        """Called when the transport has sent everything."""
        pong, self._pong = self._pong, None
        self.send_buffer.resumed(b"" if pong is None else encode_frame(Opcode.PONG, pong))

    def parser_failed(self, error: ProtocolError) -> None:
        """Close for a frame that picows refused, with the code that picows would send."""
        # picows' parser is one frame ahead: a legal frame directly before the bad one may not have
        # been delivered yet, and is not delivered (RFC 6455, section 7.1.7).
        close = None if self._ws is None else received_close(self._ws)
        if close is not None:
            # A Close came first: frames after it are ignored (section 5.5.1).
            self._peer_closed(close)
        elif error.close_code == CloseCode.MESSAGE_TOO_BIG:
            self.too_big()
        else:
            self._fail(error)

    # What the connection and the heartbeat call.

    def close(self, code: int, reason: str) -> None:
        """Send a Close and wait for the peer's, within ``timeouts.close``."""
        connection = self._connection
        if connection.state is not State.OPEN or self._transport.is_closing():
            return
        connection.state = State.CLOSING
        self.send_buffer.finish()
        self._ws.send_close(code, reason)
        self._stop()
        self._context.events.closing(connection)
        # The peer's Close has to be read, even if reading was paused; it may be held already.
        self._assembler = _UNUSED_ASSEMBLER
        self._is_simple = False
        self._adapter.stop_limiting()
        self._paused &= PAUSED_BY_HELD
        if self._paused:
            self._context.loop.call_soon(self._process_held)
        else:
            self._resume_reading()
        self._abort_after(self._context.timeouts.close)

    def abort(self, code: int, reason: str) -> None:
        if self._connection.state is not State.CLOSED:
            self._end_info = (code, reason)
            self._stop()
            self._context.events.closing(self._connection)
        abort(self._transport)

    def missed_pong(self, seconds: float) -> None:
        """End the connection of a peer that has not answered a ping for ``seconds``."""
        reason = f"no answer to a ping within {seconds:g} s"
        self._context.events.noticed(
            "missed_pong",
            f"{self._connection!r} is ended: {reason} (timeouts.pong); the client, or the"
            " network to it, is gone or too slow",
        )
        self.abort(CloseCode.ABNORMAL_CLOSURE, reason)

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

    def _inflate_again(self) -> None:
        self._paused &= ~PAUSED_BY_INFLATION
        self._process_held()

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

    def _process_held(self) -> None:
        """Handle the held frames until reading is paused again; after the last, resume reading."""
        held, connection = self._held, self._connection
        if held is None or connection.state is State.CLOSED:
            return
        data = held.data
        if self._deliver is _discard:
            data.clear()
        while data and self._paused == PAUSED_BY_HELD and self._deliver is not _discard:
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
                except Exception as error:  # noqa: BLE001 - an application's fault is its own
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

    def _resume_reading(self) -> None:
        if self._connection.is_secure:
            self._context.loop.call_soon(self._resume_tls_reading)
        else:
            self._transport.resume_reading()

    def _resume_tls_reading(self) -> None:
        if not self._paused and self._connection.state is not State.CLOSED:
            resume_tls_reading(self._transport)

    @property
    def socket(self) -> Any:
        """The connection's socket, to be asked and not used."""
        return self._transport.get_extra_info("socket")

    @property
    def message_count(self) -> int:
        taken = self._context.limits.max_messages_per_second - self._messages_left
        return self._counted + taken - self._frames_without_message

    def ping(self) -> None:
        """Send a ping, unless the peer has not even read what was sent before."""
        self._progress_at_ping = self.send_buffer.progress
        self._count_at_ping = self.message_count
        self._has_pong = False
        self.ping_again()

    def ping_again(self) -> None:
        """Send a ping, and go on waiting for an answer to the last one."""
        if self._connection.state is State.OPEN and not self.send_buffer.unsent_size:
            self._ws.send_ping()

    def is_alive(self) -> bool:
        """Return whether the peer has given a sign of life since the last ping."""
        if self._connection.state is not State.OPEN:
            # It was not pinged; the closing handshake has a deadline of its own.
            return True
        if self._has_pong or self.message_count != self._count_at_ping:
            return True
        # No pong can arrive while we do not read: a peer that the application has paused gets the
        # benefit of the doubt, and one that reads what we send lives.
        if self._paused & ~(PAUSED_BY_PEER | PAUSED_BY_HELD):
            return True
        return self.send_buffer.has_progressed(self._progress_at_ping)

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
        if self._deliver is _discard:
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
            or self._deliver is _discard
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

    def _peer_closed(self, payload: bytes) -> None:
        """Answer the peer's Close, unless it answers ours, and end the connection."""
        try:
            code, reason = parse_close(payload)
        except ProtocolError as error:
            self._fail(error)
            return
        if self._connection.state is State.OPEN:
            if code in _CLIENT_COMPLAINTS:
                self._context.events.noticed(
                    f"client_closed_with_{code}",
                    f"{self._connection!r} was closed by the client with {code} {reason!r}: it does"
                    " not accept what it was sent, by the application or by a proxy on the way",
                )
            # RFC 6455, section 5.5.1: the code is echoed. picows cannot send an empty Close.
            echoed = CloseCode.NORMAL_CLOSURE if code == CloseCode.NO_STATUS_RECEIVED else code
            # A client that sends many requests, a Close, and then reads gets all answers.
            self.send_buffer.finish()
            self._ws.send_close(echoed, reason)
        self._report_closed(code, reason)
        self._end()

    # The end.

    def _fail(self, error: ProtocolError) -> None:
        """Fail the WebSocket connection (RFC 6455, section 7.1.7)."""
        connection = self._connection
        if connection.state is State.CLOSED:
            return
        self.send_buffer.finish()
        # Also while closing: picows then knows that it must not send one itself.
        self._ws.send_close(error.close_code, error.reason)
        self._stop()
        self._context.events.peer_failed(connection, error)
        self._report_closed(error.close_code, error.reason)
        self._end()

    def _end(self) -> None:
        self._abort_after(self._context.timeouts.close)
        close_lingering(self._transport, self._connection_lost)

    def _abort_after(self, seconds: float) -> None:
        self._context.deadlines.add(self, self._context.loop.time() + seconds)

    def expired(self) -> None:
        """End a connection whose closing handshake takes too long."""
        self._transport.abort()

    def _stop(self) -> None:
        self.send_buffer.close()
        self._deliver = _discard
        self._pong = None
        if self._inflation is not None:
            self._inflation.stop()

    def _report_closed(self, code: int, reason: str) -> None:
        connection = self._connection
        if connection.state is not State.CLOSED:
            connection.state = State.CLOSED
            self._stop()
            # The parts of a message would stay in memory until the TCP connection ends.
            self._assembler = _UNUSED_ASSEMBLER
            self._held = None
            self._is_simple = False
            self._adapter = None
            if self._context.heartbeat is not None:
                self._context.heartbeat.remove(self)
            self._context.events.closed(connection, code, reason)

    def _connection_lost(self) -> None:
        self._context.deadlines.discard(self)
        self._note_cut()
        self._report_closed(*self._end_info)
        self._context.events.lost(self._connection)
        # They refer to this object: without this, only the garbage collector frees them.
        self._ws = self._picows_transport = None
        self._connection.detach()

    def _note_cut(self) -> None:
        """Look at the silence before the end of an open connection that this server did not end."""
        if self._connection.state is not State.OPEN or self._deliver is _discard:
            return
        seconds, context = silence(self.socket), self._context
        finding = None if seconds is None else context.idle_cuts.ended(seconds, context.loop.time())
        if finding is not None:
            context.events.noticed("idle_cuts", finding.line)

    def _next_window(self) -> bool:
        """Begin a new second of the rate limit, or close if the last second is not over."""
        limit = self._context.limits.max_messages_per_second
        now = self._context.loop.time()
        if now - self._window_at < 1.0:
            self._messages_left = 0
            self._fail(
                ProtocolError(
                    CloseCode.POLICY_VIOLATION,
                    "too many messages per second",
                    cause="message_flood",
                    limit="limits.max_messages_per_second",
                )
            )
            return False
        self._window_at = now
        self._counted += limit
        self._messages_left += limit
        return True
