"""What handlers hold, over real sockets."""

import array
import asyncio
import gc
import weakref
from typing import Any

import pytest

from gateman import ConfigError, Connection, SendResult, State
from tests.support.deadlines import TIMEOUT
from tests.support.loop import eventually, on_loop, turns, until_idle
from tests.support.raw import BINARY, CLOSE, EOF, TEXT, Frame, RawClient, frame
from tests.support.server import Journal, serve

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

# What may wait in the tests that fill it, and a message of which a few do.
LIMIT = 200_000  # bytes
PART = bytes(20_000)


def fill(connection: Connection) -> list[SendResult]:
    """Send to a peer that does not read until a message is dropped; tell what became of each."""
    fates: list[SendResult] = []
    while SendResult.DROPPED not in fates:
        fates.append(connection.send(PART))
    return fates


async def flood(client: RawClient) -> None:
    """Send 20 MiB, as far as the server lets it."""
    for _ in range(20):
        await client.send(frame(BINARY, bytes(1 << 20)))


# Sending.


@both
@pytest.mark.parametrize(
    ("message", "received"),
    [
        ("text", Frame(TEXT, b"text")),
        ("", Frame(TEXT)),
        ("\N{GRINNING FACE}", Frame(TEXT, b"\xf0\x9f\x98\x80")),
        (b"bytes", Frame(BINARY, b"bytes")),
        (bytearray(b"array"), Frame(BINARY, b"array")),
        (memoryview(b"a-b-c-")[::2], Frame(BINARY, b"abc")),
        (array.array("H", [0x4141]), Frame(BINARY, b"AA")),
    ],
)
@on_loop
async def test_type_of_a_message_is_its_kind(
    message: bytes, received: Frame, *, secure: bool
) -> None:
    """``str`` goes out as text, anything bytes-like as binary."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        fate = journal.connections[0].send(message)

        assert (fate, bool(fate)) == (SendResult.SENT, True)
        assert await client.read_frame() == received


@pytest.mark.parametrize("is_waiting", [False, True], ids=["direct", "queued"])
@on_loop
async def test_what_is_no_message_raises(*, is_waiting: bool) -> None:
    """A mistake of the application's is told at once, and breaks nothing."""
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        client = await server.open(receive_buffer=4096)
        (connection,) = journal.connections
        client.stop_reading()
        while is_waiting and connection.send(PART) is SendResult.SENT:
            pass
        with pytest.raises(TypeError, match="A message is str or bytes-like, not int"):
            connection.send(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not NoneType"):
            connection.send(None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="The text has a lone surrogate at index 1, which"):
            connection.send("a\ud800")

        assert connection.send("still here")


@both
@on_loop
async def test_messages_are_queued_and_then_dropped(*, secure: bool) -> None:
    """A peer that does not read is sent to as long as there is room, and told what it got."""
    journal = Journal()
    limits = {"max_send_buffer_size": LIMIT}
    async with serve(secure=secure, limits=limits, **journal.callbacks()) as server:
        client = await server.open(receive_buffer=4096)
        client.stop_reading()
        (connection,) = journal.connections
        fates = fill(connection)
        fates += [connection.send(PART), connection.send(b"small")]

        sent, queued = fates.count(SendResult.SENT), fates.count(SendResult.QUEUED)
        order = [
            *[SendResult.SENT] * sent,
            *[SendResult.QUEUED] * (queued - 1),
            *[SendResult.DROPPED] * 2,
        ]
        assert fates == [*order, SendResult.QUEUED]
        assert (bool(SendResult.QUEUED), bool(SendResult.DROPPED), bool(SendResult.CLOSED)) == (
            True,
            False,
            False,
        )
        assert 3 <= queued <= 11
        assert LIMIT / 2 <= connection.send_buffer_size <= LIMIT
        assert connection.dropped == server.service.counts["dropped_slow_peer"] == 2
        assert journal.entries[3:] == [("on_buffer_full",)]
        (line,) = server.lines()
        assert "a message of 20000 bytes to <Connection 1 " in line

        client.go_on_reading()
        frames = [await client.read_frame() for _ in range(sent + queued)]
        await journal.until("on_buffer_drain")
        assert [len(found.payload) for found in frames] == [len(PART)] * (sent + queued - 1) + [5]
        assert connection.send_buffer_size == 0
        assert connection.send("direct again") is SendResult.SENT
        assert journal.entries[3:] == [("on_buffer_full",), ("on_buffer_drain",)]


@on_loop
async def test_one_message_of_any_size_may_be_sent() -> None:
    """The limit is on what waits: a message above it goes out when nothing does."""
    journal = Journal()
    limits = {"max_send_buffer_size": LIMIT}
    async with serve(limits=limits, **journal.callbacks()) as server:
        client = await server.open()
        (connection,) = journal.connections
        fate = connection.send(bytes(10_000_000))

        assert fate is SendResult.QUEUED
        assert await client.read_frame() == Frame(BINARY, bytes(10_000_000))


@both
@on_loop
async def test_drain_waits_for_the_peer(*, secure: bool) -> None:
    """With drain() between large messages none is dropped."""
    journal = Journal()
    limits = {"max_send_buffer_size": LIMIT}
    async with serve(secure=secure, limits=limits, **journal.callbacks()) as server:
        client = await server.open(receive_buffer=4096)
        (connection,) = journal.connections

        async def produce() -> None:
            for _ in range(50):
                assert connection.send(bytes(150_000))
                await connection.drain()

        producing = asyncio.create_task(produce())
        for _ in range(50):
            assert len((await client.read_frame()).payload) == 150_000
        await producing

        assert (connection.dropped, connection.send_buffer_size) == (0, 0)


@on_loop
async def test_drain_ends_with_the_connection() -> None:
    """Who waits is woken, all of them, and one may give up without waking the others."""
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        client = await server.open(receive_buffer=4096)
        client.stop_reading()
        (connection,) = journal.connections
        await connection.drain()
        fill(connection)
        one, other, third = (asyncio.create_task(connection.drain()) for _ in range(3))
        await turns()
        third.cancel()
        await turns()
        assert [task.done() for task in (one, other, third)] == [False, False, True]
        connection.destroy()
        await asyncio.gather(one, other)
        await connection.drain()
        server.lines()


@on_loop
async def test_full_buffer_may_close_the_connection() -> None:
    """on_buffer_full may do anything, also from within send."""
    journal = Journal()
    limits = {"max_send_buffer_size": LIMIT}
    for end in (Connection.close, Connection.destroy):
        callbacks = journal.callbacks(on_buffer_full=end)
        async with serve(limits=limits, timeouts={"close": 0.1}, **callbacks) as server:
            client = await server.open(receive_buffer=4096)
            client.stop_reading()
            connection = journal.connections[-1]
            while connection.send(PART) is not SendResult.CLOSED:
                pass
            await journal.until("on_close", 1006, "", count=len(journal.connections))
            server.lines()


# Pausing.


@both
@on_loop
async def test_paused_client_is_not_read_from(*, secure: bool) -> None:
    """What it sends waits in the network, in order, until it is read again."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        (connection,) = journal.connections
        connection.pause_recv()
        connection.pause_recv()
        for number in range(5):
            await client.send_frame(TEXT, b"%d" % number)
            await turns()
        assert journal.of("on_message") == []
        assert connection.send("still sending") is SendResult.SENT
        connection.resume_recv()
        connection.resume_recv()
        await journal.until("on_message", "4")

        assert journal.of("on_message") == [(str(number),) for number in range(5)]


@both
@on_loop
async def test_pause_holds_what_was_read_together(*, secure: bool) -> None:
    """What has come with the message that pauses waits for resume_recv, as what comes behind it."""
    journal = Journal()

    def pause(connection: Connection, message: str) -> None:
        journal.note("on_message", message)
        connection.pause_recv()

    async with serve(secure=secure, **journal.callbacks(on_message=pause)) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"a") + frame(TEXT, b"b"))
        await journal.until("on_message", "a")
        await client.send_frame(TEXT, b"c")
        await until_idle()
        assert journal.of("on_message") == [("a",)]
        for letter in "bc":
            journal.connections[0].resume_recv()
            await journal.until("on_message", letter)

        assert journal.of("on_message") == [("a",), ("b",), ("c",)]


@both
@on_loop
async def test_paused_client_is_made_to_wait(*, secure: bool) -> None:
    """TCP tells it to: no byte more is taken than the kernel has room for."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        (connection,) = journal.connections
        connection.pause_recv()
        sending = asyncio.create_task(flood(client))
        done, _ = await asyncio.wait([sending], timeout=0.2)
        assert done == set()
        connection.resume_recv()
        await sending
        await journal.until("on_message", count=20)


@both
@on_loop
async def test_paused_client_can_be_closed(*, secure: bool) -> None:
    """The answer to a Close is read in any case."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        (connection,) = journal.connections
        connection.pause_recv()
        connection.close(4000)
        connection.pause_recv()
        assert await client.read_close() == (4000, "")
        await client.send_close(4000)

        assert await client.read_end() == (b"", EOF)
        assert journal.of("on_close") == [(4000, "")]


@both
@on_loop
async def test_pause_just_before_the_close_of_the_peer(*, secure: bool) -> None:
    """A Close in the segment of the message that paused is answered, and the end is seen."""
    journal = Journal()

    def pause(connection: Connection, _message: str) -> None:
        connection.pause_recv()

    callbacks = journal.callbacks(on_message=pause)
    async with serve(secure=secure, timeouts={"close": 2 * TIMEOUT}, **callbacks) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"a") + frame(CLOSE))

        assert await client.read_close() == (1000, "")
        assert await client.read_end() == (b"", EOF)
        await client.close()
        await eventually(lambda: not server.service.present_count)


# Closing.


@both
@on_loop
async def test_close_is_a_closing_handshake(*, secure: bool) -> None:
    """What was sent before comes first, then the last message, then the Close."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server, server.client() as client:
        (connection,) = journal.connections
        states = [connection.state]
        connection.send(bytes(500_000))
        connection.close(4000, "bye", "last")
        states.append(connection.state)
        assert connection.send("late") is SendResult.CLOSED
        connection.close(4001, "again")

        assert await client.recv() == bytes(500_000)
        assert await client.recv() == "last"
        await client.wait_closed()
        await journal.until("on_close")
        assert (client.close_code, client.close_reason) == (4000, "bye")
        assert journal.of("on_close") == [(4000, "bye")]
        assert [*states, connection.state] == [State.OPEN, State.CLOSING, State.CLOSED]


@both
@on_loop
async def test_peer_that_does_not_answer_is_cut_off(*, secure: bool) -> None:
    """It has ``timeouts.close`` for its Close; on_close tells that there was none."""
    journal = Journal()
    callbacks = journal.callbacks()
    async with serve(secure=secure, timeouts={"close": 0.1}, **callbacks) as server:
        client = await server.open()
        journal.connections[0].close(4000)
        await journal.until("on_close")

        assert await client.read_close() == (4000, "")
        assert (await client.read_end())[0] == b""
        assert journal.of("on_close") == [(1006, "")]
        assert server.service.present_count == 0


@both
@on_loop
async def test_peer_that_does_not_read_is_cut_off(*, secure: bool) -> None:
    """Also with a Close that it has not read."""
    journal = Journal()
    callbacks = journal.callbacks()
    async with serve(secure=secure, timeouts={"close": 0.1}, **callbacks) as server:
        client = await server.open(receive_buffer=4096)
        client.stop_reading()
        fill(journal.connections[0])
        journal.connections[0].close(4000)
        await journal.until("on_close")

        assert journal.of("on_close") == [(1006, "")]
        await eventually(lambda: not server.service.present_count)
        server.lines()


@pytest.mark.parametrize(
    ("code", "reason", "sentence"),
    [
        (1005, "", "close code 1005 may not be sent: use 1000, or one of your own"),
        (1006, "", "close code 1006 may not"),
        (1010, "", "close code 1010 may not"),
        (5000, "", "close code 5000 may not"),
        ("1000", "", "close code '1000' may not"),
        (1000, "ü" * 62, "the close reason has 124 bytes of UTF-8"),
        (1000, 5, "close reason 5 is not a str"),
    ],
)
@on_loop
async def test_close_that_cannot_be_sent_raises(code: int, reason: str, sentence: str) -> None:
    """The application is told, and the connection stays open."""
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        await server.open()
        with pytest.raises(ConfigError, match=sentence):
            journal.connections[0].close(code, reason)

        assert journal.connections[0].state is State.OPEN


@both
@on_loop
async def test_destroy_cuts_off_at_once(*, secure: bool) -> None:
    """Nothing more is sent or delivered, and on_close gets 1006, once."""
    journal = Journal()

    def destroy(connection: Connection, message: str) -> None:
        journal.note("on_message", message)
        connection.destroy()
        connection.destroy()
        connection.close()

    callbacks = journal.callbacks(on_message=destroy)
    async with serve(secure=secure, timeouts={"close": 2 * TIMEOUT}, **callbacks) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"a") + frame(TEXT, b"b"))
        data, _end = await client.read_end()
        await journal.until("on_close")

        assert data == b""
        assert journal.entries[3:] == [("on_message", "a"), ("on_close", 1006, "")]
        assert server.service.present_count == 0


