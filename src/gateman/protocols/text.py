"""``text://``: lines of UTF-8, as Workerman's Text protocol. PURE."""

from typing import Any

from ..errors import PacketError
from .base import INCOMPLETE, PacketReader, too_big


class Text:
    r"""A message is a line without its end, which is ``\n`` or ``\r\n``."""

    def packet_size(self, data: bytearray) -> int | None:
        return data.find(b"\n") + 1 or None

    def decode(self, packet: bytes) -> str:
        return _text(packet[:-1])

    def encode(self, message: object) -> bytes:
        r"""Refuse a message with a ``\n`` or ``\r``: what follows would be a message of its own."""
        if isinstance(message, str):
            if "\n" in message or "\r" in message:
                raise ValueError("a line cannot contain a line break: send each line by itself")
            return message.encode() + b"\n"
        if not isinstance(message, (bytes, bytearray, memoryview)):
            raise ValueError(f"a line is text, and this is of type {type(message).__name__}")  # noqa: TRY004
        try:
            return self.encode(bytes(message).decode())
        except UnicodeDecodeError:
            raise ValueError("a line is text, and these bytes are not UTF-8") from None


class LineReader(PacketReader):
    """What a :class:`PacketReader` of :class:`Text` does, in a third of the time."""

    __slots__ = ("_searched",)

    def __init__(self, protocol: Text, max_size: int) -> None:
        super().__init__(protocol, max_size)
        # In so many bytes there is no end of a line: they are not looked at again and again.
        self._searched = 0

    def add(self, arrived: bytes | bytearray) -> Any:
        """Take what has arrived; return a message that is all of it, or ``INCOMPLETE``."""
        data = self.data
        if not data:
            # One whole line, the common case. Finding its end in bytes, cutting it off and decoding
            # the rest take three times as long.
            try:
                text = arrived.decode()
            except UnicodeDecodeError:
                pass  # Or a character is not complete.
            else:
                line = text[:-1]
                if text[-1:] == "\n" and "\n" not in line and len(arrived) <= self._max_size:
                    return line if "\r" not in line else line.removesuffix("\r")
        data += arrived
        return INCOMPLETE

    def next(self) -> Any:
        """Return the next line, or ``INCOMPLETE``."""
        data = self.data
        end = data.find(b"\n", self._searched)
        if (end if end >= 0 else len(data) - 1) >= self._max_size:
            raise too_big(self._max_size)
        if end < 0:
            self._searched = len(data)
            return INCOMPLETE
        self._searched = 0
        line = data[:end]
        del data[: end + 1]
        return _text(line)


def _not_utf8() -> PacketError:
    return PacketError("not_utf8", "a line is not UTF-8")


def _text(line: bytes | bytearray) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise _not_utf8() from None
    return text.removesuffix("\r")
