"""
The queue of each connection that has async callbacks, and the task that works it off, in order.

Reading from the client pauses when too much waits. An idle task lives for up to half a second: a
new one for each message would take as long as all the rest of an echo (``bench/echo.py``). The
application sees no difference, since all tasks of a connection run in its context: a context
variable that one callback sets has that value in the next.

A message that finds its task idle is handled at once, until its handler first has to wait; most
never do. It runs as the task, by ``_enter_task`` and ``_leave_task`` of asyncio, which are
documented for this: ``asyncio.current_task()`` is the task that later continues the handler, and
can be cancelled, by ``asyncio.timeout`` too, at any time.
"""

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context, copy_context
from functools import partial
from sys import getsizeof
from types import coroutine
from typing import Any, NamedTuple

from ..config.callbacks import Function
from ..connection import Connection, State
from ..connection_interfaces import PAUSED_BY_QUEUE
from .callback_tasks import CallbackTasks, Task, take_back_cancellation

Then = Callable[[Exception | None], None]


class Call(NamedTuple):
    """A callback that waits; a message of a user's protocol may be any other tuple."""

    name: str
    function: Function
    args: tuple[Any, ...]
    then: Then | None  # is called with its decision


QueuedItem = str | bytes | Call
"""A message has no object around it: a peer can send 40 000 empty ones in one read."""

Starter = Generator[Any, Any, None]
"""
Handles the messages that are sent to it, each with its connection.

It yields ``ENDED`` after each, or what its handler awaits. The ``send`` of a coroutine would raise
``StopIteration`` at its end, which takes longer than all the rest.
"""

ENDED = object()

# A global of the module: an attribute of an enum class costs 40 ns more.
_OPEN = State.OPEN

# Reading pauses while a connection's messages take more than this, with the one that is being
# handled: so it holds this much or one message.
_MAX_WAITING_SIZE = 64 << 10  # bytes

# An idle task ends after one to two of these. It takes 2 KiB.
_IDLE_INTERVAL = 0.25  # seconds


