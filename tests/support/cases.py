"""What the cases of conformance share: an echo, and frames for it."""

from gateman import Connection
from tests.support.raw import (
    CONTINUATION,
    TEXT,
    Frame,
    frame,
)

HELLO = b"Hello, world!"


def echo(connection: Connection, message: str | bytes) -> None:
    """Send back what came."""
    connection.send(message)


def fragments(
    opcode: int, payload: bytes, size: int, between: bytes = b"", *, rsv: int = 0
) -> bytes:
    """Cut a message into frames of so many bytes, with other frames between them."""
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    frames = [
        frame(
            CONTINUATION if number else opcode,
            piece,
            fin=number == len(pieces) - 1,
            rsv=0 if number else rsv,
        )
        for number, piece in enumerate(pieces)
    ]
    return between.join(frames)


def text(payload: bytes) -> Frame:
    """Expect a text message."""
    return Frame(TEXT, payload)
