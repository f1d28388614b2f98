"""
Calls the application's callbacks, in order.

A plain function is called at once, from within the network layer. An ``async def`` runs in a
task of its connection, one at a time and in the order in which things happened; while one
runs, everything else that happens to this connection waits behind it, plain functions too,
and reading pauses when too much of it waits.

What a callback raises is logged with its traceback and costs that connection, no other.
"""

import asyncio
import inspect
from collections import Counter, deque
from collections.abc import Callable
from sys import getsizeof
from typing import Any

from .callbacks import Function, is_async
from .connection import PAUSED_BY_QUEUE, Connection, State
from .errors import Refuse
from .log import Sampled, logger, place
from .options import Limits

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

Then = Callable[[Exception | None], None]


# What waits for its turn: a callback, its arguments, and who asks what came of it.
_Call = tuple[Function, tuple[Any, ...], Then | None]

# A connection is not read from while its messages take more than this, the one that is being
# handled among them: then what it holds is this or one message, and not many.
_MAX_WAITING_SIZE = 64 << 10  # bytes


class _Mailbox:
    """What waits for one connection while an async callback of it runs."""

    __slots__ = ("is_paused", "letters", "size")

    def __init__(self) -> None:
        # A message is its own letter: a peer can send 40 000 empty ones in one read.
        self.letters: deque[str | bytes | _Call] = deque()
        # Bytes of memory; what is being handled is among it.
        self.size = 0
        self.is_paused = False

    def keep(self, is_wanted: Callable[[str | bytes | _Call], bool]) -> None:
        """Throw away what else waits."""
        letters = list(self.letters)
        self.letters.clear()
        for letter in letters:
            if is_wanted(letter):
                self.letters.append(letter)
            else:
                self.size -= getsizeof(letter)


