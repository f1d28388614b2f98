"""
Calls the application's callbacks for connections, in order.

A plain function is called at once by the network layer. An ``async def`` runs in a task of its
connection. While it runs, all later callbacks of this connection wait, plain functions too
(:mod:`gateman.runtime.callback_queue`). If a callback raises, its connection is closed, no other.
"""

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from types import CoroutineType, coroutine
from typing import Any

from ..config.callbacks import Function, is_async, wrong_result
from ..connection import Connection, State
from ..errors import Refuse
from ..options import Limits
from ..websocket.close import INTERNAL_ERROR
from .callback_errors import CallbackErrors, has_left
from .callback_queue import ENDED, Call, CallbackQueues, QueuedItem, Starter, Then
from .callback_tasks import cancellation_error

# If one of these is async, messages may have to wait for it.
_BEFORE_MESSAGES = (
    "on_connect",
    "on_websocket_connect",
    "on_open",
    "on_error",
    "on_buffer_full",
    "on_buffer_drain",
)

# The callback that accepts or refuses a client, and those that users may take for it.
_DECIDING = "on_websocket_connect"
_NOT_DECIDING = ("on_connect", "on_open")


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
            self._handle, self._make_starter, max_count=limits.max_queued_messages
        )

    def deliver(self) -> Function:
        """Choose the function to which the network layer delivers messages."""
        function = self._functions.get("on_message")
        if function is None:
            return _ignore
        if "on_message" in self._async:
            return self._queues.deliver
        if not self._async.intersection(_BEFORE_MESSAGES):
            return function
        return self._deliver_in_order

    def call(self, name: str, connection: Connection, *args: Any) -> None:
        """Call a callback now, or behind those that wait."""
        if name == "on_close":
            self._queues.dismiss(connection)
            if not connection.needs_on_close:
                # A health check, or a client that was refused before any callback.
                return
        function = self._functions.get(name)
        if function is not None:
            connection.needs_on_close = True
            self._call(connection, Call(name, function, (connection, *args), None))

    def ask(self, connection: Connection, then: Then) -> None:
        """Call ``on_websocket_connect``, and call ``then`` with its decision."""
        function = self._functions.get(_DECIDING, _ignore)
        if function is not _ignore:
            connection.needs_on_close = True
        self._call(connection, Call(_DECIDING, function, (connection, connection.request), then))

    def call_behind(
        self, connection: Connection, function: Callable[..., None], *args: Any
    ) -> None:
        """Call a function of gateman when all messages that have arrived are handled."""
        if self._queues.is_busy(connection):
            self._queues.put(connection, Call("", function, args, None))
        else:
            function(*args)

    def run(self, name: str, connection: Connection, function: Function) -> None:
        """Call a function that takes nothing and never raises, in order with the callbacks."""
        connection.needs_on_close = True
        self._call(connection, Call(name, function, (), None))

    def note(self, name: str, connection: Connection, error: Exception) -> None:
        """Log what a callback raised whose connection stays open."""
        self._callback_errors.add(name, connection, error, is_closed=False)

    def begin(self) -> None:
        """Start the contexts of connections with what ``on_worker_start`` has set."""
        self._queues.context = copy_context()

    def failed(self, connection: Connection, error: Exception, name: str = "on_message") -> None:
        """Log what a callback raised, and close its connection with 1011."""
        if connection.state is State.CLOSED and has_left(connection.client_id, error):
            return
        self._callback_errors.add(name, connection, error)
        if name != "on_error":
            self.call("on_error", connection, error)
        if connection.state is State.OPEN:
            connection.close(*INTERNAL_ERROR)
        elif connection.state is State.CONNECTING and name != _DECIDING:
            connection.destroy()

    def forget_messages(self, connection: Connection) -> None:
        """Drop the messages that wait: our side closes the connection."""
        self._queues.drop_messages(connection)

    async def finish(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a scope
        """Wait for the callbacks that run, and cancel those that take longer."""
        await self._queues.finish(timeout)

    def _deliver_in_order(self, connection: Connection, message: str | bytes) -> None:
        if self._queues.is_busy(connection):
            self._queues.put(connection, message)
        else:
            self._functions["on_message"](connection, message)

    def _call(self, connection: Connection, call: Call) -> None:
        name, function, args, then = call
        if name in self._async or self._queues.is_busy(connection):
            self._queues.put(connection, call)
            return
        try:
            result = function(*args)
        except Exception as error:  # noqa: BLE001 - an application's error ends no more
            self._raised(connection, error, name, then)
            return
        # Of a plain function: the coroutine of an `async def`, or any awaitable that decides.
        if result is not None and (
            isinstance(result, CoroutineType) or (then is not None and inspect.isawaitable(result))
        ):
            self._queues.put(connection, Call(name, lambda: result, (), then))
        else:
            self._returned(connection, result, name, then)

    async def _handle(self, connection: Connection, item: QueuedItem) -> None:
        if isinstance(item, Call):
            name, function, args, then = item
        else:
            name, args, then = "on_message", (connection, item), None
            function = self._functions[name]
        try:
            result = function(*args)
            # Only the first of these two is fast.
            if isinstance(result, CoroutineType) or inspect.isawaitable(result):
                result = await result
        except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - as in `_call`
            self._stopped(connection, error, name, then)
        else:
            # Of most, nothing can be wrong.
            if then is not None or result is False:
                self._returned(connection, result, name, then)

    def _make_starter(self) -> Starter:
        starter = self._start()
        next(starter)
        return starter

    @coroutine
    def _start(self) -> Starter:
        """Handle messages as :meth:`_handle` does; see ``Starter``."""
        function = self._functions.get("on_message", _ignore)
        while True:
            connection, message = yield ENDED
            try:
                result: Any = function(connection, message)
                if isinstance(result, CoroutineType):
                    result = yield from result  # type: ignore[misc] # as this is a `coroutine`
                elif inspect.isawaitable(result):
                    result = yield from result.__await__()
            except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - as in `_call`
                self._stopped(connection, error, "on_message", None)
            # Nothing is kept until the next message.
            connection = message = result = None

    def _stopped(
        self, connection: Connection, error: BaseException, name: str, then: Then | None
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            if self._queues.cancelled(connection):
                # The task itself is cancelled: only on_close is still called.
                return
            error = cancellation_error(error)
        if isinstance(error, Exception):
            self._raised(connection, error, name, then)

    def _returned(
        self, connection: Connection, result: object, name: str, then: Then | None
    ) -> None:
        mistake = None
        if then is not None or (result is False and name in _NOT_DECIDING):
            mistake = wrong_result(name, result, decides=then is not None)
        if mistake is not None:
            self._raised(connection, mistake, name, then)
        elif then is not None:
            then(None)

    def _raised(
        self, connection: Connection, error: Exception, name: str, then: Then | None
    ) -> None:
        if then is not None and isinstance(error, Refuse):
            self._counts["refused_by_application"] += 1
        else:
            self.failed(connection, error, name)
        if then is not None:
            then(error)


def _ignore(*_args: object) -> None:
    """Replace a callback that is not declared."""
