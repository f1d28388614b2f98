"""Jobs by the clock on the wall: when they run, in which process, and what a late one does."""

import asyncio
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from gateman import BusinessWorker, ConfigError, Gateway, Worker, hub, testing
from gateman.cluster.lease_keeper import LeaseKeeper
from gateman.cluster.leases import lease_name
from gateman.cluster.names import NodeId
from gateman.cluster.peers import TIME_TO_LIVE
from gateman.config.schedule import Interval, Job
from gateman.runtime.jobs import GRACE, Jobs, latest
from gateman.runtime.scheduled_runs import ScheduledRuns
from tests.support.loop import eventually, on_loop, turns
from tests.support.master import master, until, written

LISTEN = "websocket://127.0.0.1:1"

# Until a service that has just started runs jobs of which one process is in charge.
SETTLED = 11.0  # seconds


def wall_time() -> float:
    """The clock that a test moves."""
    return time.time() + asyncio.get_running_loop().time() - time.monotonic()


class Runs:
    """The times of a worker's job that were run: planned ones with ``once``, else real ones."""

    def __init__(self, worker: Worker | BusinessWorker) -> None:
        self.worker = worker
        self.times: list[int] = []

    def __call__(self) -> None:
        [job] = self.worker.jobs
        if job.is_once:
            # A late run would count for another time by any clock.
            mark = hub.local_node.leases.mark(lease_name(f"{self.worker.name}: {job}"))
            self.times.append(mark // 1_000_000)
        else:
            self.times.append(round(wall_time()))

    @property
    def repeated(self) -> list[int]:
        return [at for at, count in Counter(self.times).items() if count > 1]


def declared(name: str = "jobs", *, once: bool) -> Runs:
    runs = Runs(Worker(LISTEN, name=name, drain_window=1))
    runs.worker.cron("* * * * * *", once=once)(runs)
    return runs


@pytest.mark.parametrize(
    ("mark", "now", "due"),
    [
        (100, 109.9, None),
        (100, 110, (110, 110, 0)),
        (100, 119.9, (110, 110, 0)),
        (100, 139.9, (110, 130, 2)),
        (105, 110, (110, 110, 0)),
    ],
)
def test_of_several_late_times_the_last_one_is_due(
    mark: float, now: float, due: tuple[float, float, int] | None
) -> None:
    assert latest(Interval(10.0), mark, now) == due


def test_a_pause_of_a_year_takes_no_year_to_count() -> None:
    _, at, passed = latest(Interval(0.1), 0, 365 * 86400) or (0, 0, 0)
    assert math.isclose(at, 365 * 86400, abs_tol=0.11)
    assert 1000 <= passed <= 1000 + GRACE * 10


@on_loop
async def test_without_once_each_process_runs_a_job() -> None:
    runs = declared(once=False)
    async with testing.service(runs.worker, processes=2):
        await testing.advance(5)

    assert 8 <= len(runs.times) <= 12
    assert set(Counter(runs.times).values()) <= {1, 2}


@on_loop
async def test_with_once_one_process_of_a_service_runs_each_time() -> None:
    runs = declared(once=True)
    async with testing.service(runs.worker, processes=3):
        await testing.advance(SETTLED + 5)

    assert runs.repeated == []
    assert len(runs.times) >= 5
    assert runs.times == list(range(runs.times[0], runs.times[-1] + 1))


@on_loop
async def test_a_node_without_a_bus_runs_it_at_once() -> None:
    ran: list[float] = []
    alone = LeaseKeeper(NodeId("a"), lambda *_: None, is_alone=True)
    jobs = Jobs(ScheduledRuns(Counter()), alone)
    jobs.start([("chat", Job(Interval(0.05), lambda: ran.append(wall_time()), is_once=True))])
    await eventually(lambda: len(ran) >= 2)
    jobs.stop()


@on_loop
async def test_a_reload_runs_no_time_twice_and_leaves_none_out() -> None:
    """The new process takes over within two seconds; what was due meanwhile is late, and runs."""
    runs = Runs(Worker(LISTEN, drain_window=1))
    runs.worker.every(4, once=True)(runs)
    async with testing.service(runs.worker, processes=2) as service:
        await testing.advance(SETTLED)
        runs.times.clear()
        for process in service.processes(runs.worker):
            reloading = asyncio.ensure_future(process.reload())
            await testing.advance(20)
            await reloading

    assert runs.repeated == []
    assert len(runs.times) in {10, 11}


@on_loop
async def test_another_process_takes_over_after_a_death() -> None:
    runs = declared(once=True)
    async with testing.service(runs.worker, processes=3) as service:
        await testing.advance(SETTLED)
        for _ in range(2):
            before = len(runs.times)
            assert before
            # One of them is in charge; so two deaths are needed at most.
            await service.processes(runs.worker)[0].kill()
            await testing.advance(TIME_TO_LIVE + 5)
            assert len(runs.times) > before

    assert runs.repeated == []


@on_loop
async def test_a_business_worker_runs_jobs_too() -> None:
    runs = Runs(BusinessWorker(name="business"))
    runs.worker.cron("* * * * * *", once=True)(runs)
    async with testing.service(runs.worker, processes=2):
        await testing.advance(SETTLED + 3)

    assert len(runs.times) >= 3
    assert runs.repeated == []


def test_a_gateway_refuses_jobs() -> None:
    gateway = Gateway(LISTEN)
    with pytest.raises(ConfigError, match="a Gateway runs no application code"):
        gateway.cron("* * * * *")


def test_the_same_job_twice_is_refused() -> None:
    worker = Worker(LISTEN)
    worker.cron("* * * * *")(print)
    with pytest.raises(ConfigError, match=r"print \(\* \* \* \* \* UTC\) is declared twice"):
        worker.cron("* * * * *")(print)


def test_forgotten_parentheses_are_told() -> None:
    worker = Worker(LISTEN)
    with pytest.raises(ConfigError, match="cron was given no expression"):
        worker.cron(print)  # type: ignore[arg-type]


@on_loop
async def test_runs_of_a_job_never_overlap(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(LISTEN)
    running, most, begun = 0, 0, 0

    @worker.cron("* * * * * *")
    async def slow() -> None:
        nonlocal running, most, begun
        running, begun = running + 1, begun + 1
        most = max(most, running)
        await asyncio.sleep(2.5)
        running -= 1

    async with testing.connect(worker):
        await testing.advance(8)

    assert (most, begun) == (1, 3)
    assert "the job" in caplog.text
    assert "is left out once: its last run takes longer than the pause" in caplog.text


class _Times(Struct):
    """A schedule with these times, as it is after a machine has slept over them."""

    times: Iterator[float]

    def following(self, after: float) -> float:  # noqa: ARG002
        return next(self.times, math.inf)


@pytest.mark.parametrize(("lateness", "is_run"), [(GRACE - 5, True), (GRACE, False)])
@on_loop
async def test_a_time_that_is_late_by_a_minute_is_left_out_and_counted(
    lateness: float,
    is_run: bool,  # noqa: FBT001
) -> None:
    ran: list[float] = []
    times = iter([wall_time() - lateness])
    schedule = _Times(times)
    jobs = Jobs(ScheduledRuns(Counter()), None)
    jobs.start([("chat", Job(schedule, lambda: ran.append(wall_time()), is_once=False))])
    await turns()
    jobs.stop()

    assert (len(ran), jobs.missed_count) == (is_run, not is_run)


class _Leases:
    """Leases that are held, on a bus that may be away."""

    def __init__(self, *, is_sent: bool, mark: float = 0.0) -> None:
        self.is_sent = is_sent
        self.known = round(mark * 1_000_000)
        self.released: list[str] = []

    def want(self, name: str) -> None: ...

    def is_held(self, name: str) -> bool:  # noqa: ARG002
        return True

    def mark(self, name: str) -> int:  # noqa: ARG002
        return self.known

    def advance(self, name: str, mark: int, on_sent: Callable[[bool], object]) -> None:  # noqa: ARG002
        asyncio.get_running_loop().call_soon(on_sent, self.is_sent)

    def release(self, names: Iterable[str]) -> None:
        self.released.extend(names)


@pytest.mark.parametrize(
    ("last_run", "since", "missed", "is_told"),
    [(0, 5, 0, False), (100, 5, 2, False), (100, 15, 2, True)],
    ids=["start", "takeover", "outage"],
)
@on_loop
async def test_runs_left_out_while_no_process_is_in_charge(
    *, last_run: int, since: int, missed: int, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """At a start they were not due; else they count, and are news if that takes too long."""
    ran: list[float] = []
    now = wall_time()
    leases = _Leases(is_sent=True, mark=last_run and now - last_run)
    schedule = _Times(iter([now - since, now - 2, now - 1]))
    jobs = Jobs(ScheduledRuns(Counter()), leases)
    jobs.start([("chat", Job(schedule, lambda: ran.append(now), is_once=True))])
    await turns()
    jobs.stop()

    assert (ran, jobs.missed_count) == ([now], missed)
    assert ("was left out 2 times" in caplog.text) is is_told


@on_loop
async def test_a_run_that_others_cannot_be_told_of_does_not_begin() -> None:
    ran: list[float] = []
    jobs = Jobs(ScheduledRuns(Counter()), _Leases(is_sent=False))
    jobs.start([("chat", Job(Interval(0.05), lambda: ran.append(wall_time()), is_once=True))])
    await eventually(lambda: jobs.missed_count > 0)
    jobs.stop()

    assert ran == []


@pytest.mark.parametrize(("hours", "is_run"), [(2.9, False), (3.1, True), (10_000, True)])
@on_loop
async def test_a_clock_that_was_set_back_by_hours_does_not_stop_a_job(
    hours: float,
    is_run: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As in Debian's cron; one of the machines may have told the others a time far ahead."""
    ran: list[float] = []
    leases = _Leases(is_sent=True, mark=wall_time() + hours * 3600)
    jobs = Jobs(ScheduledRuns(Counter()), leases)
    interval = 0.02 if is_run else 60
    jobs.start([("chat", Job(Interval(interval), lambda: ran.append(wall_time()), is_once=True))])
    if is_run:
        await eventually(lambda: len(ran) >= 2)
    await turns()
    jobs.stop()

    assert bool(ran) is is_run
    assert ("begins anew: its last run was at a time hours ahead" in caplog.text) is is_run


@on_loop
async def test_a_draining_process_keeps_the_lease_until_its_run_has_ended() -> None:
    leases, end = _Leases(is_sent=True), asyncio.Event()
    runs = ScheduledRuns(Counter())
    jobs = Jobs(runs, leases)
    begun = 0

    async def run() -> None:
        nonlocal begun
        begun += 1
        await end.wait()

    jobs.start([("chat", Job(Interval(0.05), run, is_once=True))])
    await eventually(lambda: begun == 1)
    jobs.drain()
    assert leases.released == []
    end.set()
    await eventually(lambda: len(leases.released) == 1)
    jobs.stop()
    await runs.cancel()

    assert begun == 1


SCRIPT = """
import os
from pathlib import Path
from gateman import Worker, hub
from gateman.cluster.leases import lease_name

worker = Worker("websocket://127.0.0.1:0", count=2, drain_window=0.1)
runs = Path(__file__).parent / "runs"

@worker.every(0.5, once=True)
def run():
    mark = hub.local_node.leases.mark(lease_name(f"{worker.name}: {worker.jobs[0]}"))
    with runs.open("a") as file:
        file.write(f"{mark} {os.getpid()}\\n")

Worker.run_all()
"""


def test_real_processes_run_each_time_once_through_reloads_and_a_kill(tmp_path: Path) -> None:
    def runs() -> list[tuple[int, int]]:
        lines = written(tmp_path / "runs").splitlines()
        return [(int(at), int(pid)) for at, pid in map(str.split, lines)]

    with master(SCRIPT, tmp_path) as running:
        until(runs)
        running.command("reload")
        until(lambda: runs()[-1][1] in running.pids())
        killed = runs()[-1][1]
        os.kill(killed, signal.SIGKILL)
        until(lambda: runs()[-1][1] != killed)

    times = [at for at, _ in runs()]
    assert len(set(times)) == len(times)
    assert times == sorted(times)
