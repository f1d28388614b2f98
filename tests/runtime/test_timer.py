"""Timers: when they run, what a failure or a slow run does, and that they end with the process."""

import asyncio
import inspect
import logging
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateman import Timer
from gateman.runtime.timer import Timers, following, timers
from tests.support.deadlines import TIMEOUT
from tests.support.loop import MS, eventually, on_loop, turns
from tests.support.master import master, until, written
from tests.support.ports import free_port
from tests.support.server import child, serve

SCRIPT = """
import os
from pathlib import Path
from gateman import Timer, Worker

worker = Worker("websocket://127.0.0.1:0", count=2)
other = Worker("websocket://127.0.0.1:0")

def note(name):
    (Path(__file__).parent / f"{name}-{os.getpid()}").touch()

Timer.add(0.01, note, "module")

@worker.every(0.01)
def tick():
    note("worker")

@other.every(0.01)
async def tick_too():
    note("other")

Worker.run_all()
"""


class Runs:
    """A function for timers, which notes when it was called, and with what."""

    def __init__(self) -> None:
        self.arguments: list[tuple[object, ...]] = []
        self.instants: list[float] = []

    def __call__(self, *args: object) -> None:
        """Take note."""
        self.arguments.append(args)
        self.instants.append(asyncio.get_running_loop().time())

    @property
    def count(self) -> int:
        """How often it was called."""
        return len(self.arguments)

    async def until(self, count: int) -> None:
        """Wait until it was called so often."""
        await eventually(lambda: self.count >= count)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Each test leaves this process's own timers as they were: none."""
    yield

    assert timers.count == 0


# When the next run is due.


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (10.0, (12.0, 0)),
        (11.9, (12.0, 0)),
        (9.999, (12.0, 0)),
        (12.0, (14.0, 1)),
        (12.1, (14.0, 1)),
        (17.9, (18.0, 3)),
    ],
)
def test_the_next_run_is_whole_intervals_after_the_last(
    now: float, expected: tuple[float, int]
) -> None:
    """A late or long run does not move the next ones; missed runs are counted."""
    assert following(10.0, 2.0, now) == expected


@given(
    st.floats(0, 1e6),
    st.floats(1e-3, 1e4),
    st.floats(0, 1e5),
)
@example(0.0, 0.1, 0.30000000000000004)
def test_the_next_run_is_within_an_interval_from_now(
    planned_at: float, interval: float, late: float
) -> None:
    """However late it is, the next run is neither in the past nor put off."""
    now = planned_at + late
    next_at, _ = following(planned_at, interval, now)
    error = 1e-9 * max(now, 1.0)

    assert now - error <= next_at <= now + interval + error


# Running.


@on_loop
async def test_a_timer_runs_again_and_again_with_its_arguments() -> None:
    """Each run is one interval after the one before, and gets the arguments."""
    own, runs = Timers(), Runs()
    own.start()
    begun_at = asyncio.get_running_loop().time()
    own.add(10 * MS, runs, ("a", 1))
    await runs.until(3)
    await own.stop()

    assert set(runs.arguments) == {("a", 1)}
    # The loop may be early by its clock's resolution.
    assert all(
        instant - begun_at >= (number + 1) * 10 * MS - MS
        for number, instant in enumerate(runs.instants)
    )


@on_loop
async def test_one_that_is_not_persistent_runs_once() -> None:
    """It is gone after its run."""
    own, runs = Timers(), Runs()
    own.start()
    once = own.add(MS, runs, is_persistent=False)
    counts = [own.count]
    await runs.until(1)
    counts.append(own.count)
    deleted = own.delete(once)
    await own.stop()

    assert (counts, runs.count, deleted) == ([1, 0], 1, False)


@on_loop
async def test_ids_are_never_used_again() -> None:
    """An id is true, so ``if timer_id`` works, and an old id deletes no other timer."""
    own, runs = Timers(), Runs()
    first = own.add(1, runs)
    own.start()
    own.delete(first)

    second, third = own.add(1, runs), own.add(1, runs)
    assert first > 0
    assert [second, third] == [first + 1, first + 2]
    assert [own.delete(one) for one in (first, second, second, third + 1)] == [
        False,
        True,
        False,
        False,
    ]
    assert own.count == 1
    await own.stop()
    assert own.count == 0
    assert own.add(1, runs) == third + 1


def test_ids_of_processes_differ() -> None:
    """A session may have kept one, and outlive the process that made it."""
    firsts = {Timers().add(1, print) for _ in range(100)}

    assert len(firsts) == 100
    assert max(firsts) < 1 << 53


