"""
The frame engine: the only module that knows picows.

It takes an accepted handshake over, and from then on turns frames into messages and
messages into frames. What picows leaves to its user is done here, and nowhere else:

* picows parses the handshake itself: it is replayed to it in a form that it accepts.
* It tells of a parser's verdict only through its logger, answers it with a text of its own
  and cuts the peer off 10 ms later, with unread data, which resets the connection before the
  peer has read why. So :mod:`gateman.net.surroundings`
  plays the logger, and the transport.
* It delivers frames, checked one by one: messages, their size, their UTF-8, reserved bits
  and the closing handshake are ours (:mod:`gateman.websocket`).
* Its automatic pong is unbounded: pings are answered here, the latest only.

Semi-internal parts that are relied on: the positional constructor of ``WSProtocol``, its
``connection_made``, ``get_buffer`` and ``buffer_updated``, and what it asks of a logger and a
transport. The version is pinned, and ``tests/net/test_engine.py`` fails when they change.
"""

import asyncio
from typing import Any

from picows import (
    WSAutoPingStrategy,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeResponse,
)
from picows.common import WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined] # not in its stub

from ..connection import PAUSED_BY_PEER, Connection, Sent, State, discard
from ..errors import ProtocolError
from ..websocket.assembler import Assembler
from ..websocket.close import CloseCode, parse_close
from .events import Wiring
from .linger import linger
from .surroundings import Surroundings

# Held in locals of the module: an attribute of an enum class costs 40 ns, one here 10.
_TEXT = WSMsgType.TEXT
_BINARY = WSMsgType.BINARY
_CONTINUATION = WSMsgType.CONTINUATION
_PING = WSMsgType.PING
_PONG = WSMsgType.PONG
_SENT = Sent.SENT
_QUEUED = Sent.QUEUED

# picows allocates this for every connection and doubles it as messages need (its minimum).
_READ_BUFFER_SIZE = 2048  # bytes

# Above this, a peer that does not read is not read from either: what it asks for would only
# pile up. Low enough that answers to what is already read fit under max_send_buffer_size.
_PAUSE_READING_SIZE = 64 << 10  # bytes


def upgrade(
    transport: asyncio.Transport,
    connection: Connection,
    wiring: Wiring,
    *,
    key: str,
    headers: list[tuple[str, str]],
    early: bytes,
) -> "Engine":
    """
    Send the 101 and give the transport to the engine.

    Args:
        transport: The connection's transport; it may be paused, and is read from again.
        connection: The connection; ``OPEN`` when this returns, or already closed again.
        wiring: Its worker's.
        key: The handshake's ``Sec-WebSocket-Key``.
        headers: More fields for the 101; already checked for line breaks.
        early: What the peer sent behind its handshake.

    Returns:
        The engine, which is the connection's link now.
    """
    engine = Engine(transport, connection, wiring)
    engine.start(key, headers, early)
    return engine