class Caller:
    """The callbacks of one worker in one process."""

    def __init__(
        self, functions: dict[str, Function], limits: Limits, counts: Counter[str]
    ) -> None:
        """
        Take over what was declared.

        Args:
            functions: By name; each was :func:`check`-ed.
            limits: How much may wait for an async one.
            counts: Where what they raise is counted.
        """
        self._functions = functions
        self._limits = limits
        self._counts = counts
        self._async = {name for name, function in functions.items() if is_async(function)}
        self._mailboxes: dict[Connection, _Mailbox] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sampled = Sampled()

    def deliver(self) -> Function:
        """
        Choose what takes messages.

        Returns:
            The user's own function where nothing can be before a message; otherwise one that
            keeps the order.
        """
        function = self._functions.get("on_message")
        if function is None:
            return _ignore
        if "on_message" not in self._async and not self._async.intersection(_BEFORE_MESSAGES):
            return function
        return self._deliver_in_order

    def call(self, name: str, connection: Connection, *args: Any) -> None:
        """
        Call a connection's callback, now or behind what waits.

        Args:
            name: Which.
            connection: Its first argument.
            args: The others.
        """
        function = self._functions.get(name)
        if function is None:
            return
        if name in self._async or connection in self._mailboxes:
            self._put(connection, (function, (connection, *args), None))
        else:
            try:
                function(connection, *args)
            except Exception as error:  # noqa: BLE001 - an application's fault is its own
                self.failed(connection, error, name)

    def ask(self, connection: Connection, then: Then) -> None:
        """
        Call ``on_websocket_connect``, and tell what it decided.

        Args:
            connection: The connection, with its request.
            then: Gets ``None``, the ``Refuse`` or what else was raised.
        """
        function = self._functions.get("on_websocket_connect")
        if function is not None:
            args = (connection, connection.request)
            if "on_websocket_connect" in self._async or connection in self._mailboxes:
                self._put(connection, (function, args, then))
                return
            try:
                function(*args)
            except Exception as error:  # noqa: BLE001 - an application's fault is its own
                self._refused(connection, error, then)
                return
        elif connection in self._mailboxes:
            self._put(connection, (_ignore, (), then))
            return
        then(None)

    async def call_worker(self, name: str, worker: object) -> None:
        """
        Call ``on_worker_start`` or ``on_worker_stop``.

        Args:
            name: Which.
            worker: Its argument.
        """
        function = self._functions.get(name)
        if function is not None:
            result = function(worker)
            if name in self._async:
                await result

    def failed(self, connection: Connection, error: Exception, name: str = "on_message") -> None:
        """
        Log what a callback raised, and close its connection with 1011.

        Args:
            connection: Whose callback it was.
            error: What it raised.
            name: The callback's name.
        """
        self._counts["callback_failed"] += 1
        # By place: one bug in a hot handler fills no disk, and hides no other bug.
        line = self._sampled.line(
            place(error),
            f"{name} raised {type(error).__name__} for {connection!r}, which is closed for it",
            asyncio.get_running_loop().time(),
        )
        if line is not None:
            logger.error(line, exc_info=error)
        if name != "on_error":
            self.call("on_error", connection, error)
        if connection.state is State.OPEN:
            connection.close(1011, "internal error")
        elif connection.state is State.CONNECTING and name != "on_websocket_connect":
            connection.destroy()

    def forget_messages(self, connection: Connection) -> None:
        """
        Deliver nothing more of what waits: our side ends the connection.

        Args:
            connection: The connection.
        """
        mailbox = self._mailboxes.get(connection)
        if mailbox is not None:
            mailbox.keep(lambda letter: isinstance(letter, tuple))

    @property
    def waiting_count(self) -> int:
        """Connections for which an async callback runs."""
        return len(self._mailboxes)

    async def finish(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a scope
        """
        Let running callbacks end, and cancel those that do not.

        Args:
            timeout: Seconds.
        """
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=max(timeout, 0))
            for task in running:
                task.cancel()
            if running:
                # Bounded: a callback that catches its cancellation is left behind.
                await asyncio.wait(running, timeout=1.0)

    # Keeping the order.

    def _deliver_in_order(self, connection: Connection, message: str | bytes) -> None:
        if "on_message" in self._async or connection in self._mailboxes:
            self._put(connection, message)
        else:
            self._functions["on_message"](connection, message)

    def _put(self, connection: Connection, letter: str | bytes | _Call) -> None:
        mailbox = self._mailboxes.get(connection)
        if mailbox is None:
            mailbox = self._mailboxes[connection] = _Mailbox()
            task = asyncio.get_running_loop().create_task(self._work(connection, mailbox))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        mailbox.letters.append(letter)
        mailbox.size += getsizeof(letter)
        if not mailbox.is_paused and self._is_too_much(mailbox):
            mailbox.is_paused = True
            connection._link.pause(PAUSED_BY_QUEUE)  # noqa: SLF001 - the row below's own

    def _is_too_much(self, mailbox: _Mailbox) -> bool:
        return (
            len(mailbox.letters) > self._limits.max_queued_messages
            or mailbox.size > _MAX_WAITING_SIZE
        )

    async def _work(self, connection: Connection, mailbox: _Mailbox) -> None:
        letters = mailbox.letters
        try:
            while letters:
                letter = letters.popleft()
                if isinstance(letter, tuple):
                    function, args, then = letter
                else:
                    function, args, then = self._functions["on_message"], (connection, letter), None
                try:
                    result = function(*args)
                    if inspect.isawaitable(result):
                        await result
                except asyncio.CancelledError as error:
                    if _is_being_cancelled():
                        # The process ends: nothing is owed to a connection but its on_close.
                        mailbox.keep(self._is_on_close)
                        continue
                    failure = RuntimeError("what it awaited was cancelled")
                    failure.__cause__ = error
                    self._raised(connection, failure, function, then)
                except Exception as error:  # noqa: BLE001 - an application's fault is its own
                    self._raised(connection, error, function, then)
                else:
                    if then is not None:
                        then(None)
                mailbox.size -= getsizeof(letter)
                if mailbox.is_paused and not self._is_too_much(mailbox):
                    mailbox.is_paused = False
                    connection._link.resume(PAUSED_BY_QUEUE)  # noqa: SLF001
        finally:
            del self._mailboxes[connection]

    def _raised(
        self, connection: Connection, error: Exception, function: Function, then: Then | None
    ) -> None:
        if then is None:
            self.failed(connection, error, _name_of(function, self._functions))
        else:
            self._refused(connection, error, then)

    def _is_on_close(self, letter: str | bytes | _Call) -> bool:
        return isinstance(letter, tuple) and letter[0] is self._functions.get("on_close")

    def _refused(self, connection: Connection, error: Exception, then: Then) -> None:
        if not isinstance(error, Refuse):
            self.failed(connection, error, "on_websocket_connect")
        then(error)


def _ignore(*_args: object) -> None:
    """Stand in for a callback that nobody declared."""


def _name_of(function: Function, functions: dict[str, Function]) -> str:
    return next((name for name, known in functions.items() if known is function), "a callback")


def _is_being_cancelled() -> bool:
    """Tell, and take back, that somebody cancels this task; not what it awaits."""
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return False
    task.uncancel()
    return True
