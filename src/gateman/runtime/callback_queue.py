"""
The queue of each owner that has async callbacks, and the task that works it off, in order.

The owner is a connection of a worker, or a client of a business worker. An idle task lives for up
to half a second: a new one for each message would take as long as all the rest of an echo
(``bench/echo.py``). The application sees no difference, since all tasks of an owner run in its
context: a context variable that one callback sets has that value in the next.

A message that finds its task idle is handled at once, until its handler first has to wait; most
never do. It runs as the task, by ``_enter_task`` and ``_leave_task`` of asyncio, which are
documented for this: ``asyncio.current_task()`` is the task that later continues the handler, and
can be cancelled, by ``asyncio.timeout`` too, at any time.
"""

import asyncio
import inspect
from asyncio.tasks import _enter_task, _leave_task
from collections import deque
from collections.abc import Callable, Generator, Hashable
from contextvars import Context
from functools import partial
from sys import getsizeof, maxsize
from types import CoroutineType, coroutine
from typing import Any, Generic, TypeVar

from .callback_tasks import CallbackTasks, Task, cancellation_error, take_back_cancellation

Owner = TypeVar("Owner", bound=Hashable)
Item = TypeVar("Item")

_Starter = Generator[Any, Any, None]
"""
Runs what is sent to it, each a function with its two arguments, an owner and an item.

It yields ``_ENDED`` after each, or what its handler awaits. The ``send`` of a coroutine would raise
``StopIteration`` at its end, which takes longer than all the rest.
"""

_ENDED = object()

# An owner is paused while its items take more than this, with the one that is being handled: so it
# holds this much or one item.
_MAX_WAITING_SIZE = 64 << 10  # bytes

# An idle task ends after one to two of these. It takes 2 KiB.
_IDLE_INTERVAL = 0.25  # seconds


# Stays empty.
_NOT_IDLE: set[Any] = set()


def _ignore(_owner: object) -> None:
    """Replace what is not needed."""


class _CallbackQueue(Generic[Owner, Item]):
    """The queue of one owner."""

    __slots__ = (
        "context",
        "idle",
        "is_busy",
        "is_dismissed",
        "is_paused",
        "items",
        "owner",
        "size",
        "started",
        "task",
        "wakeup",
    )

    def __init__(self, owner: Owner, context: Context) -> None:
        self.owner = owner
        self.context = context
        self.items: deque[Item] = deque()
        # Bytes of memory of the items, with the one that is being handled.
        self.size = 0
        # Whether the owner is to bring no more items.
        self.is_paused = False
        # Whether an item waits or is being handled.
        self.is_busy = False
        # Whether the task ends when no item waits.
        self.is_dismissed = False
        # What handles an item that has run until it had to wait, what it awaits, and its size.
        self.started: tuple[_Starter, Any, int] | None = None
        self.task: Task | None = None
        # What the idle task awaits; while it works, the last one.
        self.wakeup: asyncio.Future[None] | None = None
        # The set of CallbackQueues that has it while it is idle.
        self.idle: set[_CallbackQueue[Owner, Item]] = _NOT_IDLE

    def wake(self) -> None:
        """Let the idle task go on; without items, it ends."""
        self.idle.discard(self)
        # It is done if the task was cancelled.
        if self.wakeup is not None and not self.wakeup.done():
            self.wakeup.set_result(None)


