"""Who is pinged when, and who is dead; the wheel without a clock, the rest over real sockets."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateman import SendResult
from gateman.net.heartbeat import Heartbeat, Wheel
from tests.support.clock import STEP, Clock
from tests.support.loop import eventually, leftovers, on_loop
from tests.support.raw import BINARY, EOF, PING, PONG, TEXT, Frame, frame
from tests.support.server import Journal, serve

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

DEAD = ("on_close", 1006, "no answer to a ping within 0.1 s")


class Pulse:
    """A connection as the heartbeat sees it, which writes down what happens to it."""

    def __init__(self, name: str = "", *, answers: bool = True) -> None:
        self.slot = -1
        self.waited = -1
        self.name = name
        self.answers = answers
        self.pings: list[float] = []
        self.ended: list[float] = []

    def ping(self) -> None:
        """Note when."""
        self.pings.append(asyncio.get_running_loop().time())

    def ping_again(self) -> None:
        """Note when."""
        self.ping()

    def is_alive(self) -> bool:
        """Answer every ping, or none."""
        return self.answers

    def missed_pong(self, seconds: float) -> None:
        """Note it."""
        self.ended.append(seconds)


# The wheel.


def test_wheel_gives_what_is_due() -> None:
    """Everything comes after exactly as many ticks as it was added for."""

    async def due() -> list[list[str]]:
        wheel: Wheel[Pulse] = Wheel(6)
        wheel.tick()
        wheel.tick()
        for ticks in (1, 5, 3, 3):
            wheel.add(Pulse(str(ticks)), ticks)
        return [[pingable.name for pingable in wheel.tick()] for _ in range(7)]

    assert asyncio.run(due()) == [["1"], [], ["3", "3"], [], ["5"], [], []]


@on_loop
async def test_wheel_bounds_what_is_asked_of_it() -> None:
    """Never in this tick, and never beyond a turn of the wheel."""
    wheel: Wheel[Pulse] = Wheel(4)
    soon, late = Pulse("soon"), Pulse("late")
    wheel.add(soon, 0)
    wheel.add(late, 100)

    assert [wheel.tick() for _ in range(4)] == [[soon], [], [late], []]


@on_loop
async def test_wheel_forgets_what_is_removed() -> None:
    """Also twice, and what it never had."""
    wheel: Wheel[Pulse] = Wheel(4)
    pingable = Pulse()
    wheel.remove(pingable)
    wheel.add(pingable, 2)
    assert len(wheel) == 1
    wheel.remove(pingable)
    wheel.remove(pingable)

    assert (len(wheel), pingable.slot) == (0, -1)
    assert [wheel.tick() for _ in range(4)] == [[]] * 4


@on_loop
async def test_wheel_may_be_added_to_while_it_turns() -> None:
    """What is due may become due again."""
    wheel: Wheel[Pulse] = Wheel(3)
    pingable = Pulse()
    wheel.add(pingable, 1)
    for _ in range(5):
        assert wheel.tick() == [pingable]
        wheel.add(pingable, 1)


# The clock.


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Give a loop whose time goes only where a test wants it."""
    with asyncio.Runner(loop_factory=Clock) as runner:
        clock = runner.get_loop()
        assert isinstance(clock, Clock)
        yield clock


@pytest.mark.parametrize(("interval", "pong"), [(8.0, 4.0), (4.0, 4.0), (4.0, 40.0)])
def test_ping_comes_every_interval(clock: Clock, interval: float, pong: float) -> None:
    """Whatever the time for the answer is, shorter or longer."""
    heartbeat = Heartbeat(clock, interval, pong)
    pingable = Pulse()
    begun_at = clock.now
    heartbeat.add(pingable)
    while len(pingable.pings) < 8:
        clock.advance(STEP)
    heartbeat.remove(pingable)
    heartbeat.stop()
    tick = min(interval, pong) / 4

    assert 7 * interval <= pingable.pings[-1] - begun_at + 8 * tick
    assert pingable.pings[-1] - begun_at < 8 * (interval + 2 * tick)