@on_loop
async def test_destroy_ends_a_closing_handshake() -> None:
    """Who does not want to wait for the peer need not."""
    journal = Journal()
    async with serve(timeouts={"close": 9}, **journal.callbacks()) as server:
        await server.open()
        (connection,) = journal.connections
        connection.close(4000)
        connection.destroy()
        await journal.until("on_close")

        assert journal.of("on_close") == [(1006, "")]


@both
@on_loop
async def test_closed_connection_does_nothing(*, secure: bool) -> None:
    """Every method may be called at any time afterwards."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        await client.close()
        await journal.until("on_close")
        (connection,) = journal.connections
        connection.close()
        connection.destroy()
        connection.pause_recv()
        connection.resume_recv()
        await connection.drain()

        assert connection.send("late") is SendResult.CLOSED
        assert (connection.send_buffer_size, connection.state) == (0, State.CLOSED)
        assert journal.of("on_close") == [(1006, "")]


# What else it is.


@on_loop
async def test_session_is_the_applications() -> None:
    """A dict of its own for every connection, and connections can be members of sets."""
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        await server.open()
        await server.open()
        one, other = journal.connections
        one.session["user"] = "ann"

        assert (one.session, other.session) == ({"user": "ann"}, {})
        assert len({one, other, one}) == 2


@on_loop
async def test_connection_says_who_it_is() -> None:
    """Its repr is for log lines; an IPv6 address stands in brackets."""
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        await server.open(headers=("X-Real-IP: 2001:db8::1",))
        (connection,) = journal.connections

        assert repr(connection) == "<Connection 1 [2001:db8::1] open>"
        connection.remote_port = 5
        assert connection.remote_address == "[2001:db8::1]:5"


@both
@on_loop
async def test_lost_connection_is_freed_at_once(*, secure: bool) -> None:
    """Nothing of it waits for the garbage collector."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        gc.collect()
        gc.disable()
        try:
            opened, refused = await server.open(), await server.connect()
            await journal.until("on_connect", count=2)
            # Of the open one also its link: the WebSocket protocol.
            links = [journal.connections[0].link]
            references: list[weakref.ref[Any]] = [
                weakref.ref(one) for one in (*journal.connections, *links)
            ]
            links.clear()
            journal.connections.clear()
            await opened.send_close()
            assert await opened.read_close() == (1000, "")
            await opened.close()
            await refused.close()
            await eventually(lambda: not server.service.present_count)
            await turns()

            assert [reference() for reference in references] == [None] * 3
        finally:
            gc.enable()
