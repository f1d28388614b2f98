"""What becomes of messages for a peer that reads slowly, or not at all."""

from types import SimpleNamespace
from typing import Any

import pytest

from gateman import Connection, Deflate, Limits, Request, SendResult, State
from gateman.net.send_buffer import TRANSITIONS, SendBuffer, SendState
from tests.support.loop import eventually, on_loop, until_idle
from tests.support.raw import (
    BINARY,
    PING,
    PONG,
    TEXT,
    Frame,
    frame,
)
from tests.support.server import Journal, serve
from tests.support.slow import (
    CHUNK_COST,
    DEFLATE,
    LARGE,
    LIMIT,
    Reader,
    block,
    both,
    fill,
    held,
    held_size,
    number_of,
    numbered,
    send_buffer_of,
    slow,
)

# The policies.


@both
@on_loop
async def test_newest_are_dropped(*, secure: bool) -> None:
    """By default: what waits is delivered, what there is no room for is counted."""
    async with serve(secure=secure, limits={"max_send_buffer_size": LIMIT}) as server:
        connection, client = await slow(server)
        count = fill(connection)
        for number in range(100):
            assert connection.send(numbered(1000 + number)) is SendResult.DROPPED
        client.go_on_reading()
        numbers = await Reader(client).read_numbers(count)

        assert numbers == list(range(1, count + 1))
        assert connection.dropped == server.service.counts["dropped_slow_peer"] == 101
        await eventually(lambda: connection.send(b"fits again") is SendResult.SENT)
        assert await Reader(client).read() == b"fits again"
        assert len(server.lines()) == 1


@both
@on_loop
async def test_oldest_are_dropped(*, secure: bool) -> None:
    """For values that replace one another: the last are always delivered, in order."""
    limits = {"max_send_buffer_size": LIMIT}
    async with serve(secure=secure, limits=limits, slow_consumer="drop_oldest") as server:
        connection, client = await slow(server)
        blocked = block(connection)
        last = blocked + 300
        for number in range(blocked + 1, last + 1):
            assert connection.send(numbered(number)) is SendResult.QUEUED
            assert held_size(connection) <= LIMIT + CHUNK_COST
        client.go_on_reading()
        numbers = await Reader(client).read_numbers(last - connection.dropped)

        assert numbers[:blocked] == list(range(1, blocked + 1))
        assert numbers[blocked:] == list(range(last - len(numbers) + blocked + 1, last + 1))
        assert 5 <= len(numbers) - blocked <= LIMIT // LARGE
        assert connection.dropped == server.service.counts["dropped_slow_peer"]
        server.lines()


@on_loop
async def test_nothing_is_dropped_for_what_cannot_fit() -> None:
    """A message that is larger than all that may wait is dropped itself."""
    limits = {"max_send_buffer_size": LIMIT}
    async with serve(limits=limits, slow_consumer="drop_oldest") as server:
        connection, client = await slow(server)
        blocked = block(connection)
        assert connection.send(numbered(blocked + 1)) is SendResult.QUEUED
        assert connection.send(bytes(LIMIT)) is SendResult.DROPPED
        client.go_on_reading()

        assert connection.dropped == 1
        assert await Reader(client).read_numbers(blocked + 1) == list(range(1, blocked + 2))
        server.lines()


@both
@on_loop
async def test_slow_peer_is_closed(*, secure: bool) -> None:
    """With 1013, behind all that waited; nothing of that is lost if it reads in time."""
    journal = Journal()
    limits = {"max_send_buffer_size": LIMIT}
    async with serve(
        secure=secure, limits=limits, slow_consumer="close", **journal.callbacks()
    ) as server:
        connection, client = await slow(server)
        count = fill(connection)
        assert connection.state is State.CLOSING
        assert connection.send(b"too late") is SendResult.CLOSED
        client.go_on_reading()
        assert await Reader(client).read_numbers(count) == list(range(1, count + 1))
        assert await client.read_close() == (1013, "client reads too slowly")
        await client.send_close(1013)
        await client.read_end()

        await journal.until("on_close", 1013, "")
        assert connection.dropped == server.service.counts["dropped_slow_peer"] == 1
        server.lines()


@both
@on_loop
async def test_slow_peer_that_goes_on_not_reading_is_cut_off(*, secure: bool) -> None:
    """It has ``timeouts.close``, then everything is given up."""
    journal = Journal()
    async with serve(
        secure=secure,
        limits={"max_send_buffer_size": LIMIT},
        timeouts={"close": 0.2},
        slow_consumer="close",
        **journal.callbacks(),
    ) as server:
        connection, _ = await slow(server)
        fill(connection)
        await journal.until("on_close", 1006)

        assert connection.send_buffer_size == 0
        server.lines()


# The bound.


