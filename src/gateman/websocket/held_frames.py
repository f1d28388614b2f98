"""
Frames that arrived while their connection is paused, kept as they came: compressed ones compressed.

They are kept as the unmasked frames that they are, one behind the other in one buffer. So
a frame never takes more memory than it had bytes on the wire.
"""

from .encoding import encode_frame

_FIN = 0x80


class HeldFrames:
    """
    A queue of data frames; its length is the bytes that it holds.

    Attributes:
        close: The payload of the Close that came behind them; ``None`` if none has come.
    """

    __slots__ = ("_data", "close")

    def __init__(self) -> None:
        self._data = bytearray()
        self.close: bytes | None = None

    def __len__(self) -> int:
        return len(self._data)

    def append(self, opcode: int, payload: bytes | memoryview, *, fin: bool, rsv1: bool) -> None:
        """Copy a frame whose other reserved bits are not set."""
        self._data += encode_frame(opcode, payload, fin=fin, rsv1=rsv1)

    @property
    def opcode(self) -> int:
        """The first frame's opcode."""
        return self._data[0] & 0x0F

    @property
    def rsv(self) -> int:
        """The first frame's reserved bits: ``4 * rsv1``."""
        return self._data[0] >> 4 & 0b111

    @property
    def fin(self) -> bool:
        """Whether the first frame ends its message."""
        return bool(self._data[0] & _FIN)

    def pop(self) -> bytes:
        """Take the first frame away, and give its payload."""
        data = self._data
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10]), 10
        payload = bytes(memoryview(data)[start : start + size])
        # Costs no more than the bytes that go: a bytearray moves its beginning.
        del data[: start + size]
        return payload

    def clear(self) -> None:
        """Take all frames away."""
        self._data.clear()
