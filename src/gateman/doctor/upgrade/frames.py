"""
WebSocket frames as a client reads and writes them. PURE.

The reader keeps of each payload only what a probe looks at, so that a server can send what it
likes.
"""

from dataclasses import dataclass, replace

from ...websocket.encoding import Opcode

_KEPT = 125  # bytes: all of a control frame


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A frame of a server; ``payload`` is its beginning, and ``size`` that of the whole."""

    opcode: int
    fin: bool
    rsv: int
    is_masked: bool
    payload: bytes
    size: int

    @property
    def fault(self) -> str:
        """What a client fails the connection for, beside the bits of extensions."""
        if self.is_masked:
            return "a masked frame, as only clients send"
        if self.opcode not in {0, 1, 2, 8, 9, 10}:
            return f"the unknown opcode {self.opcode}"
        if self.opcode >= Opcode.CLOSE and (not self.fin or self.size > _KEPT):
            return "a control frame that is fragmented or longer than 125 bytes"
        return f"reserved bits {self.rsv & 0b011:03b}" if self.rsv & 0b011 else ""


class FrameReader:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._frame: Frame | None = None
        self._left = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes; return the frames that are complete."""
        self._buffer += data
        frames: list[Frame] = []
        while True:
            if self._frame is None:
                self._frame = self._read_head()
                if self._frame is None:
                    return frames
                self._left = self._frame.size
            taken = bytes(self._buffer[: self._left])
            del self._buffer[: self._left]
            self._left -= len(taken)
            self._frame = replace(self._frame, payload=(self._frame.payload + taken)[:_KEPT])
            if self._left:
                return frames
            frames.append(self._frame)
            self._frame = None

    def _read_head(self) -> Frame | None:
        data = self._buffer
        if len(data) < 2:
            return None
        size, head = data[1] & 0x7F, 2
        if size >= 126:
            head = 4 if size == 126 else 10
            if len(data) < head:
                return None
            size = int.from_bytes(data[2:head])
        is_masked = bool(data[1] & 0x80)
        head += 4 * is_masked
        if len(data) < head:
            return None
        first = data[0]
        del data[:head]
        return Frame(
            opcode=first & 0x0F,
            fin=bool(first & 0x80),
            rsv=first >> 4 & 0b111,
            is_masked=is_masked,
            payload=b"",
            size=size,
        )


def client_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """Make one frame of a client (RFC 6455, sections 5.2 and 5.3)."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 65536:
        head = bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2)
    else:
        head = bytes([0x80 | opcode, 0xFF]) + size.to_bytes(8)
    pad = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload) ^ int.from_bytes(pad)).to_bytes(size)
