"""
One open WebSocket: frames in, frames out, and its end.

picows (:mod:`gateman.net.picows_adapter`) delivers frames that are each well-formed. The rest is
done here, by asking :mod:`gateman.websocket`:

* Frames become messages: their order, their size in all, their UTF-8, reserved bits.
* Frames that arrive though reading is paused are held as they are: picows delivers all that
  one read has brought, and cannot be stopped.
* The end for a frame that picows refuses, and the closing handshake, both ways, with a deadline.
* Pings: picows' automatic pong is unbounded; here only the latest ping is answered.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from ..connection import (
    GONE,
    PAUSED_BY_HELD,
    PAUSED_BY_INFLATION,
    PAUSED_BY_PEER,
    Connection,
    State,
    discard,
)
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

# Held in locals of the module: an attribute of an enum class costs 40 ns, one here 10.
_TEXT = WSMsgType.TEXT
_BINARY = WSMsgType.BINARY
_CONTINUATION = WSMsgType.CONTINUATION
_PING = WSMsgType.PING
_PONG = WSMsgType.PONG
_OPEN = State.OPEN

_FIN = 0x80
_RSV1 = 0b100

# What a client says with its Close that is wrong with us.
_COMPLAINTS = frozenset(
    {
        CloseCode.PROTOCOL_ERROR,
        CloseCode.UNSUPPORTED_DATA,
        CloseCode.INVALID_PAYLOAD_DATA,
        CloseCode.MESSAGE_TOO_BIG,
        CloseCode.MANDATORY_EXTENSION,
    }
)

# Takes the place of a connection's that is not open.
_NO_MORE = Assembler(1)


class WebSocketProtocol(WSListener):
    """
    One open WebSocket: frames in, frames out. The link of an open connection.

    Attributes:
        outbox: The way out.
        slot: The heartbeat's note.
        waited: The heartbeat's note.
    """

    __slots__ = (
        "_adapter",
        "_assembler",
        "_connection",
        "_context",
        "_count_at_ping",
        "_counted",
        "_deliver",
        "_has_pong",
        "_held",
        "_inflation",
        "_is_corked",
        "_is_simple",
        "_left",
        "_others",
        "_paused",
        "_picows_transport",
        "_pong",
        "_progress_at_ping",
        "_timer",
        "_transport",
        "_verdict",
        "_window_at",
        "_ws",
        "send_buffer",
        "slot",
        "waited",
    )

    def __init__(self, transport: Any, connection: Connection, context: ConnectionContext) -> None:
        self._transport = transport
        self._connection = connection
        self._context = context
        self._deliver: Any = context.events.deliver
        self._assembler = _NO_MORE
        # Whether a message in one frame is all that a frame can be about.
        self._is_simple = True
        # `None` without compression.
        self._inflation: Inflation | None = None
        # What arrived while reading was paused; `None` for nothing.
        self._held: HeldFrames | None = None
        # Whether what is sent is written with what is still to be read.
        self._is_corked = False
        self._picows_transport: Any = PicowsTransport(self, transport)
        self._adapter: Any = None
        self.send_buffer = SendBuffer(connection, transport, context)
        self._ws: Any = None
        self._paused = 0
        self._pong: bytes | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._verdict: tuple[int, str] = (CloseCode.ABNORMAL_CLOSURE, "")
        # Messages are counted down to the next look at the clock, so that the rate limit and
        # the counter cost the hot path one subtraction.
        self._left = context.limits.max_messages_per_second
        self._window_at = context.loop.time()
        self._counted = 0
        # Control frames and fragments, which count there and are no messages.
        self._others = 0
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
        messages: Iterable[tuple[int, bytes]] = (),
    ) -> None:
        """Send the 101, and be the connection's link: ``OPEN``, or already closed again."""
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
            for opcode, payload in messages:
                self.send_buffer.send(opcode, payload)
            if paused:
                self.pause(paused)
            self._context.events.opened(connection)
        if early and self._adapter is not None:
            self._adapter.feed(early)
        if not self._paused:
            self._read_on()

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take note of the engine's transport."""
        self._ws = transport
        # 3 KiB per connection that nobody reads again.
        self._ws.request.headers = self._ws.response.headers = None

    def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
        """
        Deliver a message, or do what another frame asks for.

        A whole message in one frame, the common case, is checked by the conditions here instead of
        the assembler. While there is a frame behind it, answers wait to be written together.
        """
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
            self._left -= 1
            if self._left < 0 and not self._next_window():
                return
            if frame.payload_size > LARGE_SIZE:
                self._adapter.widen()
        elif self._connection.state is not State.CLOSED:
            try:
                message = self._other_frame(kind, frame)
            except ProtocolError as error:
                self._fail(error)
        if message is not None:
            if not frame.last_in_buffer:
                self._is_corked = True
                self.send_buffer.cork()
            try:
                self._deliver(self._connection, message)
            except Exception as error:  # noqa: BLE001 - an application's fault is its own
                self._context.events.handler_failed(self._connection, error)
        if self._is_corked and frame.last_in_buffer:
            self._is_corked = False
            self.send_buffer.uncork_soon()
        if not self._is_simple:
            self._settle(frame)

    def too_big(self) -> None:
        """Close for a frame that will make its message larger than it may be."""
        self._fail(too_big(self._context.limits.max_message_size))

    def peer_ended(self) -> None:
        """End without a Close, when what is unsent was sent, or nobody has read it in time."""
        self.send_buffer.uncork()
        self._closed(*self._verdict)
        self._deadline(self._context.timeouts.close)

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        """End with the TCP connection, when no Close was exchanged."""
        self._lost()

    def pause_writing(self) -> None:
        """Tell the outbox: the kernel did not take everything."""
        self.send_buffer.paused(self._picows_transport.large_size)

    def resume_writing(self) -> None:
        """Tell the outbox: everything was sent."""
        pong, self._pong = self._pong, None
        self.send_buffer.resumed(b"" if pong is None else encode_frame(Opcode.PONG, pong))

    def parser_failed(self, error: ProtocolError) -> None:
        """
        Close for a frame that picows refused, with the code that picows would send.

        Called from within picows' parser, which looks one frame ahead: a legal frame before the
        bad one may not have been delivered yet, and is not (RFC 6455, section 7.1.7).
        """
        close = None if self._ws is None else received_close(self._ws)
        if close is not None:
            # A Close came first: what follows it is nobody's concern (section 5.5.1).
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
        self.send_buffer.flush()
        self._ws.send_close(code, reason)
        self._stop()
        self._context.events.closing(connection)
        # The peer's Close has to be read, whatever had paused reading; it may be held already.
        self._assembler = _NO_MORE
        self._is_simple = False
        self._adapter.stop_limiting()
        self._paused &= PAUSED_BY_HELD
        if self._paused:
            self._context.loop.call_soon(self._take_held)
        else:
            self._read_on()
        self._deadline(self._context.timeouts.close)

    def abort(self, code: int, reason: str) -> None:
        """End the TCP connection at once."""
        if self._connection.state is not State.CLOSED:
            self._verdict = (code, reason)
            self._stop()
            self._context.events.closing(self._connection)
        abort(self._transport)

    def missed_pong(self, seconds: float) -> None:
        """End the connection of a peer that has not answered a ping for so long."""
        reason = f"no answer to a ping within {seconds:g} s"
        self._context.events.noticed(
            "missed_pong",
            f"{self._connection!r} is ended: {reason} (timeouts.pong); the client, or the"
            " network to it, is gone or too slow",
        )
        self.abort(CloseCode.ABNORMAL_CLOSURE, reason)

    def pause(self, reason: int) -> None:
        """Stop reading for one more reason; a closing handshake is read in any case."""
        if self._connection.state is not State.OPEN:
            return
        if not self._paused:
            self._transport.pause_reading()
        self._paused |= reason
        self._is_simple = False

    def resume(self, reason: int) -> None:
        """Take a reason back, and read when it was the last."""
        if not self._paused & reason:
            return
        self._paused &= ~reason
        if self._paused & ~PAUSED_BY_HELD:
            return
        self._has_pong |= reason != PAUSED_BY_PEER  # It may be among what waits.
        if self._paused:
            # Not at once: a callback may be what calls this.
            self._context.loop.call_soon(self._take_held)
        else:
            self._is_simple = not (self._inflation or self._assembler.in_message)
            self._read_on()

    def _inflate_again(self) -> None:
        """Go on with a compressed frame that had to wait."""
        self._paused &= ~PAUSED_BY_INFLATION
        self._take_held()

    def _hold(
        self,
        opcode: int,
        payload: bytes | memoryview,
        fin: bool,  # noqa: FBT001 - as in `_take_data`
        rsv: int,
    ) -> None:
        """Keep a frame until reading goes on."""
        if rsv and (rsv != _RSV1 or self._inflation is None):
            raise reserved_bits()
        held = self._held
        if held is None:
            held = self._held = HeldFrames()
            self.pause(PAUSED_BY_HELD)
        held.append(opcode, payload, fin, rsv)

    def _take_held(self) -> None:
        """Take what is held as if it arrived now, until reading is paused again; then read on."""
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
                if self._inflation is not None and self._has_to_wait(rsv):
                    break
                message = self._take_data(first & 0x0F, held.pop(), first >= _FIN, rsv)
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
            self._nothing_held()
        elif self._paused == PAUSED_BY_HELD:
            self._peer_closed(held.close)

    def _nothing_held(self) -> None:
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
            self._read_on()

    def _read_on(self) -> None:
        """Read again, whether it was paused or not."""
        if self._connection.is_secure:
            self._context.loop.call_soon(self._read_on_tls)
        else:
            self._transport.resume_reading()

    def _read_on_tls(self) -> None:
        if not self._paused and self._connection.state is not State.CLOSED:
            resume_tls_reading(self._transport)

    def unsent_size(self) -> int:
        """Bytes that wait for the peer."""
        return 0 if self._ws is None else self.send_buffer.unsent_size

    async def drain(self) -> None:
        """Wait until nothing is unsent or the connection is over."""
        await self.send_buffer.drain()

    @property
    def socket(self) -> Any:
        """The connection's socket, to be asked and not used."""
        return self._transport.get_extra_info("socket")

    @property
    def message_count(self) -> int:
        """Messages received."""
        taken = self._context.limits.max_messages_per_second - self._left
        return self._counted + taken - self._others

    def ping(self) -> None:
        """Send a ping, unless the peer has not even read what was sent before."""
        self._progress_at_ping = self.send_buffer.progress
        self._count_at_ping = self.message_count
        self._has_pong = False
        self.ping_again()

    def ping_again(self) -> None:
        """Send a ping, and go on waiting for an answer to the last one."""
        if self._connection.state is State.OPEN and not self.unsent_size():
            self._ws.send_ping()

    def is_alive(self) -> bool:
        """
        Tell whether the peer has given a sign of life since the last ping.

        A pong cannot arrive while we do not read: then a peer lives that reads, and one that
        the application has paused is given the benefit of the doubt.
        """
        if self._connection.state is not State.OPEN:
            # It was not pinged; the closing handshake has a deadline of its own.
            return True
        if self._has_pong or self.message_count != self._count_at_ping:
            return True
        if self._paused & ~(PAUSED_BY_PEER | PAUSED_BY_HELD):
            return True
        return self.send_buffer.has_progressed(self._progress_at_ping)

    # How frames other than whole messages are taken.

    def _other_frame(self, kind: WSMsgType, frame: WSFrame) -> str | bytes | None:
        """Take a frame; give the message, if it completes one."""
        self._left -= 1
        if self._left < 0 and not self._next_window():
            return None
        if self._held is not None and self._held.close is not None:
            # RFC 6455, section 5.5.1: what follows a Close is ignored.
            return None
        rsv = frame.rsv1 << 2 | frame.rsv2 << 1 | frame.rsv3
        if kind is _TEXT or kind is _BINARY or kind is _CONTINUATION:
            if frame.payload_size > LARGE_SIZE:
                self._adapter.widen()
            payload, fin = frame.get_payload_as_memoryview(), bool(frame.fin)
            if not self._paused and (self._inflation is None or not self._has_to_wait(rsv)):
                return self._take_data(kind.value, payload, fin, rsv)
            if rsv or self._held is None:
                self._hold(kind.value, payload, fin, rsv)
            else:
                self._held.append(kind.value, payload, fin, rsv)
        else:
            self._control_frame(kind, rsv, frame)
        return None

    def _control_frame(self, kind: WSMsgType, rsv: int, frame: WSFrame) -> None:
        self._others += 1
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
            self._give_back(frame)  # Once per ping interval: off the hot path.
        elif self._held is None:
            self._peer_closed(frame.get_payload_as_bytes())
        else:
            # What came before it is still to be delivered.
            self._held.close = frame.get_payload_as_bytes()

    def _take_data(
        self,
        opcode: int,
        payload: bytes | memoryview,
        fin: bool,  # noqa: FBT001 - a frame's fields, by position: some have one byte
        rsv: int,
    ) -> str | bytes | None:
        """Take a data frame; give the message, if it completes one and is wanted."""
        if self._deliver is discard:
            return None
        assembler = self._assembler
        if self._inflation is None or not (rsv or assembler.is_inflating):
            message = assembler.feed(opcode, fin, rsv, payload)
        else:
            message = self._inflation.feed(assembler, opcode, payload, fin=fin, rsv=rsv)
        if message is None:
            self._others += 1
            self._is_simple = False
        return message

    def _has_to_wait(self, rsv: int) -> bool:
        """Tell whether a frame has to wait, because enough was inflated; it pauses reading."""
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

    def _settle(self, frame: WSFrame) -> None:
        """Hold no more than one message while it is incomplete, or waits to be handled."""
        if self._connection.state is not _OPEN:
            return
        assembler = self._assembler
        is_guarded = assembler.in_message or self._held is not None
        if not is_guarded:
            self._adapter.stop_limiting()
            self._is_simple = not (self._inflation or self._paused)
            if not self._paused:
                return
        # Other frames are followed by one for which all of this is done.
        if frame.last_in_buffer:
            self._give_back(frame)
            if is_guarded:
                self._adapter.limit_next_frame(frame, assembler.size)

    def _give_back(self, frame: WSFrame) -> None:
        """Give the memory of a read buffer back that has grown, now that its frame is done."""
        if self._adapter.give_back(frame):
            self.send_buffer.reopen(self._ws.send)

    def _peer_closed(self, payload: bytes) -> None:
        """Answer the peer's Close, if it is not the answer to ours, and end the connection."""
        try:
            code, reason = parse_close(payload)
        except ProtocolError as error:
            self._fail(error)
            return
        if self._connection.state is State.OPEN:
            if code in _COMPLAINTS:
                self._context.events.noticed(
                    f"client_closed_with_{code}",
                    f"{self._connection!r} was closed by the client with {code} {reason!r}: it does"
                    " not accept what it was sent, by the application or by a proxy on the way",
                )
            # RFC 6455, section 5.5.1: the code is echoed. There is no empty Close with picows.
            echoed = CloseCode.NORMAL_CLOSURE if code == CloseCode.NO_STATUS_RECEIVED else code
            # A peer that asks much, closes, and then reads gets all its answers.
            self.send_buffer.flush()
            self._ws.send_close(echoed, reason)
        self._closed(code, reason)
        self._end()

    # How it ends.

    def _fail(self, error: ProtocolError) -> None:
        """Fail the WebSocket connection (RFC 6455, section 7.1.7)."""
        connection = self._connection
        if connection.state is State.CLOSED:
            return
        self.send_buffer.flush()
        # Also while closing: picows then knows that it must not send one itself.
        self._ws.send_close(error.close_code, error.reason)
        self._stop()
        self._context.events.peer_failed(connection, error)
        self._closed(error.close_code, error.reason)
        self._end()

    def _end(self) -> None:
        self._deadline(self._context.timeouts.close)
        close_lingering(self._transport, self._lost)

    def _deadline(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._context.loop.call_later(seconds, self._transport.abort)

    def _stop(self) -> None:
        """Let nothing more through, in either direction."""
        self.send_buffer.stop()
        self._deliver = discard
        self._pong = None
        if self._inflation is not None:
            self._inflation.stop()

    def _closed(self, code: int, reason: str) -> None:
        connection = self._connection
        if connection.state is not State.CLOSED:
            connection.state = State.CLOSED
            self._stop()
            # What is here of a message would stay for as long as the peer lingers.
            self._assembler = _NO_MORE
            self._held = None
            self._is_simple = False
            self._adapter = None
            self._context.events.closed(connection, code, reason)

    def _lost(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._closed(*self._verdict)
        self._context.events.lost(self._connection)
        # All of these refer to this: what is not cut here waits for the garbage collector.
        self._ws = self._picows_transport = None
        self._connection.link = GONE

    def _next_window(self) -> bool:
        """Look at the clock: as many messages as a second may have, in how long?"""
        limit = self._context.limits.max_messages_per_second
        now = self._context.loop.time()
        if now - self._window_at < 1.0:
            self._left = 0
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
        self._left += limit
        return True
