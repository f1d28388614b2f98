"""Commands and replies as JSON: one a line, in text frames. PURE."""

from collections.abc import Iterable, Sequence

import msgspec

from ..errors import PacketError
from .messages import Command, Reply


class JsonCodec:
    form = "json"
    is_binary = False
    subprotocol = ""
    ping = b"{}"

    _decode = staticmethod(msgspec.json.Decoder(Command).decode)
    _encode = staticmethod(msgspec.json.Encoder().encode)

    def decode(self, frame: str | bytes, most: int) -> list[Command]:
        if not isinstance(frame, str):
            raise PacketError("binary_frame", "a binary frame where JSON is spoken")
        if frame.count("\n") > most * 2:
            raise PacketError("batch_too_big", f"more than {most} commands in a frame")
        lines = [line for line in frame.split("\n") if line.strip()]
        if not lines:
            raise PacketError("empty_frame", "a frame without a command")
        if len(lines) > most:
            raise PacketError("batch_too_big", f"more than {most} commands in a frame")
        decode = self._decode
        try:
            return [decode(line) for line in lines]
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise PacketError("bad_command", f"a command is malformed ({error})") from None

    def encode(self, replies: Iterable[Reply]) -> bytes:
        return b"\n".join([self._encode(reply) for reply in replies])

    def join(self, encoded: Sequence[bytes]) -> bytes:
        return b"\n".join(encoded)


JSON = JsonCodec()
