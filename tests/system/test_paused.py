"""
While a connection is paused, nothing is delivered, whatever the frame engine has in its buffer.

The engine delivers all frames that one read has brought, and cannot be stopped. A message of
60 KB makes its buffer large, so that much comes in one read behind it.
"""

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from gateman import Connection, Deflate
from tests.support.attacks import DEFLATE, MIB, both, most_memory
from tests.support.loop import eventually, on_loop, turns, until_idle
from tests.support.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    EOF,
    PING,
    PONG,
    TEXT,
    Frame,
    close_payload,
    frame,
    handshake,
)
from tests.support.server import Journal, Server, serve

FIRST = bytes(60_000)

compressed = pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "deflate"])


def packed(payload: bytes) -> bytes:
    """Compress a message, and make a frame of it."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
    return frame(BINARY, data[:-4], rsv=4)


BOMB = packed(bytes(MIB))


def link_of(server: Server) -> Any:
    """Return the WebSocket protocol of the only connection."""
    (connection,) = server.worker.connections.values()
    return connection.link


def pausing(received: list[bytes | str]) -> Callable[[Connection, bytes | str], None]:
    """Make a handler that stops reading at each message."""

    def handle(connection: Connection, message: bytes | str) -> None:
        received.append(message)
        connection.pause_recv()

    return handle


@compressed
@both
@on_loop
async def test_nothing_is_delivered_after_pause_recv(*, is_compressed: bool, secure: bool) -> None:
    """One message for each time that the application reads on; then all the rest, in order."""
    received: list[bytes | str] = []
    sent = [FIRST, *(number.to_bytes(4) * 50 for number in range(300))]
    make = packed if is_compressed else lambda payload: frame(BINARY, payload)
    handle = pausing(received)
    async with serve(secure=secure, on_message=handle, compression=Deflate()) as server:
        client = await server.open(headers=(DEFLATE,) if is_compressed else ())
        client.push(frame(BINARY, FIRST) + b"".join(map(make, sent[1:])))
        await eventually(lambda: bool(received))
        for count in range(1, 10):
            await until_idle()
            assert len(received) == count
            (connection,) = server.worker.connections.values()
            connection.resume_recv()
            await eventually(lambda: len(received) > count)  # noqa: B023
        while len(received) < len(sent):
            connection.resume_recv()
            await turns(1)
        connection.resume_recv()
        await client.send_frame(PING, b"still here?")

        assert await client.read_frame() == Frame(PONG, b"still here?")
        assert received == sent


@both
@on_loop
async def test_what_waits_is_no_more_than_one_read(*, secure: bool) -> None:
    """256 KiB, and 32 KiB with TLS, less than it was on the wire; all else stays in the kernel."""
    received: list[bytes | str] = []
    async with serve(secure=secure, on_message=pausing(received)) as server:
        client = await server.open()
        client.push(frame(BINARY, FIRST) + frame(BINARY, bytes(100)) * 40_000)
        await eventually(lambda: bool(received))
        await until_idle()

        assert received == [FIRST]
        assert 0 < len(link_of(server)._held.data) < (32 if secure else 256) << 10  # noqa: SLF001


@both
@on_loop
async def test_bombs_behind_a_message_that_is_being_handled(*, secure: bool) -> None:
    """For an async handler that needs a while, they stay compressed until it is their turn."""
    release = asyncio.Event()
    sizes: list[int] = []

    async def handle(_connection: Connection, message: bytes) -> None:
        await release.wait()
        sizes.append(len(message))

    async with serve(secure=secure, on_message=handle, compression=Deflate()) as server:
        client = await server.open(headers=(DEFLATE,))
        with most_memory() as measured:
            client.push(frame(BINARY, FIRST) + BOMB * 15)
            await until_idle()

        # The messages at hand, what zlib takes for one, and one read.
        assert measured[0] < 4 * MIB
        release.set()
        await eventually(lambda: len(sizes) == 16)
        assert sizes == [60_000] + [MIB] * 15


@both
@on_loop
async def test_a_client_that_does_not_read_is_not_answered_ahead(*, secure: bool) -> None:
    """Questions of a few bytes with large answers wait as questions: no answer is dropped."""

    def answer(connection: Connection, _message: bytes | str) -> None:
        connection.send(bytes(100_000))

    async with serve(secure=secure, on_message=answer) as server:
        client = await server.open(receive_buffer=4096)
        client.stop_reading()
        client.push(frame(BINARY, FIRST) + frame(TEXT, b"?") * 400)
        (connection,) = server.worker.connections.values()
        await eventually(lambda: connection.send_buffer_size > 64 << 10)
        await until_idle()

        assert connection.send_buffer_size < 500_000
        client.go_on_reading()
        for _ in range(401):
            assert len((await client.read_frame()).payload) == 100_000
        assert connection.dropped == 0


@compressed
@both
@on_loop
async def test_frames_behind_the_handshake_wait_too(*, is_compressed: bool, secure: bool) -> None:
    """Where on_open pauses; a fragmented message among them, a ping, and the Close at their end."""
    received: list[bytes | str] = []
    journal = Journal()

    def take(_connection: Connection, message: bytes | str) -> None:
        received.append(message)

    callbacks = journal.callbacks(on_message=take, on_open=lambda one: one.pause_recv())
    headers = (DEFLATE,) if is_compressed else ()
    early = packed(b"first" * 100) if is_compressed else frame(BINARY, b"first" * 100)
    early += frame(TEXT, b"sec", fin=False) + frame(PING, b"?") + frame(CONTINUATION, b"ond")
    early += frame(CLOSE, close_payload(4000, "bye")) + frame(TEXT, b"ignored") + frame(PING)
    async with serve(secure=secure, compression=Deflate(), **callbacks) as server:
        client = await server.connect()
        await client.send(handshake(headers=headers) + early)
        await client.read_head()
        assert await client.read_frame() == Frame(PONG, b"?")
        await until_idle()
        assert (received, journal.of("on_close")) == ([], [])
        journal.connections[0].resume_recv()

        assert await client.read_close() == (4000, "bye")
        assert await client.read_end() == (b"", EOF)
        assert received == [b"first" * 100, "second"]
        assert journal.of("on_close") == [(4000, "bye")]


@both
@on_loop
async def test_our_close_finds_the_peers_among_what_waits(*, secure: bool) -> None:
    """Then the closing handshake is done at once, and of the messages none is delivered."""
    received: list[bytes | str] = []
    journal = Journal()
    callbacks = journal.callbacks(on_message=pausing(received))
    async with serve(secure=secure, timeouts={"close": 20.0}, **callbacks) as server:
        client = await server.open()
        client.push(frame(BINARY, FIRST) + frame(TEXT, b"a") + frame(CLOSE, close_payload(4001)))
        await eventually(lambda: bool(received))
        await until_idle()
        journal.connections[0].close(4002, "server")

        assert await client.read_close() == (4002, "server")
        assert await client.read_end() == (b"", EOF)
        assert (received, journal.of("on_close")) == ([FIRST], [(4001, "")])


@both
@on_loop
async def test_nothing_is_inflated_after_our_close(*, secure: bool) -> None:
    """Only the peer's Close is looked at then, whatever comes before it, whole or in fragments."""
    journal = Journal()
    async with serve(secure=secure, compression=Deflate(), **journal.callbacks()) as server:
        client = await server.open(headers=(DEFLATE,))
        await client.send(frame(TEXT, b"begun", fin=False))
        await until_idle()
        journal.connections[0].close(4000, "enough")
        assert await client.read_close() == (4000, "enough")
        with most_memory() as measured:
            await client.send(frame(CONTINUATION, b"end") + BOMB * 10 + frame(TEXT, b"\xff"))
            await client.send_close(4000, "enough")
            assert await client.read_end() == (b"", EOF)

        assert measured[0] < MIB
        assert journal.of("on_message") == []
        assert journal.of("on_close") == [(4000, "enough")]


