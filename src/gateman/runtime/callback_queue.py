"""
What waits for an async callback, for each connection, and the tasks in which such callbacks run.

One thing at a time is handled for a connection, in order; reading pauses when too much waits.

A task outlives what it was made for by half a second: a busy connection has one task, not one for
each message, which would take as long as all the rest of an echo (``bench/echo.py``); an idle one
has none. For the application there is no difference, since the context is not the task's but the
connection's: a context variable that a callback sets is there in the next one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from sys import getsizeof
from typing import Any

from ..config.callbacks import Function
from ..connection import PAUSED_BY_QUEUE, Connection, State
from .callback_tasks import CallbackTasks, Task, take_back_cancellation

Then = Callable[[Exception | None], None]

Call = tuple[str, Function, tuple[Any, ...], Then | None]
"""A callback's name, what to call, its arguments, and who asks what came of it."""

QueuedItem = str | bytes | Call
"""A message is its own letter: a peer can send 40 000 empty ones in one read."""

# A connection is not read from while its messages take more than this, the one that is being
# handled among them: then what it holds is this or one message, and not many.
_MAX_WAITING_SIZE = 64 << 10  # bytes

# A task that has nothing to do ends after one to two of these. It takes 2 KiB.
_REST_INTERVAL = 0.25  # seconds


