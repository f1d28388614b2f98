"""Runs the functions of timers and jobs: one run of each at a time, and its errors are logged."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ..log import RateLimitedLogger
from .callback_tasks import CallbackTasks, error_of


class Scheduled(Protocol):
    """A timer or a job; its name for a log line is its text."""

    @property
    def function(self) -> Callable[..., Any]:
        """What to run."""

    @property
    def args(self) -> tuple[Any, ...]:
        """With which arguments."""

    task: asyncio.Task[None] | None


class ScheduledRuns:
    """The runs of one process."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._tasks = CallbackTasks()
        self._rate_limited = RateLimitedLogger()
        self._loop = asyncio.get_running_loop()

    def start(self, scheduled: Scheduled) -> None:
        """Run a function; its task is set while it runs, if it is an ``async def``."""
        try:
            result = scheduled.function(*scheduled.args)
        except (asyncio.CancelledError, Exception) as raised:  # noqa: BLE001 - it ends no more
            self._failed(scheduled, error_of(raised))
            return
        if inspect.isawaitable(result):
            scheduled.task = self._tasks.start(self._finish(scheduled, result), awaits=result)

    async def _finish(self, scheduled: Scheduled, running: Awaitable[object]) -> None:
        try:
            await running
        except (asyncio.CancelledError, Exception) as raised:  # noqa: BLE001 - it ends no more
            self._failed(scheduled, error_of(raised))
        finally:
            scheduled.task = None

    def _failed(self, scheduled: Scheduled, error: Exception) -> None:
        self._counts["timer_failed"] += 1
        message = f"{scheduled} raised {type(error).__name__}"
        self._rate_limited.error(message, error, self._loop.time())

    def warn(self, scheduled: Scheduled, problem: str) -> None:
        """Log a problem of a timer or a job, not too often."""
        self._rate_limited.warning(str(scheduled), f"{scheduled} {problem}", self._loop.time())

    async def cancel(self) -> None:
        """Cancel the runs, and wait a moment for their end."""
        await self._tasks.cancel()
