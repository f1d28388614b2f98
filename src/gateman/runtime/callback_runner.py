"""
Calls the application's callbacks, in order.

A plain function is called at once, from within the network layer. An ``async def`` runs in a
task of its connection, one at a time and in the order in which things happened; while one
runs, everything else that happens to this connection waits behind it, plain functions too
(:mod:`gateman.runtime.callback_queue`).

What a callback raises is logged with its traceback and costs that connection, no other.
"""

import asyncio
import inspect
from collections import Counter
from contextvars import copy_context
from types import CoroutineType
from typing import Any

from ..config.callbacks import Function, is_async, wrong_result
from ..connection import Connection, State
from ..errors import Refuse
from ..options import Limits
from .callback_errors import CallbackErrors
from .callback_queue import CallbackQueues, QueuedItem, Then
from .callback_tasks import cancellation_error

# What happens to a connection before or between its messages: if one of these is async,
# messages may have to wait for it.
_BEFORE_MESSAGES = (
    "on_connect",
    "on_websocket_connect",
    "on_open",
    "on_error",
    "on_buffer_full",
    "on_buffer_drain",
)

# The one that decides whether a client may come in, and those that could be taken for it.
_ASKING = "on_websocket_connect"
_ARRIVING = ("on_connect", "on_open")


class CallbackRunner:
    """The callbacks of one worker in one process."""

    def __init__(
        self, functions: dict[str, Function], limits: Limits, counts: Counter[str]
    ) -> None:
        self._functions = functions
        self._counts = counts
        self._callback_errors = CallbackErrors(counts)
        self._async = {name for name, function in functions.items() if is_async(function)}
        self._queues = CallbackQueues(
            self._handle,
            is_owed=self._is_on_close,
            max_count=limits.max_queued_messages,
        )

    def deliver(self) -> Function:
        """Choose what takes messages."""
        function = self._functions.get("on_message")
        if function is None:
            return _ignore
        if "on_message" in self._async:
            return self._queues.put
        if not self._async.intersection(_BEFORE_MESSAGES):
            return function
        return self._deliver_in_order

    def call(self, name: str, connection: Connection, *args: Any) -> None:
        """Call a connection's callback, now or behind what waits."""
        if name == "on_close":
            self._queues.dismiss(connection)
            if not connection.needs_on_close:
                # A health check, or who was refused before anybody was asked.
                return
        function = self._functions.get(name)
        if function is None:
            return
        connection.needs_on_close = True
        if name in self._async or self._queues.is_busy(connection):
            self._queues.put(connection, (name, function, (connection, *args), None))
        else:
            try:
                result = function(connection, *args)
            except Exception as error:  # noqa: BLE001 - an application's fault is its own
                self.failed(connection, error, name)
            else:
                if isinstance(result, CoroutineType):
                    # Of an `async def` behind a plain function.
                    self._queues.put(connection, (name, lambda: result, (), None))
                elif result is False:
                    self._took(connection, name, result)

    def ask(self, connection: Connection, then: Then) -> None:
        """Call ``on_websocket_connect``, and tell what it decided."""
        function = self._functions.get(_ASKING)
        if function is not None:
            connection.needs_on_close = True
            args = (connection, connection.request)
            if _ASKING in self._async or self._queues.is_busy(connection):
                self._queues.put(connection, (_ASKING, function, args, then))
                return
            try:
                result = function(*args)
            except Exception as error:  # noqa: BLE001 - an application's fault is its own
                self._refused(connection, error, then)
                return
            if result is not None and inspect.isawaitable(result):
                self._queues.put(connection, (_ASKING, lambda: result, (), then))
                return
            self._answered(connection, result, then)
        elif self._queues.is_busy(connection):
            self._queues.put(connection, (_ASKING, _ignore, (), then))
        else:
            then(None)

    def begin(self) -> None:
        """Keep the context variables that ``on_worker_start`` has set, for all connections."""
        self._queues.context = copy_context()

    def failed(self, connection: Connection, error: Exception, name: str = "on_message") -> None:
        """Log what a callback raised, and close its connection with 1011."""
        self._callback_errors.add(name, connection, error)
        if name != "on_error":
            self.call("on_error", connection, error)
        if connection.state is State.OPEN:
            connection.close(1011, "internal error")
        elif connection.state is State.CONNECTING and name != _ASKING:
            connection.destroy()

    def forget_messages(self, connection: Connection) -> None:
        """Deliver nothing more of what waits: our side ends the connection."""
        self._queues.keep(connection, lambda item: isinstance(item, tuple))

    async def finish(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a scope
        """Let running callbacks end, and cancel those that do not."""
        await self._queues.finish(timeout)

    # Keeping the order.

    def _deliver_in_order(self, connection: Connection, message: str | bytes) -> None:
        if self._queues.is_busy(connection):
            self._queues.put(connection, message)
        else:
            self._functions["on_message"](connection, message)

    async def _handle(self, connection: Connection, item: QueuedItem) -> None:
        if isinstance(item, tuple):
            name, function, args, then = item
        else:
            name, args, then = "on_message", (connection, item), None
            function = self._functions[name]
        try:
            result = function(*args)
            # Of these two, only the first is quick.
            if isinstance(result, CoroutineType) or inspect.isawaitable(result):
                result = await result
        except asyncio.CancelledError as error:
            # If the process ends, nothing is owed to a connection but its on_close.
            if not self._queues.cancelled(connection):
                self._raised(connection, cancellation_error(error), name, then)
        except Exception as error:  # noqa: BLE001 - an application's fault is its own
            self._raised(connection, error, name, then)
        else:
            if then is not None:
                self._answered(connection, result, then)
            elif result is False:
                self._took(connection, name, result)

    def _raised(
        self, connection: Connection, error: Exception, name: str, then: Then | None
    ) -> None:
        if then is None:
            self.failed(connection, error, name)
        else:
            self._refused(connection, error, then)

    def _is_on_close(self, item: QueuedItem) -> bool:
        return isinstance(item, tuple) and item[0] == "on_close"

    def _answered(self, connection: Connection, result: object, then: Then) -> None:
        mistake = wrong_result(_ASKING, result, decides=True)
        if mistake is None:
            then(None)
        else:
            self._refused(connection, mistake, then)

    def _took(self, connection: Connection, name: str, result: object) -> None:
        """Judge what a callback returned at which a client may seem to be let in."""
        if name in _ARRIVING:
            mistake = wrong_result(name, result, decides=False)
            if mistake is not None:
                self.failed(connection, mistake, name)

    def _refused(self, connection: Connection, error: Exception, then: Then) -> None:
        if isinstance(error, Refuse):
            self._counts["refused_by_application"] += 1
        else:
            self.failed(connection, error, _ASKING)
        then(error)


def _ignore(*_args: object) -> None:
    """Stand in for a callback that nobody declared."""
