"""Signs of life: what is said when, and what is believed, in a time that a test moves."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from gateman.bus.interest import answered
from gateman.cluster.channels import EVERYBODY, Channel, node_channel
from gateman.cluster.envelope import Hello
from gateman.cluster.names import NodeId
from gateman.cluster.node_liveness import NodeLiveness
from gateman.cluster.peers import DISCOVERY_TIME, HELLO_INTERVAL, TIME_TO_LIVE

from ..support.clock import STEP, Clock
from ..support.loop import turns

ME, ANN, BOB, EVE = NodeId("me"), NodeId("ann"), NodeId("bob"), NodeId("eve")
MARK_DELAY = 0.2  # seconds


class Process:
    """
    One process that gives and takes signs of life.

    Attributes:
        presence: What is tested.
        said: What it has said.
        marks: How often it has published its marks.
        is_connected: Whether its bus is there.
        there: The processes that are connected to it.
        gone: Those that have gone without a good-bye.
        senders: Those of whom messages came.
        is_slow: Whether a test gives the bus's answers.
        asked: What the bus was asked.
    """

    def __init__(self, clock: Clock, *, has_clients: bool = True) -> None:
        self.said: list[tuple[Channel, Hello]] = []
        self.marks = 0
        self.is_connected = True
        self.there: set[NodeId] = set()
        self.gone: list[NodeId] = []
        self.senders: list[NodeId] = []
        self.is_slow = False
        self.asked: list[asyncio.Future[bool | None]] = []

        async def make() -> NodeLiveness:
            return NodeLiveness(
                ME,
                has_clients=has_clients,
                send=lambda channel, hello: self.said.append((channel, hello)),
                publish_marks=self.mark,
                is_connected=lambda: self.is_connected,
                ask=self.ask,
                on_gone=self.gone.append,
                senders=lambda: self.senders,
            )

        self.liveness = clock.run_until_complete(make())

    def mark(self) -> None:
        """Count."""
        self.marks += 1

    def ask(self, node: NodeId) -> "asyncio.Future[bool | None]":
        """Answer for the bus, at once or when a test does."""
        self.asked.append(answered(has_subscriber=node in self.there))
        if self.is_slow:
            self.asked[-1] = asyncio.get_running_loop().create_future()
        return self.asked[-1]

    def heard(self) -> list[tuple[Channel, Hello]]:
        """Take what it has said since the last time."""
        said, self.said = self.said, []
        return said


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Give a time that stands still."""
    with asyncio.Runner(loop_factory=Clock) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Clock)
        yield loop


@pytest.fixture
def process(clock: Clock) -> Iterator[Process]:
    """Give a process that has not started, and stop it."""
    made = Process(clock)
    yield made
    made.liveness.stop()


def hello(
    source: NodeId = ME,
    *nodes: NodeId,
    has_clients: bool = True,
    is_new: bool = False,
    was_away: bool = False,
) -> Hello:
    """Make a sign of life."""
    return Hello(source, has_clients, is_new, was_away, nodes)


def test_a_process_says_hello_at_its_start_and_then_in_intervals(
    clock: Clock, process: Process
) -> None:
    """The first one asks everybody for an answer."""
    process.liveness.start()
    assert process.heard() == [(EVERYBODY, hello(is_new=True))]
    clock.advance(HELLO_INTERVAL - 2 * STEP)
    assert process.heard() == []
    clock.advance(2 * HELLO_INTERVAL)
    assert process.heard() == [(EVERYBODY, hello())] * 2


def test_a_stopped_process_says_nothing(clock: Clock, process: Process) -> None:
    """Neither that it is alive nor how far it has come."""
    process.liveness.start()
    process.liveness.mark_soon()
    process.liveness.stop()
    process.heard()
    clock.advance(3 * HELLO_INTERVAL)

    assert (process.said, process.marks) == ([], 0)


def test_one_that_never_started_can_be_stopped(process: Process) -> None:
    """Nothing happens."""
    process.liveness.stop()
    process.liveness.stop()
    assert process.said == []


def test_a_new_process_is_told_of_everybody(process: Process) -> None:
    """By one answer for it alone; a process that is not new gets none."""
    process.liveness.on_hello(hello(ANN))
    assert process.heard() == []
    process.liveness.on_hello(hello(BOB, is_new=True))
    assert process.heard() == [(node_channel(BOB), hello(ME, ANN, BOB))]


def test_one_answer_tells_of_all(process: Process) -> None:
    """Whom somebody else knows is known, but oneself."""
    process.liveness.on_hello(hello(ANN, BOB, ME))
    assert process.liveness.peers.names() == (ANN, BOB)


def test_a_process_without_clients_is_not_asked(clock: Clock) -> None:
    """It is answered, and says of itself that it has none, but is in nobody's list."""
    guest = Process(clock, has_clients=False)
    guest.liveness.on_hello(hello(ANN, has_clients=False, is_new=True))

    assert guest.liveness.peers.names() == ()
    assert guest.heard() == [(node_channel(ANN), hello(has_clients=False))]


