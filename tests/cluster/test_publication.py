"""Publications: what travels between processes, and what plain clients see of it."""

from typing import Any

import msgspec
import pytest

from gateman.cluster.names import ClientId
from gateman.cluster.publication import (
    BINARY,
    JSON,
    PACKED,
    TEXT,
    ClientInfo,
    PackedPublication,
    Publication,
    as_message,
    pack,
    unpack,
)
from gateman.errors import EnvelopeError

INFO = ClientInfo(ClientId("0a1b2c3d4e5f-7"), "ann", b'{"name":"Ann"}')


@pytest.mark.parametrize(
    ("message", "kind", "payload"),
    [
        ("grüße", TEXT, "grüße".encode()),
        (b"\xff", BINARY, b"\xff"),
        (bytearray(b"ab"), BINARY, b"ab"),
        ({"n": [1, 2.5, None, True, "x"]}, JSON, b'{"n":[1,2.5,null,true,"x"]}'),
        ([], JSON, b"[]"),
        (False, JSON, b"false"),
        (None, JSON, b"null"),
        (7, JSON, b"7"),
    ],
)
def test_a_message_is_text_bytes_or_json(message: Any, kind: int, payload: bytes) -> None:
    assert as_message(message) == (kind, payload)


@pytest.mark.parametrize("message", [object(), {"f": print}, {1, 2}])
def test_other_values_are_refused(message: Any) -> None:
    with pytest.raises(TypeError):
        as_message(message)


def test_a_publication_is_the_payload_for_plain_clients() -> None:
    """With the opcode of its kind."""
    packed = PackedPublication(JSON, b"[1]", INFO, {"a": "b"}, ("0a1b2c3d4e5f-8",))
    made = Publication.of(PACKED, pack(packed), "room", 7)

    assert unpack(pack(packed)) == packed
    assert (bytes(made), made.opcode, made.kind) == (b"[1]", 1, JSON)
    assert (made.channel, made.offset, made.info, made.tags) == ("room", 7, INFO, {"a": "b"})
    assert Publication.of(BINARY, b"x").opcode == 2


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        pack(PackedPublication(JSON, b"1"))[:-1],
        pack(PackedPublication(PACKED, b"1")),
        pack(PackedPublication(JSON, b"1", ClientInfo(ClientId("x" * 65), ""))),
        msgspec.msgpack.encode([JSON, "text"]),
    ],
)
def test_what_is_packed_wrongly_is_refused(payload: bytes) -> None:
    with pytest.raises(EnvelopeError):
        unpack(payload)


@pytest.mark.parametrize("value", [{"a": object()}, [{1, object()}]])
def test_what_json_cannot_carry_is_told(value: object) -> None:
    with pytest.raises(TypeError, match=r"^This cannot be written as JSON \(.+\): use text, numb"):
        as_message(value)


def test_numbers_that_json_does_not_have_are_null() -> None:
    """As in JavaScript."""
    assert as_message([float("nan"), float("inf")]) == (JSON, b"[null,null]")