@both
@on_loop
async def test_nothing_is_inflated_after_destroy(*, secure: bool) -> None:
    """The engine delivers what it has read to the end; nobody wants it."""

    def cut(connection: Connection, _message: bytes) -> None:
        connection.destroy()

    async with serve(secure=secure, on_message=cut, compression=Deflate()) as server:
        client = await server.open(headers=(DEFLATE,))
        with most_memory() as measured:
            client.push(frame(BINARY, FIRST) + BOMB * 10)
            await eventually(lambda: not server.service.present_count)

        assert measured[0] < MIB


@both
@on_loop
async def test_what_waits_is_judged_when_it_is_taken(*, secure: bool) -> None:
    """What is wrong about it ends the connection then, behind what was right."""
    received: list[bytes | str] = []
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks(on_message=pausing(received))) as server:
        client = await server.open()
        client.push(frame(BINARY, FIRST) + frame(TEXT, b"a") + frame(TEXT, b"\xff"))
        await eventually(lambda: bool(received))
        await until_idle()
        assert journal.of("on_close") == []
        journal.connections[0].resume_recv()
        await eventually(lambda: len(received) == 2)
        journal.connections[0].resume_recv()

        assert await client.read_close() == (1007, "the text is not UTF-8")
        assert received == [FIRST, "a"]


@both
@on_loop
async def test_a_large_fragment_behind_what_waits(*, secure: bool) -> None:
    """What the next frame may have follows from what is held of its message then."""
    received: list[bytes | str] = []
    limits = {"max_message_size": 200_000}
    async with serve(secure=secure, limits=limits, on_message=pausing(received)) as server:
        client = await server.open()
        client.push(frame(BINARY, FIRST) + frame(BINARY, bytes(1000), fin=False))
        await eventually(lambda: bool(received))
        await until_idle()
        (connection,) = server.worker.connections.values()
        connection.resume_recv()
        client.push(frame(CONTINUATION, bytes(199_000)) + frame(BINARY, bytes(200_000)))
        for count in (2, 3):
            await eventually(lambda: len(received) == count)  # noqa: B023
            connection.resume_recv()

        assert [len(message) for message in received] == [60_000, 200_000, 200_000]


