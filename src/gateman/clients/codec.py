"""What both encodings of the client protocol have in common. PURE."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from .messages import Command, Reply


class Codec(Protocol):
    """One of the two encodings of commands and replies; it has no state."""

    form: str
    """``"json"`` or ``"protobuf"``."""
    is_binary: bool
    """Whether frames are binary ones."""
    subprotocol: str
    """The WebSocket subprotocol that chooses it; empty for none."""
    ping: bytes
    """A reply that is empty."""

    def decode(self, frame: str | bytes, most: int) -> list[Command]:
        """Return a frame's commands; PacketError if it is malformed, or has more than ``most``."""

    def encode(self, replies: Iterable[Reply]) -> bytes:
        """Make one frame of replies and pushes."""

    def join(self, encoded: Sequence[bytes]) -> bytes:
        """Make one frame of several."""
