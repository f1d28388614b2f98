"""
Messages to frames: encoded once, written to many connections.

Wire format:
    byte 0: FIN RSV1-3 opcode(4) · byte 1: MASK(0) length(7) · 2 bytes of length if those
    7 bits are 126, 8 if 127, big-endian · payload (RFC 6455, section 5.2). A server never
    masks (5.1).
"""

from enum import IntEnum
from struct import Struct


class Opcode(IntEnum):
    """What a frame is (RFC 6455, section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


# Plain ints: to ask an enum takes longer than all the rest.
_TEXT = int(Opcode.TEXT)
_BINARY = int(Opcode.BINARY)

_FIN = 0x80
_RSV1 = 0x40

_SHORT = Struct("!BB").pack
_MEDIUM = Struct("!BBH").pack
_LONG = Struct("!BBQ").pack


def encode_frame(
    opcode: int,
    payload: bytes | bytearray | memoryview,
    *,
    fin: bool = True,
    rsv1: bool = False,
) -> bytes:
    """Make one frame of a server, without a mask (RFC 6455, section 5.2)."""
    head = opcode | (_FIN if fin else 0) | (_RSV1 if rsv1 else 0)
    size = len(payload)
    if size < 126:
        return _SHORT(head, size) + payload
    if size < 65536:
        return _MEDIUM(head, 126, size) + payload
    return _LONG(head, 127, size) + payload


def not_utf8(error: UnicodeEncodeError) -> str:
    return (
        f"The text has a lone surrogate at index {error.start}, which UTF-8 cannot carry: send it"
        " as bytes, or encode it with errors='replace' first."
    )


def as_payload(message: object) -> tuple[int, bytes]:
    """Turn what an application sends into an opcode and bytes that no longer change."""
    if isinstance(message, str):
        try:
            return _TEXT, message.encode()
        except UnicodeEncodeError as error:
            raise ValueError(not_utf8(error)) from None
    if isinstance(message, bytes):
        return _BINARY, message
    try:
        # Not bytes(message): that would make 5 zeros of the number 5.
        view = memoryview(message)  # type: ignore[arg-type]  # The TypeError is the check.
    except TypeError:
        raise TypeError(
            f"A message is str or bytes-like, not {type(message).__name__}:"
            " encode it first, for example with json.dumps."
        ) from None
    return _BINARY, view.tobytes()
