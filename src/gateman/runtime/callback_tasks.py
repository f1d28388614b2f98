"""
The tasks of async callbacks: those of connections, of business workers and of timers.

Each of these decides what runs, and in which order. What they share is here: a task is kept until
it ends, the end of the process cancels it, and a cancellation by the application is an error of
the callback.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any

Task = asyncio.Task[None]

# What a callback has for its own end, in seconds, once the end of the process has cancelled it.
# Bounded: a callback that catches its cancellation is left behind.
_LAST_SECONDS = 1.0


class CallbackTasks:
    """The running tasks of one kind of callbacks in one process."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[Task] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self,
        work: Coroutine[Any, Any, None],
        *,
        awaits: object = None,
        ended: Callable[[Task], object] | None = None,
        context: Context | None = None,
    ) -> Task:
        """Run ``work``, which is to await ``awaits``, and call ``ended`` after it."""
        # One callback for each task: the loop calls each in a handle of its own.
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        discard = self._tasks.discard
        task.add_done_callback(discard if ended is None else partial(self._end, ended))
        if inspect.iscoroutine(awaits):
            # A task that is cancelled before its first step never comes to await it.
            task.add_done_callback(lambda _task: awaits.close())
        return task

    def _end(self, ended: Callable[[Task], object], task: Task) -> None:
        self._tasks.discard(task)
        ended(task)

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a scope
        """Let the tasks end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        # Again, for a task that takes the place of one that was cancelled before its first step.
        while self._tasks:
            await asyncio.wait(self._tasks, timeout=max(deadline - loop.time(), 0))
            if loop.time() >= deadline:
                break

    async def cancel(self) -> None:
        """Cancel the tasks, and wait a moment for their end."""
        for task in self._tasks:
            task.cancel()
        await self.wait(_LAST_SECONDS)


def take_back_cancellation(task: Task | None) -> bool:
    """Tell whether somebody cancels this task, and not what it awaits; it goes on then."""
    if task is None or not task.cancelling():
        return False
    while task.uncancel():
        pass
    return True


def error_of(raised: asyncio.CancelledError | Exception) -> Exception:
    """Return a callback's error; raise it again if the task that runs the callback is cancelled."""
    if not isinstance(raised, asyncio.CancelledError):
        return raised
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise raised
    return cancellation_error(raised)


def cancellation_error(
    cause: asyncio.CancelledError, problem: str = "what it awaited was cancelled"
) -> RuntimeError:
    """Make a callback's error of a cancellation by the application."""
    # The traceback says where the callback was.
    error = RuntimeError(problem).with_traceback(cause.__traceback__)
    error.__cause__ = cause
    return error
