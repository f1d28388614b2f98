"""
Frames that arrived while their connection is paused, kept as they came: compressed ones compressed.

They are kept as the unmasked frames that they are, one behind the other in one buffer. So
a frame never takes more memory than it had bytes on the wire.
"""

from .encoding import encode_frame


class HeldFrames:
    """A queue of data frames, as bytes."""

    __slots__ = ("close", "data")

    def __init__(self) -> None:
        self.data = bytearray()
        # The payload of the Close that came behind the frames.
        self.close: bytes | None = None

    def append(
        self,
        opcode: int,
        payload: bytes | memoryview,
        fin: bool,  # noqa: FBT001 - by position: a peer can send 40 000 in one read
        rsv: int,
    ) -> None:
        """Copy a frame; ``rsv`` is 0, or 4 for RSV1."""
        self.data += encode_frame(opcode, payload, fin=fin, rsv1=rsv != 0)

    def pop(self) -> bytes:
        """Take the first frame away, and give its payload."""
        data = self.data
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10]), 10
        end = start + size
        payload = bytes(memoryview(data)[start:end])
        # Costs no more than the bytes that go: a bytearray moves its beginning.
        del data[:end]
        return payload
