"""
Runs functions by the clock on the wall: ``cron``, and ``every(…, once=True)``.

Each job has a mark, the last time of its schedule that was run or left out. For a job that runs
once in the service, the mark belongs to its lease (:mod:`gateman.cluster.leases`). It leaves the
process before the run begins, so no other process runs that time again, whatever happens here.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from ..cluster.leases import lease_name
from ..config.schedule import Job, Schedule
from .scheduled_runs import ScheduledRuns

# A run that is later than this is left out. Taking over a lease takes up to ten seconds.
GRACE = 60.0  # seconds

# Runs of short intervals that are left out during a planned or unplanned change of the process in
# charge are counted, and no news.
_TAKEOVER = 11.0  # seconds

# The wall's clock may be set at any time; so no wait is longer.
_MAX_WAIT = 20.0  # seconds

# Between two looks at a lease that another process holds, while a run is due.
_RETRY = 0.5  # seconds

# A mark is further ahead only after the clock was set back: Debian's cron, too, takes a step of
# three hours as a correction of the clock.
_MAX_AHEAD = 3 * 3600.0  # seconds

# Times of a schedule that are counted as left out after a long pause; more count as this many.
_MAX_COUNTED = 1000

_MICROSECONDS = 1_000_000


class Leases(Protocol):
    """See :class:`gateman.cluster.lease_keeper.LeaseKeeper`."""

    def want(self, name: str) -> None: ...
    def is_held(self, name: str) -> bool: ...
    def mark(self, name: str) -> int: ...
    def advance(self, name: str, mark: int, on_sent: Callable[[bool], object]) -> None: ...
    def release(self, names: Iterable[str]) -> None: ...


class _JobState:
    """One job in this process."""

    __slots__ = (
        "args",
        "function",
        "handle",
        "ignores_mark",
        "is_new",
        "is_starting",
        "lease",
        "mark",
        "name",
        "schedule",
        "task",
    )

    def __init__(self, job: Job, worker: str) -> None:
        self.name = str(job)
        self.function = job.function
        self.args: tuple[Any, ...] = ()
        self.schedule = job.schedule
        self.lease = lease_name(f"{worker}: {job}") if job.is_once else ""
        self.mark = 0.0  # seconds since 1970
        self.handle: asyncio.TimerHandle | None = None
        self.is_starting = False
        self.ignores_mark = False
        # Whether a process has to be in charge, and none was yet as far as this one knows.
        self.is_new = bool(self.lease)
        self.task: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        """Name it for a log line."""
        return f"the job {self.name}"


class Jobs:
    """The jobs of a process, on the running event loop."""

    def __init__(self, runs: ScheduledRuns, leases: Leases | None) -> None:
        self.skipped_count = 0
        self.missed_count = 0
        self._runs = runs
        self._leases = leases
        self._loop = asyncio.get_running_loop()
        self._jobs: list[_JobState] = []

    @property
    def counts(self) -> Counter[str]:
        return Counter(timer_skipped=self.skipped_count, job_missed=self.missed_count)

    def start(self, jobs: Iterable[tuple[str, Job]]) -> None:
        """Run jobs, each with the name of its worker, from now on."""
        for worker, job in jobs:
            state = _JobState(job, worker)
            state.mark = self._wall_time()
            self._jobs.append(state)
            if state.lease and self._leases is not None:
                self._leases.want(state.lease)
            self._look(state)

    def drain(self) -> None:
        """Begin no more runs; other processes get the leases when the current runs have ended."""
        self._end(self._release)

    def stop(self) -> None:
        """Release all leases, whatever runs."""
        self._end(self._release_now)
        self._jobs.clear()

    def _end(self, release: Callable[[_JobState], None]) -> None:
        for state in self._jobs:
            if state.handle is not None:
                state.handle.cancel()
            release(state)

    def _release(self, state: _JobState) -> None:
        if state.task is None and not state.is_starting:
            self._release_now(state)
        elif state.lease:
            # Another process must not start the next run beside this one.
            state.handle = self._loop.call_later(_RETRY, self._release, state)

    def _release_now(self, state: _JobState) -> None:
        if state.lease and self._leases is not None:
            self._leases.release([state.lease])

    def _wall_time(self) -> float:
        # A test that moves the loop's clock moves this one too.
        return time.time() + self._loop.time() - time.monotonic()

    def _look(self, state: _JobState) -> None:
        """Run a job if it is due, and look again when it may be."""
        now = self._wall_time()
        if state.lease and self._leases is not None:
            mark = self._leases.mark(state.lease) / _MICROSECONDS
            state.is_new &= not mark
            if mark < now + _MAX_AHEAD:
                state.mark = max(state.mark, mark)
            elif not state.ignores_mark:
                state.ignores_mark = True
                self._runs.warn(state, "begins anew: its last run was at a time hours ahead")
        if state.mark >= now + _MAX_AHEAD:
            state.mark = now
            self._runs.warn(state, "begins anew: the clock was set back by hours")
        wait = self._advance(state, now)
        state.handle = self._loop.call_later(wait, self._look, state)

    def _advance(self, state: _JobState, now: float) -> float:
        """Run a job if it is due; return how long to wait."""
        due = latest(state.schedule, state.mark, now)
        if due is None:
            return min(state.schedule.following(state.mark) - now, _MAX_WAIT)
        if state.lease and self._leases is not None and not self._leases.is_held(state.lease):
            return _RETRY
        is_late = now - due.last >= GRACE
        missed = due.passed + is_late
        if state.is_new and now - state.mark < GRACE:
            # The service starts: nothing was due before a process could be in charge.
            missed = 0
        state.is_new = False
        state.mark = due.last
        self._miss(state, missed, is_news=now - due.first >= _TAKEOVER)
        if is_late:
            return 0
        if state.task is not None or state.is_starting:
            self.skipped_count += 1
            self._runs.warn(state, "is left out once: its last run takes longer than the pause")
            return 0
        self._run(state)
        return 0

    def _run(self, state: _JobState) -> None:
        if not state.lease or self._leases is None:
            self._runs.start(state)
            return
        state.is_starting = True
        mark = round(state.mark * _MICROSECONDS)
        self._leases.advance(state.lease, mark, lambda was_sent: self._sent(state, was_sent))

    def _sent(self, state: _JobState, was_sent: bool) -> None:  # noqa: FBT001 - the bus's answer
        state.is_starting = False
        if was_sent and self._jobs:
            self._runs.start(state)
        else:
            self._miss(state, 1)

    def _miss(self, state: _JobState, count: int, *, is_news: bool = True) -> None:
        self.missed_count += count
        if count and is_news:
            times = "once" if count == 1 else f"{count} times"
            self._runs.warn(state, f"was left out {times}: no process was ready for it in time")


class Due(NamedTuple):
    """The times of a schedule since its mark; ``passed`` is the number of those before the last."""

    first: float
    last: float
    passed: int


def latest(schedule: Schedule, mark: float, now: float) -> Due | None:
    """Find the times that are due."""
    first = at = schedule.following(mark)
    if at > now:
        return None
    passed = 0
    while (following := schedule.following(at)) <= now:
        passed += 1
        at = following if passed < _MAX_COUNTED else max(following, now - GRACE)
    return Due(first, at, passed)
