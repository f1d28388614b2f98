"""
The way out of a connection of another protocol than WebSocket: packets instead of frames.

What is sent to one connection may be anything that its protocol encodes. What the hub sends is
text or bytes; a message that the protocol cannot carry is dropped and counted.
"""

from contextlib import suppress
from threading import get_ident
from typing import Any

from ..connection_interfaces import SendResult
from ..errors import WrongThread
from ..protocols.base import PacketProtocol, as_packet
from .connection_events import ConnectionContext
from .send_buffer import (
    MAX_COPIED_SIZE,
    MAX_CORKED_COUNT,
    MAX_CORKED_SIZE,
    RESULTS,
    SendBuffer,
    SendState,
)
from .send_queue import SendQueue
from .traffic import Traffic

# Instead of a WebSocket's opcode: the payload is a packet.
_PACKET = 0
_TEXT = 1
_BINARY = 2

# Globals of the module: an attribute of an enum class costs 40 ns, a global 10.
_DIRECT = SendState.DIRECT
_CORKED = SendState.CORKED
_COLLECTING = SendState.COLLECTING
_QUEUED = SendResult.QUEUED
_SENT = SendResult.SENT


class PacketEncoder:
    """Makes packets of the hub's messages, for all connections of one worker."""

    __slots__ = ("_carried", "_context", "_counted", "key", "protocol")

    def __init__(self, protocol: PacketProtocol, context: ConnectionContext) -> None:
        self.protocol = protocol
        self._context = context
        # Unlike the key of any WebSocket, and of any other protocol.
        self.key = (-1, id(protocol))
        self._counted: tuple[bytes, int] = (b"", 0)
        # Whether text (False) or bytes (True) can be packets.
        self._carried: dict[bool, bool] = {}

    def encode(self, opcode: int, payload: str | bytes) -> bytes | None:
        """Make a packet; ``None`` if the protocol cannot carry the message."""
        message = payload.decode() if opcode == _TEXT and isinstance(payload, bytes) else payload
        try:
            packet = self.protocol.encode(message)
            return packet if type(packet) is bytes else as_packet(self.protocol, packet)
        except ValueError as error:
            self._context.events.noticed(
                "not_encodable", f"a message of {len(payload)} bytes was not sent: {error}"
            )
        except Exception as error:  # noqa: BLE001 - the hub's sender cannot know all protocols
            self._context.events.noticed(
                "protocol_failed",
                f"a message of {len(payload)} bytes was not sent: {type(self.protocol).__name__}"
                f".encode raised {type(error).__name__}: {error}",
            )
        return None

    def carries(self, kind: int) -> bool:
        """Whether the protocol has packets for text or for bytes; asked once, with a character."""
        is_binary = kind == _BINARY
        if is_binary not in self._carried:
            try:
                self.protocol.encode(b"x" if is_binary else "x")
                self._carried[is_binary] = True
            except Exception:  # noqa: BLE001 - as in `encode`, which reports it
                self._carried[is_binary] = False
        return self._carried[is_binary]

    def count(self, packets: bytes) -> int:
        """Count joined packets; the fan-out writes the same bytes object to many clients."""
        known, count = self._counted
        if known is not packets:
            data, count = bytearray(packets), 0
            # A fault of the protocol is reported where it reads what a client has sent.
            with suppress(Exception):
                while data and 0 < (size := self.protocol.packet_size(data) or 0) <= len(data):
                    del data[:size]
                    count += 1
            self._counted = (packets, count)
        return count


