"""
Functions that run later, once or again and again: :class:`Timer`.

The timers of a process begin when it serves, and end when it stops. A script is run by its master
too, which serves nobody, so a timer that is added outside of all functions runs in each process
and not in the master.

Neither asyncio nor logging is loaded until a timer begins: the master can do without.
"""

import inspect
import os
from collections.abc import Awaitable, Callable, Iterable
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ..config.schedule import check_function, check_interval
from ..errors import WrongThread

if TYPE_CHECKING:
    import asyncio

    from ..log import RateLimitedLogger
    from .callback_tasks import CallbackTasks


class Timer:
    """
    Runs a function every so many seconds, in this process.

        Timer.add(60, tidy_up)
        Timer.add(2.5, connection.send, "still there?", persistent=False)

    Guarantees:
        The first run is one interval after :meth:`add`, or after the process began to serve, and
        the others are whole intervals after that: neither a slow run nor a late one moves those
        that follow. What took too long is not made up for: runs that fall into it are left out,
        and counted. A function never runs twice at once. What it raises is logged, and the next
        run comes all the same.

        From the moment at which a process drains, because another one takes its place or because
        it stops, no run begins any more; what still runs is cancelled when it stops. So what is
        done by one process of a worker only (``if worker.id == 0``) is never done by two.

        A timer keeps its function and its arguments, a connection among them, until it is
        deleted; :meth:`gateman.Connection.after` is for what ends with a connection.
    """

    @staticmethod
    def add(
        seconds: float, function: Callable[..., Any], *args: Any, persistent: bool = True
    ) -> int:
        """
        Run a function later.

        Args:
            seconds: How much later, and between two runs.
            function: A plain function, for which everybody waits, or an ``async def``.
            args: Its arguments.
            persistent: Whether it runs until it is deleted; otherwise once.

        Returns:
            The timer's id: 1 or more, and never used again, by no process.

        Raises:
            ConfigError: Never can it run so.
            WrongThread: From another thread than the event loop's; so does :meth:`delete`.
        """
        return timers.add(seconds, function, args, is_persistent=persistent)

    @staticmethod
    def delete(timer_id: int) -> bool:
        """
        Run a timer's function no more. What runs of it just now goes on to its end.

        Args:
            timer_id: What :meth:`add` returned.

        Returns:
            Whether there was such a timer; one that is not persistent is gone once it ran.
        """
        return timers.delete(timer_id)


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
        """Name it for a log line; as few names as the program has functions."""
        function = self.function
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return f"the timer of {str(name).rpartition('<locals>.')[2]}"


