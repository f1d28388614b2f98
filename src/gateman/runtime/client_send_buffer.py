"""
The way out to an SDK client: what the application sends becomes pushes of the client protocol.

The fan-out encodes a publication once for all clients with the same key, and the key of a client
says how it encodes.
"""

from collections import Counter
from typing import Any

from ..clients.codec import Codec
from ..clients.json_codec import JSON as JSON_CODEC
from ..clients.messages import ClientInfo as ClientPart
from ..clients.messages import Message, Push, Reply, raw
from ..clients.messages import Publication as PublicationPush
from ..cluster.publication import (
    BINARY,
    JSON,
    TEXT,
    ClientInfo,
    Publication,
    as_json,
    as_message,
)
from ..connection_interfaces import SendResult
from ..net.connection_events import ConnectionContext
from ..net.handshake_config import PROTOBUF_SUBPROTOCOL
from ..net.send_buffer import SendBuffer
from ..net.traffic import MeasuredSendBuffer, Traffic
from ..websocket.deflate import Deflater

# Equal keys are the same object, for which the fan-out looks first.
_keys: dict[tuple[int, ...], tuple[int, ...]] = {}

# What is added to a key; no parameter of compression is negative.
_FORMS = {"json": -1, "protobuf": -2}


class Encoded(bytes):
    """A frame's payload that is of the client protocol already."""

    __slots__ = ()


class Outgoing:
    """How an SDK client encodes, and what waits until it is connected."""

    __slots__ = ("codec", "counts", "held", "held_size")

    def __init__(self, counts: Counter[str]) -> None:
        self.codec: Codec = JSON_CODEC
        self.counts = counts
        # Messages that wait for the answer to connect; None when it was sent.
        self.held: list[tuple[int, str | bytes]] | None = []
        self.held_size = 0


class ClientSends(SendBuffer):
    """What both send buffers of SDK clients do."""

    __slots__ = ()

    has_channels = True
    out: "Outgoing"

    @property
    def codec(self) -> Codec:
        return self.out.codec

    def open(self, send: Any, deflater: Deflater | None) -> None:
        """Start sending after the 101, in the encoding that was agreed."""
        self.out.codec = _codec_of(self.connection.subprotocol)
        super().open(send, deflater)
        if self.key is not None:
            key = (*self.key, _FORMS[self.codec.form])
            self.key = _keys.setdefault(key, key)

    def release(self) -> None:
        """Send what waited for the answer to connect."""
        held, self.out.held = self.out.held, None
        for opcode, payload in held or ():
            self.send(opcode, payload)

    def send_encoded(self, payload: bytes) -> SendResult:
        """Send replies and pushes, after all publications that were sent before."""
        self.connection.flush_fanout()
        return super().send(BINARY if self.codec.is_binary else TEXT, Encoded(payload))

    def send(self, opcode: int, payload: str | bytes) -> SendResult:
        """Send a message, or a publication."""
        if payload.__class__ is not Encoded:
            if self.out.held is not None:
                return self._hold(opcode, payload)
            opcode, payload = self._frame(opcode, payload)
            if not payload:
                return SendResult.DROPPED
        return super().send(opcode, payload)

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """Make a frame for this client and all that have the same key; empty for none."""
        if payload.__class__ is not Encoded:
            opcode, payload = self._frame(opcode, payload)
            if not payload:
                return b""
        return super().encode(opcode, payload)

    def carries(self, kind: int) -> bool:
        return kind != BINARY or self.codec.is_binary

    def as_payload(self, message: object) -> tuple[int, bytes]:
        """Turn what an application sends to this client into an opcode and a payload."""
        kind, payload = as_message(message)
        if kind != JSON:
            return kind, payload
        return TEXT, Publication.of(kind, payload)

    def ping(self, _ws: Any) -> None:
        """Send a ping of the client protocol: SDKs of browsers see no others."""
        self.send_encoded(self.codec.ping)

    def _hold(self, opcode: int, payload: str | bytes) -> SendResult:
        out = self.out
        assert out.held is not None
        if out.held_size + len(payload) > self._context.limits.max_send_buffer_size:
            return self._drop_early(len(payload), "it has not connected")
        out.held.append((opcode, payload))
        out.held_size += len(payload)
        return SendResult.QUEUED

    def _frame(self, opcode: int, payload: str | bytes) -> tuple[int, Encoded]:
        codec = self.codec
        if isinstance(payload, Publication):
            made = payload.encoded.get(codec.form)
            if made is None:
                made = self._encode_push(payload.kind, payload, payload)
                payload.encoded[codec.form] = made
        else:
            data = payload.encode() if isinstance(payload, str) else payload
            made = self._encode_push(opcode, data, None)
        return BINARY if codec.is_binary else TEXT, Encoded(made)

    def _encode_push(self, kind: int, data: bytes, publication: Publication | None) -> bytes:
        encoded = data_of(kind, bytes(data), self.codec)
        if encoded is None:
            # JSON has no bytes.
            self.out.counts["binary_to_json_client"] += 1
            return b""
        if publication is None or not publication.channel:
            push = Push(message=Message(data=raw(encoded)))
        else:
            push = Push(
                channel=publication.channel,
                pub=PublicationPush(
                    data=raw(encoded),
                    info=info_of(publication.info),
                    offset=publication.offset,
                    tags=publication.tags,
                ),
            )
        return self.codec.encode([Reply(push=push)])


class ClientSendBuffer(ClientSends):
    """The send buffer of an SDK client."""

    __slots__ = ("out",)

    def __init__(self, transport: Any, context: ConnectionContext, counts: Counter[str]) -> None:
        super().__init__(transport, context)
        self.out = Outgoing(counts)


class MeasuredClientSendBuffer(ClientSends, MeasuredSendBuffer):
    """A send buffer of an SDK client that counts what it sends."""

    __slots__ = ("out",)

    def __init__(
        self, transport: Any, context: ConnectionContext, traffic: Traffic, counts: Counter[str]
    ) -> None:
        MeasuredSendBuffer.__init__(self, transport, context, traffic)
        self.out = Outgoing(counts)


def _codec_of(subprotocol: str | None) -> Codec:
    if subprotocol != PROTOBUF_SUBPROTOCOL:
        return JSON_CODEC
    # Imported here: SDKs of browsers speak JSON.
    from ..clients.protobuf_codec import PROTOBUF

    return PROTOBUF


def data_of(kind: int, data: bytes, codec: Codec) -> bytes | None:
    """Write the data of a message for a client; ``None`` if it cannot carry them."""
    if kind == BINARY:
        return data if codec.is_binary else None
    return as_json(data.decode()) if kind == TEXT else data


def info_of(info: ClientInfo | None) -> ClientPart | None:
    """Write who published; ``None`` if nobody did."""
    return None if info is None else part_of(info)


def part_of(info: ClientInfo) -> ClientPart:
    return ClientPart(
        client=info.client,
        user=info.user,
        conn_info=raw(info.connection_info),
        chan_info=raw(info.channel_info),
    )
