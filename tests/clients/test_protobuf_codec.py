"""
Commands and replies as Protocol Buffers, against the official Python SDK's schema and its library.

What the library makes of any command is decoded, and what is made of any reply is what the library
makes of it, byte by byte.
"""

import base64
from importlib import import_module
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, Struct, structs

from gateman.clients import messages as m
from gateman.clients.codec import Codec
from gateman.clients.protobuf_codec import PROTOBUF, SCHEMA
from gateman.clients.protobuf_wire import Field, Kind, Shape
from gateman.errors import PacketError

# Its names exist at run time only.
official = import_module("centrifuge.protocol.client_pb2")

TEXT = st.text(max_size=6)
OF_KIND: dict[Any, st.SearchStrategy[Any]] = {
    Kind.BOOL: st.booleans(),
    Kind.UINT32: st.integers(0, (1 << 32) - 1),
    Kind.INT32: st.integers(-(1 << 31), (1 << 31) - 1),
    Kind.UINT63: st.integers(0, (1 << 63) - 1),
    Kind.TEXT: TEXT,
    Kind.RAW: st.binary(max_size=200).map(m.raw),
}


def values(field: Field) -> st.SearchStrategy[Any]:
    one = OF_KIND[field.type] if field.type in OF_KIND else messages(field.type)
    if field.shape is Shape.LIST:
        return st.lists(one, max_size=2)
    if field.shape is Shape.MAP:
        # Entries have no order, so that several may be other bytes.
        return st.dictionaries(TEXT, one, max_size=1)
    return one


def messages(kind: Any) -> st.SearchStrategy[Any]:
    """Messages with any of their fields."""
    fields = {field.name: values(field) for field in SCHEMA[kind].values()}
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: kind(**given))


def of_parts(kind: Any) -> st.SearchStrategy[Any]:
    """Messages with an id and one part: a command or a reply."""
    fields = [field for field in SCHEMA[kind].values() if field.name != "id"]
    return st.one_of(
        [
            st.builds(
                lambda number, part, name=field.name: kind(id=number, **{name: part}),
                OF_KIND[Kind.UINT32],
                values(field),
            )
            for field in fields
        ]
    )


def as_dict(value: Any) -> Any:
    """Make of a message what the library reads."""
    if isinstance(value, Struct):
        return {
            field.name: as_dict(one)
            for field in structs.fields(value)
            if (one := getattr(value, field.name)) is not None
        }
    if isinstance(value, Raw):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, dict):
        return {key: as_dict(one) for key, one in value.items()}
    if isinstance(value, list):
        return [as_dict(one) for one in value]
    return value


def delimited(message: Any) -> bytes:
    """Encode with the library, and its length before it."""
    payload: bytes = message.SerializeToString(deterministic=True)
    length, size = b"", len(payload)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return length + bytes([size]) + payload


def command(**parts: Any) -> bytes:
    return delimited(ParseDict(parts, official.Command()))


@given(st.lists(of_parts(m.Command), min_size=1, max_size=3))
def test_commands_that_the_library_makes(commands: list[m.Command]) -> None:
    frame = b"".join(command(**as_dict(one)) for one in commands)

    # A frame may have twelve fields for each command that it may have; one of these has 22 at most.
    assert PROTOBUF.decode(frame, 6) == commands


@given(st.lists(of_parts(m.Reply), max_size=3))
def test_replies_that_the_library_makes(replies: list[m.Reply]) -> None:
    expected = [delimited(ParseDict(as_dict(one), official.Reply())) for one in replies]

    assert PROTOBUF.encode(replies) == b"".join(expected)
    assert PROTOBUF.join([PROTOBUF.encode([one]) for one in replies]) == b"".join(expected)


def test_the_table_has_the_official_names_and_types() -> None:
    """So a field that has no part in the tests above is right, too."""
    names = {"RpcRequest": "RPCRequest", "RpcResult": "RPCResult"}
    described = official.DESCRIPTOR.message_types_by_name
    types = {
        8: Kind.BOOL,
        13: Kind.UINT32,
        5: Kind.INT32,
        3: Kind.UINT63,
        4: Kind.UINT63,
        9: Kind.TEXT,
        12: Kind.RAW,
    }

    for kind, fields in SCHEMA.items():
        declared = described[names.get(kind.__name__, kind.__name__)].fields_by_number
        for number, field in fields.items():
            assert declared[number].name == field.name
            if field.shape is Shape.ONE and field.type in OF_KIND:
                assert types[declared[number].type] is field.type
        assert [field.name for field in fields.values()] == [
            field.name for field in structs.fields(kind)
        ]


