"""What the buses of all brokers have in common, with a broker that says what the test wants."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateman.bus import unix_socket
from gateman.bus.base import Cause, Gap
from gateman.bus.broker_bus import BrokerBus
from gateman.bus.broker_connection import BrokerConnection
from gateman.bus.nats_wire import NatsWire
from gateman.bus.router_wire import FrameKind, RouterWire, dropped, frame
from gateman.bus.subjects import subject
from gateman.bus.wire import Wire
from gateman.errors import BusError
from gateman.history.base import FollowingHistory

from ..support.clock import STEP, Clock
from ..support.loop import eventually, on_loop, turns
from .contract import ignore

ROOM = subject("room")


class Dialect:
    """Connects to what the test plays, if nothing else is said in NATS' words: they can be read."""

    def __init__(self, path: Path, wire: Callable[[], Wire]) -> None:
        self._path = path
        self._wire = wire

    @property
    def url(self) -> str:
        """Which."""
        return "test://broker"

    async def dial(self) -> BrokerConnection:
        """Connect, without greetings."""
        try:
            sock = await unix_socket.connect(self._path)
        except OSError:
            raise BusError(self.url, "it is not there") from None
        connection = BrokerConnection(self._wire())
        await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=sock)
        connection.max_payload_size = 1000
        return connection

    def history(self, bus: BrokerBus) -> FollowingHistory:
        """Keep none."""
        raise NotImplementedError


