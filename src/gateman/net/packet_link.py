"""
One connection of another protocol than WebSocket, from its transport to its end.

It is open at once: there is no handshake. :mod:`gateman.protocols` cuts what arrives into packets.
There is no Close and no ping either: the end of the stream is the end, and a client that is silent
for ``timeouts.idle`` is closed.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from ..connection import Connection, State
from ..connection_interfaces import PAUSED_BY_PEER, SendResult
from ..errors import ConfigError, PacketError, ProtocolError
from ..protocols.base import INCOMPLETE, PacketProtocol
from ..protocols.built_in import make_reader
from ..websocket.close import NO_CLOSE, CloseCode, message_flood
from .accepted_socket import PeerInfo
from .aiofastnet_adapter import abort, resume_tls_reading
from .connection_events import ConnectionContext
from .deferred_readers import promote
from .first_bytes import CHECKED, LONGEST_START, FirstBytes, may_become_mistake, mistake_in
from .lingering_close import close_lingering
from .packet_send_buffer import MeasuredPacketSendBuffer, PacketEncoder, PacketSendBuffer
from .tcp_info import tcp_info
from .traffic import Traffic

# What is read at once; one message of tcp:// is not larger.
_READ_SIZE = 64 << 10  # bytes

# Shared by all connections: each read is copied before the next one.
_SCRATCH = bytearray(_READ_SIZE)
_BUFFER = memoryview(_SCRATCH)

_CLOSE_CODES = {
    "too_big": CloseCode.MESSAGE_TOO_BIG,
    "not_utf8": CloseCode.INVALID_PAYLOAD_DATA,
}

_OPEN = State.OPEN


class PacketConfig:
    """What all connections of one worker share."""

    __slots__ = ("_last_id", "context", "make_send_buffer", "protocol", "traffic", "worker")

    def __init__(
        self,
        context: ConnectionContext,
        worker: object,
        protocol: PacketProtocol,
        traffic: Traffic | None,
    ) -> None:
        self.context = context
        self.worker = worker
        self.protocol = protocol
        self.traffic = traffic or Traffic()
        encoder = PacketEncoder(protocol, context)
        self.make_send_buffer: Callable[[Any], PacketSendBuffer] = (
            partial(PacketSendBuffer, context=context, encoder=encoder)
            if traffic is None
            else partial(
                MeasuredPacketSendBuffer, context=context, encoder=encoder, traffic=traffic
            )
        )
        self._last_id = 0

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id


class PacketConnection(Connection[Any]):
    """A client of another protocol than WebSocket."""

    __slots__ = ()

    send_buffer: PacketSendBuffer

    def send(self, message: Any) -> SendResult:
        """Send what the protocol can encode; raises what its ``encode`` does."""
        if self._fanout_turns:
            self.flush_fanout()
        return self.send_buffer.send_message(message)


class PacketLink(asyncio.BufferedProtocol):
    """The link of one connection; ``slot`` and ``waited`` belong to the heartbeat."""

    __slots__ = (
        "_buffer",
        "_config",
        "_connection",
        "_counted",
        "_deliver",
        "_end_info",
        "_has_ended",
        "_mark",
        "_messages_left",
        "_packets",
        "_paused",
        "_peer_info",
        "_transport",
        "_window_at",
        "send_buffer",
        "slot",
        "waited",
    )

    _connection: PacketConnection
    send_buffer: PacketSendBuffer

    def __init__(self, config: PacketConfig, peer_info: PeerInfo) -> None:
        context = config.context
        limit = context.limits.max_message_size
        self._config = config
        self._peer_info = peer_info
        self._packets = make_reader(config.protocol, limit)
        self._buffer = _BUFFER[:limit]
        self._deliver: Any = context.events.deliver
        self._transport: Any = None
        self._paused = 0
        self._end_info: tuple[int, str] = NO_CLOSE
        # Whether the client has ended its half of the stream.
        self._has_ended = False
        self._messages_left = context.limits.max_messages_per_second
        self._window_at = 0.0
        self._counted = 0
        self._mark: tuple[int, int] = (0, 0)
        self.slot = -1
        self.waited = -1

    # What the transport calls.

    def connection_made(self, transport: Any) -> None:
        """Open the connection: TCP is up and, on a TLS port, TLS too."""
        self._transport = transport
        config, peer_info = self._config, self._peer_info
        context, permit = config.context, peer_info.permit
        self._window_at = now = context.loop.time()
        refusal = permit.count_handshake(now)
        if refusal is not None:
            context.events.noticed(refusal.cause, refusal.line)
            abort(transport)
            return
        promote(context.loop, transport)
        self.send_buffer = config.make_send_buffer(transport)
        self._connection = connection = PacketConnection(
            config.next_id(),
            config.worker,
            self,
            self.send_buffer,
            peer=peer_info.peer,
            remote=peer_info.source or peer_info.peer,
            local_address=peer_info.local_address,
            is_secure=transport.get_extra_info("ssl_object") is not None,
        )
        connection.permit = permit
        if type(config.protocol) in CHECKED:
            transport.set_protocol(FirstBytes(self))
        context.events.connected(connection)
        if transport.is_closing():
            return
        connection.state = State.OPEN
        self.send_buffer.start()
        if self._end_info is not NO_CLOSE:
            # `on_connect` has closed it.
            self.close(*self._end_info)
            return
        if context.heartbeat is not None:
            context.heartbeat.add(self)
        context.events.opened(connection)

    def begin(self, nbytes: int) -> None:
        """Take what :class:`FirstBytes` has got, unless the client speaks something else."""
        arrived, before = _SCRATCH[:nbytes], self._packets.data
        # A long first line is not looked at again and again.
        if b"\n" in arrived or len(before) < LONGEST_START:
            first = before + arrived
            mistake = mistake_in(first)
            if mistake is not None or not may_become_mistake(first):
                self._transport.set_protocol(self)
            if mistake is not None:
                self._fail(*mistake)
                return
        self.buffer_updated(nbytes)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._paused:
            # With TLS, the transport has read on.
            self._packets.data += _SCRATCH[:nbytes]
            return
        try:
            message = self._packets.add(_SCRATCH[:nbytes])
        except Exception as error:  # noqa: BLE001 - also a fault of the user's protocol
            self._reading_failed(error)
            return
        if message is INCOMPLETE or not self._messages_left:
            self._process(message)
            return
        # The common case, in which nothing has to be collected.
        self._messages_left -= 1
        try:
            self._deliver(self._connection, message)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as above
            self._config.context.events.handler_failed(self._connection, error)

    def eof_received(self) -> bool:
        """Answer what has arrived, and then end: the client may have closed only its half."""
        connection = self._connection
        if connection.is_secure and self._paused:
            # TLS cannot wait for who has paused.
            self._paused = 0
            self._process()
        if connection.state is not _OPEN:
            return False
        self._has_ended = True
        if self._packets.is_incomplete:
            self._end_info = (CloseCode.ABNORMAL_CLOSURE, "the stream ended within a packet")
            self._config.context.events.noticed("ended_within_packet", "")
        else:
            self._end_info = (CloseCode.NORMAL_CLOSURE, "")
        if connection.is_secure:
            # TLS ends in both directions.
            self._finish()
            return False
        self._config.context.events.half_closed(connection, self._finish)
        return True

    def pause_writing(self) -> None:
        """Called when the kernel did not take everything."""
        self.send_buffer.paused()

    def resume_writing(self) -> None:
        """Called when the transport has sent everything."""
        self.send_buffer.resumed()

    def connection_lost(self, _exc: BaseException | None) -> None:
        self._connection_lost()

    # Packets.

    def _process(self, message: Any = INCOMPLETE) -> None:
        """Deliver a message and those that have arrived, until reading is paused."""
        packets, connection = self._packets, self._connection
        is_corked = False
        try:
            while not self._paused and connection.state is _OPEN:
                if message is INCOMPLETE and (message := packets.next()) is INCOMPLETE:
                    break
                self._messages_left -= 1
                if self._messages_left < 0:
                    self._next_window()
                if packets.data and not is_corked:
                    is_corked = True
                    self.send_buffer.cork()
                try:
                    self._deliver(connection, message)
                except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as above
                    self._config.context.events.handler_failed(connection, error)
                message = INCOMPLETE
        except Exception as error:  # noqa: BLE001 - also a fault of the user's protocol
            self._reading_failed(error)
        if is_corked:
            self.send_buffer.uncork_soon()

    def _reading_failed(self, error: Exception) -> None:
        if isinstance(error, PacketError):
            self._fail(_as_protocol_error(error))
        elif isinstance(error, ProtocolError):
            self._fail(error)
        else:
            self._protocol_failed(error)

    def _next_window(self) -> None:
        """Begin a new second of the rate limit; raises ProtocolError if the last is not over."""
        context = self._config.context
        limit, now = context.limits.max_messages_per_second, context.loop.time()
        if now - self._window_at < 1.0:
            self._messages_left = 0
            raise message_flood()
        self._window_at = now
        self._counted += limit
        self._messages_left += limit

    @property
    def message_count(self) -> int:
        limit = self._config.context.limits.max_messages_per_second
        return self._counted + limit - self._messages_left

    # What the connection calls.

    def close(self, code: int, reason: str) -> None:
        """Send what waits, end the stream, and wait for the client's end."""
        connection = self._connection
        if connection.state is State.CONNECTING:
            self._end_info = (code, reason)
            return
        if connection.state is not _OPEN or self._transport.is_closing():
            return
        connection.state = State.CLOSING
        self._end_info = (code, reason)
        self.send_buffer.finish()
        self._stop()
        self._config.context.events.closing(connection)
        self._linger()

    def abort(self, code: int, reason: str) -> None:
        connection = self._connection
        if connection.state is not State.CLOSED:
            self._end_info = (code, reason)
            self.send_buffer.close()
            self._stop()
            if connection.state is not State.CONNECTING:
                self._config.context.events.closing(connection)
        abort(self._transport)

    def pause(self, reason: int) -> None:
        """Stop reading for one more reason."""
        if self._connection.state is State.CLOSING or self._connection.state is State.CLOSED:
            return
        if not self._paused:
            self._transport.pause_reading()
        self._paused |= reason

    def resume(self, reason: int) -> None:
        """Remove a reason to pause; after the last, handle what has arrived, and read again."""
        if self._paused & reason:
            self._paused &= ~reason
            if not self._paused:
                # Not at once: a callback may have called this.
                self._config.context.loop.call_soon(self._continue)

    def _continue(self) -> None:
        if self._connection.state is not _OPEN:
            return
        if self._packets.data:
            self._process()
        if self._paused or self._has_ended or self._connection.state is not _OPEN:
            return
        if self._connection.is_secure:
            resume_tls_reading(self._transport)
        else:
            self._transport.resume_reading()

    @property
    def socket(self) -> Any:
        return self._transport.get_extra_info("socket")

    # What the heartbeat calls.

    def ping(self) -> None:
        """Remember what the client has sent and received."""
        self._mark = (self.message_count, self._acknowledged_size())

    def ping_again(self) -> None:
        """There is no ping."""

    def is_alive(self) -> bool:
        """Return whether the client has sent a message or received anything since."""
        if self._connection.state is not _OPEN or self._paused & ~PAUSED_BY_PEER:
            return True
        return self.message_count > self._mark[0] or self._acknowledged_size() > self._mark[1]

    def missed_pong(self, seconds: float) -> None:
        """Close the connection of a client that was silent for ``seconds``."""
        self._config.context.events.noticed("idle", "")
        self.close(CloseCode.POLICY_VIOLATION, f"silent for {seconds:g} s")

    def _acknowledged_size(self) -> int:
        counted = tcp_info(self.socket)
        return 0 if counted is None else counted[1]

    # The end.

    def _fail(self, error: ProtocolError, answer: bytes = b"") -> None:
        """End the connection of a client that broke the protocol or a limit."""
        connection = self._connection
        if connection.state is not _OPEN:
            return
        self.send_buffer.finish()
        if answer:
            self._transport.write(answer)
        self._config.context.events.peer_failed(connection, error)
        self._report_closed(error.close_code, error.reason)
        self._linger()

    def _protocol_failed(self, error: Exception) -> None:
        events = self._config.context.events
        if isinstance(error, ConfigError):
            # It says all; the traceback is that of gateman.
            error.__traceback__ = None
        events.noticed("protocol_failed", "")
        events.handler_failed(self._connection, error, type(self._config.protocol).__name__)

    def _finish(self) -> None:
        """End the connection of a client that has ended its half of the stream."""
        if self._connection.state is not _OPEN:
            return
        self.send_buffer.finish()
        self._report_closed(*self._end_info)
        self._abort_after(self._config.context.timeouts.close)
        self._transport.close()

    def _linger(self) -> None:
        self._abort_after(self._config.context.timeouts.close)
        close_lingering(self._transport, self._connection_lost)

    def _abort_after(self, seconds: float) -> None:
        context = self._config.context
        context.deadlines.add(self, context.loop.time() + seconds)

    def expired(self) -> None:
        """End a connection whose client does not end it."""
        self._transport.abort()

    def _stop(self) -> None:
        """Keep nothing that the client has sent."""
        self._packets.data = bytearray()
        if self._config.context.heartbeat is not None:
            self._config.context.heartbeat.remove(self)

    def _report_closed(self, code: int, reason: str) -> None:
        connection = self._connection
        if connection.state is not State.CLOSED:
            connection.state = State.CLOSED
            self.send_buffer.close()
            self._stop()
            self._config.context.events.closed(connection, code, reason)

    def _connection_lost(self) -> None:
        context = self._config.context
        context.deadlines.discard(self)
        connection = getattr(self, "_connection", None)
        if connection is None:
            self._peer_info.permit.release()
            return
        self._report_closed(*self._end_info)
        context.events.lost(connection)
        # They refer to each other.
        connection.detach()


class MeasuredPacketLink(PacketLink):
    """A link that counts what it receives, for a service that shows metrics."""

    __slots__ = ()

    def buffer_updated(self, nbytes: int) -> None:
        self._config.traffic.received_size += nbytes
        super().buffer_updated(nbytes)


def _as_protocol_error(error: PacketError) -> ProtocolError:
    code = _CLOSE_CODES.get(error.cause, CloseCode.PROTOCOL_ERROR)
    limit = "limits.max_message_size" if error.cause == "too_big" else ""
    return ProtocolError(code, error.problem, cause=error.cause, limit=limit)
