"""
Calls ``on_health`` at an interval, and keeps what it said last.

Health checks get that, so that no number of them calls it more often, and none waits for it.
"""

import asyncio
import inspect
from collections import Counter
from typing import Any

from ..config.callbacks import Function, wrong_health
from ..log import RateLimitedLogger, logger
from ..options import Timeouts
from .callback_tasks import CallbackTasks, error_of

# What peers are told: the reason is in the log.
_NOT_READY = "not ready"


class Health:
    """The readiness of one worker in one process, as its application sees it."""

    def __init__(
        self,
        function: Function,
        worker: object,
        *,
        name: object,
        timeouts: Timeouts,
        counts: Counter[str],
    ) -> None:
        self.problem = _NOT_READY
        self._function = function
        self._worker = worker
        self._name = name
        self._timeout = timeouts.health
        self._interval = timeouts.health_interval
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._rate_limited = RateLimitedLogger()
        self._tasks = CallbackTasks()

    async def start(self) -> None:
        """Call it once, and then at intervals."""
        await self._check()
        self._tasks.start(self._check_repeatedly())

    async def stop(self) -> None:
        await self._tasks.cancel()

    async def _check_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._check()

    async def _check(self) -> None:
        before, self.problem = self.problem, _NOT_READY if await self._fails() else ""
        if self.problem and not before:
            logger.warning("%s: on_health says that this process is not ready", self._name)
        elif before and not self.problem:
            logger.info("%s: on_health says that this process is ready", self._name)

    async def _fails(self) -> bool:
        scope = asyncio.timeout(self._timeout)
        try:
            async with scope:
                result: Any = self._function(self._worker)
                if inspect.isawaitable(result):
                    result = await result
        except (asyncio.CancelledError, Exception) as raised:  # noqa: BLE001 - it is not ready
            error = error_of(raised)
            took = f"it took longer than timeouts.health, {self._timeout:g} s"
            self._report(TimeoutError(took) if scope.expired() else error)
        else:
            mistake = wrong_health(result)
            if mistake is not None:
                self._report(mistake)
            return result is False or mistake is not None
        return True

    def _report(self, error: Exception) -> None:
        self._counts["health_failed"] += 1
        # One line for each place, however often it fails.
        self._rate_limited.error(
            f"{self._name}: on_health failed: {error!r}", error, self._loop.time()
        )
