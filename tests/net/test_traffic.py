"""What is counted of messages to clients."""

import pytest

from gateman import Connection, Deflate, SendResult
from gateman.cluster.hub import Hub
from gateman.net.traffic import MeasuredSendBuffer, Traffic, count_frames, size_of
from gateman.runtime.measurements import Measurements
from gateman.websocket.encoding import encode_frame
from tests.support.loop import on_loop
from tests.support.raw import TEXT, frame
from tests.support.server import serve
from tests.support.slow import DEFLATE, LIMIT, block, numbered, slow

SIZES = (0, 1, 125, 126, 65_535, 65_536, 70_000)


def test_frames_are_counted() -> None:
    """With each form of the length (RFC 6455, section 5.2)."""
    frames = b"".join(encode_frame(2, bytes(size)) for size in SIZES)

    assert count_frames(frames) == (len(SIZES), sum(SIZES))
    assert count_frames(b"") == (0, 0)


def test_the_same_frames_are_counted_for_each_client() -> None:
    traffic, frames = Traffic(), encode_frame(1, b"hello") * 2
    for _ in range(3):
        traffic.frames_sent(frames)
    traffic.frames_sent(encode_frame(1, b"another"))

    assert (traffic.sent_count, traffic.sent_size) == (7, 37)


@pytest.mark.parametrize(
    ("message", "size"), [("", 0), ("abc", 3), ("äß€", 7), (b"\xff\x00", 2), (bytearray(3), 3)]
)
def test_size(message: str | bytes, size: int) -> None:
    """In bytes, as they are sent."""
    assert size_of(message) == size


def test_high_water_is_that_of_the_last_one_to_two_minutes() -> None:
    traffic = Traffic()
    seen = [traffic.high_water(1000)]
    traffic.waits(700, 1001)
    traffic.waits(300, 1030)
    seen += [traffic.high_water(1031), traffic.high_water(1062)]
    traffic.waits(400, 1063)
    seen += [traffic.high_water(1119), traffic.high_water(1125), traffic.high_water(5000)]

    assert seen == [0, 700, 700, 700, 400, 0]


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("compression", [None, Deflate()], ids=["plain", "deflate"])
@on_loop
async def test_each_message_is_counted_once(*, secure: bool, compression: Deflate | None) -> None:
    """Before the 101, one by one, joined with others, and a large one among these."""
    measured = Measurements()

    async with serve(
        secure=secure,
        compression=compression,
        measurements=measured,
        on_connect=lambda connection: connection.send("early"),
        on_open=lambda connection: connection.send(b"opened"),
        on_message=lambda connection, message: connection.send(message),
    ) as server:
        client = await server.open(headers=(DEFLATE,))
        messages = ["x", "ä", "y" * 9000, "z"]
        # In one write: their answers are joined.
        client.push(b"".join(frame(TEXT, one.encode()) for one in messages))
        for _ in range(6):
            await client.read_frame()
        sizes = [len(one.encode()) for one in ("early", "opened", *messages)]

        assert measured.traffic.sent_count == 6
        assert measured.traffic.sent_size == sum(sizes)
        assert measured.received_size == sum(sizes[2:])
        (connection,) = server.worker.connections.values()
        assert isinstance(connection.send_buffer, MeasuredSendBuffer)


@on_loop
async def test_what_waits_is_counted_and_what_is_dropped_is_not() -> None:
    measured = Measurements()
    async with serve(measurements=measured, limits={"max_send_buffer_size": LIMIT}) as server:
        connection, _ = await slow(server)
        sent = block(connection)
        before = measured.traffic.sent_count
        while connection.send(numbered(sent)) is SendResult.QUEUED:
            sent += 1
        counted = measured.traffic.sent_count

        assert 0 < before <= counted
        assert server.service.counts["dropped_slow_peer"] == 1
        assert measured.traffic.buffer_full_count == 1
        assert measured.traffic.high_water(0) >= LIMIT // 2
        server.lines()


@on_loop
async def test_what_the_hub_sends_is_counted_for_each_client() -> None:
    measured, hub = Measurements(), Hub()

    def answer(_connection: Connection, message: str) -> None:
        hub.send_to_all(message)
        hub.send_to_all(message)

    async with serve(measurements=measured, hub=hub, on_message=answer) as server:
        clients = [await server.open() for _ in range(3)]
        clients[0].push(frame(TEXT, b"hello"))
        for client in clients:
            await client.read_frame()
            await client.read_frame()

        assert (measured.traffic.sent_count, measured.traffic.sent_size) == (6, 30)