class PacketSendBuffer(SendBuffer):
    """Sends the packets of one connection."""

    __slots__ = ("_encode_message", "_encoder", "_send_now", "_thread")

    def __init__(self, transport: Any, context: ConnectionContext, encoder: PacketEncoder) -> None:
        super().__init__(transport, context)
        self._encoder = encoder
        self._encode_message = encoder.protocol.encode
        self._thread = context.thread
        # None with TLS.
        self._send_now: Any = getattr(transport, "send_now", None)

    def start(self) -> None:
        """Write packets from now on."""
        self.open(self._write_packet, None)
        self.key = self._encoder.key

    def close(self) -> None:
        super().close()
        self._send_now = None

    def send_message(self, message: Any) -> SendResult:
        """Send a message of the application; raises what the protocol's ``encode`` does."""
        packet = self._encode_message(message)
        if type(packet) is not bytes:
            packet = as_packet(self._encoder.protocol, packet)
        if get_ident() != self._thread:
            raise WrongThread("connection.send")
        state = self.state
        if state is _DIRECT:
            send_now = self._send_now
            if send_now is None:
                self._transport.write(packet)
            else:
                # As `SocketTransport.write`, without its call.
                try:
                    sent = send_now(packet)
                except OSError:
                    sent = 0
                if sent != len(packet):
                    self._transport.write(packet[sent:])
            # Mostly the same, as in `SendBuffer.send`.
            return _SENT if self.state is _DIRECT else RESULTS[self.state]
        if state is _COLLECTING or state is _CORKED:
            return self._collect(_PACKET, packet)
        return super().send(_PACKET, packet)

    def send(self, opcode: int, payload: str | bytes) -> SendResult:
        """Send a message of the hub."""
        if opcode == _PACKET:
            return super().send(opcode, payload)
        self._context.check_thread()
        packet = self._encoder.encode(opcode, payload)
        if packet is None:
            self.dropped += 1
            return SendResult.DROPPED
        return self.send(_PACKET, packet)

    def carries(self, kind: int) -> bool:
        return self._encoder.carries(kind)

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """Make a packet for all connections that have the same key; empty if there can be none."""
        return payload if opcode == _PACKET else self._encoder.encode(opcode, payload) or b""

    def write_frames(self, frames: bytes) -> None:
        """Write packets, unless none of the messages could be one."""
        if frames:
            super().write_frames(frames)

    def _write_packet(self, _opcode: int, packet: bytes) -> None:
        self._transport.write(packet)

    def _collect(self, opcode: int, payload: Any) -> SendResult:
        if len(payload) > MAX_COPIED_SIZE:
            return self._write_collected((opcode, payload))
        collected = self._collected
        if collected is None:
            collected = self._collected = []
            self._collected_size = 0
            self._enter(_COLLECTING)
        collected.append(payload)
        self._collected_size += len(payload)
        if len(collected) >= MAX_CORKED_COUNT or self._collected_size > MAX_CORKED_SIZE:
            return self._write_collected()
        return _QUEUED


class MeasuredPacketSendBuffer(PacketSendBuffer):
    """A send buffer that counts what it sends, for a service that shows metrics."""

    __slots__ = ("_traffic",)

    def __init__(
        self, transport: Any, context: ConnectionContext, encoder: PacketEncoder, traffic: Traffic
    ) -> None:
        super().__init__(transport, context, encoder)
        self._traffic = traffic

    def send_message(self, message: Any) -> SendResult:
        packet: Any = self._encode_message(message)
        if type(packet) is not bytes:
            packet = as_packet(self._encoder.protocol, packet)
        self._context.check_thread()
        return self.send(_PACKET, packet)

    def send(self, opcode: int, payload: str | bytes) -> SendResult:
        if opcode != _PACKET:
            return super().send(opcode, payload)
        # A packet that is kept until the connection is open comes again, as does a large one that
        # other answers precede.
        is_early, before = self.state is SendState.EARLY, self._traffic.sent_count
        result = super().send(opcode, payload)
        if result and not is_early and self._traffic.sent_count == before:
            self._traffic.sent_count += 1
            self._traffic.sent_size += len(payload)
        return result

    def write_frames(self, frames: bytes) -> None:
        self._traffic.sent_count += self._encoder.count(frames)
        self._traffic.sent_size += len(frames)
        super().write_frames(frames)

    def _check_fullness(self, queue: SendQueue, *, is_full: bool = False) -> None:
        self._traffic.waits(queue.held_size, self._context.loop.time())
        super()._check_fullness(queue, is_full=is_full)
