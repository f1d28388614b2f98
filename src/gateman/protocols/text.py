"""``text://``: lines of UTF-8, as Workerman's Text protocol. PURE."""

from ..errors import PacketError


class Text:
    r"""A message is a line without its end, which is ``\n`` or ``\r\n``."""

    def packet_size(self, data: bytearray) -> int | None:
        return data.find(b"\n") + 1 or None

    def decode(self, packet: bytes) -> str:
        try:
            return packet[:-1].removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise PacketError("not_utf8", "a line is not UTF-8") from None

    def encode(self, message: object) -> bytes:
        r"""Refuse a message with a ``\n`` or ``\r``: what follows would be a message of its own."""
        if isinstance(message, str):
            packet = message.encode() + b"\n"
        elif isinstance(message, (bytes, bytearray, memoryview)):
            packet = bytes(message) + b"\n"
            try:
                packet.decode()
            except UnicodeDecodeError:
                raise ValueError("a line is text, and these bytes are not UTF-8") from None
        else:
            raise ValueError(f"a line is text, and this is of type {type(message).__name__}")  # noqa: TRY004
        if packet.find(b"\n") != len(packet) - 1 or b"\r" in packet:
            raise ValueError("a line cannot contain a line break: send each line by itself")
        return packet