class _CallbackQueue:
    """
    What waits for one connection.

    Attributes:
        connection: Whose.
        letters: What waits.
        size: Its bytes of memory; what is being handled is among it.
        is_paused: Whether reading is, because there is too much.
        is_busy: Whether there is anything, what is being handled included.
        task: Handles it.
        rest: What the task waits for when there is nothing; while it works, the last one.
        resting: Those that have come to rest about when this one did.
    """

    __slots__ = (
        "connection",
        "is_busy",
        "is_paused",
        "items",
        "rest",
        "resting",
        "size",
        "task",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.items: deque[QueuedItem] = deque()
        self.size = 0
        self.is_paused = False
        self.is_busy = False
        self.task: Task | None = None
        self.rest: asyncio.Future[None] | None = None
        self.resting: set[_CallbackQueue] = set()

    def wake(self) -> None:
        """Let the task see what there is; with nothing, it ends."""
        self.resting.discard(self)
        # It is done where somebody cancels the task.
        if self.rest is not None and not self.rest.done():
            self.rest.set_result(None)


class CallbackQueues:
    """
    Those of one worker in one process.

    Attributes:
        context: What the contexts of connections begin as.
    """

    def __init__(
        self,
        handle: Callable[[Connection, QueuedItem], Awaitable[None]],
        *,
        is_owed: Callable[[QueuedItem], bool],
        max_count: int,
    ) -> None:
        self.context: Context = copy_context()
        self._handle = handle
        self._is_owed = is_owed
        self._max_count = max_count
        self._loop = asyncio.get_running_loop()
        self._queues: dict[Connection, _CallbackQueue] = {}
        self._tasks = CallbackTasks()
        # Those that came to rest since the last look at them, and those that did before.
        self._resting: set[_CallbackQueue] = set()
        self._long_resting: set[_CallbackQueue] = set()
        self._look: asyncio.TimerHandle | None = None
        self._is_finishing = False

    def put(self, connection: Connection, item: QueuedItem) -> None:
        """Have something handled behind what waits."""
        queue = self._queues.get(connection)
        if queue is None:
            queue = self._queues[connection] = _CallbackQueue(connection)
        items = queue.items
        items.append(item)
        queue.size += getsizeof(item)
        if len(items) > self._max_count or queue.size > _MAX_WAITING_SIZE:
            self._pause(queue)
        if not queue.is_busy:
            queue.is_busy = True
            if queue.rest is None:
                self._begin(queue)
            else:
                queue.wake()

    def is_busy(self, connection: Connection) -> bool:
        """Tell whether something is being handled."""
        queue = self._queues.get(connection)
        return queue is not None and queue.is_busy

    def keep(self, connection: Connection, is_wanted: Callable[[QueuedItem], bool]) -> None:
        """Throw away what else waits."""
        queue = self._queues.get(connection)
        if queue is not None:
            self._keep(queue, is_wanted)

    def dismiss(self, connection: Connection) -> None:
        """Let the task end, if nothing waits."""
        queue = self._queues.get(connection)
        if queue is not None and not queue.is_busy:
            queue.wake()

    def cancelled(self, connection: Connection) -> bool:
        """Throw away all but what is owed, if somebody cancels the task; called from within it."""
        queue = self._queues[connection]
        if not take_back_cancellation(queue.task):
            return False
        self._keep(queue, self._is_owed)
        return True

    async def finish(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a scope
        """Let what is being handled end, and cancel what does not."""
        self._is_finishing = True
        if self._look is not None:
            self._look.cancel()
        for queue in [*self._long_resting, *self._resting]:
            queue.wake()
        await self._tasks.wait(timeout)
        await self._tasks.cancel()

    # What waits.

    def _pause(self, queue: _CallbackQueue) -> None:
        if not queue.is_paused:
            queue.is_paused = True
            queue.connection.link.pause(PAUSED_BY_QUEUE)

    def _read_on(self, queue: _CallbackQueue) -> None:
        """Take the pause back, when half of what may wait does: to pause for each takes longer."""
        if len(queue.items) <= self._max_count // 2 and queue.size <= _MAX_WAITING_SIZE // 2:
            queue.is_paused = False
            queue.connection.link.resume(PAUSED_BY_QUEUE)

    def _keep(self, queue: _CallbackQueue, is_wanted: Callable[[QueuedItem], bool]) -> None:
        items = list(queue.items)
        queue.items.clear()
        for item in items:
            if is_wanted(item):
                queue.items.append(item)
            else:
                queue.size -= getsizeof(item)
        if queue.is_paused:
            self._read_on(queue)

    # The tasks.

    def _begin(self, queue: _CallbackQueue) -> None:
        connection = queue.connection
        context = connection.callback_context
        if context is None:
            context = connection.callback_context = self.context.copy()
        queue.task = self._tasks.start(
            self._work(queue), ended=partial(self._ended, queue), context=context
        )

    def _ended(self, queue: _CallbackQueue, _task: Task) -> None:
        if self._queues.get(queue.connection) is queue:
            # It was cancelled before its first step, of which a coroutine never hears.
            self._keep(queue, self._is_owed)
            if queue.items:
                self._begin(queue)
            else:
                del self._queues[queue.connection]

    async def _work(self, queue: _CallbackQueue) -> None:
        connection, items = queue.connection, queue.items
        try:
            while items:
                item = items.popleft()
                await self._handle(connection, item)
                # Most are alone, and need not be weighed again.
                queue.size = queue.size - getsizeof(item) if items else 0
                # It may be large, and the task rests.
                del item
                if queue.is_paused:
                    self._read_on(queue)
                if not items and self._may_rest(queue):
                    queue.rest = self._loop.create_future()
                    try:
                        await queue.rest
                    except asyncio.CancelledError:
                        queue.resting.discard(queue)
                        self.cancelled(connection)
        finally:
            del self._queues[connection]

    def _may_rest(self, queue: _CallbackQueue) -> bool:
        """Take note that a task has nothing to do; at its connection's end, it has to end too."""
        queue.is_busy = False
        if queue.connection.state is not State.OPEN or self._is_finishing:
            return False
        # A callback may have caught what was to end it; that is not to end the next one.
        take_back_cancellation(queue.task)
        queue.resting = self._resting
        self._resting.add(queue)
        if self._look is None:
            self._look = self._loop.call_later(_REST_INTERVAL, self._end_long_rests)
        return True

    def _end_long_rests(self) -> None:
        for queue in list(self._long_resting):
            queue.wake()
        self._resting, self._long_resting = self._long_resting, self._resting
        self._look = None
        if self._long_resting:
            self._look = self._loop.call_later(_REST_INTERVAL, self._end_long_rests)