@on_loop
async def test_a_process_that_drains_begins_no_run() -> None:
    """Another process has replaced it; a run that has begun continues to its end."""
    own, runs, begun, may_end = Timers(), Runs(), Runs(), asyncio.Event()
    own.start()

    async def slow() -> None:
        begun()
        await may_end.wait()
        runs("slow")

    own.add(MS, slow)
    own.add(60 * MS, runs, ("never",))
    owned = own.add_for("ann", 20 * MS, runs, ("of ann",))
    await begun.until(1)
    own.drain()
    late = own.add(MS, runs, ("too late",))
    counts = own.count, own.delete(late), late == owned + 1
    may_end.set()
    await runs.until(2)
    await asyncio.sleep(60 * MS)
    await own.stop()

    assert counts == (0, False, True)
    assert sorted(runs.arguments) == [("of ann",), ("slow",)]


@on_loop
async def test_timers_end_with_their_owner() -> None:
    """Nothing refers to it any more; those that have run are forgotten, too."""
    own, runs = Timers(), Runs()
    own.start()
    own.add_for("ann", MS, runs, ("ann",))
    own.add_for("ann", 10, runs, ("never",))
    own.add_for("bob", 2 * MS, runs, ("bob",))
    await runs.until(2)
    own.end("ann")
    own.end("nobody")

    assert runs.arguments == [("ann",), ("bob",)]
    assert own.count == 0
    await own.stop()


@on_loop
async def test_errors_are_counted_and_stay_counted(caplog: pytest.LogCaptureFixture) -> None:
    timers = Timers()

    async def fail() -> None:
        raise RuntimeError

    timers.add(0.01, fail, is_persistent=False)
    timers.start()
    await eventually(lambda: timers.counts.get("timer_failed") == 1)
    await timers.stop()

    assert timers.counts == {"timer_failed": 1}
    assert "raised RuntimeError" in caplog.text


@on_loop
async def test_a_timer_may_delete_itself() -> None:
    """From inside its function it is told not to come again, and the run goes on to its end."""
    own, ended = Timers(), Runs()
    own.start()

    async def slow() -> None:
        own.delete(ids[0])
        await asyncio.sleep(MS)
        ended("slow")

    def quick() -> None:
        own.delete(ids[1])
        ended("quick")

    ids = [own.add(MS, slow), own.add(MS, quick)]
    await ended.until(2)
    await turns()

    assert (sorted(ended.arguments), own.count) == ([("quick",), ("slow",)], 0)
    await own.stop()


@on_loop
async def test_a_timer_begins_when_the_process_serves() -> None:
    """Its interval counts from then, however long ago it was added."""
    own, runs = Timers(), Runs()
    own.add(5 * MS, runs)
    await asyncio.sleep(20 * MS)
    count_before = runs.count
    started_at = asyncio.get_running_loop().time()
    own.start()
    own.start()
    await runs.until(1)
    await own.stop()

    assert (count_before, runs.count) == (0, 1)
    assert runs.instants[0] - started_at >= 4 * MS


# What goes wrong.


@on_loop
async def test_what_it_raises_is_logged_and_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """One line with a traceback, not one for each run; plain and async functions alike."""
    own, runs = Timers(), Runs()
    own.start()

    def fail() -> None:
        runs("plain")
        raise ValueError("plain")

    async def fail_later() -> None:
        runs("async")
        await asyncio.sleep(0)
        raise ValueError("async")

    own.add(MS, fail)
    own.add(MS, fail_later)
    await eventually(lambda: min(map(runs.arguments.count, [("plain",), ("async",)])) >= 3)
    await own.stop()

    failures = sorted(
        (record.levelno, record.getMessage(), str(record.exc_info[1]))
        for record in caplog.records
        if record.exc_info
    )
    assert failures == [
        (logging.ERROR, "the timer of fail raised ValueError", "plain"),
        (logging.ERROR, "the timer of fail_later raised ValueError", "async"),
    ]


@on_loop
@pytest.mark.parametrize("is_async", [True, False])
async def test_what_it_awaits_may_be_cancelled(
    caplog: pytest.LogCaptureFixture, *, is_async: bool
) -> None:
    """That is a failure like another: it is logged, and the timer goes on."""
    own, runs = Timers(), Runs()
    own.start()
    future = asyncio.get_running_loop().create_future()
    future.cancel()

    async def wait() -> None:
        runs()
        await future

    def read() -> None:
        runs()
        future.result()

    read.__qualname__ = wait.__qualname__
    own.add(MS, wait if is_async else read)
    await runs.until(2)
    await own.stop()

    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "the timer of wait raised RuntimeError"
    ]


@on_loop
async def test_a_function_never_runs_twice_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """While an async run goes on, those that are due are left out, counted, and logged once."""
    own, runs, may_end = Timers(), Runs(), asyncio.Event()
    own.start()

    async def slow() -> None:
        runs()
        await may_end.wait()

    own.add(MS, slow)
    await eventually(lambda: own.skipped_count >= 3)
    count_meanwhile = runs.count
    may_end.set()
    await runs.until(2)
    await own.stop()

    assert count_meanwhile == 1
    assert [record.getMessage() for record in caplog.records] == [
        "the timer of slow cannot run every 0.001 s: it, or a callback, takes longer"
    ]