def test_maps_of_several_entries() -> None:
    reply = m.Reply(
        id=1,
        presence=m.PresenceResult(
            presence={name: m.ClientInfo(client=name, user="u") for name in ("a", "b", "")}
        ),
    )

    (size, *body) = PROTOBUF.encode([reply])
    assert size == len(body)
    assert official.Reply.FromString(bytes(body)) == ParseDict(as_dict(reply), official.Reply())


def test_ping_and_pong() -> None:
    assert PROTOBUF.encode([m.Reply()]) == PROTOBUF.ping == delimited(official.Reply())
    assert PROTOBUF.decode(delimited(official.Command()), 1) == [m.Command()]


def test_cut_at_every_byte() -> None:
    """A part of a frame is none, unless it ends between two commands."""
    first = command(id=1, subscribe={"channel": "é", "recover": True, "offset": "300"})
    frame = first + command(id=2, connect={"subs": {"a": {"epoch": "e"}}, "data": "AAEC"})

    for cut in range(1, len(frame)):
        if cut != len(first):
            with pytest.raises(PacketError):
                PROTOBUF.decode(frame[:cut], 2)


def test_fields_of_later_versions_are_skipped() -> None:
    frame = command(id=1, subscribe={"channel": "c", "tf": {"op": "and", "nodes": [{}]}})

    assert PROTOBUF.decode(frame, 1) == [m.Command(id=1, subscribe=m.SubscribeRequest(channel="c"))]


RPC = m.Command(rpc=m.RpcRequest())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # A varint, 8 bytes, bytes and 4 bytes of fields that are unknown.
        (b"\xf8\x01\x05\xf9\x0112345678\xfa\x01\x02ab\xfd\x011234\x6a\x00", RPC),
        # The id as bytes and the rpc as a varint: skipped as unknown.
        (b"\x0a\x01a\x68\x01\x6a\x00", RPC),
        # The last one counts, and an id has 32 bits.
        (b"\x08\x01\x08\x82\x80\x80\x80\x10\x6a\x00", m.Command(id=2, rpc=m.RpcRequest())),
        # An entry without a key, and one without a value.
        (
            b"\x22\x06\x1a\x02\x12\x00\x1a\x00",
            m.Command(connect=m.ConnectRequest(subs={"": m.SubscribeRequest()})),
        ),
    ],
)
def test_unusual_encodings(body: bytes, expected: m.Command) -> None:
    assert PROTOBUF.decode(bytes([len(body)]) + body, 1) == [expected]


@pytest.mark.parametrize(
    ("frame", "cause"),
    [
        ("{}", "text_frame"),
        (b"", "empty_frame"),
        (b"\0\0\0", "batch_too_big"),
        (b"\x80", "bad_command"),
        (b"\xff" * 9 + b"\x7f", "bad_command"),
        (b"\x80" * 10 + b"\x01", "bad_command"),
        (b"\x01\x0b", "bad_command"),  # a group
        (b"\x02\x0a\x05", "bad_command"),
        (b"\x04\x3a\x02\x0a\x05", "bad_command"),
        (b"\x05\x3a\x03\x0a\x01\xff", "bad_command"),  # not UTF-8
        (b"\x0d\x2a\x0b\x38" + b"\xff" * 9 + b"\x01", "bad_command"),  # an offset of 64 bits
        (b"\x56" + b"\x08\x01" * 43, "batch_too_big"),
    ],
)
def test_what_is_not_a_frame_of_commands(frame: str | bytes, cause: str) -> None:
    with pytest.raises(PacketError) as caught:
        PROTOBUF.decode(frame, 2)
    assert caught.value.cause == cause


@given(st.binary() | st.binary().map(lambda body: bytes([len(body) & 127]) + body))
def test_anything_is_commands_or_an_error(frame: bytes) -> None:
    try:
        commands = PROTOBUF.decode(frame, 10)
    except PacketError:
        return
    assert 0 < len(commands) <= 10


@given(of_parts(m.Command), st.data())
def test_damaged_commands_are_commands_or_an_error(one: m.Command, data: st.DataObject) -> None:
    frame = bytearray(command(**as_dict(one)))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    codec: Codec = PROTOBUF

    try:
        commands = codec.decode(bytes(frame), 10)
    except PacketError:
        return
    assert 0 < len(commands) <= 10
