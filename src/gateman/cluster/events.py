"""
Events: messages from one process to the code of all processes, by topic.

Each handler gets its events one at a time and in order. Its queue is bounded; when it is full,
events are dropped and counted, because a handler that is always too slow would fill the memory.
"""

import asyncio
import inspect
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextvars import copy_context
from functools import partial
from typing import Any

import msgspec

from ..log import RateLimitedLogger

# The queue of one handler: as many events as Workerman's channel server queues per topic, and
# eight of the largest.
MAX_WAITING = 1000
MAX_WAITING_SIZE = 8 << 20  # bytes

# Events that a plain function handles in one turn of the loop.
_MAX_IN_A_TURN = 64

Function = Callable[[Any], Any]


class EventHandler:
    """One function for one topic, and the events that wait for it."""

    __slots__ = (
        "_context",
        "_counts",
        "_function",
        "_is_due",
        "_is_over",
        "_loop",
        "_max_waiting",
        "_max_waiting_size",
        "_rate_limited",
        "_size",
        "_task",
        "_waiting",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        function: Function,
        *,
        counts: Counter[str],
        rate_limited: RateLimitedLogger,
        max_waiting: int = MAX_WAITING,
        max_waiting_size: int = MAX_WAITING_SIZE,
    ) -> None:
        self.topic = topic
        self._max_waiting = max_waiting
        self._max_waiting_size = max_waiting_size
        self._function = function
        self._counts = counts
        self._rate_limited = rate_limited
        self._context = copy_context()
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._is_due = False
        self._is_over = False
        self._task: asyncio.Task[None] | None = None

    def put(self, payload: bytes) -> None:
        """Queue an event, or drop it if the queue is full."""
        size = self._size + len(payload)
        if len(self._waiting) >= self._max_waiting or size > self._max_waiting_size:
            self._counts["events_dropped"] += 1
            self._rate_limited.warning(
                f"dropped {self.topic}",
                f"events of the topic {self.topic!r} are dropped: {len(self._waiting)} wait already"
                f" for {self._name}",
                self._loop.time(),
            )
            return
        self._waiting.append(payload)
        self._size = size
        if not self._is_due and self._task is None:
            self._is_due = True
            self._loop.call_soon(self._handle, context=self._context)

    async def drain(self, seconds: float) -> None:
        """Wait until all events are handled, but not longer than this."""
        until = self._loop.time() + seconds
        while (self._waiting or self._task is not None) and self._loop.time() < until:
            if self._task is None:
                # Handled in the next turns.
                await asyncio.sleep(0)
            else:
                await asyncio.wait([self._task], timeout=until - self._loop.time())

    async def finish(self, seconds: float) -> None:
        """Handle no more events; cancel the running one if it does not end in time."""
        self._is_over = True
        self._waiting.clear()
        if self._task is not None:
            _, running = await asyncio.wait([self._task], timeout=max(seconds, 0))
            for task in running:
                task.cancel()
                # Bounded: one that catches its cancellation is left behind.
                await asyncio.wait(running, timeout=1.0)

    @property
    def _name(self) -> str:
        return getattr(self._function, "__qualname__", repr(self._function))

    def _handle(self) -> None:
        """Handle queued events until one has to be awaited, or for a bounded number."""
        self._is_due = False
        for _ in range(_MAX_IN_A_TURN):
            if not self._waiting:
                return
            result = self._call()
            if inspect.isawaitable(result):
                self._task = self._loop.create_task(self._finish_one(result))
                self._task.add_done_callback(partial(self._ended, result))
                return
        self._is_due = True
        self._loop.call_soon(self._handle, context=self._context)

    def _call(self) -> Any:
        payload = self._waiting.popleft()
        self._size -= len(payload)
        try:
            # Decoded for each handler: one must not see the changes of another.
            return self._function(msgspec.msgpack.decode(payload))
        except Exception as error:  # noqa: BLE001 - an error of the application must not end the hub
            self._failed(error)
            return None

    async def _finish_one(self, running: Any) -> None:
        try:
            await running
        except asyncio.CancelledError as error:
            if self._is_over:
                raise
            self._failed(_cancelled(error))
        except Exception as error:  # noqa: BLE001 - an error of the application must not end the hub
            self._failed(error)

    def _ended(self, running: Any, task: asyncio.Task[None]) -> None:
        if inspect.iscoroutine(running):
            running.close()
        self._task = None
        if self._is_over:
            return
        if task.cancelled():
            # The application has cancelled the task before its first step.
            self._failed(_cancelled(None))
        if self._waiting:
            self._is_due = True
            self._loop.call_soon(self._handle, context=self._context)

    def _failed(self, error: Exception) -> None:
        self._counts["events_failed"] += 1
        self._rate_limited.error(
            f"{self._name} raised {type(error).__name__} for an event of the topic {self.topic!r}",
            error,
            self._loop.time(),
        )


def _cancelled(cause: BaseException | None) -> RuntimeError:
    """Make a handler's error of a cancellation by the application."""
    error = RuntimeError("it was cancelled")
    error.__cause__ = cause
    return error


class Events:
    """The event handlers of one process."""

    def __init__(
        self,
        counts: Counter[str],
        *,
        subscribe: Callable[[str], object],
        unsubscribe: Callable[[str], object],
    ) -> None:
        self._counts = counts
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._rate_limited = RateLimitedLogger()
        self._handlers: dict[str, list[EventHandler]] = {}

    def add(self, topic: str, function: Function) -> EventHandler:
        handler = EventHandler(
            topic, function, counts=self._counts, rate_limited=self._rate_limited
        )
        handlers = self._handlers.setdefault(topic, [])
        handlers.append(handler)
        if len(handlers) == 1:
            self._subscribe(topic)
        return handler

    async def remove(self, handlers: Iterable[EventHandler], *, deadline: float) -> None:
        """Remove handlers and wait for the running ones, until a deadline of the loop's clock."""
        ending = list(handlers)
        for handler in ending:
            left = self._handlers[handler.topic]
            left.remove(handler)
            if not left:
                del self._handlers[handler.topic]
                self._unsubscribe(handler.topic)
        seconds = deadline - asyncio.get_running_loop().time()
        await asyncio.gather(*(handler.finish(seconds) for handler in ending))

    def deliver(self, topic: str, payloads: Iterable[bytes]) -> None:
        """Queue events at all local handlers of a topic."""
        for handler in self._handlers.get(topic, ()):
            for payload in payloads:
                handler.put(payload)
