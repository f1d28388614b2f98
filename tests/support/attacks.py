"""What the tests of the attack list share: a bystander who is served meanwhile, and measures."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateman import Connection
from tests.support.counted_server import serve_counted
from tests.support.raw import (
    BINARY,
    CONTINUATION,
    EOF,
    PING,
    PONG,
    TEXT,
    Frame,
    frame,
)
from tests.support.server import Journal

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

MIB = 1 << 20
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


def echo(connection: Connection, message: str | bytes) -> None:
    """Send back what came."""
    connection.send(message)


async def expect_failure(
    attack: bytes,
    code: int,
    *,
    secure: bool = False,
    headers: tuple[str, ...] = (),
    **declared: Any,
) -> None:
    """
    Attack behind a good message, and expect a Close with a code, the end of TCP, and no delivery.

    Another connection is served before and behind it.
    """
    journal = Journal()
    async with serve_counted(secure=secure, **journal.callbacks(), **declared) as server:
        bystander = await server.open()
        client = await server.open(headers=headers)
        await client.send_frame(TEXT, b"good")
        await journal.until("on_message", "good")
        client.push(attack)

        assert (await client.read_close())[0] == code
        assert await client.read_end() == (b"", EOF)
        await journal.until("on_close", code)
        assert journal.of("on_message") == [("good",)]
        assert len(journal.of("on_error")) == 1
        await bystander.send_frame(PING, b"still here?")
        assert await bystander.read_frame() == Frame(PONG, b"still here?")


@contextmanager
def most_memory() -> Iterator[list[int]]:
    """Measure the most memory that was taken in the block; the list gets one number of bytes."""
    measured: list[int] = []
    tracemalloc.start()
    try:
        yield measured
        measured.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def fragments(payload: bytes, size: int, *, fin: bool = True, rsv: int = 0) -> bytes:
    """Cut a binary message into frames of so many bytes."""
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    last = len(pieces) - 1
    return b"".join(
        frame(
            CONTINUATION if number else BINARY,
            piece,
            fin=fin and number == last,
            rsv=0 if number else rsv,
        )
        for number, piece in enumerate(pieces)
    )
