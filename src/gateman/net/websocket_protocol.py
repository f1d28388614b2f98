"""
One open WebSocket: it starts with the 101, and ends with the closing handshake, or without.

:mod:`gateman.net.frame_receiver` takes the frames. This module closes for a frame that picows
refuses, does the closing handshake with a deadline, and answers the heartbeat.
"""

from typing import Any

from ..connection import Connection, State
from ..connection_interfaces import PAUSED_BY_HELD, PAUSED_BY_PEER
from ..errors import ProtocolError
from ..websocket.assembler import Assembler, too_big
from ..websocket.close import CloseCode, parse_close
from ..websocket.deflate import Agreement
from ..websocket.encoding import Opcode, encode_frame
from .aiofastnet_adapter import abort
from .connection_events import ConnectionContext
from .frame_receiver import UNUSED_ASSEMBLER, FrameReceiver, discard
from .inflation import Inflation
from .lingering_close import close_lingering
from .picows_adapter import PicowsAdapter, PicowsTransport, received_close
from .send_buffer import SendBuffer
from .tcp_info import silence

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


class WebSocketProtocol(FrameReceiver):
    """The link of an open connection; ``slot`` and ``waited`` belong to the heartbeat."""

    __slots__ = (
        "_count_at_ping",
        "_end_info",
        "_picows_transport",
        "_progress_at_ping",
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
        super().__init__(transport, connection, send_buffer, context)
        self._picows_transport: Any = PicowsTransport(self, transport)
        self._end_info: tuple[int, str] = (CloseCode.ABNORMAL_CLOSURE, "")
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

    def on_ws_connected(self, transport: Any) -> None:
        self._ws = transport

    def too_big(self) -> None:
        self._fail(too_big(self._context.limits.max_message_size))

    def peer_ended(self) -> None:
        """End without a Close: after everything is sent, or after ``timeouts.close``."""
        self.send_buffer.uncork()
        self._note_cut()
        self._report_closed(*self._end_info)
        self._abort_after(self._context.timeouts.close)

    def on_ws_disconnected(self, _transport: Any) -> None:
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
        code, reason = self._context.close_for_client(code, reason)
        connection.state = State.CLOSING
        self.send_buffer.finish()
        self._ws.send_close(code, reason)
        self._stop()
        self._context.events.closing(connection)
        # The peer's Close has to be read, even if reading was paused; it may be held already.
        self._assembler = UNUSED_ASSEMBLER
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

    @property
    def socket(self) -> Any:
        """The connection's socket, to be asked and not used."""
        return self._transport.get_extra_info("socket")

    def ping(self) -> None:
        """Send a ping, unless the peer has not even read what was sent before."""
        self._progress_at_ping = self.send_buffer.progress
        self._count_at_ping = self.message_count
        self._has_pong = False
        self.ping_again()

    def ping_again(self) -> None:
        """Send a ping, and go on waiting for an answer to the last one."""
        if self._connection.state is State.OPEN and not self.send_buffer.unsent_size:
            self.send_buffer.ping(self._ws)

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
        self._ws.send_close(*self._context.close_for_client(error.close_code, error.reason))
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
        self._deliver = discard
        self._pong = None
        if self._inflation is not None:
            self._inflation.stop()

    def _report_closed(self, code: int, reason: str) -> None:
        connection = self._connection
        if connection.state is not State.CLOSED:
            connection.state = State.CLOSED
            self._stop()
            # The parts of a message would stay in memory until the TCP connection ends.
            self._assembler = UNUSED_ASSEMBLER
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
        if self._connection.state is not State.OPEN or self._deliver is discard:
            return
        seconds, context = silence(self.socket), self._context
        finding = None if seconds is None else context.idle_cuts.ended(seconds, context.loop.time())
        if finding is not None:
            context.events.noticed("idle_cuts", finding.line)