@both
@on_loop
async def test_what_waits_goes_with_its_connection(*, secure: bool) -> None:
    """Nothing is delivered after destroy(), also if the application has just read on."""
    received: list[bytes | str] = []
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks(on_message=pausing(received))) as server:
        client = await server.open()
        client.push(frame(BINARY, FIRST) + frame(TEXT, b"a") * 100)
        await eventually(lambda: bool(received))
        await until_idle()
        journal.connections[0].resume_recv()
        journal.connections[0].destroy()
        await journal.until("on_close", 1006)
        await until_idle()

        assert received == [FIRST]


# What inflating costs the others.


class Turns:
    """Counts by turns of the event loop."""

    def __init__(self) -> None:
        self.per_turn = [0]
        self.total = 0
        self._next()

    def _next(self) -> None:
        if self.per_turn[-1]:
            self.per_turn.append(0)
        self._handle = asyncio.get_running_loop().call_soon(self._next)

    def count(self, number: int) -> None:
        """Count in this turn."""
        self.per_turn[-1] += number
        self.total += number

    def stop(self) -> None:
        """Count no turns any more."""
        self._handle.cancel()


@pytest.mark.parametrize("count", [1, 5])
@both
@on_loop
async def test_a_turn_of_the_loop_inflates_little(count: int, *, secure: bool) -> None:
    """However many clients send bombs, in one turn of the loop a few MiB come out for all."""
    seen = Turns()

    def take(_connection: Connection, message: bytes) -> None:
        seen.count(len(message))

    async with serve(secure=secure, on_message=take, compression=Deflate()) as server:
        clients = [await server.open(headers=(DEFLATE,)) for _ in range(count)]
        for client in clients:
            client.push(frame(BINARY, FIRST) + BOMB * 12)
        await eventually(lambda: seen.total == count * (60_000 + 12 * MIB))
        seen.stop()

        assert max(seen.per_turn) <= 3 * MIB + 60_000 * count


@both
@on_loop
async def test_empty_compressed_frames_take_turns(*, secure: bool) -> None:
    """They cost time and no bytes: no more than 4 096 of them are handled in a turn."""
    seen = Turns()

    def take(_connection: Connection, _message: str) -> None:
        seen.count(1)

    async with serve(secure=secure, on_message=take, compression=Deflate()) as server:
        client = await server.open(headers=(DEFLATE,))
        client.push(frame(BINARY, FIRST) + frame(TEXT, b"\x00", rsv=4) * 20_000)
        await eventually(lambda: seen.total == 20_001)
        seen.stop()

        assert max(seen.per_turn) <= 4097


@both
@on_loop
async def test_a_flood_of_bombs_is_ended(*, secure: bool) -> None:
    """Over the budget for long enough, at a thousand bytes out per byte in; others are served."""
    journal = Journal()
    options = Deflate(max_inflated_per_second=2 * MIB, flood_seconds=1)
    async with serve(secure=secure, compression=options, **journal.callbacks()) as server:
        client = await server.open(headers=(DEFLATE,))
        bystander = await server.open()
        client.push(BOMB * 100)
        await journal.until("on_message")
        await bystander.send_frame(PING, b"still here?")
        assert await bystander.read_frame() == Frame(PONG, b"still here?")

        assert await client.read_close() == (1008, "too much compressed data")
        assert server.service.counts["inflate_flood"] == 1
        waits, ended = server.lines()
        assert "Deflate.max_inflated_per_second, and has to wait" in waits
        assert ended.endswith("1008: too much compressed data; Deflate.flood_ratio sets the limit")
        # What a second has at the beginning, one more, and what was left of a third.
        assert 3 <= len(journal.of("on_message")) <= 7


@both
@on_loop
async def test_compressible_data_is_not_a_flood(*, secure: bool) -> None:
    """A client that sends data, as fast as it is read, has to wait and loses nothing."""
    received: list[int] = []
    # At a fortieth; bombs of the same size have a thousandth.
    data = b"".join(bytes(997) + number.to_bytes(3) for number in range(1000))
    options = Deflate(max_inflated_per_second=2 * MIB, flood_seconds=1)

    def take(_connection: Connection, message: bytes) -> None:
        received.append(len(message))

    async with serve(secure=secure, on_message=take, compression=options) as server:
        client = await server.open(headers=(DEFLATE,))
        client.push(packed(data) * 6)
        await eventually(lambda: len(received) == 6)
        await client.send_frame(PING, b"still here?")

        assert await client.read_frame() == Frame(PONG, b"still here?")
        assert len(data) > 20 * len(packed(data))
        (line,) = server.lines()
        assert line.endswith("Deflate.max_inflated_per_second, and has to wait")
