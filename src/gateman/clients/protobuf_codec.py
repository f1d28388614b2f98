"""
Commands and replies as Protocol Buffers, each after its length as a varint, in binary frames. PURE.

The numbers are those of the protocol's schema. Fields of later versions are ignored.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from ..errors import PacketError
from . import messages as m
from .protobuf_wire import Decoder, Field, Kind, Shape, encode_message, read_varint, write_varint

LIST, MAP = Shape.LIST, Shape.MAP
BOOL, TEXT, RAW = Kind.BOOL, Kind.TEXT, Kind.RAW
UINT32, INT32, UINT63 = Kind.UINT32, Kind.INT32, Kind.UINT63


def _fields(
    **types: tuple[int, Kind | type[Struct]] | tuple[int, Kind | type[Struct], Shape],
) -> dict[int, Field]:
    return {number: Field(name, *rest) for name, (number, *rest) in types.items()}


_CHANNEL = _fields(channel=(1, TEXT))

SCHEMA: dict[type[Struct], dict[int, Field]] = {
    m.StreamPosition: _fields(offset=(1, UINT63), epoch=(2, TEXT)),
    m.ClientInfo: _fields(user=(1, TEXT), client=(2, TEXT), conn_info=(3, RAW), chan_info=(4, RAW)),
    m.Publication: _fields(
        data=(4, RAW), info=(5, m.ClientInfo), offset=(6, UINT63), tags=(7, TEXT, MAP)
    ),
    m.Command: _fields(
        id=(1, UINT32),
        connect=(4, m.ConnectRequest),
        subscribe=(5, m.SubscribeRequest),
        unsubscribe=(6, m.UnsubscribeRequest),
        publish=(7, m.PublishRequest),
        presence=(8, m.PresenceRequest),
        presence_stats=(9, m.PresenceStatsRequest),
        history=(10, m.HistoryRequest),
        ping=(11, m.PingRequest),
        send=(12, m.SendRequest),
        rpc=(13, m.RpcRequest),
        refresh=(14, m.RefreshRequest),
        sub_refresh=(15, m.SubRefreshRequest),
    ),
    m.ConnectRequest: _fields(
        token=(1, TEXT),
        data=(2, RAW),
        subs=(3, m.SubscribeRequest, MAP),
        name=(4, TEXT),
        version=(5, TEXT),
        headers=(6, TEXT, MAP),
    ),
    m.SubscribeRequest: _fields(
        channel=(1, TEXT),
        token=(2, TEXT),
        recover=(3, BOOL),
        epoch=(6, TEXT),
        offset=(7, UINT63),
        data=(8, RAW),
        positioned=(9, BOOL),
        recoverable=(10, BOOL),
        join_leave=(11, BOOL),
        flag=(14, UINT63),
    ),
    m.UnsubscribeRequest: _CHANNEL,
    m.PublishRequest: _fields(channel=(1, TEXT), data=(2, RAW)),
    m.PresenceRequest: _CHANNEL,
    m.PresenceStatsRequest: _CHANNEL,
    m.HistoryRequest: _fields(
        channel=(1, TEXT), limit=(7, INT32), since=(8, m.StreamPosition), reverse=(9, BOOL)
    ),
    m.PingRequest: {},
    m.SendRequest: _fields(data=(1, RAW)),
    m.RpcRequest: _fields(data=(1, RAW), method=(2, TEXT)),
    m.RefreshRequest: _fields(token=(1, TEXT)),
    m.SubRefreshRequest: _fields(channel=(1, TEXT), token=(2, TEXT)),
    m.Reply: _fields(
        id=(1, UINT32),
        error=(2, m.Error),
        push=(4, m.Push),
        connect=(5, m.ConnectResult),
        subscribe=(6, m.SubscribeResult),
        unsubscribe=(7, m.UnsubscribeResult),
        publish=(8, m.PublishResult),
        presence=(9, m.PresenceResult),
        presence_stats=(10, m.PresenceStatsResult),
        history=(11, m.HistoryResult),
        ping=(12, m.PingResult),
        rpc=(13, m.RpcResult),
        refresh=(14, m.RefreshResult),
        sub_refresh=(15, m.SubRefreshResult),
    ),
    m.Error: _fields(code=(1, UINT32), message=(2, TEXT), temporary=(3, BOOL)),
    m.ConnectResult: _fields(
        client=(1, TEXT),
        version=(2, TEXT),
        expires=(3, BOOL),
        ttl=(4, UINT32),
        data=(5, RAW),
        subs=(6, m.SubscribeResult, MAP),
        ping=(7, UINT32),
        pong=(8, BOOL),
        session=(9, TEXT),
        node=(10, TEXT),
    ),
    m.SubscribeResult: _fields(
        expires=(1, BOOL),
        ttl=(2, UINT32),
        recoverable=(3, BOOL),
        epoch=(6, TEXT),
        publications=(7, m.Publication, LIST),
        recovered=(8, BOOL),
        offset=(9, UINT63),
        positioned=(10, BOOL),
        data=(11, RAW),
        was_recovering=(12, BOOL),
    ),
    m.UnsubscribeResult: {},
    m.PublishResult: {},
    m.PresenceResult: _fields(presence=(1, m.ClientInfo, MAP)),
    m.PresenceStatsResult: _fields(num_clients=(1, UINT32), num_users=(2, UINT32)),
    m.HistoryResult: _fields(
        publications=(1, m.Publication, LIST), epoch=(2, TEXT), offset=(3, UINT63)
    ),
    m.PingResult: {},
    m.RpcResult: _fields(data=(1, RAW)),
    m.RefreshResult: _fields(
        client=(1, TEXT), version=(2, TEXT), expires=(3, BOOL), ttl=(4, UINT32)
    ),
    m.SubRefreshResult: _fields(expires=(1, BOOL), ttl=(2, UINT32)),
    m.Push: _fields(
        channel=(2, TEXT),
        pub=(4, m.Publication),
        join=(5, m.Join),
        leave=(6, m.Leave),
        unsubscribe=(7, m.Unsubscribe),
        message=(8, m.Message),
        subscribe=(9, m.Subscribe),
        disconnect=(11, m.Disconnect),
    ),
    m.Join: _fields(info=(1, m.ClientInfo)),
    m.Leave: _fields(info=(1, m.ClientInfo)),
    m.Unsubscribe: _fields(code=(2, UINT32), reason=(3, TEXT)),
    m.Subscribe: _fields(
        recoverable=(1, BOOL),
        epoch=(4, TEXT),
        offset=(5, UINT63),
        positioned=(6, BOOL),
        data=(7, RAW),
    ),
    m.Message: _fields(data=(1, RAW)),
    m.Disconnect: _fields(code=(1, UINT32), reason=(2, TEXT), reconnect=(3, BOOL)),
}

# An SDK's subscribe has up to 11 fields; each field takes time, also an unknown one.
_FIELDS_PER_COMMAND = 12


class ProtobufCodec:
    form = "protobuf"
    is_binary = True
    subprotocol = "centrifuge-protobuf"
    ping = b"\0"

    def decode(self, frame: str | bytes, most: int) -> list[m.Command]:
        if isinstance(frame, str):
            raise PacketError("text_frame", "a text frame where Protobuf is spoken")
        if not frame:
            raise PacketError("empty_frame", "a frame without a command")
        data = bytes(frame)
        decoder = Decoder(SCHEMA, data, most * _FIELDS_PER_COMMAND)
        commands: list[m.Command] = []
        at, end = 0, len(data)
        while at < end:
            if len(commands) == most:
                raise PacketError("batch_too_big", f"more than {most} commands in a frame")
            size, at = read_varint(data, at, end)
            if size > end - at:
                raise PacketError("bad_command", "a frame ends within a command")
            commands.append(decoder.message(m.Command, at, at + size))
            at += size
        return commands

    def encode(self, replies: Iterable[m.Reply]) -> bytes:
        encoded = [encode_message(SCHEMA, reply) for reply in replies]
        return b"".join([write_varint(len(one)) + one for one in encoded])

    def join(self, encoded: Sequence[bytes]) -> bytes:
        return b"".join(encoded)


PROTOBUF = ProtobufCodec()
