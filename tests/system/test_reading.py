"""
Reading that stops and goes on, readers that are replaced: no byte is lost or overtakes another.

The frame engine's buffer only grows, so it is replaced when it has grown; an application that is
not ready pauses, between any two frames of a read; TLS has deciphered more than was asked for. All
of that at once, whatever the network makes of a stream.
"""

import asyncio
import zlib
from collections.abc import Sequence
from hashlib import shake_128

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateman import Connection, Deflate
from tests.support.loop import eventually, on_loop, turns
from tests.support.raw import BINARY, CONTINUATION, PING, PONG, Frame, frame
from tests.support.server import Journal, serve

# A third of a pure test's: each has a server, and takes a few milliseconds.
EXAMPLES = max(10, settings.default.max_examples // 3)  # type: ignore[union-attr]

NOISE = shake_128(b"noise").digest(1 << 18)


class _Stream:
    """A client's messages as bytes, and what they say."""

    def __init__(self, *, is_compressed: bool) -> None:
        self.data = b""
        self.messages: list[str | bytes] = []
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, -12) if is_compressed else None

    def control(self, opcode: int, payload: bytes) -> None:
        self.data += frame(opcode, payload)

    def message(self, payload: bytes, cuts: Sequence[int], *, between: bytes) -> None:
        """Add a binary message in fragments, with other frames between them."""
        self.messages.append(payload)
        rsv = 0
        if self._deflate is not None:
            packed = self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
            payload, rsv = packed[:-4], 4
        at = sorted(min(cut, len(payload)) for cut in cuts)
        pieces = [payload[i:j] for i, j in zip([0, *at], [*at, len(payload)], strict=True)]
        last = len(pieces) - 1
        for number, piece in enumerate(pieces):
            opcode, first = (CONTINUATION, 0) if number else (BINARY, rsv)
            self.data += frame(opcode, piece, fin=number == last, rsv=first)
            self.data += between if number < last else b""


@st.composite
def streams(draw: st.DrawFn, *, is_compressed: bool) -> _Stream:
    """Make messages of all sizes, most of them near a replacement of the reader."""
    stream = _Stream(is_compressed=is_compressed)
    for _ in range(draw(st.integers(1, 6))):
        size = draw(st.sampled_from([0, 1, 125, 2000, 66_000, 120_000, 200_000]))
        start = draw(st.integers(0, 100))
        cuts = draw(st.lists(st.integers(0, 200_000), max_size=3))
        between = draw(st.sampled_from([b"", frame(PING, b"between"), frame(PONG) * 2]))
        stream.message(NOISE[start : start + size], cuts, between=between)
        for _ in range(draw(st.integers(0, 2))):
            stream.control(draw(st.sampled_from([PING, PONG])), NOISE[: draw(st.integers(0, 125))])
    return stream


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Cut a stream somewhere."""
    at = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[i:j] for i, j in zip([0, *at], [*at, len(data)], strict=True)]


async def converse(stream: _Stream, cuts: Sequence[int], *, secure: bool, waits: bool) -> None:
    """Send a stream in pieces, and find every message in order."""
    seen: list[str | bytes] = []
    closed: list[int] = []

    async def wait(_connection: Connection, message: str | bytes) -> None:
        await asyncio.sleep(0)
        seen.append(message)

    def take(_connection: Connection, message: str | bytes) -> None:
        seen.append(message)

    def note_close(_connection: Connection, code: int, _reason: str) -> None:
        closed.append(code)

    async with serve(
        secure=secure,
        on_message=wait if waits else take,
        on_close=note_close,
        compression=Deflate(context_takeover=True),
    ) as server:
        extension = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=12"
        client = await server.open(headers=(extension,))
        for piece in pieces(stream.data, cuts):
            await client.send(piece)
            await turns(2)
        await client.send_close()
        await eventually(lambda: bool(closed))

        assert closed == [1000]
        assert seen == stream.messages


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("secure", [False, True])
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=st.data(), cuts=st.lists(st.integers(0, 2_000_000), max_size=8))
def test_no_byte_is_lost_or_moved(
    drawn: st.DataObject, cuts: list[int], *, is_compressed: bool, waits: bool, secure: bool
) -> None:
    """Whatever is sent in whatever pieces arrives, with readers replaced and paused on the way."""
    stream = drawn.draw(streams(is_compressed=is_compressed))
    asyncio.run(converse(stream, cuts, secure=secure, waits=waits))


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize(
    ("size", "count"), [(0, 1000), (100, 100), (100, 2000), (1000, 18), (16_000, 100), (60_000, 60)]
)
@on_loop
async def test_pauses_lose_nothing(size: int, count: int, *, secure: bool) -> None:
    """
    A burst for an async handler, and then silence: everything is handled, and nobody is cut off.

    Over TLS, aiofastnet waited for the socket with messages deciphered already, for ever; or, when
    its buffer was full of what it had not deciphered, took that for the end of the connection.
    """
    received: list[bytes] = []

    async def handle(_connection: Connection, message: bytes) -> None:
        received.append(message)
        await asyncio.sleep(0)

    journal = Journal()
    callbacks = {**journal.callbacks(), "on_message": handle}
    async with serve(secure=secure, **callbacks) as server:
        client = await server.open()
        sent = [number.to_bytes(4) + bytes(size) for number in range(count)]
        await client.send(b"".join(frame(BINARY, message) for message in sent))
        await eventually(lambda: len(received) == count)
        await client.send_frame(PING, b"still here?")

        assert await client.read_frame() == Frame(PONG, b"still here?")
        assert received == sent
        assert journal.of("on_close") == []


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@on_loop
async def test_a_handler_may_pause_and_go_on_at_once(*, secure: bool) -> None:
    """From within on_message, and between two turns of the loop, any number of times."""
    received: list[bytes] = []

    def handle(connection: Connection, message: bytes) -> None:
        received.append(message)
        connection.pause_recv()
        if len(received) % 3 == 0:
            connection.resume_recv()
        else:
            asyncio.get_running_loop().call_soon(connection.resume_recv)

    async with serve(secure=secure, on_message=handle) as server:
        client = await server.open()
        sent = [number.to_bytes(4) + bytes(300) for number in range(2000)]
        await client.send(b"".join(frame(BINARY, message) for message in sent))
        await eventually(lambda: len(received) == len(sent))

        assert received == sent
