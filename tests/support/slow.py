"""Peers that read slowly: what they are sent, and how they read."""

import zlib
from hashlib import shake_128
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any

import pytest
from hypothesis import settings

from gateman import Connection, SendResult
from gateman.net.send_buffer import SendBuffer
from tests.support.raw import (
    BINARY,
    RawClient,
)
from tests.support.server import Server

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

LIMIT = 200_000  # bytes that may wait
LARGE = 20_000  # bytes of a message of which a few may
CHUNK_COST = 200  # bytes: what a frame's header and a chunk cost beside the message

# Each has a server.
EXAMPLES = max(10, settings.default.max_examples // 6)  # type: ignore[union-attr]

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


def numbered(number: int, size: int = LARGE) -> bytes:
    """Make a message that can be told from others, and does not compress."""
    return number.to_bytes(4) + shake_128(number.to_bytes(4)).digest(size)


def number_of(message: bytes) -> int:
    """Tell a message from others."""
    return int.from_bytes(message[:4])


def send_buffer_of(connection: Connection) -> SendBuffer:
    """Return the send buffer of a connection."""
    assert isinstance(connection.send_buffer, SendBuffer)
    return connection.send_buffer


def held(connection: Connection) -> tuple[int, list[int]]:
    """Tell how many bytes the send buffer holds, and the size of each object that has them."""
    queue = send_buffer_of(connection)._queue  # noqa: SLF001
    return (0, []) if queue is None else (queue.held_size, queue.chunk_sizes)


def held_size(connection: Connection) -> int:
    """Tell how many bytes the send buffer holds."""
    return held(connection)[0]


async def slow(
    server: Server, *headers: str, receive_buffer: int = 4096
) -> tuple[Connection, RawClient]:
    """Connect a client that does not read, and give both ends."""
    known = set(server.worker.connections)
    client = await server.open(headers=headers, receive_buffer=receive_buffer)
    client.stop_reading()
    (number,) = set(server.worker.connections) - known
    connection = server.worker.connections[number]
    # The kernel would take MiB before anything has to wait here.
    link: Any = connection.link
    link.socket.setsockopt(SOL_SOCKET, SO_SNDBUF, 32 << 10)
    return connection, client


def block(connection: Connection) -> int:
    """Send until something has to wait; tell how many messages were sent."""
    count = 0
    while True:
        count += 1
        if connection.send(numbered(count)) is not SendResult.SENT:
            return count


def fill(connection: Connection) -> int:
    """Send until a message is dropped; tell how many were not."""
    dropped = connection.dropped
    count = block(connection)
    while connection.dropped == dropped:
        count += 1
        connection.send(numbered(count))
    return count - 1


class Reader:
    """Reads messages, inflating those that are compressed."""

    def __init__(self, client: RawClient, *, takeover: bool = False) -> None:
        self._client = client
        self._takeover = takeover
        self._stream = zlib.decompressobj(-15)

    async def read(self) -> bytes:
        """Read one message."""
        found = await self._client.read_frame()
        assert (found.opcode, found.fin) == (BINARY, True)
        if not found.rsv:
            return found.payload
        if not self._takeover:
            self._stream = zlib.decompressobj(-15)
        return self._stream.decompress(found.payload + b"\0\0\xff\xff")

    async def read_numbers(self, count: int) -> list[int]:
        """Read so many messages of :func:`numbered`, and give their numbers."""
        return [number_of(await self.read()) for _ in range(count)]