def test_a_process_that_is_silent_and_not_connected_is_gone(
    clock: Clock, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """After its time, with a line in the log that names it; others stay."""
    process.liveness.start()
    process.liveness.on_hello(hello(ANN))
    process.liveness.on_hello(hello(EVE))
    process.there.add(EVE)
    for _ in range(4):
        clock.advance(HELLO_INTERVAL)
        process.liveness.on_hello(hello(BOB))
    assert clock.time() > 1000 + TIME_TO_LIVE
    with caplog.at_level(logging.WARNING):
        clock.advance(STEP * 2)

    assert (process.liveness.peers.names(), process.gone) == ((BOB,), [ANN])
    assert process.liveness.is_unknown(ANN)
    assert not process.liveness.is_unknown(EVE)
    assert [record.getMessage() for record in caplog.records] == [
        "the process ann is gone",
        "the process eve is connected, but sends no hello: it is not asked about its clients",
    ]


def test_the_end_of_those_without_clients_is_noticed_too(
    clock: Clock, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that was killed, and one that only ever sent something; without a line."""
    process.liveness.start()
    process.liveness.on_hello(hello(ANN, has_clients=False))
    process.senders.append(BOB)
    for _ in range(6):
        clock.advance(HELLO_INTERVAL)
    process.senders.clear()

    assert (sorted(process.gone), caplog.messages) == ([ANN, BOB], [])
    assert process.liveness.peers.names() == ()


def test_a_process_that_was_stopped_reads_before_it_judges_others(
    clock: Clock, process: Process
) -> None:
    """What others have said meanwhile comes before the bus's answer."""
    process.liveness.start()
    process.liveness.on_hello(hello(ANN))
    process.is_slow = True
    clock.advance(2 * TIME_TO_LIVE)
    assert len(process.asked) == 1
    assert not process.liveness.is_unknown(ANN)
    process.liveness.on_hello(hello(ANN))
    process.asked[0].set_result(False)
    clock.run_until_complete(turns())

    assert (process.liveness.peers.names(), process.gone) == ((ANN,), [])


def test_an_answer_of_a_bus_that_is_away_is_none(clock: Clock, process: Process) -> None:
    """It was given before."""
    process.liveness.start()
    process.liveness.on_hello(hello(ANN))
    process.is_slow = True
    clock.advance(2 * TIME_TO_LIVE)
    process.is_connected = False
    process.asked[0].set_result(False)
    clock.run_until_complete(turns())

    assert (process.liveness.peers.names(), process.gone) == ((ANN,), [])


def test_no_process_is_judged_while_the_bus_is_away(clock: Clock, process: Process) -> None:
    """Nothing is said then either; and who was known has a whole life's time again."""
    process.liveness.start()
    process.liveness.on_hello(hello(ANN))
    process.heard()
    process.is_connected = False
    clock.advance(3 * TIME_TO_LIVE)
    assert (process.heard(), process.liveness.peers.names()) == ([], (ANN,))

    process.is_connected = True
    clock.advance(2 * HELLO_INTERVAL)
    assert (process.heard(), process.liveness.peers.names()) == ([], (ANN,))
    process.liveness.on_bus_restored()
    clock.advance(TIME_TO_LIVE - STEP)
    assert process.liveness.peers.names() == (ANN,)
    clock.advance(HELLO_INTERVAL + STEP)
    assert process.liveness.peers.names() == ()


def test_a_process_that_returns_asks_for_everything(clock: Clock, process: Process) -> None:
    """For signs of life and for marks, and publishes its own marks a little later, once."""
    process.liveness.on_bus_restored()
    assert process.heard() == [(EVERYBODY, hello(is_new=True, was_away=True))]
    assert process.marks == 0
    clock.advance(MARK_DELAY + STEP)
    assert process.marks == 1


def test_peers_that_were_away_together_get_marks_once(clock: Clock, process: Process) -> None:
    """And again, who comes back later."""
    process.liveness.on_bus_restored()
    clock.advance(MARK_DELAY / 2)
    for node in (ANN, BOB):
        process.liveness.on_hello(hello(node, was_away=True))
    clock.advance(MARK_DELAY)
    assert process.marks == 1
    process.liveness.on_hello(hello(ANN, was_away=True))
    clock.advance(MARK_DELAY + STEP)
    assert process.marks == 2


def test_at_the_start_no_process_is_unknown(clock: Clock, process: Process) -> None:
    """Until those who are there had the time to say so; nor while nobody can be heard."""
    process.liveness.start()
    process.liveness.on_hello(hello(ANN))
    assert not process.liveness.is_unknown(BOB)
    clock.advance(DISCOVERY_TIME + STEP)
    assert process.liveness.is_unknown(BOB)
    assert not process.liveness.is_unknown(ANN)
    process.is_connected = False
    assert not process.liveness.is_unknown(BOB)


@pytest.mark.parametrize(
    ("patience", "takes"), [(10.0, DISCOVERY_TIME), (0.2, 0.2), (0.0, 0.0), (-1.0, 0.0)]
)
def test_discovery_takes_its_time_but_no_longer_than_the_deadline(
    clock: Clock, process: Process, patience: float, takes: float
) -> None:
    """Nor than its own time."""
    process.liveness.start()
    task = clock.create_task(process.liveness.discovery.wait(clock.time() + patience))
    clock.run_until_complete(turns())
    clock.advance(takes - STEP)
    assert task.done() is (takes == 0)
    clock.advance(3 * STEP)
    assert task.done()


def test_discovery_happens_once(clock: Clock, process: Process) -> None:
    """Whoever asks later does not wait."""
    process.liveness.start()
    clock.advance(DISCOVERY_TIME + STEP)
    task = clock.create_task(process.liveness.discovery.wait(clock.time() + 10))
    clock.run_until_complete(turns())
    assert task.done()
