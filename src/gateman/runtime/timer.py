"""
Functions that run later, once or repeatedly: :class:`Timer`.

Jobs and outgoing connections begin and end with the timers of a process, so they are here too.

The timers of a process start when it serves, and end when it stops. The master runs the script too
but serves no clients, so a timer that is added at module level runs in each process and not in the
master. This module loads neither asyncio nor logging before that start: the master needs neither.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ..config.schedule import check_function, check_interval
from ..errors import WrongThread

if TYPE_CHECKING:
    import asyncio

    from ..config.base import BaseWorker
    from ..config.outgoing import OutgoingConnection
    from ..config.schedule import Job
    from .jobs import Jobs, Leases
    from .outgoing import OutgoingConnections
    from .scheduled_runs import ScheduledRuns


class Timer:
    """
    Runs functions later or repeatedly, in this process.

        Timer.add(60, tidy_up)
        Timer.add(2.5, connection.send, "still there?", persistent=False)

    Guarantees:
        The first run is one interval after :meth:`add`, or after the process began to serve. The
        others follow at whole intervals after that: a slow or late run does not move them. Runs
        that are due while another takes too long are left out and counted. The runs of one timer
        never overlap. If a run raises, the error is logged and the timer continues.

        No run begins after a process starts to drain, because another one replaces it or because
        it stops. A run that has begun is cancelled when the process stops. So a job of one process
        of a worker (``if worker.id == 0``) is never done by two.

        A timer keeps its function and its arguments, for example a connection, until it is
        deleted. Use :meth:`gateman.Connection.after` for a timer that ends with a connection.
    """

    @staticmethod
    def add(
        seconds: float, function: Callable[..., Any], *args: Any, persistent: bool = True
    ) -> int:
        """
        Run a function later.

        Args:
            seconds: Until the first run, and between two runs; more than 0.
            function: An ``async def``, or a plain function, which blocks the event loop.
            args: Its arguments.
            persistent: Run until :meth:`delete`; otherwise once.

        Returns:
            The timer's id: 1 or more, unique among all processes.

        Raises:
            ConfigError: The interval or the function cannot be used.
            WrongThread: The caller is not in the thread of the event loop.
        """
        return process_timers().add(seconds, function, args, is_persistent=persistent)

    @staticmethod
    def delete(timer_id: int) -> bool:
        """
        Delete a timer. A run that has begun continues to its end.

        Args:
            timer_id: What :meth:`add` returned.

        Returns:
            Whether there was such a timer; one that is not persistent is gone once it ran.
        """
        return process_timers().delete(timer_id)


class _Scheduled:
    """One timer."""

    __slots__ = (
        "args",
        "function",
        "handle",
        "interval",
        "is_persistent",
        "owner",
        "planned_at",
        "task",
    )

    def __init__(
        self,
        interval: float,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        is_persistent: bool,
        owner: object,
    ) -> None:
        self.interval = interval
        self.owner = owner
        self.function = function
        self.args = args
        self.is_persistent = is_persistent
        self.planned_at = 0.0
        self.handle: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        """Name it for a log line, by its function, so that there are few different lines."""
        function = self.function
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return f"the timer of {str(name).rpartition('<locals>.')[2]}"


class Timers:
    """The timers of a process."""

    def __init__(self) -> None:
        # Runs that were left out because another or a callback took too long.
        self.skipped_count = 0
        self._last_id = 0
        self._scheduled: dict[int, _Scheduled] = {}
        self._owned: dict[object, set[int]] = {}
        self._is_started = False
        self._is_draining = False
        self._thread = 0
        # Set by `start`.
        self._loop: asyncio.AbstractEventLoop
        self._runs: ScheduledRuns
        # With the name of its worker.
        self._declared_jobs: list[tuple[str, Job]] = []
        self._jobs: Jobs | None = None
        self._declared_outgoing: list[tuple[str, OutgoingConnection]] = []
        self._outgoing: OutgoingConnections | None = None
        # Errors; and of the jobs and the outgoing connections that were stopped.
        self._counts: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """The number of jobs, and of timers that have no owner."""
        owned_count = sum(map(len, self._owned.values()))
        return len(self._scheduled) - owned_count + len(self._declared_jobs)

    @property
    def counts(self) -> dict[str, int]:
        """Runs that failed or were left out, and what became of outgoing connections."""
        counts = self._counts + Counter(timer_skipped=self.skipped_count)
        if self._jobs is not None:
            counts += self._jobs.counts
        if self._outgoing is not None:
            counts += self._outgoing.counts
        return dict(counts)

    def add(
        self,
        seconds: float,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        *,
        is_persistent: bool = True,
    ) -> int:
        """See :meth:`Timer.add`."""
        self._check_thread("Timer.add")
        check_interval(seconds)
        check_function(function, args)
        timer = _Scheduled(float(seconds), function, args, is_persistent=is_persistent, owner=None)
        return self.new_id() if self._is_draining else self._add(timer)

    def add_for(
        self, owner: object, seconds: float, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> int:
        """Run a function once, also while draining, unless :meth:`end` is called for the owner."""
        timer = _Scheduled(float(seconds), function, args, is_persistent=False, owner=owner)
        timer_id = self._add(timer)
        self._owned.setdefault(owner, set()).add(timer_id)
        return timer_id

    def end(self, owner: object) -> None:
        """Delete all timers of an owner."""
        for timer_id in self._owned.pop(owner, ()):
            self.delete(timer_id)

    def new_id(self) -> int:
        if not self._last_id:
            self._last_id = int.from_bytes(os.urandom(7), "big") >> 4
        self._last_id += 1
        return self._last_id

    def _check_thread(self, verb: str) -> None:
        if self._is_started and get_ident() != self._thread:
            raise WrongThread(verb)

    def _add(self, timer: _Scheduled) -> int:
        timer_id = self.new_id()
        if self._is_started:
            self._begin(timer_id, timer)
        self._scheduled[timer_id] = timer
        return timer_id

    def delete(self, timer_id: int) -> bool:
        """See :meth:`Timer.delete`."""
        self._check_thread("Timer.delete")
        timer = self._remove(timer_id)
        if timer is None:
            return False
        if timer.handle is not None:
            timer.handle.cancel()
        return True

    def _remove(self, timer_id: int) -> _Scheduled | None:
        timer = self._scheduled.pop(timer_id, None)
        if timer is not None and timer.owner in self._owned:
            owned = self._owned[timer.owner]
            owned.discard(timer_id)
            if not owned:
                del self._owned[timer.owner]
        return timer

    def start(self, leases: "Leases | None" = None) -> None:
        """Start all timers and jobs on the running event loop."""
        # Imported here: see the module.
        import asyncio

        from .scheduled_runs import ScheduledRuns

        self._loop = asyncio.get_running_loop()
        self._runs = ScheduledRuns(self._counts)
        self._is_started = True
        self._thread = get_ident()
        for timer_id, timer in self._scheduled.items():
            if timer.handle is None:
                self._begin(timer_id, timer)
        if self._declared_jobs:
            from .jobs import Jobs

            self._jobs = Jobs(self._runs, leases)
            self._jobs.start(self._declared_jobs)
        if self._declared_outgoing:
            from .outgoing import OutgoingConnections

            self._outgoing = OutgoingConnections(leases)
            self._outgoing.start(self._declared_outgoing)

    def add_jobs(self, worker: str, jobs: "Iterable[Job]") -> None:
        """Add the jobs that a worker declares; they start with the timers."""
        self._declared_jobs.extend((worker, job) for job in jobs)

    def add_outgoing(self, worker: str, connections: "Iterable[OutgoingConnection]") -> None:
        """Add the outgoing connections that a worker declares; they start with the timers."""
        self._declared_outgoing.extend((worker, connection) for connection in connections)

    def drain(self) -> None:
        """Delete all timers that have no owner, and accept no more of them; begin no jobs."""
        self._is_draining = True
        if self._jobs is not None:
            self._jobs.drain()
        if self._outgoing is not None:
            self._outgoing.drain()
        for timer_id, timer in list(self._scheduled.items()):
            if timer.owner is None:
                self.delete(timer_id)

    async def stop(self) -> None:
        """Delete all timers and jobs, and cancel the runs that have begun."""
        self._declared_jobs.clear()
        if self._jobs is not None:
            self._jobs.stop()
            self._counts += self._jobs.counts
            self._jobs = None
        self._declared_outgoing.clear()
        if self._outgoing is not None:
            outgoing, self._outgoing = self._outgoing, None
            await outgoing.stop()
            self._counts += outgoing.counts
        was_started, self._is_started = self._is_started, False
        self._is_draining = False
        for timer_id in list(self._scheduled):
            self.delete(timer_id)
        if was_started:
            await self._runs.cancel()

    def _begin(self, timer_id: int, timer: _Scheduled) -> None:
        timer.planned_at = self._loop.time() + timer.interval
        timer.handle = self._loop.call_at(timer.planned_at, self._due, timer_id, timer)

    def _due(self, timer_id: int, timer: _Scheduled) -> None:
        if not timer.is_persistent:
            self._remove(timer_id)
        if timer.task is not None:
            self._skip(timer, 1)
        else:
            self._runs.start(timer)
        if self._scheduled.get(timer_id) is timer:
            now = self._loop.time()
            timer.planned_at, skipped = following(timer.planned_at, timer.interval, now)
            if skipped:
                self._skip(timer, skipped)
            timer.handle = self._loop.call_at(timer.planned_at, self._due, timer_id, timer)

    def _skip(self, timer: _Scheduled, count: int) -> None:
        self.skipped_count += count
        self._runs.warn(
            timer, f"cannot run every {timer.interval:g} s: it, or a callback, takes longer"
        )


timers = Timers()
"""The timers of this process."""

timers_of_context: ContextVar[Timers] = ContextVar("timers", default=timers)
"""Others only where a test runs several processes of a service on one event loop."""


def process_timers() -> Timers:
    """Return the timers of the process whose code runs."""
    return timers_of_context.get()


def add_timers(worker: "BaseWorker") -> None:
    """Add what :meth:`gateman.Worker.every` and :meth:`gateman.Worker.cron` have declared."""
    mine = process_timers()
    for seconds, function in worker.schedule:
        mine.add(seconds, function)
    mine.add_jobs(worker.name, worker.jobs)
    mine.add_outgoing(worker.name, worker.outgoing)


def following(planned_at: float, interval: float, now: float) -> tuple[float, int]:
    """Return when the next run is due, and how many were missed."""
    passed = max(int((now - planned_at) // interval), 0)
    return planned_at + (passed + 1) * interval, passed
