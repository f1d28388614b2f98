"""
Calls the application's callbacks for connections, in order.

A plain function is called at once by the network layer. An ``async def`` runs in a task of its
connection. While it runs, all later callbacks of this connection wait, plain functions too
(:mod:`gateman.runtime.callback_queue`). If a callback raises, its connection is closed, no other.
"""

import inspect
from asyncio import CancelledError
from collections import Counter
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from types import CoroutineType
from typing import Any, NamedTuple

from ..config.callbacks import Function, is_async, wrong_result
from ..connection import Connection, State
from ..connection_interfaces import PAUSED_BY_QUEUE
from ..errors import Refuse
from ..options import Limits
from ..websocket.close import INTERNAL_ERROR
from .callback_errors import CallbackErrors, has_left
from .callback_queue import CallbackQueues
from .callback_tasks import error_of

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


Decide = Callable[[Exception | None], None]
"""Takes why a client is not accepted; ``None`` if it is."""

Then = Callable[[object, Exception | None], None]
"""Takes what a callback returned, or raised."""


class Call(NamedTuple):
    """A callback that waits; a message of a user's protocol may be any other tuple."""

    name: str
    function: Function
    args: tuple[Any, ...]
    then: Then | None  # without one, an error closes the connection


QueuedItem = str | bytes | Call
"""A message has no object around it: a peer can send 40 000 empty ones in one read."""


class CallbackRunner:
    """The callbacks of one worker in one process."""

    def __init__(
        self, functions: dict[str, Function], limits: Limits, counts: Counter[str]
    ) -> None:
        self._functions = functions
        self._counts = counts
        self._callback_errors = CallbackErrors(counts)
        self._async = {name for name, function in functions.items() if is_async(function)}
        # Is copied for each connection.
        self._context = copy_context()
        self._queues: CallbackQueues[Connection, QueuedItem] = CallbackQueues(
            self._run,
            self._run_returned,
            self._run_raised,
            context_of=self._context_of,
            staying=_on_close_stays,
            message_function=functions.get("on_message"),
            max_count=limits.max_queued_messages,
            pause=_pause,
            resume=_resume,
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
        function = self._functions.get(name)
        if name == "on_close" and not connection.needs_on_close:
            # A health check, or a client that was refused before any callback.
            function = None
        if function is not None:
            connection.needs_on_close = True
            self._call(connection, Call(name, function, (connection, *args), None))
        if name == "on_close":
            self._queues.dismiss(connection)

    def ask(self, connection: Connection, decide: Decide) -> None:
        """Call ``on_websocket_connect``, and call ``decide`` with its decision."""
        function = self._functions.get(_DECIDING, _ignore)
        if function is not _ignore:
            connection.needs_on_close = True
        then = partial(self._decided, connection, decide)
        self._call(connection, Call(_DECIDING, function, (connection, connection.request), then))

    def call_behind(
        self, connection: Connection, function: Callable[..., None], *args: Any
    ) -> None:
        """Call a function of gateman when all messages that have arrived are handled."""
        if self._queues.is_busy(connection):
            self._queues.put(connection, Call("", function, args, None))
        else:
            function(*args)

    def run(self, name: str, connection: Connection, function: Function, then: Then) -> None:
        """Call a function that takes nothing, in order with the callbacks."""
        connection.needs_on_close = True
        self._call(connection, Call(name, function, (), then))

    def note(self, name: str, connection: Connection, error: Exception) -> None:
        """Log what a callback raised whose connection stays open."""
        self._callback_errors.add(name, connection, error, is_closed=False)

    def begin(self) -> None:
        """Start the contexts of connections with what ``on_worker_start`` has set."""
        self._context = copy_context()

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
        self._queues.drop(connection, lambda item: not isinstance(item, Call))

    async def finish(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a scope
        """Wait for the callbacks that run, and cancel those that take longer."""
        await self._queues.finish(timeout)
        await self._queues.cancel()

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
        except (Exception, CancelledError) as raised:  # noqa: BLE001 - it ends no more
            self._raised(connection, error_of(raised), name, then)
            return
        # Of a plain function: the coroutine of an `async def`, or any awaitable that decides.
        if result is not None and (
            isinstance(result, CoroutineType) or (then is not None and inspect.isawaitable(result))
        ):
            self._queues.put(connection, Call(name, lambda: result, (), then))
        else:
            self._returned(connection, result, name, then)

    def _context_of(self, connection: Connection) -> Context:
        context = connection.callback_context
        if context is None:
            context = connection.callback_context = self._context.copy()
        return context

    def _run(self, connection: Connection, item: QueuedItem) -> object:
        if isinstance(item, Call):
            return item.function(*item.args)
        return self._functions["on_message"](connection, item)

    def _run_returned(self, connection: Connection, item: QueuedItem, result: object) -> None:
        if isinstance(item, Call):
            self._returned(connection, result, item.name, item.then)

    def _run_raised(self, connection: Connection, item: QueuedItem, error: BaseException) -> None:
        if isinstance(error, Exception):
            name, then = (item.name, item.then) if isinstance(item, Call) else ("on_message", None)
            self._raised(connection, error, name, then)

    def _returned(
        self, connection: Connection, result: object, name: str, then: Then | None
    ) -> None:
        if then is not None:
            then(result, None)
        elif result is False and name in _NOT_DECIDING:
            mistake = wrong_result(name, result, decides=False)
            if mistake is not None:
                self.failed(connection, mistake, name)

    def _raised(
        self, connection: Connection, error: Exception, name: str, then: Then | None
    ) -> None:
        if then is None:
            self.failed(connection, error, name)
        else:
            then(None, error)

    def _decided(
        self, connection: Connection, decide: Decide, result: object, error: Exception | None
    ) -> None:
        if error is None:
            error = wrong_result(_DECIDING, result, decides=True)
        if isinstance(error, Refuse):
            self._counts["refused_by_application"] += 1
        elif error is not None:
            self.failed(connection, error, _DECIDING)
        decide(error)


def _on_close_stays(
    _connection: Connection, unbegun: list[QueuedItem], waiting: list[QueuedItem]
) -> list[QueuedItem]:
    return [
        item for item in unbegun + waiting if isinstance(item, Call) and item.name == "on_close"
    ]


def _pause(connection: Connection) -> None:
    connection.link.pause(PAUSED_BY_QUEUE)


def _resume(connection: Connection) -> None:
    connection.link.resume(PAUSED_BY_QUEUE)


def _ignore(*_args: object) -> None:
    """Replace a callback that is not declared."""
