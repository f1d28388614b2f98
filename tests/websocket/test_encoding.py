"""Messages to frames."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.frames import Opcode as OracleOpcode

from gateman.websocket.encoding import Opcode, as_payload, encode_frame


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, "82 00"),
        (1, "82 01"),
        (125, "82 7d"),
        (126, "82 7e 00 7e"),
        (127, "82 7e 00 7f"),
        (65535, "82 7e ff ff"),
        (65536, "82 7f 00 00 00 00 00 01 00 00"),
    ],
)
def test_lengths_have_their_shortest_form(size: int, header: str) -> None:
    """The header has 2, 4 or 10 bytes, as short as the length allows."""
    payload = bytes(size)

    assert encode_frame(Opcode.BINARY, payload) == bytes.fromhex(header) + payload


@pytest.mark.parametrize(
    ("opcode", "fin", "rsv1", "first"),
    [
        (Opcode.TEXT, True, False, 0x81),
        (Opcode.TEXT, True, True, 0xC1),
        (Opcode.TEXT, False, True, 0x41),
        (Opcode.CONTINUATION, False, False, 0x00),
        (Opcode.CONTINUATION, True, False, 0x80),
        (Opcode.CLOSE, True, False, 0x88),
        (Opcode.PING, True, False, 0x89),
        (Opcode.PONG, True, False, 0x8A),
    ],
)
def test_the_first_byte(opcode: Opcode, fin: bool, rsv1: bool, first: int) -> None:  # noqa: FBT001  # A table.
    """FIN, RSV1 and the opcode share the first byte."""
    assert encode_frame(opcode, b"a", fin=fin, rsv1=rsv1) == bytes([first, 1]) + b"a"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_of_bytes_makes_the_same_frame(
    kind: type[bytes] | type[bytearray] | type[memoryview],
) -> None:
    """Bytes, a bytearray and a memoryview are the same payload."""
    assert encode_frame(Opcode.TEXT, kind(b"hello")) == b"\x81\x05hello"


@given(
    opcode=st.sampled_from(OracleOpcode),
    size=st.sampled_from([0, 1, 125, 126, 65535, 65536]),
    fin=st.booleans(),
)
def test_frames_are_those_of_the_oracle(*, opcode: OracleOpcode, size: int, fin: bool) -> None:
    """The bytes equal what websockets makes of the same frame."""
    if opcode >= Opcode.CLOSE:
        size, fin = min(size, 125), True
    payload = b"x" * size

    frame = Frame(opcode, payload, fin=fin).serialize(mask=False)

    assert encode_frame(opcode, payload, fin=fin) == frame


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("", (1, b"")),
        ("é", (1, b"\xc3\xa9")),
        (b"", (2, b"")),
        (b"\x00\xff", (2, b"\x00\xff")),
        (bytearray(b"abc"), (2, b"abc")),
        (memoryview(b"abcdef")[::2], (2, b"ace")),
        (array("H", [1, 2]), (2, array("H", [1, 2]).tobytes())),
    ],
)
def test_text_and_bytes_are_told_by_their_type(
    message: object, expected: tuple[int, bytes]
) -> None:
    """A str is a text message, a buffer a binary one."""
    opcode, payload = as_payload(message)

    assert (opcode, payload) == expected
    assert type(payload) is bytes


def test_bytes_are_not_copied() -> None:
    """What cannot change is handed through."""
    message = b"hello"

    assert as_payload(message)[1] is message


def test_a_bytearray_may_change_after_the_call() -> None:
    """What can change is copied, because the payload may wait for a slow peer."""
    message = bytearray(b"before")
    _, payload = as_payload(message)

    message[:] = b"after!"

    assert payload == b"before"


@pytest.mark.parametrize(
    ("message", "name"), [(5, "int"), (None, "NoneType"), ({}, "dict"), ([1], "list")]
)
def test_other_types_are_refused(message: object, name: str) -> None:
    """A number is not that many zeros, and nothing is encoded by a guess."""
    with pytest.raises(TypeError) as caught:
        as_payload(message)

    assert str(caught.value) == (
        f"A message is str or bytes-like, not {name}: encode it first, for example with json.dumps."
    )


def test_a_lone_surrogate_is_refused() -> None:
    """It has no UTF-8 form, and the error says where it is."""
    with pytest.raises(ValueError, match="surrogate") as caught:
        as_payload("ab\udc80")

    assert str(caught.value) == (
        "The text has a lone surrogate at index 2, which UTF-8 cannot carry: send it as bytes,"
        " or encode it with errors='replace' first."
    )
