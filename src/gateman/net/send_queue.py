"""
The frames that wait for a client that reads slowly, and how much of its memory limit they take.

Frames are joined to chunks, so that 100 000 small messages cost their bytes, and not a Python
object each. A transport keeps all of a write until the last byte is sent; so only a chunk at a time
is given to it. This module has no I/O.
"""

from collections import deque
from collections.abc import Iterator

# Frames are joined until a chunk has so many bytes: far more than the cost of a write, far less
# than max_send_buffer_size.
_CHUNK_SIZE = 64 << 10  # bytes

# The cost of a chunk beside its bytes.
_CHUNK_COST = 96  # bytes


class SendQueue:
    """The queue of one connection, while its transport has unsent bytes."""

    __slots__ = ("_chunks", "_is_joined", "kept_size", "waiting_size")

    def __init__(self, *, is_joined: bool) -> None:
        # If not, each frame is a chunk, so that the oldest can be dropped.
        self._is_joined = is_joined
        self._chunks: deque[bytes | bytearray] = deque()
        # Bytes of the frames that wait here.
        self.waiting_size = 0
        # Bytes that the transport keeps, sent or not, until it is empty.
        self.kept_size = 0

    @property
    def held_size(self) -> int:
        """Bytes held for the client; some of them may be sent already."""
        return self.waiting_size + self.kept_size

    @property
    def chunk_sizes(self) -> list[int]:
        return [len(chunk) for chunk in self._chunks]

    def __len__(self) -> int:
        return len(self._chunks)

    def append(self, frame: bytes) -> None:
        chunks = self._chunks
        last = chunks[-1] if chunks else b""
        if isinstance(last, bytearray) and len(last) < _CHUNK_SIZE:
            last += frame
            self.waiting_size += len(frame)
            return
        is_alone = len(frame) >= _CHUNK_SIZE or not self._is_joined
        chunks.append(frame if is_alone else bytearray(frame))
        self.waiting_size += len(frame) + _CHUNK_COST

    def pop(self) -> bytes | bytearray:
        """Remove the oldest chunk."""
        chunk = self._chunks.popleft()
        self.waiting_size -= len(chunk) + _CHUNK_COST
        return chunk

    def drop_until(self, held_size: int) -> Iterator[int]:
        """Drop the oldest frames until no more than so much is held; yield the size of each."""
        while self._chunks and self.held_size > held_size:
            yield len(self.pop())