class Engine(WSListener):
    """
    One open WebSocket: frames in, frames out. The link of an open connection.

    Attributes:
        heard: Whether a message or a pong has arrived since the last ping.
        slot: The heartbeat's note.
        is_pinged: The heartbeat's note.
    """

    __slots__ = (
        "_assembler",
        "_connection",
        "_deliver",
        "_drained",
        "_is_full",
        "_paused",
        "_pong",
        "_timer",
        "_transport",
        "_unsent_at_ping",
        "_verdict",
        "_wiring",
        "_ws",
        "heard",
        "is_pinged",
        "slot",
    )

    def __init__(self, transport: Any, connection: Connection, wiring: Wiring) -> None:
        """
        Make the engine of a connection; :func:`upgrade` does.

        Args:
            transport: The connection's transport.
            connection: The connection.
            wiring: Its worker's.
        """
        self._transport = transport
        self._connection = connection
        self._wiring = wiring
        self._deliver: Any = wiring.events.deliver
        self._assembler = Assembler(wiring.limits.max_message_size)
        self._ws: Any = None
        self._paused = 0
        self._pong: bytes | None = None
        self._drained: asyncio.Future[None] | None = None
        self._is_full = False
        self._timer: asyncio.TimerHandle | None = None
        self._verdict: tuple[int, str] = (CloseCode.ABNORMAL_CLOSURE, "")
        self._unsent_at_ping = 0
        self.heard = True
        self.slot = -1
        self.is_pinged = False

    def start(self, key: str, headers: list[tuple[str, str]], early: bytes) -> None:
        """
        Replay the handshake to picows, which sends the 101, and then what came behind it.

        Args:
            key: The handshake's key.
            headers: More fields for the 101.
            early: What came behind the handshake.
        """
        connection = self._connection
        surroundings = Surroundings(self, self._transport)
        protocol = WSProtocol(
            None,  # host and port, of clients
            None,  # path, of clients
            False,  # is_client_side
            lambda _request: WSUpgradeResponseWithListener(
                WSUpgradeResponse.create_101_response(headers), self
            ),
            surroundings,
            True,  # disconnect_on_exception
            None,  # handshake timeout: ours began at accept
            False,  # auto ping: a task per connection
            20,
            20,
            WSAutoPingStrategy.PING_PERIODICALLY,
            False,  # auto pong: unbounded
            self._wiring.limits.max_message_size,
            None,
            _READ_BUFFER_SIZE,
        )
        self._transport.set_protocol(protocol)
        protocol.connection_made(surroundings)
        _feed(
            protocol,
            b"GET / HTTP/1.1\r\nHost: gateman\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % key.encode("ascii"),
        )
        if self._ws is None:
            raise RuntimeError("the engine did not take its own handshake")
        # 3 KiB per connection that nobody reads again.
        self._ws.request.headers = None
        self._ws.response.headers = None
        connection._link = self  # noqa: SLF001 - the engine is the link
        if connection.state is State.CONNECTING:
            connection.state = State.OPEN
            connection._wire = self._ws.send  # noqa: SLF001
            connection._fate = _SENT  # noqa: SLF001
            # Any unsent byte is told, so that `send` need not ask.
            self._transport.set_write_buffer_limits(high=0)
            self._wiring.events.opened(connection)
        if early:
            _feed(protocol, early)
        if not self._paused:
            self._transport.resume_reading()

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take note of the engine's transport."""
        self._ws = transport

    def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
        """
        Deliver a message, or do what another frame asks for.

        A whole message in one frame, the common case, does not pass the assembler: what that
        would check of it is checked in the conditions here.
        """
        kind = frame.msg_type
        if (
            (kind is _TEXT or kind is _BINARY)
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
            and not self._assembler.in_message
        ):
            try:
                message = (
                    frame.get_payload_as_utf8_text()
                    if kind is _TEXT
                    else frame.get_payload_as_bytes()
                )
            except UnicodeDecodeError:
                self._fail(ProtocolError(CloseCode.INVALID_PAYLOAD_DATA, "text is not UTF-8"))
                return
            self.heard = True
            try:
                self._deliver(self._connection, message)
            except Exception as error:  # noqa: BLE001 - an application's fault is its own
                self._wiring.events.handler_failed(self._connection, error)
        elif self._connection.state is not State.CLOSED:
            try:
                self._other_frame(kind, frame)
            except ProtocolError as error:
                self._fail(error)

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        """End with the TCP connection, when no Close was exchanged."""
        self._lost()

    def pause_writing(self) -> None:
        """Queue from now on: the kernel did not take everything."""
        connection = self._connection
        if connection.state is State.OPEN:
            connection._wire = self._queue  # noqa: SLF001
            connection._fate = _QUEUED  # noqa: SLF001
            self._check_unsent(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Write directly again: everything was sent."""
        connection = self._connection
        if connection.state is State.OPEN:
            connection._wire = self._ws.send  # noqa: SLF001
            connection._fate = _SENT  # noqa: SLF001
            if self._pong is not None:
                pong, self._pong = self._pong, None
                self._ws.send_pong(pong)
            self.resume(PAUSED_BY_PEER)
            if self._is_full:
                self._is_full = False
                self._wiring.events.buffer_drained(connection)
        self._wake_drained()

    def parser_failed(self, code: int) -> None:
        """
        Close for a frame that picows refused.

        Called from within picows' parser, which looks one frame ahead: a legal frame before the
        bad one may not have been delivered yet, and is not (RFC 6455, section 7.1.7).

        Args:
            code: The close code that picows would send.
        """
        closing = self._ws.close_handshake if self._ws is not None else None
        if closing is not None and closing.recv is not None:
            # A Close came first: what follows it is nobody's concern (section 5.5.1).
            self._peer_closed(int(closing.recv.code).to_bytes(2, "big"), closing.recv.reason)
            return
        reasons = {
            CloseCode.MESSAGE_TOO_BIG: "message is too big",
            CloseCode.INVALID_PAYLOAD_DATA: "close reason is not UTF-8",
        }
        self._fail(ProtocolError(code, reasons.get(CloseCode(code), "frame breaks RFC 6455")))

    # What the connection and the heartbeat call.

    def close(self, code: int, reason: str) -> None:
        """Send a Close and wait for the peer's, within ``timeouts.close``."""
        connection = self._connection
        if connection.state is not State.OPEN:
            return
        connection.state = State.CLOSING
        self._stop_sending()
        self._deliver = discard
        self._ws.send_close(code, reason)
        # The peer's Close has to be read, whatever had paused reading.
        self._paused = 0
        self._transport.resume_reading()
        self._deadline(self._wiring.timeouts.close)

    def abort(self, code: int, reason: str) -> None:
        """End the TCP connection at once."""
        if self._connection.state is not State.CLOSED:
            self._verdict = (code, reason)
            self._stop_sending()
            self._deliver = discard
        self._transport.abort()

    def pause(self, reason: int) -> None:
        """Stop reading for one more reason."""
        if not self._paused:
            self._transport.pause_reading()
        self._paused |= reason

    def resume(self, reason: int) -> None:
        """Take a reason back, and read when it was the last."""
        if self._paused:
            self._paused &= ~reason
            if not self._paused:
                self._transport.resume_reading()

    def unsent_size(self) -> int:
        """Bytes that wait for the peer."""
        return 0 if self._ws is None else int(self._transport.get_write_buffer_size())

    async def drain(self) -> None:
        """Wait until nothing is unsent or the connection is over."""
        while self._connection.state is State.OPEN and self.unsent_size():
            if self._drained is None:
                self._drained = self._wiring.loop.create_future()
            await asyncio.shield(self._drained)

    def ping(self) -> None:
        """Send a ping, unless the peer has not even read what was sent before."""
        self._unsent_at_ping = self.unsent_size()
        self.heard = False
        if self._connection.state is State.OPEN and not self._unsent_at_ping:
            self._ws.send_ping()

    def is_alive(self) -> bool:
        """
        Tell whether the peer has given a sign of life since the last ping.

        A pong cannot arrive while we do not read: then a peer lives that reads, and one that
        the application has paused is given the benefit of the doubt.
        """
        if self.heard or self._paused & ~PAUSED_BY_PEER:
            return True
        return self.unsent_size() < self._unsent_at_ping

    # How frames other than whole messages are taken.

    def _other_frame(self, kind: WSMsgType, frame: WSFrame) -> None:
        rsv = frame.rsv1 << 2 | frame.rsv2 << 1 | frame.rsv3
        if kind is _TEXT or kind is _BINARY or kind is _CONTINUATION:
            message = self._assembler.feed(
                kind.value, bool(frame.fin), rsv, frame.get_payload_as_memoryview()
            )
            if message is not None:
                self.heard = True
                try:
                    self._deliver(self._connection, message)
                except Exception as error:  # noqa: BLE001 - an application's fault is its own
                    self._wiring.events.handler_failed(self._connection, error)
            return
        if rsv:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "reserved bits in a control frame")
        if kind is _PING:
            if self._connection.state is not State.OPEN:
                return
            # RFC 6455, section 5.5.3: only the latest ping need be answered.
            if self._connection._fate is _SENT:  # noqa: SLF001
                self._ws.send_pong(frame.get_payload_as_bytes())
            else:
                self._pong = frame.get_payload_as_bytes()
        elif kind is _PONG:
            self.heard = True
        else:
            self._peer_closed(frame.get_payload_as_bytes())

    def _peer_closed(self, payload: bytes, text: str | None = None) -> None:
        """Answer the peer's Close, if it is not the answer to ours, and end the connection."""
        try:
            code, reason = parse_close(payload + (text or "").encode())
        except ProtocolError as error:
            self._fail(error)
            return
        if self._connection.state is State.OPEN:
            # RFC 6455, section 5.5.1: the code is echoed. There is no empty Close with picows.
            echoed = CloseCode.NORMAL_CLOSURE if code == CloseCode.NO_STATUS_RECEIVED else code
            self._ws.send_close(echoed, reason)
        self._closed(code, reason)
        self._end()

    # How it ends.

    def _fail(self, error: ProtocolError) -> None:
        """Fail the WebSocket connection (RFC 6455, section 7.1.7)."""
        connection = self._connection
        if connection.state is State.CLOSED:
            return
        self._stop_sending()
        # Also while closing: picows then knows that it must not send one itself.
        self._ws.send_close(error.close_code, error.reason)
        self._wiring.events.peer_failed(connection, error)
        self._closed(error.close_code, error.reason)
        self._end()

    def _end(self) -> None:
        self._deadline(self._wiring.timeouts.close)
        linger(self._transport, self._lost)

    def _deadline(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._wiring.loop.call_later(seconds, self._transport.abort)

    def _stop_sending(self) -> None:
        connection = self._connection
        connection._wire = discard  # noqa: SLF001
        connection._fate = Sent.CLOSED  # noqa: SLF001
        self._pong = None
        self._wake_drained()

    def _closed(self, code: int, reason: str) -> None:
        connection = self._connection
        if connection.state is not State.CLOSED:
            connection.state = State.CLOSED
            self._stop_sending()
            self._deliver = discard
            self._wiring.events.closed(connection, code, reason)

    def _lost(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._closed(*self._verdict)
        # picows' transport and this refer to each other: what is not cut here waits for the
        # garbage collector.
        self._ws = None
        self._wiring.events.lost(self._connection)

    # How messages wait for a slow peer.

    def _queue(self, opcode: int, payload: str | bytes) -> None:
        """Send while something is unsent already; in place of picows' ``send``."""
        connection = self._connection
        data = payload.encode() if isinstance(payload, str) else payload
        unsent = self._transport.get_write_buffer_size()
        # What is waiting is bounded; one message of any size may be sent when nothing waits,
        # or it could never be sent at all.
        if unsent and unsent + len(data) > self._wiring.limits.max_send_buffer_size:
            connection._fate = Sent.DROPPED  # noqa: SLF001
            connection.dropped += 1
            self._full()
            self._wiring.events.dropped(connection, len(data))
            return
        connection._fate = _QUEUED  # noqa: SLF001
        self._ws.send(opcode, data)
        self._check_unsent(unsent + len(data))

    def _check_unsent(self, unsent: int) -> None:
        if unsent >= _PAUSE_READING_SIZE:
            self.pause(PAUSED_BY_PEER)
        if unsent >= self._wiring.limits.max_send_buffer_size:
            self._full()

    def _full(self) -> None:
        if not self._is_full:
            self._is_full = True
            self._wiring.events.buffer_full(self._connection)

    def _wake_drained(self) -> None:
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained.set_result(None)


def _feed(protocol: WSProtocol, data: bytes) -> None:
    """Give bytes to picows as a transport would."""
    view = memoryview(data)
    while view:
        buffer = protocol.get_buffer(-1)
        size = min(len(buffer), len(view))
        buffer[:size] = view[:size]
        protocol.buffer_updated(size)
        view = view[size:]
