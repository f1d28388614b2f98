"""``tcp://``: bytes as they arrive. PURE."""


class Raw:
    """A message is what has arrived by now: the peer's writes may be cut and joined."""

    def packet_size(self, data: bytearray) -> int:
        return len(data)

    def decode(self, packet: bytes) -> bytes:
        return packet

    def encode(self, message: object) -> bytes:
        if isinstance(message, str):
            return message.encode()
        if not isinstance(message, (bytes, bytearray, memoryview)):
            raise ValueError(f"only bytes can be sent, and not {type(message).__name__}")  # noqa: TRY004
        return bytes(message)