@both
@on_loop
async def test_small_messages_cost_their_bytes(*, secure: bool) -> None:
    """100 000 messages that wait are a few objects, and all arrive in order."""
    async with serve(secure=secure) as server:
        connection, client = await slow(server)
        blocked = block(connection)
        for number in range(100_000):
            assert connection.send(number.to_bytes(4)) is SendResult.QUEUED
        _, sizes = held(connection)

        assert len(sizes) <= 10
        assert sum(sizes) == 100_000 * 6
        client.go_on_reading()
        await Reader(client).read_numbers(blocked)
        data = await client.read(600_000)
        assert data == b"".join(b"\x82\x04" + number.to_bytes(4) for number in range(100_000))


@both
@on_loop
async def test_what_the_transport_keeps_counts(*, secure: bool) -> None:
    """A large message is kept whole until its last byte is sent, and is not there twice."""
    limits = {"max_send_buffer_size": LIMIT}
    async with serve(secure=secure, limits=limits) as server:
        connection, client = await slow(server)
        count = 1
        while connection.send(bytes(150_000)) is SendResult.SENT:
            count += 1
        assert 0 < connection.send_buffer_size <= 150_010 <= held_size(connection) + 10
        assert connection.send(bytes(60_000)) is SendResult.DROPPED
        assert connection.send(bytes(40_000)) is SendResult.QUEUED
        client.go_on_reading()
        sizes = [len(await Reader(client).read()) for _ in range(count + 1)]

        assert sizes == [150_000] * count + [40_000]
        await eventually(lambda: connection.send_buffer_size == 0)
        assert held_size(connection) == 0
        server.lines()


@both
@on_loop
async def test_empty_messages_are_bounded(*, secure: bool) -> None:
    """A message without a byte takes room, too."""
    limits = {"max_send_buffer_size": LIMIT}
    async with serve(secure=secure, limits=limits) as server:
        connection, _ = await slow(server)
        block(connection)
        for _ in range(LIMIT):
            connection.send("")

        assert connection.dropped > 0
        assert held_size(connection) <= LIMIT + CHUNK_COST
        server.lines()


@both
@on_loop
async def test_pings_are_bounded(*, secure: bool) -> None:
    """A peer that pings and does not read is owed one pong, which comes between whole frames."""
    async with serve(secure=secure) as server:
        connection, client = await slow(server)
        blocked = block(connection)
        for number in range(50):
            connection.send(numbered(blocked + 1 + number))
        before = connection.send_buffer_size
        client.push(b"".join(frame(PING, bytes([number])) for number in range(200)))
        # It is over 64 KiB behind, so nothing of that is read.
        await until_idle()
        assert 500_000 < connection.send_buffer_size <= before

        client.go_on_reading()
        frames = [await client.read_frame() for _ in range(blocked + 50)]
        assert all(found.opcode == BINARY for found in frames)
        pongs = [await client.read_frame() for _ in range(200)]
        assert pongs == [Frame(PONG, bytes([number])) for number in range(200)]


@both
@on_loop
async def test_latest_ping_is_answered_first(*, secure: bool) -> None:
    """Of pings that come while little waits the last is answered, before what waits."""
    async with serve(secure=secure) as server:
        connection, client = await slow(server)
        blocked = block(connection)
        connection.send("waits")
        client.push(b"".join(frame(PING, bytes([number])) for number in range(200)))
        await until_idle()
        client.go_on_reading()
        frames = [await client.read_frame() for _ in range(blocked)]
        assert [number_of(found.payload) for found in frames] == list(range(1, blocked + 1))

        assert await client.read_frame() == Frame(PONG, b"\xc7")
        assert await client.read_frame() == Frame(TEXT, b"waits")


@both
@on_loop
async def test_slow_peer_is_not_read_from(*, secure: bool) -> None:
    """What it asks for would only pile up; so an echo loses nothing, however slowly it reads."""

    def echo(connection: Connection, message: bytes) -> None:
        connection.send(message)

    async with serve(secure=secure, on_message=echo) as server:
        connection, client = await slow(server, receive_buffer=64 << 10)
        count = 2000
        client.push(b"".join(frame(BINARY, numbered(number, 4000)) for number in range(count)))
        await eventually(lambda: held_size(connection) > 60_000)
        await until_idle()
        assert held_size(connection) <= 80_000
        client.go_on_reading()

        assert await Reader(client).read_numbers(count) == list(range(count))
        assert connection.dropped == 0


# What the application is told.