@pytest.mark.parametrize(("interval", "pong"), [(4.0, 2.0), (2.0, 4.0), (2.0, 10.0)])
def test_silent_peer_is_ended_after_pong(clock: Clock, interval: float, pong: float) -> None:
    """Not before it has had its time, and soon after; further pings do not give it more."""
    heartbeat = Heartbeat(clock, interval, pong)
    pingable = Pulse(answers=False)
    heartbeat.add(pingable)
    while not pingable.ended:
        clock.advance(STEP)
    waited = clock.now - pingable.pings[0]
    tick = min(interval, pong) / 4

    assert pingable.ended == [pong]
    assert pong <= waited < pong + 2 * tick
    assert len(heartbeat) == 0
    while clock.run_until_complete(remaining()):
        clock.advance(STEP)


async def remaining() -> list[str]:
    """Tell what keeps the loop busy."""
    return leftovers()


def test_a_process_that_was_stopped_reads_before_it_judges(clock: Clock) -> None:
    """A peer has answered, and it was not read; one that has not is ended a tick later."""
    heartbeat = Heartbeat(clock, 8.0, 4.0)
    one, other = Pulse(answers=False), Pulse(answers=False)
    for pingable in (one, other):
        heartbeat.add(pingable)
    clock.advance(12.5)
    assert len(one.pings) == len(other.pings) == 1
    clock.now += 60
    clock.advance(0.1)
    assert one.ended == other.ended == []
    one.answers = True
    clock.advance(8)
    heartbeat.stop()

    assert one.ended == []
    assert other.ended == [4.0]


@on_loop
async def test_one_timer_for_all_connections_and_none_without() -> None:
    """A thousand connections are one timer, and the last that leaves takes it along."""
    before = leftovers()
    heartbeat = Heartbeat(asyncio.get_running_loop(), 0.04, 0.04)
    pulses = [Pulse() for _ in range(1000)]
    for pingable in pulses:
        heartbeat.add(pingable)
    assert (len(heartbeat), len(leftovers()) - len(before)) == (1000, 1)
    await eventually(lambda: all(pingable.pings for pingable in pulses))
    for pingable in pulses:
        heartbeat.remove(pingable)
    await eventually(lambda: leftovers() == before)
    heartbeat.add(pulses[0])
    await eventually(lambda: len(pulses[0].pings) == 2)
    heartbeat.stop()


# Over sockets.

QUICK = {"ping_interval": 0.05, "pong": 0.1}


