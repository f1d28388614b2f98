"""``frame://``: packets with their length before them, as Workerman's Frame protocol. PURE."""

from struct import Struct

from ..errors import PacketError

# Of the whole packet, itself included; big-endian.
_LENGTH = Struct("!I")


class Frame:
    """A message is bytes; four bytes before it say how long both are together."""

    def packet_size(self, data: bytearray) -> int | None:
        if len(data) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(data)
        if size < _LENGTH.size:
            raise PacketError("malformed", f"a packet of {size} bytes, which its length exceeds")
        return int(size)

    def decode(self, packet: bytes) -> bytes:
        return packet[_LENGTH.size :]

    def encode(self, message: object) -> bytes:
        if isinstance(message, str):
            message = message.encode()
        if not isinstance(message, (bytes, bytearray, memoryview)):
            raise ValueError(f"a packet is bytes, and this is of type {type(message).__name__}")  # noqa: TRY004
        size = _LENGTH.size + len(message)
        if size >= 1 << 32:
            raise ValueError("a packet has at most 4 GiB")
        return _LENGTH.pack(size) + message