@both
@on_loop
async def test_application_is_told_of_full_and_empty(*, secure: bool) -> None:
    """Once each, however many messages are dropped between them, and again the next time."""
    journal = Journal()
    limits = {"max_send_buffer_size": LIMIT}
    async with serve(secure=secure, limits=limits, **journal.callbacks()) as server:
        connection, client = await slow(server)
        told: list[tuple[object, ...]] = []
        for _ in range(2):
            count = fill(connection)
            assert connection.send(numbered(0)) is SendResult.DROPPED
            told += [("on_buffer_full",)]
            assert journal.entries[3:] == told
            client.go_on_reading()
            await Reader(client).read_numbers(count)
            told += [("on_buffer_drain",)]
            await journal.until("on_buffer_drain", count=len(told) // 2)
            client.stop_reading()

        assert journal.entries[3:] == told
        server.lines()


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
@on_loop
async def test_what_is_sent_from_within_is_in_order(policy: str) -> None:
    """A message that on_buffer_full sends comes behind the one that made it full."""

    def on_buffer_full(connection: Connection) -> None:
        fates.append(connection.send(b"from within"))

    fates: list[SendResult] = []
    limits = {"max_send_buffer_size": LIMIT}
    async with serve(limits=limits, slow_consumer=policy, on_buffer_full=on_buffer_full) as server:
        connection, client = await slow(server)
        # The second fills it to the byte, behind what the transport keeps of the first.
        while connection.send(bytes(LARGE)) is SendResult.SENT:
            pass
        rest = LIMIT - held_size(connection)
        fate = connection.send(b"x" * rest)

        assert fate is SendResult.QUEUED
        assert fates == [SendResult.QUEUED if policy == "drop_oldest" else SendResult.DROPPED]
        assert connection.send(b"") is fates[0]
        client.go_on_reading()
        server.lines()


@on_loop
async def test_connection_may_end_from_within() -> None:
    """When on_buffer_full cuts the peer off, nothing is queued any more, and send says so."""

    def on_buffer_full(connection: Connection) -> None:
        connection.destroy()

    limits = {"max_send_buffer_size": LIMIT}
    async with serve(limits=limits, on_buffer_full=on_buffer_full) as server:
        connection, _ = await slow(server)
        block(connection)
        while (fate := connection.send(bytes(LARGE))) is SendResult.QUEUED:
            pass

        assert fate in {SendResult.DROPPED, SendResult.CLOSED}
        assert connection.send(b"later") is SendResult.CLOSED
        assert held(connection)[1] == []
        server.lines()


# Compression.


@both
@on_loop
async def test_what_was_compressed_in_context_is_sent(*, secure: bool) -> None:
    """
    A frame that is missing would spoil all that come after it.

    So with context takeover the newest messages are dropped, before they are compressed, also
    where the oldest should be.
    """
    async with serve(
        secure=secure,
        limits={"max_send_buffer_size": LIMIT},
        slow_consumer="drop_oldest",
        compression=Deflate(context_takeover=True, min_size=1),
    ) as server:
        connection, client = await slow(server, DEFLATE)
        sent = [numbered(number, 5000) for number in range(1000)]
        kept = [message for message in sent if connection.send(message)]
        client.go_on_reading()
        reader = Reader(client, takeover=True)
        received = [await reader.read() for _ in kept]

        assert received == kept
        assert connection.dropped == len(sent) - len(kept) > 0
        server.lines()


# The states.


def test_a_send_buffer_goes_only_where_the_table_says() -> None:
    """To a state that follows the present one, and nowhere from the end."""
    context: Any = SimpleNamespace(limits=Limits(), loop=None)
    enter = SendBuffer._enter  # noqa: SLF001
    for state, following in TRANSITIONS.items():
        for other in SendState:
            send_buffer = SendBuffer(None, context)
            send_buffer.state = state
            if other in following:
                enter(send_buffer, other)
                assert send_buffer.state is other
            else:
                with pytest.raises(RuntimeError, match="a send buffer cannot go from"):
                    enter(send_buffer, other)
    assert set(TRANSITIONS) == set(SendState)
    assert not TRANSITIONS[SendState.CLOSED]


@both
@on_loop
async def test_a_connection_goes_through_every_state(*, secure: bool) -> None:
    """And ``send`` returns what the state does with a message."""
    seen: list[tuple[SendState, SendResult, SendState]] = []

    def note(connection: Connection, message: str | bytes = b"") -> None:
        before = send_buffer_of(connection).state
        result = connection.send(message or b"0")
        seen.append((before, result, send_buffer_of(connection).state))

    def enter(connection: Connection, _request: Request) -> None:
        note(connection)

    async with serve(secure=secure, on_websocket_connect=enter, on_message=note) as server:
        connection, client = await slow(server)
        client.go_on_reading()
        # Two frames in one read: the answer to the first is collected.
        client.push(frame(TEXT, b"1") + frame(TEXT, b"2"))
        await eventually(lambda: len(seen) == 3)
        note(connection)
        client.stop_reading()
        block(connection)
        note(connection)
        connection.destroy()
        note(connection)

        states, results = SendState, SendResult
        assert seen == [
            (states.EARLY, results.QUEUED, states.EARLY),
            (states.CORKED, results.QUEUED, states.COLLECTING),
            (states.COLLECTING, results.QUEUED, states.COLLECTING),
            (states.DIRECT, results.SENT, states.DIRECT),
            (states.WAITING, results.QUEUED, states.WAITING),
            (states.CLOSED, results.CLOSED, states.CLOSED),
        ]