@both
@on_loop
async def test_peer_that_answers_lives(*, secure: bool) -> None:
    """As every browser does, by itself."""
    journal = Journal()
    callbacks = journal.callbacks()
    # A busy machine may keep the client from answering for a moment.
    timeouts = {"ping_interval": 0.1, "pong": 0.5}
    async with (
        serve(secure=secure, timeouts=timeouts, **callbacks),
        serve(secure=secure, timeouts=timeouts, **callbacks) as server,
        server.client(ping_interval=None) as client,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await client.recv()

        assert journal.of("on_close") == []


@both
@on_loop
async def test_peer_that_answers_nothing_is_dead(*, secure: bool) -> None:
    """It is cut off; on_close, the counts and the log tell why."""
    journal = Journal()
    async with serve(secure=secure, timeouts=QUICK, **journal.callbacks()) as server:
        client = await server.open()
        await journal.until(*DEAD)

        assert await client.read_frame() == Frame(PING)
        assert server.service.present_count == 0
        assert server.service.counts["missed_pong"] == 1
        (line,) = server.lines()
        assert "is ended: no answer to a ping within 0.1 s (timeouts.pong)" in line


@both
@pytest.mark.parametrize(
    ("data", "lives"),
    [
        (frame(PONG), True),
        (frame(PONG, b"of another ping"), True),
        (frame(TEXT, b"message"), True),
        (frame(PING), False),
        (frame(BINARY, b"a", fin=False) + frame(PING) * 3, False),
        (b"\x82", False),
    ],
    ids=["pong", "other pong", "message", "ping", "fragment", "byte"],
)
@on_loop
async def test_signs_of_life(data: bytes, lives: bool, *, secure: bool) -> None:  # noqa: FBT001
    """Only a pong or a message is one: not a ping, nor a part of anything."""
    journal = Journal()
    async with serve(secure=secure, timeouts=QUICK, **journal.callbacks()) as server:
        client = await server.open()
        loop = asyncio.get_running_loop()
        ended_at = loop.time() + 0.4
        sent = data
        while (loop.time() < ended_at or not lives) and not journal.of("on_close"):
            client.push(sent)
            if data[0] == 0x82 or not data[0] & 0x80:
                # A part is sent once: what follows is no new beginning of it.
                sent = b""
            await asyncio.sleep(0.01)

        assert journal.of("on_close") == ([] if lives else [DEAD[1:]])


@on_loop
async def test_peer_that_reads_slowly_is_pinged_no_more_and_lives() -> None:
    """While it takes what was sent before, it lives; a ping could only queue behind that."""
    journal = Journal()
    async with serve(timeouts=QUICK, **journal.callbacks()) as server:
        client = await server.open(receive_buffer=65536)
        (connection,) = journal.connections
        while connection.send(bytes(100_000)) is SendResult.SENT:
            pass
        assert connection.send(bytes(500_000)) is SendResult.QUEUED
        ended_at = asyncio.get_running_loop().time() + 0.4
        while asyncio.get_running_loop().time() < ended_at and connection.send_buffer_size:
            await client.read(50_000)
            await asyncio.sleep(0.01)

        assert journal.of("on_close") == []


@on_loop
async def test_peer_that_reads_nothing_is_dead() -> None:
    """With data unsent, taking none of it is the silence that counts."""
    journal = Journal()
    async with serve(timeouts=QUICK, **journal.callbacks()) as server:
        client = await server.open(receive_buffer=4096)
        client.stop_reading()
        while journal.connections[0].send(bytes(100_000)) is not SendResult.DROPPED:
            pass
        await journal.until(*DEAD)
        server.lines()


@on_loop
async def test_paused_client_is_not_dead() -> None:
    """Its pong cannot be read: the application that paused it knows."""
    journal = Journal()
    async with serve(timeouts=QUICK, **journal.callbacks()) as server:
        client = await server.open()
        (connection,) = journal.connections
        connection.pause_recv()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await journal.until("on_close")
        connection.resume_recv()
        await journal.until(*DEAD)
        client.vanish()


@on_loop
async def test_client_that_was_paused_just_now_is_not_dead() -> None:
    """Its pong may be there already, and is read only from now on."""
    journal = Journal()
    async with serve(timeouts={"ping_interval": None}, **journal.callbacks()) as server:
        client = await server.open()
        (connection,) = journal.connections
        link: Any = connection.link
        connection.pause_recv()
        link.ping()
        connection.resume_recv()
        was_alive = link.is_alive()
        link.ping()

        assert (was_alive, link.is_alive()) == (True, False)
        client.vanish()


@on_loop
async def test_closing_handshake_is_not_cut_short() -> None:
    """Who has our Close is pinged no more, and has ``timeouts.close`` for its own."""
    journal = Journal()
    timeouts = {**QUICK, "close": 0.6}
    async with serve(timeouts=timeouts, **journal.callbacks()) as server:
        client = await server.open()
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        journal.connections[0].close(4000)
        assert await client.read_close() == (4000, "")
        assert (await client.read_end())[0] == b""

        assert loop.time() - begun_at > 0.5
        await journal.until("on_close", 1006, "")


@on_loop
async def test_no_pings_without_an_interval() -> None:
    """``ping_interval=None`` leaves no timer."""
    before = leftovers()
    async with serve(timeouts={"ping_interval": None}) as server:
        client = await server.open()

        assert leftovers() == before
        await client.send_close()
        assert await client.read_close() == (1000, "")
        assert await client.read_end() == (b"", EOF)
