"""Commands and replies as JSON: one a line, in text frames. PURE."""

import json
from collections.abc import Iterable, Sequence
from typing import NoReturn

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
        try:
            return [self._command(line) for line in lines]
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise PacketError("bad_command", f"a command is malformed ({error})") from None

    def _command(self, line: str) -> Command:
        try:
            return self._decode(line)
        except msgspec.DecodeError:
            if "\\u" not in line:
                raise
        # A browser writes half an emoji, which a page has cut off, as an escape without its pair.
        value = json.loads(line, parse_constant=_refuse_constant)
        whole = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        return self._decode(whole.decode())

    def encode(self, replies: Iterable[Reply]) -> bytes:
        return b"\n".join([self._encode(reply) for reply in replies])

    def join(self, encoded: Sequence[bytes]) -> bytes:
        return b"\n".join(encoded)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


JSON = JsonCodec()