class Timers:
    """
    The timers of a process.

    Attributes:
        skipped_count: Runs that were left out, as the one before or something else took too long.
    """

    def __init__(self) -> None:
        self.skipped_count = 0
        self._last_id = 0
        self._scheduled: dict[int, _Scheduled] = {}
        self._owned: dict[object, set[int]] = {}
        self._tasks: CallbackTasks | None = None
        self._is_started = False
        self._is_retired = False
        self._rate_limited: RateLimitedLogger | None = None
        self._thread = 0

    @property
    def count(self) -> int:
        """How many timers there are, without those that have an owner."""
        return len(self._scheduled) - sum(map(len, self._owned.values()))

    def add(
        self,
        seconds: float,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        *,
        is_persistent: bool = True,
    ) -> int:
        """
        Add a timer; see :meth:`Timer.add`.

        Raises:
            ConfigError: Never can it run so.
        """
        self._check_thread("Timer.add")
        check_interval(seconds)
        check_function(function, args)
        timer = _Scheduled(float(seconds), function, args, is_persistent=is_persistent, owner=None)
        return self.new_id() if self._is_retired else self._add(timer)

    def add_for(
        self, owner: object, seconds: float, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> int:
        """Add a timer that runs once, unless its owner has ended by then; also while draining."""
        timer = _Scheduled(float(seconds), function, args, is_persistent=False, owner=owner)
        timer_id = self._add(timer)
        self._owned.setdefault(owner, set()).add(timer_id)
        return timer_id

    def end(self, owner: object) -> None:
        """Delete all timers of an owner."""
        for timer_id in self._owned.pop(owner, ()):
            self.delete(timer_id)

    def new_id(self) -> int:
        """Use up an id."""
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
        """Delete a timer; see :meth:`Timer.delete`."""
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

    def start(self) -> None:
        """Begin to count the seconds, on the loop that runs."""
        # Imported here: see the module.
        from ..log import RateLimitedLogger
        from .callback_tasks import CallbackTasks

        self._rate_limited = RateLimitedLogger()
        if self._tasks is None:
            self._tasks = CallbackTasks()
        self._is_started = True
        self._thread = get_ident()
        for timer_id, timer in self._scheduled.items():
            if timer.handle is None:
                self._begin(timer_id, timer)

    def retire(self) -> None:
        """Begin no run any more, but for timers that have an owner: this process drains."""
        self._is_retired = True
        for timer_id, timer in list(self._scheduled.items()):
            if timer.owner is None:
                self.delete(timer_id)

    async def stop(self) -> None:
        """Forget all timers, and cancel what runs of them."""
        self._is_started = self._is_retired = False
        for timer_id in list(self._scheduled):
            self.delete(timer_id)
        if self._tasks is not None:
            await self._tasks.cancel()

    def _begin(self, timer_id: int, timer: _Scheduled) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        timer.planned_at = loop.time() + timer.interval
        timer.handle = loop.call_at(timer.planned_at, self._due, timer_id, timer)

    def _due(self, timer_id: int, timer: _Scheduled) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        if not timer.is_persistent:
            self._remove(timer_id)
        if timer.task is not None:
            self._skip(timer, 1)
        else:
            self._run(timer)
        if self._scheduled.get(timer_id) is timer:
            timer.planned_at, skipped = following(timer.planned_at, timer.interval, loop.time())
            if skipped:
                self._skip(timer, skipped)
            timer.handle = loop.call_at(timer.planned_at, self._due, timer_id, timer)

    def _run(self, timer: _Scheduled) -> None:
        try:
            result = timer.function(*timer.args)
        except Exception as error:  # noqa: BLE001 - an application's fault is its own
            self._failed(timer, error)
            return
        if self._tasks is not None and inspect.isawaitable(result):
            timer.task = self._tasks.start(self._finish(timer, result), awaits=result)

    async def _finish(self, timer: _Scheduled, running: Awaitable[object]) -> None:
        import asyncio

        from .callback_tasks import cancellation_error

        try:
            await running
        except asyncio.CancelledError as error:
            if timer.task is None or timer.task.cancelling():
                raise
            self._failed(timer, cancellation_error(error))
        except Exception as error:  # noqa: BLE001 - an application's fault is its own
            self._failed(timer, error)
        finally:
            timer.task = None

    def _failed(self, timer: _Scheduled, error: Exception) -> None:
        import asyncio

        if self._rate_limited is not None:
            now = asyncio.get_running_loop().time()
            self._rate_limited.error(f"{timer} raised {type(error).__name__}", error, now)

    def _skip(self, timer: _Scheduled, count: int) -> None:
        import asyncio

        self.skipped_count += count
        if self._rate_limited is not None:
            self._rate_limited.warning(
                str(timer),
                f"{timer} cannot run every {timer.interval:g} s: it, or a callback, takes longer",
                asyncio.get_running_loop().time(),
            )


timers = Timers()
"""Those of this process."""


def add_timers(schedule: Iterable[tuple[float, Callable[..., Any]]]) -> None:
    """Start what :meth:`gateman.Worker.every` declared, in this process."""
    for seconds, function in schedule:
        timers.add(seconds, function)


def following(planned_at: float, interval: float, now: float) -> tuple[float, int]:
    """Tell when the next run is due."""
    passed = max(int((now - planned_at) // interval), 0)
    return planned_at + (passed + 1) * interval, passed