class _CallbackQueue:
    """The queue of one connection."""

    __slots__ = (
        "connection",
        "idle",
        "is_busy",
        "is_paused",
        "items",
        "size",
        "started",
        "task",
        "wakeup",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.items: deque[QueuedItem] = deque()
        # Bytes of memory of the items, with the one that is being handled.
        self.size = 0
        # Whether reading from the client is paused.
        self.is_paused = False
        # Whether an item waits or is being handled.
        self.is_busy = False
        # What handles a message that has run until it had to wait, and what it awaits.
        self.started: tuple[Starter, Any] | None = None
        self.task: Task | None = None
        # What the idle task awaits; while it works, the last one.
        self.wakeup: asyncio.Future[None] | None = None
        # The set of CallbackQueues that has it while it is idle.
        self.idle: set[_CallbackQueue] = set()

    def wake(self) -> None:
        """Let the idle task go on; without items, it ends."""
        self.idle.discard(self)
        # It is done if the task was cancelled.
        if self.wakeup is not None and not self.wakeup.done():
            self.wakeup.set_result(None)


class CallbackQueues:
    """The queues of one worker in one process."""

    def __init__(
        self,
        handle: Callable[[Connection, QueuedItem], Awaitable[None]],
        make_starter: Callable[[], Starter],
        *,
        max_count: int,
    ) -> None:
        # Is copied for each connection.
        self.context: Context = copy_context()
        self._handle = handle
        self._make_starter = make_starter
        self._max_count = max_count
        self._loop = asyncio.get_running_loop()
        # Is replaced when the handler of its message has to wait.
        self._starter = make_starter()
        self._queues: dict[Connection, _CallbackQueue] = {}
        self._tasks = CallbackTasks()
        # The queues that became idle in this interval, and in the one before.
        self._idle: set[_CallbackQueue] = set()
        self._long_idle: set[_CallbackQueue] = set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._is_finishing = False

    def deliver(self, connection: Connection, message: str | bytes) -> None:
        """Handle a message at once until it has to wait, or else after all that wait."""
        queue = self._queues.get(connection)
        if (
            queue is None
            or queue.is_busy
            or (task := queue.task) is None
            or (wakeup := queue.wakeup) is None
            or wakeup.done()
            or (context := connection.callback_context) is None
        ):
            self.put(connection, message)
            return
        try:
            _enter_task(self._loop, task)
        except RuntimeError:
            # This is called from another task.
            self.put(connection, message)
            return
        queue.is_busy = True
        awaited = ENDED
        try:
            awaited = context.run(self._starter.send, (connection, message))
        except BaseException as error:  # noqa: BLE001 - SystemExit: as if the task had raised it
            self._starter = self._make_starter()
            self._loop.call_soon(_raise, error)
        finally:
            _leave_task(self._loop, task)
        if awaited is not ENDED:
            # Until the task has woken up, another task may await the same.
            _mark_awaited(awaited, is_awaited=False)
            queue.started = self._starter, awaited
            self._starter = self._make_starter()
            queue.size += getsizeof(message)
            if queue.size > _MAX_WAITING_SIZE:
                self._pause(queue)
        elif queue.items or wakeup.done() or connection.state is not _OPEN:
            # As in `_may_idle`.
            take_back_cancellation(task)
        else:
            queue.is_busy = False
            if queue.idle is not self._idle:
                queue.idle.discard(queue)
                queue.idle = self._idle
                queue.idle.add(queue)
            return
        queue.wake()

    def put(self, connection: Connection, item: QueuedItem) -> None:
        """Handle an item after all that wait."""
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
            if queue.wakeup is None:
                self._begin(queue)
            else:
                queue.wake()

    def is_busy(self, connection: Connection) -> bool:
        """Tell whether an item waits or is being handled."""
        queue = self._queues.get(connection)
        return queue is not None and queue.is_busy

    def drop_messages(self, connection: Connection) -> None:
        """Drop the messages that wait, and keep the calls."""
        queue = self._queues.get(connection)
        if queue is not None:
            self._keep(queue, lambda item: isinstance(item, Call))

    def dismiss(self, connection: Connection) -> None:
        """End the task if it is idle."""
        queue = self._queues.get(connection)
        if queue is not None and not queue.is_busy:
            queue.wake()

    def cancelled(self, connection: Connection) -> bool:
        """If the running task itself is cancelled, drop all but ``on_close``, and return true."""
        queue = self._queues[connection]
        if not take_back_cancellation(queue.task):
            return False
        self._keep(queue, _is_on_close)
        return True

    async def finish(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a scope
        """Wait for the callbacks that run, and cancel those that take longer."""
        self._is_finishing = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        for queue in [*self._long_idle, *self._idle]:
            queue.wake()
        await self._tasks.wait(timeout)
        await self._tasks.cancel()

    def _pause(self, queue: _CallbackQueue) -> None:
        if not queue.is_paused:
            queue.is_paused = True
            queue.connection.link.pause(PAUSED_BY_QUEUE)

    def _resume_if_due(self, queue: _CallbackQueue) -> None:
        """Resume reading when half of the limit waits: a pause for each message takes longer."""
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
            self._resume_if_due(queue)

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
            # It was cancelled before its first step, so that `_work` did not run.
            self._keep(queue, _is_on_close)
            if queue.items:
                self._begin(queue)
            else:
                del self._queues[queue.connection]

    async def _work(self, queue: _CallbackQueue) -> None:
        connection, items = queue.connection, queue.items
        try:
            # Cancelled the task when it was about to continue what has begun without it.
            error: BaseException | None = None
            while items or queue.started is not None:
                if queue.started is not None:
                    started, queue.started = queue.started, None
                    await _continue(*started, error)
                    del started
                    error = None
                    queue.size = sum(map(getsizeof, items))
                else:
                    item = items.popleft()
                    await self._handle(connection, item)
                    # Most items are alone, and their size need not be computed again.
                    queue.size = queue.size - getsizeof(item) if items else 0
                    # It may be large, and the task becomes idle.
                    del item
                if queue.is_paused:
                    self._resume_if_due(queue)
                if not items and self._may_idle(queue):
                    queue.wakeup = self._loop.create_future()
                    try:
                        await queue.wakeup
                    except asyncio.CancelledError as cancellation:
                        queue.idle.discard(queue)
                        if queue.started is None:
                            self.cancelled(connection)
                        else:
                            error = cancellation
        finally:
            del self._queues[connection]

    def _may_idle(self, queue: _CallbackQueue) -> bool:
        """Count a task as idle; false if it has to end, as its connection or the process does."""
        queue.is_busy = False
        if queue.connection.state is not State.OPEN or self._is_finishing:
            return False
        # A callback may have caught its cancellation, which must not end the next callback.
        take_back_cancellation(queue.task)
        queue.idle = self._idle
        self._idle.add(queue)
        if self._idle_timer is None:
            self._idle_timer = self._loop.call_later(_IDLE_INTERVAL, self._end_long_idle)
        return True

    def _end_long_idle(self) -> None:
        for queue in list(self._long_idle):
            queue.wake()
        self._idle, self._long_idle = self._long_idle, self._idle
        self._idle_timer = None
        if self._long_idle:
            self._idle_timer = self._loop.call_later(_IDLE_INTERVAL, self._end_long_idle)


def _is_on_close(item: QueuedItem) -> bool:
    return isinstance(item, Call) and item.name == "on_close"


@coroutine
def _continue(
    starter: Starter, awaited: Any, error: BaseException | None
) -> Generator[Any, Any, None]:
    """Continue, in a task, what awaits something; raise ``error`` in it first."""
    if error is not None:
        awaited = starter.throw(error)
    _mark_awaited(awaited, is_awaited=True)
    while awaited is not ENDED:
        try:
            yield awaited
        except BaseException as raised:  # noqa: BLE001 - the handler gets what its task gets
            awaited = starter.throw(raised)
        else:
            awaited = starter.send(None)


def _mark_awaited(awaited: Any, *, is_awaited: bool) -> None:
    """Mark a future as yielded by an ``await``, which a task requires and then takes back."""
    if asyncio.isfuture(awaited):
        awaited._asyncio_future_blocking = is_awaited  # noqa: SLF001 - the protocol of tasks


def _raise(error: BaseException) -> None:
    raise error