class Played:
    """A broker whose every word is the test's; one connection at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
            asyncio.Queue()
        )
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Let buses connect, again if they could before."""
        if self._server is not None:
            self._server.close()
        self._server = await asyncio.start_unix_server(self._accept, self.path)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._accepted.put_nowait((reader, writer))

    async def accept(self) -> "Conversation":
        """Take the next connection."""
        return Conversation(*await self._accepted.get())

    def close(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()


class Conversation:
    """One connection to the played broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def line(self) -> bytes:
        """Read a line."""
        return await self._reader.readline()

    def say(self, data: bytes) -> None:
        """Write."""
        self._writer.write(data)

    def hang_up(self) -> None:
        """End it."""
        self._writer.close()


@asynccontextmanager
async def playing(
    tmp_path: Path, *, beat_interval: float = 60.0, wire: Callable[[], Wire] = NatsWire
) -> AsyncIterator[tuple[Played, BrokerBus, list[Gap]]]:
    """Make a broker that listens, and a bus that is not started."""
    broker = Played(tmp_path / "broker")
    await broker.listen()
    bus = BrokerBus(Dialect(broker.path, wire), beat_interval=beat_interval)
    gaps: list[Gap] = []
    bus.on_gap = gaps.append
    try:
        yield broker, bus, gaps
    finally:
        broker.close()
        await bus.stop()


@on_loop
async def test_one_turn_of_the_loop_is_written_together(tmp_path: Path) -> None:
    """What is subscribed to is followed by one ping, and what is published by none yet."""
    async with playing(tmp_path) as (broker, bus, _):
        bus.subscribe(subject("early"), ignore)
        await bus.start()
        there = await broker.accept()
        first = [await there.line(), await there.line()]
        bus.subscribe(ROOM, ignore)
        bus.publish(ROOM, b"hello")
        bus.subscribe(subject("other"), ignore)
        bus.unsubscribe(ROOM)
        second = [await there.line() for _ in range(6)]

    assert first == [b"SUB early 1\r\n", b"PING\r\n"]
    assert second == [
        *(b"SUB room 2\r\n", b"PUB room 5\r\n", b"hello\r\n"),
        *(b"SUB other 3\r\n", b"UNSUB 2\r\n", b"PING\r\n"),
    ]


@on_loop
async def test_what_is_published_is_asked_after(tmp_path: Path) -> None:
    """What was published when the broker's answered ping was sent has reached it."""
    async with playing(tmp_path) as (broker, bus, gaps):
        await bus.start()
        there = await broker.accept()
        await there.line()
        there.say(b"PONG\r\n")
        for _ in range(3):
            bus.publish(ROOM, b"")
        lines = [await there.line() for _ in range(7)]
        there.say(b"PONG\r\n")
        for _ in range(2):
            bus.publish(ROOM, b"")
        await there.line()
        there.hang_up()
        again = await broker.accept()
        await again.line()
        again.say(b"PONG\r\n")
        await eventually(lambda: bool(gaps))

    assert lines == [*[b"PUB room 0\r\n", b"\r\n"] * 3, b"PING\r\n"]
    assert [gap.uncertain for gap in gaps] in ([2], [5])
    assert bus.counts["uncertain"] == gaps[0].uncertain


@on_loop
async def test_silence_ends_the_connection(tmp_path: Path) -> None:
    """A broker that answers no pings is taken for dead, after five."""
    async with playing(tmp_path, beat_interval=0.02) as (broker, bus, gaps):
        await bus.start()
        there = await broker.accept()
        said = b""
        while line := await there.line():
            said += line
        again = await broker.accept()
        await again.line()
        again.say(b"PONG\r\n")
        await eventually(lambda: bool(gaps))

    assert said == b"PING\r\n"
    assert [gap.cause for gap in gaps] == [Cause.DISCONNECTED]


@on_loop
async def test_any_word_is_a_sign_of_life(tmp_path: Path) -> None:
    """A broker that is too busy to answer, but sends messages, is alive."""
    async with playing(tmp_path, beat_interval=0.02) as (broker, bus, gaps):
        await bus.start()
        there = await broker.accept()
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.3
        while loop.time() < until:
            there.say(b"MSG nobody 1 0\r\n\r\n")
            await asyncio.sleep(0.01)

    assert gaps == []


@on_loop
async def test_pings_are_answered(tmp_path: Path) -> None:
    """And pongs that nobody asked for are ignored."""
    async with playing(tmp_path) as (broker, bus, _):
        await bus.start()
        there = await broker.accept()
        await there.line()
        there.say(b"PONG\r\nPONG\r\nPING\r\n")
        line = await there.line()

    assert line == b"PONG\r\n"


@on_loop
async def test_a_refused_subscription_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who awaits it learns why; the connection and the others stay."""
    async with playing(tmp_path) as (broker, bus, gaps):
        await bus.start()
        there = await broker.accept()
        await there.line()
        there.say(b"PONG\r\n")
        refused = asyncio.ensure_future(_until(lambda: bus.subscribe(ROOM, ignore)))
        await there.line()
        there.say(b"-ERR 'Permissions Violation for Subscription to \"room\"'\r\nPONG\r\n")
        with pytest.raises(BusError) as caught:
            await refused
        fine = asyncio.ensure_future(_until(lambda: bus.subscribe(subject("x"), ignore)))
        await there.line()
        await there.line()
        there.say(b"PONG\r\n")
        await fine

    message = 'the bus test://broker: it refuses: Permissions Violation for Subscription to "room"'
    assert str(caught.value) == f"{message}."
    assert caplog.messages[0] == message
    assert (bus.counts["refused"], gaps) == (1, [])


@on_loop
async def test_what_the_server_says_last_is_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that ends the connection says why; so does the log."""
    async with playing(tmp_path) as (broker, bus, gaps):
        await bus.start()
        there = await broker.accept()
        there.say(b"-ERR 'Stale Connection'\r\n")
        there.hang_up()
        again = await broker.accept()
        await again.line()
        again.say(b"PONG\r\n")
        await eventually(lambda: bool(gaps))

    assert caplog.messages[:2] == [
        "the bus test://broker: it refuses: Stale Connection",
        "the bus test://broker is away: it refuses: Stale Connection",
    ]
    assert caplog.messages[2].endswith("0 messages not sent, 0 uncertain, unknown missed")


@on_loop
async def test_a_broker_that_speaks_nonsense_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection ends, and the next one is tried."""
    async with playing(tmp_path) as (broker, bus, _):
        await bus.start()
        there = await broker.accept()
        there.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await broker.accept()

    assert caplog.messages == ["the bus test://broker is away: it does not speak NATS"]


@on_loop
async def test_a_server_may_change_its_limit(tmp_path: Path) -> None:
    """What it announces holds from then on; other news are ignored."""
    async with playing(tmp_path) as (broker, bus, _):
        await bus.start()
        there = await broker.accept()
        before = bus.max_payload_size
        there.say(
            b'INFO {"ldm": true}\r\nINFO {"max_payload": "x"}\r\nINFO {"max_payload": 10}\r\n'
        )
        await eventually(lambda: bus.max_payload_size == 10)
        with pytest.raises(BusError):
            bus.publish(ROOM, bytes(11))

    assert before == 1000


@on_loop
async def test_it_is_tried_again_until_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However long that takes, with one line in the log for many attempts."""
    async with playing(tmp_path) as (broker, bus, gaps):
        await bus.start()
        there = await broker.accept()
        broker.path.unlink()
        there.hang_up()
        await eventually(lambda: len(caplog.messages) == 2)
        await broker.listen()
        again = await broker.accept()
        await again.line()
        again.say(b"PONG\r\n")
        await eventually(lambda: bool(gaps))

    assert caplog.messages[:2] == [
        "the bus test://broker is away: it closed the connection",
        "the bus test://broker is still away: it is not there",
    ]


class Nowhere:
    """
    Never connects.

    Attributes:
        tried_at: When it was to.
    """

    url = "test://nowhere"

    def __init__(self) -> None:
        self.tried_at: list[float] = []

    def history(self, bus: BrokerBus) -> FollowingHistory:
        """Keep none."""
        raise NotImplementedError

    async def dial(self) -> BrokerConnection:
        """Take note, and fail."""
        self.tried_at.append(asyncio.get_running_loop().time())
        raise BusError(self.url, "it is not there")


def test_pauses_grow_and_are_spread() -> None:
    """Many processes that lost one broker come back one by one, and soon if it is back soon."""
    with asyncio.Runner(loop_factory=Clock) as runner:
        clock = runner.get_loop()
        assert isinstance(clock, Clock)
        dialects = [Nowhere() for _ in range(3)]
        buses = [BrokerBus(protocol) for protocol in dialects]
        starting = [clock.create_task(bus.start(patience=0.1)) for bus in buses]
        clock.advance(60)
        assert all(task.done() for task in starting)
        for bus in buses:
            clock.run_until_complete(bus.stop())

    times = [protocol.tried_at for protocol in dialects]
    for tried_at in times:
        pauses = [later - sooner for sooner, later in itertools.pairwise(tried_at)]
        assert max(pauses[:2]) <= 0.4 + STEP
        assert 1 < max(pauses) <= 2 + STEP
        assert len(pauses) > 30
    assert len({tuple(tried_at) for tried_at in times}) == 3


@on_loop
async def test_a_connection_that_breaks_at_once_is_tried_again(tmp_path: Path) -> None:
    """It may be gone before we have said a word; it stays one gap."""
    async with playing(tmp_path) as (broker, bus, gaps):
        await bus.start()
        for _ in range(3):
            (await broker.accept()).hang_up()
        there = await broker.accept()
        await there.line()
        there.say(b"PONG\r\n")
        await eventually(lambda: bool(gaps))

    assert len(gaps) == 1


@on_loop
async def test_it_is_away_until_the_gap_is_reported(tmp_path: Path) -> None:
    """Who asks others meanwhile would not know those that have come in the gap."""
    async with playing(tmp_path) as (broker, bus, gaps):
        await bus.start()
        (await broker.accept()).hang_up()
        there = await broker.accept()
        await there.line()
        before = bus.is_connected, bus.publish(ROOM, b"hello"), len(gaps)
        when_reported: list[bool] = []
        bus.on_gap = lambda _gap: when_reported.append(bus.is_connected)
        there.say(b"PONG\r\n")
        await eventually(lambda: bool(when_reported))

    assert (before, when_reported) == ((False, True, 0), [True])


@on_loop
async def test_stopping_while_it_starts(tmp_path: Path) -> None:
    """It does not start any more, and nothing is left open."""
    async with playing(tmp_path) as (broker, bus, _):
        starting = asyncio.ensure_future(bus.start())
        await turns(1)
        await bus.stop()
        with pytest.raises(BusError, match="it was stopped"):
            await starting
        there = await broker.accept()
        line = await there.line()

    assert (line, bus.is_connected) == (b"", False)


@on_loop
async def test_what_the_broker_dropped_is_a_gap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A router says how many messages for us it could not keep, and since when."""
    async with playing(tmp_path, wire=RouterWire) as (broker, bus, gaps):
        await bus.start()
        there = await broker.accept()
        there.say(dropped(7, 100.0))
        await eventually(lambda: bool(gaps))

    (gap,) = gaps
    assert (gap.cause, gap.since, gap.missed) == (Cause.SLOW, 100.0, 7)
    assert (gap.unsent, gap.uncertain) == (0, 0)
    assert bus.counts == {"missed": 7, "gaps": 1, "uncertain": 0}
    assert caplog.messages[0].endswith("0 messages not sent, 0 uncertain, 7 missed")


@on_loop
async def test_stopping_waits_only_so_long(tmp_path: Path) -> None:
    """A broker that does not answer does not hold the end up, and what it has is uncertain."""
    async with playing(tmp_path) as (broker, bus, _):
        await bus.start()
        await broker.accept()
        bus.publish(ROOM, b"hello")
        began_at = asyncio.get_running_loop().time()
        await bus.stop()
        took = asyncio.get_running_loop().time() - began_at

    assert took > 0.9
    assert bus.counts["uncertain"] == 1


@on_loop
async def test_a_broker_that_goes_while_we_stop(tmp_path: Path) -> None:
    """Nothing is waited for any more, and nothing is tried again."""
    async with playing(tmp_path) as (broker, bus, _):
        await bus.start()
        there = await broker.accept()
        await there.line()
        stopping = asyncio.ensure_future(bus.stop())
        await there.line()
        there.hang_up()
        await stopping

    assert not bus.is_connected


@on_loop
async def test_questions_of_one_turn_share_a_ping(tmp_path: Path) -> None:
    """They are answered in order, and what the broker refuses meanwhile makes them unknown."""
    async with playing(tmp_path, wire=RouterWire) as (broker, bus, _):
        await bus.start()
        there = await broker.accept()
        asked = [bus.has_subscriber(ROOM), bus.has_subscriber(ROOM)]
        there.say(
            frame(FrameKind.PONG)
            + frame(FrameKind.NO_SUBSCRIBERS, payload=bytes(7) + b"\2")
            + frame(FrameKind.PONG)
        )
        answers = [await one for one in asked]

    assert answers == [True, False]


@on_loop
async def test_a_refusal_is_no_answer(tmp_path: Path) -> None:
    """We may not publish there, so nobody could say that nobody is there."""
    async with playing(tmp_path) as (broker, bus, _):
        await bus.start()
        there = await broker.accept()
        await there.line()
        there.say(b"PONG\r\n")
        asked = bus.has_subscriber(ROOM)
        await there.line()
        there.say(b"-ERR 'Permissions Violation for Publish to \"room\"'\r\n")
        answer = await asked

    assert answer is None


@on_loop
async def test_a_broker_that_does_not_answer(tmp_path: Path) -> None:
    """It is waited for, but only so long; who has too much to send does not ask at all."""
    async with playing(tmp_path, wire=RouterWire) as (broker, bus, _):
        await bus.start()
        await broker.accept()
        began_at = asyncio.get_running_loop().time()
        answer = await bus.has_subscriber(ROOM)
        took = asyncio.get_running_loop().time() - began_at
        for size in (1000, 0):
            while bus.publish(ROOM, bytes(size)):
                pass
        full = bus.has_subscriber(ROOM)
        await turns(1)
        is_known = asyncio.ensure_future(full).done()

    assert (answer, is_known, await full) == (None, True, None)
    assert took > 1.9


async def _until(subscribe: Callable[[], Awaitable[None]]) -> None:
    await subscribe()