class CallbackQueues(Generic[Owner, Item]):
    """
    The queues of one worker in one process.

    ``call`` runs the callback of an item; ``returned`` and ``raised`` get its outcome, the latter
    a ``CancelledError`` if the task itself was cancelled. ``staying`` then returns which items
    stay: it gets the one that the task was to begin with, if it had not begun, and those that wait
    behind. ``deliver`` runs ``message_function``, if there is one, whose result means nothing.
    ``pause`` and ``resume`` are called for an owner for which too much waits.
    """

    def __init__(
        self,
        call: Callable[[Owner, Item], object],
        returned: Callable[[Owner, Item, object], None],
        raised: Callable[[Owner, Item, BaseException], None],
        *,
        context_of: Callable[[Owner], Context],
        staying: Callable[[Owner, list[Item], list[Item]], list[Item]],
        message_function: Callable[[Owner, Item], object] | None = None,
        max_count: int = maxsize,
        pause: Callable[[Owner], None] = _ignore,
        resume: Callable[[Owner], None] = _ignore,
    ) -> None:
        self._call = call
        self._returned = returned
        self._raised = raised
        self._context_of = context_of
        self._staying = staying
        self._message_function = message_function or call
        self._max_count = max_count
        self._pause_owner = pause
        self._resume_owner = resume
        self._loop = asyncio.get_running_loop()
        # One that runs nothing.
        self._starter: _Starter | None = None
        # Each that works, waits or was idle for less than half a second.
        self.by_owner: dict[Owner, _CallbackQueue[Owner, Item]] = {}
        self._tasks = CallbackTasks()
        # The queues that became idle in this interval, and in the one before.
        self._idle: set[_CallbackQueue[Owner, Item]] = set()
        self._long_idle: set[_CallbackQueue[Owner, Item]] = set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._is_finishing = False

    def deliver(self, owner: Owner, item: Item) -> None:
        """Handle an item at once until it has to wait, or else after all that wait."""
        queue = self.by_owner.get(owner)
        if (
            queue is None
            or queue.is_busy
            or (task := queue.task) is None
            or (wakeup := queue.wakeup) is None
            or wakeup.done()
        ):
            self.put(owner, item)
            return
        try:
            _enter_task(self._loop, task)
        except RuntimeError:
            # This is called from another task.
            self.put(owner, item)
            return
        queue.is_busy = True
        awaited = _ENDED
        starter = self._starter
        if starter is None:
            starter = self._starter = self._make_starter()
        try:
            awaited = queue.context.run(starter.send, (self._message_function, owner, item))
        except BaseException as error:  # noqa: BLE001 - SystemExit: as if the task had raised it
            self._starter = None
            self._loop.call_soon(_raise, error)
        finally:
            _leave_task(self._loop, task)
        if awaited is not _ENDED:
            # Until the task has woken up, another task may await the same.
            _mark_awaited(awaited, is_awaited=False)
            self._starter = None
            size = getsizeof(item)
            queue.started = starter, awaited, size
            queue.size += size
            if queue.size > _MAX_WAITING_SIZE:
                self._pause(queue)
        elif queue.items or wakeup.done() or queue.is_dismissed:
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

    def put(self, owner: Owner, item: Item) -> None:
        """Handle an item after all that wait."""
        queue = self.by_owner.get(owner)
        if queue is None:
            queue = self.by_owner[owner] = _CallbackQueue(owner, self._context_of(owner))
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

    def is_busy(self, owner: Owner) -> bool:
        """Tell whether an item waits or is being handled."""
        queue = self.by_owner.get(owner)
        return queue is not None and queue.is_busy

    def drop(self, owner: Owner, is_dropped: Callable[[Item], bool]) -> list[Item]:
        """Drop items that wait, and return them."""
        queue = self.by_owner.get(owner)
        if queue is None:
            return []
        items = list(queue.items)
        self._keep(queue, [item for item in items if not is_dropped(item)])
        return [item for item in items if is_dropped(item)]

    def dismiss(self, owner: Owner) -> None:
        """End the task when all that waits is handled."""
        queue = self.by_owner.get(owner)
        if queue is not None:
            queue.is_dismissed = True
            if not queue.is_busy:
                queue.wake()

    async def finish(self, timeout: float) -> bool:  # noqa: ASYNC109 - a bound, not a scope
        """Wait for the callbacks that run; false if some take longer."""
        self._is_finishing = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        for queue in [*self._long_idle, *self._idle]:
            queue.wake()
        await self._tasks.wait(timeout)
        return not self._tasks

    async def cancel(self) -> None:
        """Cancel the callbacks that run, and wait a moment for their end."""
        await self._tasks.cancel()

    def _pause(self, queue: _CallbackQueue[Owner, Item]) -> None:
        if not queue.is_paused:
            queue.is_paused = True
            self._pause_owner(queue.owner)

    def _resume_if_due(self, queue: _CallbackQueue[Owner, Item]) -> None:
        """Resume when half of the limit waits: a pause for each message takes longer."""
        if len(queue.items) <= self._max_count // 2 and queue.size <= _MAX_WAITING_SIZE // 2:
            queue.is_paused = False
            self._resume_owner(queue.owner)

    def _keep(self, queue: _CallbackQueue[Owner, Item], items: list[Item]) -> None:
        queue.size += sum(map(getsizeof, items)) - sum(map(getsizeof, queue.items))
        queue.items.clear()
        queue.items.extend(items)
        if queue.is_paused:
            self._resume_if_due(queue)

    def _was_cancelled(self, queue: _CallbackQueue[Owner, Item], *, has_begun: bool = True) -> bool:
        """If the task itself is cancelled, drop what does not stay, and return true."""
        if not take_back_cancellation(queue.task) and has_begun:
            return False
        items = list(queue.items)
        first = 0 if has_begun else 1
        self._keep(queue, self._staying(queue.owner, items[:first], items[first:]))
        return True

    def _begin(self, queue: _CallbackQueue[Owner, Item]) -> None:
        queue.task = self._tasks.start(
            self._work(queue), ended=partial(self._ended, queue), context=queue.context
        )

    def _ended(self, queue: _CallbackQueue[Owner, Item], _task: Task) -> None:
        if self.by_owner.get(queue.owner) is queue:
            # It was cancelled before its first step, so that `_work` did not run.
            self._was_cancelled(queue, has_begun=False)
            if queue.items:
                self._begin(queue)
            else:
                del self.by_owner[queue.owner]

    async def _work(self, queue: _CallbackQueue[Owner, Item]) -> None:
        owner, items = queue.owner, queue.items
        try:
            # Cancelled the task when it was about to continue what has begun without it.
            error: BaseException | None = None
            while items or queue.started is not None:
                if queue.started is not None:
                    (starter, awaited, size), queue.started = queue.started, None
                else:
                    starter, self._starter = self._starter or self._make_starter(), None
                    size = getsizeof(items[0])
                    awaited = starter.send((self._call, owner, items.popleft()))
                if awaited is not _ENDED:
                    await _continue(starter, awaited, error)
                    del awaited
                    error = None
                self._starter = starter
                del starter
                queue.size -= size
                if queue.is_paused:
                    self._resume_if_due(queue)
                if not items and self._may_idle(queue):
                    queue.wakeup = self._loop.create_future()
                    try:
                        await queue.wakeup
                    except asyncio.CancelledError as cancellation:
                        queue.idle.discard(queue)
                        if queue.started is None:
                            self._was_cancelled(queue)
                        else:
                            error = cancellation
        finally:
            del self.by_owner[owner]

    def _may_idle(self, queue: _CallbackQueue[Owner, Item]) -> bool:
        """Count a task as idle; false if it has to end, as its owner or the process does."""
        queue.is_busy = False
        if queue.is_dismissed or self._is_finishing:
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

    def _make_starter(self) -> _Starter:
        starter = self._start()
        next(starter)
        return starter

    @coroutine
    def _start(self) -> _Starter:
        call, returned, raised = self._call, self._returned, self._raised
        while True:
            function, owner, item = yield _ENDED
            try:
                result: Any = function(owner, item)
                # Only the first of these two is fast.
                if isinstance(result, CoroutineType):
                    result = yield from result  # type: ignore[misc] # as this is a `coroutine`
                elif result is not None and inspect.isawaitable(result):
                    result = yield from result.__await__()
            except asyncio.CancelledError as error:
                is_own = self._was_cancelled(self.by_owner[owner])
                raised(owner, item, error if is_own else cancellation_error(error))
            except Exception as error:  # noqa: BLE001 - an application's error ends no more
                raised(owner, item, error)
            else:
                if function is call:
                    returned(owner, item, result)
            # Nothing is kept until the next one.
            function = owner = item = result = None


@coroutine
def _continue(
    starter: _Starter, awaited: Any, error: BaseException | None
) -> Generator[Any, Any, None]:
    """Continue, in a task, what awaits something; raise ``error`` in it first."""
    if error is not None:
        awaited = starter.throw(error)
    _mark_awaited(awaited, is_awaited=True)
    while awaited is not _ENDED:
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
