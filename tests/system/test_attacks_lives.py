"""
The attack list, rows 36 to 42, 45 and 57: ends, floods and slow peers, over real sockets.

Memory is measured as in ``test_attacks_frames.py``.
"""

import asyncio
import tracemalloc

import pytest

from gateman import Connection, SendResult
from tests.support.attacks import MIB, both, expect_failure, most_memory
from tests.support.counted_server import serve_counted, waiting
from tests.support.loop import eventually, on_loop, turns, until_idle
from tests.support.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    EOF,
    PING,
    PONG,
    RESET,
    TEXT,
    Frame,
    RawClient,
    close_payload,
    frame,
    handshake,
)
from tests.support.server import Journal

BAD_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.mark.parametrize("code", BAD_CODES)
@on_loop
async def test_close_codes_that_are_wrong(code: int) -> None:
    """Row 36: they are not echoed; 1002 tells."""
    await expect_failure(frame(CLOSE, close_payload(code)), 1002)


@on_loop
async def test_half_a_close_code() -> None:
    """Row 36: one byte is no code."""
    await expect_failure(frame(CLOSE, b"\x03"), 1002)


@pytest.mark.parametrize(
    "rest",
    [
        frame(TEXT, b"late"),
        frame(CLOSE, close_payload(1001)),
        frame(PING),
        frame(TEXT, b"\xff"),
        frame(3),
        b"\xff" * 1000,
        frame(CLOSE, close_payload(1000)) * 1000,
        bytes(300_000),
    ],
    ids=["text", "close", "ping", "no UTF-8", "opcode", "garbage", "closes", "much"],
)
@both
@on_loop
async def test_what_follows_a_close(rest: bytes, *, secure: bool) -> None:
    """Row 37: it is ignored, whatever it is; the Close is answered once."""
    journal = Journal()
    async with serve_counted(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        client.push(frame(CLOSE, close_payload(4001, "bye")) + rest)

        assert await client.read_close() == (4001, "bye")
        assert await client.read_end() == (b"", EOF)
        await journal.until("on_close", 4001, "bye")
        assert journal.of("on_message") == journal.of("on_error") == []


@both
@on_loop
async def test_close_that_is_not_answered(*, secure: bool) -> None:
    """Row 38: the peer has ``timeouts.close``, also if it sends on and on; then it is cut off."""
    journal = Journal()
    async with serve_counted(
        secure=secure, timeouts={"close": 0.2}, **journal.callbacks()
    ) as server:
        client = await server.open()
        journal.connections[0].close(1000, "enough")
        assert await client.read_close() == (1000, "enough")
        while not journal.of("on_close"):
            client.push(frame(TEXT, b"and another thing"))
            await turns(1)

        assert journal.of("on_close") == [(1006, "")]
        assert journal.of("on_message") == []
        data, end = await client.read_end()
        assert (data, end in {EOF, RESET}) == (b"", True)


@both
@on_loop
async def test_server_ends_tcp_first(*, secure: bool) -> None:
    """Row 38: after a closing handshake of either side, so that the client keeps no TIME_WAIT."""
    journal = Journal()
    async with serve_counted(secure=secure, **journal.callbacks()) as server:
        for number in (0, 1):
            client = await server.open()
            if number:
                journal.connections[number].close(1001)
                assert await client.read_close() == (1001, "")
                await client.send_close(1001)
            else:
                await client.send_close(1001)
                assert await client.read_close() == (1001, "")

            assert await client.read_end() == (b"", EOF)


@both
@on_loop
async def test_ping_flood_of_a_client_that_does_not_read(*, secure: bool) -> None:
    """Row 39: elsewhere that buffered 58 MB in half a second; here one pong is owed."""
    pings = frame(PING, bytes(125)) * 20_000
    limits = {"max_messages_per_second": 10_000_000}
    journal = Journal()
    async with serve_counted(secure=secure, limits=limits, **journal.callbacks()) as server:
        client = await server.open(receive_buffer=4096)
        client.stop_reading()
        (connection,) = journal.connections
        for _ in range(10):
            client.push(pings)
            await until_idle()

            assert connection.send_buffer_size < 256 << 10
        client.vanish()
        await journal.until("on_close", 1006)


@pytest.mark.parametrize("inside", ["frame", "message"])
@both
@on_loop
async def test_a_byte_now_and_then(inside: str, *, secure: bool) -> None:
    """Row 40: neither bytes of a frame nor fragments of a message are the answer to a ping."""
    journal = Journal()
    timeouts = {"ping_interval": 0.2, "pong": 0.2}
    async with serve_counted(secure=secure, timeouts=timeouts, **journal.callbacks()) as server:
        client = await server.open()
        client.push(frame(BINARY, b"", size=100_000) if inside == "frame" else b"")
        opcode = BINARY
        while not journal.of("on_close"):
            if inside == "frame":
                client.push(b"x")
            else:
                client.push(frame(opcode, b"x", fin=False))
                opcode = CONTINUATION
            await asyncio.sleep(0.01)

        assert journal.of("on_close") == [(1006, "no answer to a ping within 0.2 s")]


FLOODS = {
    "messages": frame(TEXT, b""),
    "pings": frame(PING),
    "pongs": frame(PONG),
    "fragments": frame(CONTINUATION, b"x", fin=False),
}


@pytest.mark.parametrize("kind", FLOODS)
@both
@on_loop
async def test_flood_of_tiny_frames(kind: str, *, secure: bool) -> None:
    """Row 41: whatever they are, too many in a second are 1008; others are served meanwhile."""
    limits = {"max_messages_per_second": 1000}
    journal = Journal()
    async with serve_counted(secure=secure, limits=limits, **journal.callbacks()) as server:
        bystander = await server.open()
        client = await server.open()
        client.push(frame(BINARY, b"", fin=False) if kind == "fragments" else b"")
        client.push(FLOODS[kind] * 30_000)
        await bystander.send_frame(PING, b"still here?")
        assert await bystander.read_frame() == Frame(PONG, b"still here?")
        await journal.until("on_close", 1008, "too many messages per second")

        assert len(journal.of("on_message")) <= 1000
        data, _ = await client.read_end()
        assert data.endswith(close_payload(1008, "too many messages per second"))


@both
@on_loop
async def test_flood_of_tiny_messages_for_an_async_handler(*, secure: bool) -> None:
    """Row 41: what waits for it is bounded, as messages and as memory, and arrives in order."""
    count = 200_000
    attack = b"".join(frame(BINARY, (number & 0xFFFF).to_bytes(2)) for number in range(count))
    going_on = asyncio.Event()
    received: list[bytes] = []

    async def wait(_connection: Connection, message: bytes) -> None:
        await going_on.wait()
        received.append(message)

    limits = {"max_messages_per_second": 10 * count}
    async with serve_counted(secure=secure, on_message=wait, limits=limits) as server:
        client = await server.open()
        with most_memory() as measured:
            client.push(attack)
            # The first that the handler has is no longer in the queue.
            await eventually(lambda: waiting(server).messages > 0)
            await until_idle()

        # One read's worth: the attack itself is in the client's buffer.
        assert waiting(server).messages < 45_000
        assert measured[0] < len(attack) + 6 * MIB
        going_on.set()
        await eventually(lambda: len(received) == count)
        assert received == [(number & 0xFFFF).to_bytes(2) for number in range(count)]


@both
@on_loop
async def test_frames_behind_the_handshake(*, secure: bool) -> None:
    """Row 42: in the handshake's segment, and cut anywhere, they are kept, in order."""
    early = b"".join(frame(TEXT, b"%d" % number) for number in range(20))
    journal = Journal()
    async with serve_counted(secure=secure, **journal.callbacks()) as server:
        for at in (0, 1, 5, len(early) - 1, len(early)):
            client = await server.connect()
            await client.send(handshake() + early[:at])
            await client.read_head()
            await client.send(early[at:] + frame(CLOSE, close_payload(1000)))
            await client.read_end()

        assert journal.of("on_message") == [(str(number),) for number in range(20)] * 5


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest", "close"])
@both
@on_loop
async def test_slow_consumer_of_a_broadcast(policy: str, *, secure: bool) -> None:
    """Row 45: who reads gets everything in order, who does not costs what is allowed, counted."""
    limit = 200_000
    count = 2000
    journal = Journal()
    async with serve_counted(
        secure=secure,
        limits={"max_send_buffer_size": limit},
        timeouts={"close": 0.3},
        slow_consumer=policy,
        **journal.callbacks(),
    ) as server:
        readers = [await server.open() for _ in range(5)]
        slow = await server.open(receive_buffer=4096)
        slow.stop_reading()
        victim = journal.connections[-1]
        reading = [asyncio.create_task(read_all(reader, count)) for reader in readers]
        for number in range(count):
            message = number.to_bytes(4) * 1000
            for connection in list(server.worker.connections.values()):
                connection.send(message)
            assert victim.send_buffer_size <= limit + 5000
            await turns(1)
        numbers = await asyncio.gather(*reading)

        assert numbers == [list(range(count))] * 5
        assert [connection.dropped for connection in journal.connections[:-1]] == [0] * 5
        dropped = server.service.counts["dropped_slow_peer"]
        assert victim.dropped == dropped
        if policy == "close":
            assert victim.send(b"") is SendResult.CLOSED
            assert dropped == 1
            await journal.until("on_close", 1006)
        else:
            assert dropped > 100
        server.lines()


async def read_all(client: RawClient, count: int) -> list[int]:
    """Read a broadcast."""
    return [int.from_bytes((await client.read_frame()).payload[:4]) for _ in range(count)]


@both
@on_loop
async def test_memory_of_a_burst(*, secure: bool) -> None:
    """Row 57: what twenty connections needed for a message of a MiB each is gone with a pong."""
    burst = frame(BINARY, bytes(MIB - 1))
    journal = Journal()
    callbacks = {**journal.callbacks(), "on_message": lambda *_: journal.note("on_message")}
    async with serve_counted(secure=secure, **callbacks) as server:
        clients = [await server.open() for _ in range(20)]
        tracemalloc.start()
        try:
            for client in clients:
                client.push(burst)
            await journal.until("on_message", count=20)
            held, _ = tracemalloc.get_traced_memory()
            for client in clients:
                await client.send_frame(PONG)
            await eventually(lambda: tracemalloc.get_traced_memory()[0] < 4 * MIB)
        finally:
            tracemalloc.stop()

        assert held > 20 * MIB
