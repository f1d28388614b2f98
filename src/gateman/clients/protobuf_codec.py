"""
Commands and replies as Protocol Buffers, each after its length as a varint, in binary frames. PURE.

The numbers are those of the protocol's schema. Fields of later versions are ignored.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from msgspec import Raw, Struct, structs

from ..errors import PacketError
from . import messages as m
from .protobuf_wire import Decoder, Field, Kind, Shape, encode_message, read_varint, write_varint

_KINDS: Mapping[Any, Kind] = {
    bool: Kind.BOOL,
    str: Kind.TEXT,
    Raw: Kind.RAW,
    m.Uint32: Kind.UINT32,
    m.Int32: Kind.INT32,
    m.Uint63: Kind.UINT63,
}


def _message(kind: type[Struct], **numbers: int) -> tuple[type[Struct], dict[int, Field]]:
    """Number the fields of a message, whose types are those of the Struct."""
    return kind, {numbers[one.name]: _field(one.name, one.type) for one in structs.fields(kind)}


def _field(name: str, hint: Any) -> Field:
    parts = () if hint in _KINDS else get_args(hint)
    shape = {list: Shape.LIST, dict: Shape.MAP}.get(get_origin(hint), Shape.ONE)
    # Of `Part | None`, and of `dict[str, Part]`.
    kind = hint if not parts else parts[-1] if shape is Shape.MAP else parts[0]
    return Field(name, _KINDS.get(kind, kind), shape)


SCHEMA = dict(
    (
        _message(m.StreamPosition, offset=1, epoch=2),
        _message(m.ClientInfo, user=1, client=2, conn_info=3, chan_info=4),
        _message(m.Publication, data=4, info=5, offset=6, tags=7),
        _message(
            m.Command,
            id=1,
            connect=4,
            subscribe=5,
            unsubscribe=6,
            publish=7,
            presence=8,
            presence_stats=9,
            history=10,
            ping=11,
            send=12,
            rpc=13,
            refresh=14,
            sub_refresh=15,
        ),
        _message(m.ConnectRequest, token=1, data=2, subs=3, name=4, version=5, headers=6),
        _message(
            m.SubscribeRequest,
            channel=1,
            token=2,
            recover=3,
            epoch=6,
            offset=7,
            data=8,
            positioned=9,
            recoverable=10,
            join_leave=11,
            flag=14,
        ),
        _message(m.UnsubscribeRequest, channel=1),
        _message(m.PublishRequest, channel=1, data=2),
        _message(m.PresenceRequest, channel=1),
        _message(m.PresenceStatsRequest, channel=1),
        _message(m.HistoryRequest, channel=1, limit=7, since=8, reverse=9),
        _message(m.PingRequest),
        _message(m.SendRequest, data=1),
        _message(m.RpcRequest, data=1, method=2),
        _message(m.RefreshRequest, token=1),
        _message(m.SubRefreshRequest, channel=1, token=2),
        _message(
            m.Reply,
            id=1,
            error=2,
            push=4,
            connect=5,
            subscribe=6,
            unsubscribe=7,
            publish=8,
            presence=9,
            presence_stats=10,
            history=11,
            ping=12,
            rpc=13,
            refresh=14,
            sub_refresh=15,
        ),
        _message(m.Error, code=1, message=2, temporary=3),
        _message(
            m.ConnectResult,
            client=1,
            version=2,
            expires=3,
            ttl=4,
            data=5,
            subs=6,
            ping=7,
            pong=8,
            session=9,
            node=10,
        ),
        _message(
            m.SubscribeResult,
            expires=1,
            ttl=2,
            recoverable=3,
            epoch=6,
            publications=7,
            recovered=8,
            offset=9,
            positioned=10,
            data=11,
            was_recovering=12,
        ),
        _message(m.UnsubscribeResult),
        _message(m.PublishResult),
        _message(m.PresenceResult, presence=1),
        _message(m.PresenceStatsResult, num_clients=1, num_users=2),
        _message(m.HistoryResult, publications=1, epoch=2, offset=3),
        _message(m.PingResult),
        _message(m.RpcResult, data=1),
        _message(m.RefreshResult, client=1, version=2, expires=3, ttl=4),
        _message(m.SubRefreshResult, expires=1, ttl=2),
        _message(
            m.Push,
            channel=2,
            pub=4,
            join=5,
            leave=6,
            unsubscribe=7,
            message=8,
            subscribe=9,
            disconnect=11,
        ),
        _message(m.Join, info=1),
        _message(m.Leave, info=1),
        _message(m.Unsubscribe, code=2, reason=3),
        _message(m.Subscribe, recoverable=1, epoch=4, offset=5, positioned=6, data=7),
        _message(m.Message, data=1),
        _message(m.Disconnect, code=1, reason=2, reconnect=3),
    )
)

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
