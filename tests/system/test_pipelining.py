"""Clients that send many messages at once: the answers go out together, and all as they should."""

import asyncio
import socket
import struct

import pytest

from gateman import Connection, Deflate, SendResult
from gateman.cluster.hub import Hub
from tests.support.loop import eventually, on_loop, until_idle
from tests.support.raw import BINARY, CLOSE, PING, PONG, TEXT, Frame, close_payload, frame
from tests.support.server import Journal, serve
from tests.support.slow import DEFLATE, Reader, both, number_of, numbered, slow

COUNT = 100

# struct tcp_info of linux/tcp.h: tcpi_data_segs_out, since Linux 4.6.
_SEGMENTS = struct.Struct("=156xI")


def write_count(connection: Connection) -> int:
    """Tell how often something was written; what is small goes out as a segment each time."""
    sock: socket.socket = connection.link.socket
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SEGMENTS.size)
    return int(_SEGMENTS.unpack(info)[0])


@both
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@on_loop
async def test_answers_are_written_together(*, is_async: bool, secure: bool) -> None:
    """And in order; a message that comes alone is answered at once."""
    fates: list[SendResult] = []

    def echo(connection: Connection, message: str) -> None:
        fates.append(connection.send(message))

    async def echo_later(connection: Connection, message: str) -> None:
        echo(connection, message)

    async with serve(secure=secure, on_message=echo_later if is_async else echo) as server:
        client = await server.open()
        (connection,) = server.worker.connections.values()
        before = write_count(connection)
        client.push(b"".join(frame(TEXT, b"%d" % number) for number in range(COUNT)))
        for number in range(COUNT):
            assert await client.read_frame() == Frame(TEXT, b"%d" % number)
        together = write_count(connection) - before
        first = fates[0]
        await client.send_frame(TEXT, b"alone")

        assert await client.read_frame() == Frame(TEXT, b"alone")
        assert (first, fates[-1]) == (SendResult.QUEUED, SendResult.SENT)
        assert all(fates)
        assert together <= COUNT // 10


@both
@on_loop
async def test_a_small_message_does_not_wait_for_the_one_before(*, secure: bool) -> None:
    """Until the client has acknowledged that, as Nagle's algorithm would have it."""
    async with serve(secure=secure) as server:
        await server.open()
        (connection,) = server.worker.connections.values()
        sock: socket.socket = connection.link.socket

        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@on_loop
async def test_small_send_buffers_have_each_answer_written() -> None:
    """Each has to find its room, and so nothing is told to wait."""
    fates: list[SendResult] = []
    limits = {"max_send_buffer_size": 10_000}
    async with serve(
        limits=limits, on_message=lambda connection, text: fates.append(connection.send(text))
    ) as server:
        client = await server.open()
        client.push(frame(TEXT, b"a") * 3)
        for _ in range(3):
            await client.read_frame()

        assert fates == [SendResult.SENT] * 3


@on_loop
async def test_the_first_answers_do_not_wait_for_all_handlers() -> None:
    """However many messages have come, a slow handler holds back a few answers only."""
    counts: list[int] = []

    def take(connection: Connection, message: str) -> None:
        counts.append(write_count(connection))
        connection.send(message)

    async with serve(on_message=take) as server:
        client = await server.open()
        client.push(frame(TEXT, b"a") * COUNT)
        for _ in range(COUNT):
            await client.read_frame()

        assert counts[0] == counts[8]
        assert counts[0] < counts[40] < counts[80]


@on_loop
async def test_an_answer_does_not_wait_for_what_a_callback_awaits() -> None:
    """It goes out before, though more messages are there already."""
    go_on = asyncio.Event()

    async def take(connection: Connection, message: str) -> None:
        connection.send(f"{message}?")
        await go_on.wait()
        connection.send(f"{message}!")

    async with serve(on_message=take) as server:
        client = await server.open()
        client.push(frame(TEXT, b"a") + frame(TEXT, b"b"))
        first = await client.read_frame()
        go_on.set()

        assert first == Frame(TEXT, b"a?")
        for answer in (b"a!", b"b?", b"b!"):
            assert await client.read_frame() == Frame(TEXT, answer)