@on_loop
async def test_what_took_too_long_is_not_made_up_for() -> None:
    """After a function has held everybody up, the next run is one, and on the grid."""
    own, runs = Timers(), Runs()
    own.start()
    loop = asyncio.get_running_loop()

    def hold_up() -> None:
        runs()
        until = loop.time() + 35 * MS
        while runs.count == 1 and loop.time() < until:
            pass

    begun_at = loop.time()
    own.add(10 * MS, hold_up)
    await runs.until(2)
    await own.stop()

    assert own.skipped_count >= 3
    assert runs.instants[1] - begun_at >= 49 * MS


@on_loop
async def test_stop_cancels_what_runs() -> None:
    """No run begins any more; one that goes on is cancelled, and waited for."""
    own, ended = Timers(), Runs()
    own.start()
    entered = Runs()

    async def forever() -> None:
        entered()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended("cancelled")

    own.add(MS, forever)
    own.add(MS, forever, is_persistent=False)
    await entered.until(2)
    await own.stop()

    assert (ended.arguments, own.count) == ([("cancelled",)] * 2, 0)


@on_loop
async def test_stop_closes_what_has_not_begun() -> None:
    """A run that had not made its first step ends without a warning."""
    own, begun = Timers(), Runs()
    own.start()
    coroutines: list[Coroutine[None, None, None]] = []
    stops: list[asyncio.Task[None]] = []

    async def begin() -> None:
        begun()

    def stop_first() -> Coroutine[None, None, None]:
        stops.append(asyncio.get_running_loop().create_task(own.stop()))
        coroutines.append(begin())
        return coroutines[0]

    own.add(MS, stop_first)
    await eventually(lambda: bool(stops))
    await stops[0]
    await turns()

    assert (begun.count, inspect.getcoroutinestate(coroutines[0])) == (0, inspect.CORO_CLOSED)


# In a process.


@on_loop
async def test_timers_live_as_long_as_the_service() -> None:
    """They are there once it serves, and gone when it has stopped."""
    runs = Runs()

    async with serve(on_worker_start=lambda _worker: Timer.add(MS, runs, "start")) as server:
        await runs.until(2)
        during = timers.count
        Timer.add(MS, runs, "later")
        await eventually(lambda: ("later",) in runs.arguments)
        assert server.service.connections == {}
    after = runs.count
    await asyncio.sleep(5 * MS)

    assert (during, timers.count, runs.count) == (1, 0, after)


@on_loop
async def test_timers_run_in_processes_that_serve(tmp_path: Path) -> None:
    """Outside of functions in all of them, those of a worker in its own, and in no master."""
    with child(SCRIPT, tmp_path) as master:
        await eventually(
            lambda: (
                [len(set(tmp_path.glob(f"{kind}-*"))) for kind in ("worker", "other", "module")]
                == [2, 1, 3]
            )
        )
        pids = {kind: _pids(tmp_path, kind) for kind in ("worker", "other", "module")}

        assert pids["module"] == pids["worker"] | pids["other"]
        assert not pids["worker"] & pids["other"]
        assert master.pid not in pids["module"]


RENEWED = """
import os
import time
from pathlib import Path
from gateman import BusinessWorker, Gateway, Worker

worker = Worker("websocket://127.0.0.1:0", drain_window=2.0)
gateway = Gateway("websocket://127.0.0.1:{port}", timeouts={{"login": 1.5}})
business = BusinessWorker()

@worker.every(0.3)
def tick():
    with (Path(__file__).parent / "runs").open("a") as runs:
        print(os.getpid(), file=runs)

Worker.run_all()
"""


def test_what_runs_once_runs_once_while_processes_are_renewed(tmp_path: Path) -> None:
    """The old process has clients for two more seconds; and a gateway's keep their deadline."""

    def runs() -> list[str]:
        return written(tmp_path / "runs").split()

    port = free_port()
    with master(RENEWED.format(port=port), tmp_path) as service, ExitStack() as clients:
        service.wait_for("business serves, 1 process")
        for _ in range(4):
            clients.enter_context(connect(f"ws://127.0.0.1:{service.port}/"))
        stranger = clients.enter_context(connect(f"ws://127.0.0.1:{port}/"))
        until(lambda: bool(runs()))
        old = runs()[0]
        assert service.gateman("reload").returncode == 0
        with pytest.raises(ConnectionClosed):
            stranger.recv(timeout=TIMEOUT)
        until(lambda: len([pid for pid in runs() if pid != old]) >= 2)

        found = runs()
        assert old not in found[found.index(next(pid for pid in found if pid != old)) :]
        assert (stranger.close_code, stranger.close_reason) == (1008, "no login in time")


def _pids(folder: Path, kind: str) -> set[int]:
    return {int(path.name.rpartition("-")[2]) for path in folder.glob(f"{kind}-*")}
