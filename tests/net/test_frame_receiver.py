"""Received frames become messages, in order; over real sockets."""

import pytest

from gateman import Connection, SendResult
from tests.support.loop import on_loop, turns, until_idle
from tests.support.raw import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    frame,
)
from tests.support.server import Journal, serve

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])


def echo(connection: Connection, message: str | bytes) -> None:
    """Send everything back."""
    connection.send(message)


@both
@pytest.mark.parametrize("size", [0, 1, 125, 126, 1791, 1793, 65535, 65536, 1 << 20])
@on_loop
async def test_messages_of_every_size_pass(size: int, *, secure: bool) -> None:
    """Text and binary, at the borders of the length's encodings and of buffers, both ways."""
    async with serve(secure=secure, on_message=echo) as server:
        client = await server.open()
        client.push(frame(BINARY, b"\x80" * size) + frame(TEXT, b"a" * size))

        assert await client.read_frame() == Frame(BINARY, b"\x80" * size)
        assert await client.read_frame() == Frame(TEXT, b"a" * size)


@both
@on_loop
async def test_a_thousand_messages_stay_in_order(*, secure: bool) -> None:
    """An independent client sees each of its messages come back, in order."""
    async with serve(secure=secure, on_message=echo) as server, server.client() as client:
        messages = [f"{number} äöü \N{GRINNING FACE}" for number in range(1000)]
        for message in messages:
            await client.send(message)

        assert [await client.recv() for _ in messages] == messages


@both
@on_loop
async def test_fragments_become_one_message(*, secure: bool) -> None:
    """A character may be cut, and a ping between two fragments is answered at once."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"K\xc3", fin=False) + frame(PING, b"?"))
        assert await client.read_frame() == Frame(PONG, b"?")
        await client.send(frame(CONTINUATION, fin=False) + frame(CONTINUATION, b"\xb6ln"))
        await client.send(frame(BINARY, b"\xc3", fin=False) + frame(CONTINUATION, b"("))
        await journal.until("on_message", count=2)

        assert journal.of("on_message") == [("Köln",), (b"\xc3(",)]


@on_loop
async def test_frames_may_be_cut_anywhere() -> None:
    """Wherever the network cuts a stream of frames in two, it is the same stream."""
    stream = (
        frame(TEXT, b"a" * 130)
        + frame(PING, b"?")
        + frame(BINARY, b"b", fin=False)
        + frame(CONTINUATION, b"c")
        + frame(TEXT)
    )
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        client = await server.open()
        for number, cut in enumerate(range(1, len(stream)), 1):
            await client.send(stream[:cut])
            await turns()
            await client.send(stream[cut:])
            await journal.until("on_message", "", count=number)

        assert journal.of("on_message") == [("a" * 130,), (b"bc",), ("",)] * number


@both
@on_loop
async def test_ping_is_answered_with_its_payload(*, secure: bool) -> None:
    """RFC 6455, section 5.5.3; a pong that nobody asked for is ignored."""
    async with serve(secure=secure) as server:
        client = await server.open()
        await client.send(frame(PONG, b"why?") + frame(PING) + frame(PING, b"p" * 125))

        assert await client.read_frame() == Frame(PONG)
        assert await client.read_frame() == Frame(PONG, b"p" * 125)


@both
@on_loop
async def test_flood_of_pings_is_not_answered_without_end(*, secure: bool) -> None:
    """A peer that reads nothing is owed one pong, and the server stops reading from it."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open(receive_buffer=4096)
        client.stop_reading()
        (connection,) = journal.connections
        while connection.send(bytes(4096)) is SendResult.SENT:
            pass
        unsent = connection.send_buffer_size
        client.push(frame(PING, b"p" * 125) * 20_000 + frame(PING, b"last"))
        await until_idle()
        assert connection.send_buffer_size == unsent
        client.go_on_reading()
        pongs: list[bytes] = []
        while pongs[-1:] != [b"last"]:
            found = await client.read_frame()
            if found.opcode == PONG:
                pongs.append(found.payload)

        assert len(pongs) < 20_000


@on_loop
async def test_too_many_messages_per_second() -> None:
    """A flood of tiny messages is ended with 1008."""
    journal = Journal()
    limits = {"max_messages_per_second": 100}
    async with serve(limits=limits, **journal.callbacks()) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"a") * 150)

        assert await client.read_close() == (1008, "too many messages per second")
        assert len(journal.of("on_message")) == 100
        assert server.service.counts["message_flood"] == 1
        (line,) = server.lines()
        assert line.endswith("; limits.max_messages_per_second sets the limit")