@both
@on_loop
async def test_what_else_is_sent_keeps_its_place(*, secure: bool) -> None:
    """What is too large to be copied, a pong, and the Close."""
    large = numbered(1, 20_000)

    def take(connection: Connection, message: str) -> None:
        connection.send(message)
        if message == "end":
            connection.close(4000, "enough")
        else:
            connection.send(large)
            connection.send(message.upper())

    async with serve(secure=secure, on_message=take) as server:
        client = await server.open()
        client.push(
            frame(TEXT, b"a")
            + frame(PING, b"p")
            + frame(TEXT, b"b")
            + frame(TEXT, b"end")
            + frame(TEXT, b"too late")
        )
        expected = [
            *(Frame(TEXT, b"a"), Frame(BINARY, large), Frame(TEXT, b"A")),
            Frame(PONG, b"p"),
            *(Frame(TEXT, b"b"), Frame(BINARY, large), Frame(TEXT, b"B")),
            *(Frame(TEXT, b"end"), Frame(CLOSE, close_payload(4000, "enough"))),
        ]
        assert [await client.read_frame() for _ in expected] == expected


@both
@pytest.mark.parametrize("size", [10, 5000], ids=["small", "more than a turn collects"])
@on_loop
async def test_the_hub_keeps_the_order(size: int, *, secure: bool) -> None:
    """What goes to a group, and what goes to one of its members, before and behind it."""
    hub = Hub()

    async def join(connection: Connection) -> None:
        await connection.join("room")

    def take(connection: Connection, message: bytes) -> None:
        for place, send in enumerate(
            (connection.send, lambda data: hub.send_to_group("room", data), connection.send)
        ):
            send(numbered(3 * number_of(message) + place, size))

    async with serve(secure=secure, hub=hub, on_open=join, on_message=take) as server:
        client = await server.open()
        await eventually(lambda: server.service.counts["connections"] == 1)
        await until_idle()
        client.push(b"".join(frame(BINARY, numbered(number, 10)) for number in range(30)))
        numbers = await Reader(client).read_numbers(90)

        assert numbers == list(range(90))


@both
@on_loop
async def test_a_client_that_stops_reading_loses_nothing(*, secure: bool) -> None:
    """From the first byte that the kernel does not take, all waits as it always does."""

    def take(connection: Connection, message: bytes) -> None:
        connection.send(numbered(number_of(message), 5000))

    async with serve(secure=secure, on_message=take) as server:
        connection, client = await slow(server)
        client.push(b"".join(frame(BINARY, numbered(number, 10)) for number in range(COUNT)))
        await eventually(lambda: connection.send_buffer_size > 0)
        client.go_on_reading()
        numbers = await Reader(client).read_numbers(COUNT)

        assert numbers == list(range(COUNT))
        assert connection.dropped == 0


@both
@pytest.mark.parametrize("takeover", [False, True], ids=["without context", "with context"])
@on_loop
async def test_answers_may_be_compressed(*, takeover: bool, secure: bool) -> None:
    """In the order in which they are written."""
    compression = Deflate(context_takeover=takeover, min_size=1)

    def take(connection: Connection, message: bytes) -> None:
        connection.send(message * 100)

    async with serve(secure=secure, compression=compression, on_message=take) as server:
        client = await server.open(headers=(DEFLATE,))
        (connection,) = server.worker.connections.values()
        before = write_count(connection)
        client.push(b"".join(frame(BINARY, b"%03d" % number) for number in range(COUNT)))
        reader = Reader(client, takeover=takeover)
        messages = [await reader.read() for _ in range(COUNT)]

        assert messages == [b"%03d" % number * 100 for number in range(COUNT)]
        assert write_count(connection) - before <= COUNT // 10


@both
@pytest.mark.parametrize("how", ["destroys", "fails", "breaks the protocol"])
@on_loop
async def test_the_end_in_the_middle(how: str, *, secure: bool) -> None:
    """Answers to what came before it go out before the Close; what comes behind has none."""
    journal = Journal()

    def take(connection: Connection, message: str) -> None:
        connection.send(message)
        if message == "end" and how == "destroys":
            connection.destroy()
        elif message == "end" and how == "fails":
            raise RuntimeError("bug")

    callbacks = journal.callbacks(on_message=take)
    async with serve(secure=secure, **callbacks) as server:
        client = await server.open()
        bad = frame(3) if how == "breaks the protocol" else b""
        client.push(frame(TEXT, b"a") + frame(TEXT, b"end") + frame(TEXT, b"b") + bad)
        if how == "destroys":
            await client.read_end()
            await journal.until("on_close", 1006)
        else:
            code = 1011 if how == "fails" else 1002
            found: list[Frame] = []
            while not found or found[-1].opcode != CLOSE:
                found.append(await client.read_frame())
            answers = [one.payload for one in found[:-1]]
            assert answers == [b"a", b"end", b"b"][: len(answers)]
            assert len(answers) >= 2
            assert int.from_bytes(found[-1].payload[:2]) == code
            await client.send_close(code)
            await journal.until("on_close", code)
        assert len(server.lines()) == (how != "destroys")
