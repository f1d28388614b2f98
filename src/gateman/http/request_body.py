"""
Where the body of a request ends. PURE.

Another parser reads the same bytes for the application (:mod:`gateman.net.uvicorn_adapter`). This
one is stricter, so that both find the same end, or the request is refused (RFC 9112, section 11.2).
"""

import re
from enum import Enum
from typing import Protocol

from ..errors import HandshakeError
from ..request import Request

# RFC 9112, section 7.1. Extensions are ignored, and nobody sends long ones.
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_MAX_LINE_SIZE = 256  # bytes


class Body(Protocol):
    is_complete: bool

    def take(self, data: bytes | bytearray) -> int:
        """Return how many bytes from the start belong to it; HandshakeError if they are invalid."""


class SizedBody:
    """A body with a ``Content-Length``."""

    __slots__ = ("_remaining", "is_complete")

    def __init__(self, size: int) -> None:
        self._remaining = size
        self.is_complete = False

    def take(self, data: bytes | bytearray) -> int:
        taken = min(len(data), self._remaining)
        self._remaining -= taken
        self.is_complete = not self._remaining
        return taken


class _Part(Enum):
    SIZE = "size"
    DATA = "data"
    DATA_END = "data end"
    TRAILERS = "trailers"


class ChunkedBody:
    """A body in chunks (RFC 9112, section 7.1)."""

    __slots__ = ("_part", "_remaining", "_room", "_trailer_room", "is_complete")

    def __init__(self, max_size: int, max_trailer_size: int) -> None:
        self._room = max_size
        self._trailer_room = max_trailer_size
        self._part = _Part.SIZE
        self._remaining = 0
        self.is_complete = False

    def take(self, data: bytes | bytearray) -> int:
        at = 0
        while not self.is_complete:
            part, start = self._part, at
            match part:
                case _Part.SIZE:
                    at = self._take_size(data, at)
                case _Part.DATA:
                    at = self._take_data(data, at)
                case _Part.DATA_END:
                    at = self._take_data_end(data, at)
                case _Part.TRAILERS:
                    at = self._take_trailer(data, at)
            if at == start and self._part is part:
                break
        return at

    def _take_size(self, data: bytes | bytearray, at: int) -> int:
        line = _CHUNK_SIZE.match(data, at)
        if line is None:
            if data.find(b"\n", at, at + _MAX_LINE_SIZE) >= 0 or len(data) - at >= _MAX_LINE_SIZE:
                raise HandshakeError(400, "A chunk of the body is malformed.")
            return at
        size = int(line[1], 16)
        if line.end() - at > _MAX_LINE_SIZE:
            raise HandshakeError(400, "A chunk of the body is malformed.")
        if size > self._room:
            raise _too_large()
        self._room -= size
        self._remaining = size
        self._part = _Part.DATA if size else _Part.TRAILERS
        return line.end()

    def _take_data(self, data: bytes | bytearray, at: int) -> int:
        taken = min(len(data) - at, self._remaining)
        self._remaining -= taken
        if not self._remaining:
            self._part = _Part.DATA_END
        return at + taken

    def _take_data_end(self, data: bytes | bytearray, at: int) -> int:
        end = bytes(data[at : at + 2])
        if not b"\r\n".startswith(end):
            raise HandshakeError(400, "A chunk of the body is malformed.")
        if len(end) < 2:
            return at
        self._part = _Part.SIZE
        return at + 2

    def _take_trailer(self, data: bytes | bytearray, at: int) -> int:
        end = data.find(b"\n", at) + 1
        size = (end or len(data)) - at
        if size > self._trailer_room:
            raise HandshakeError(431, "The fields behind the body are too large.")
        if not end:
            return at
        self._trailer_room -= size
        if size < 2 or data[end - 2 : end] != b"\r\n":
            raise HandshakeError(400, "The fields behind the body are malformed.")
        self.is_complete = size == 2
        return end


def body_of(request: Request, *, max_size: int, max_trailer_size: int) -> Body | None:
    """Return the body that follows a head; ``None`` for none (RFC 9112, section 6.3)."""
    codings = request.fields.get(b"transfer-encoding")
    lengths = request.fields.get(b"content-length")
    if codings is not None:
        # RFC 9112, section 6.1: in HTTP/1.0, or with a length, it may be an attack.
        if lengths is not None or request.version != "1.1":
            raise HandshakeError(400, "It is not clear where the body ends.")
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise HandshakeError(501, "This server knows no transfer coding but chunked.")
        return ChunkedBody(max_size, max_trailer_size)
    if lengths is None:
        return None
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        raise HandshakeError(400, "It is not clear where the body ends.")
    size = int(lengths[0])
    if size > max_size:
        raise _too_large()
    return SizedBody(size) if size else None


def _too_large() -> HandshakeError:
    return HandshakeError(
        413,
        "The body of the request is larger than this server takes.",
        limit="limits.max_body_size",
    )
