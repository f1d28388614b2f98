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

from .callbacks import Function
from .connection import PAUSED_BY_QUEUE, Connection, State

Then = Callable[[Exception | None], None]

Call = tuple[str, Function, tuple[Any, ...], Then | None]
"""A callback's name, what to call, its arguments, and who asks what came of it."""

Letter = str | bytes | Call
"""A message is its own letter: a peer can send 40 000 empty ones in one read."""

# A connection is not read from while its messages take more than this, the one that is being
# handled among them: then what it holds is this or one message, and not many.
_MAX_WAITING_SIZE = 64 << 10  # bytes

# A task that has nothing to do ends after one to two of these. It takes 2 KiB.
_REST_INTERVAL = 0.25  # seconds


class _Mailbox:
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
        "letters",
        "rest",
        "resting",
        "size",
        "task",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.letters: deque[Letter] = deque()
        self.size = 0
        self.is_paused = False
        self.is_busy = False
        self.task: asyncio.Task[None] | None = None
        self.rest: asyncio.Future[None] | None = None
        self.resting: set[_Mailbox] = set()

    def wake(self) -> None:
        """Let the task see what there is; with nothing, it ends."""
        self.resting.discard(self)
        # It is done where somebody cancels the task.
        if self.rest is not None and not self.rest.done():
            self.rest.set_result(None)


class Mailboxes:
    """
    Those of one worker in one process.

    Attributes:
        context: What the contexts of connections begin as.
    """

    def __init__(
        self,
        handle: Callable[[Connection, Letter], Awaitable[None]],
        *,
        is_owed: Callable[[Letter], bool],
        max_count: int,
    ) -> None:
        """
        Begin with none.

        Args:
            handle: Does what a letter is about; raises nothing.
            is_owed: Tells what is handled even when the process ends.
            max_count: As many may wait before reading pauses.
        """
        self.context: Context = copy_context()
        self._handle = handle
        self._is_owed = is_owed
        self._max_count = max_count
        self._loop = asyncio.get_running_loop()
        self._mailboxes: dict[Connection, _Mailbox] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Those that came to rest since the last look at them, and those that did before.
        self._resting: set[_Mailbox] = set()
        self._long_resting: set[_Mailbox] = set()
        self._look: asyncio.TimerHandle | None = None
        self._is_finishing = False

    def put(self, connection: Connection, letter: Letter) -> None:
        """
        Have something handled behind what waits.

        Args:
            connection: Whose it is.
            letter: A message, or a callback with its arguments.
        """
        mailbox = self._mailboxes.get(connection)
        if mailbox is None:
            mailbox = self._mailboxes[connection] = _Mailbox(connection)
        letters = mailbox.letters
        letters.append(letter)
        mailbox.size += getsizeof(letter)
        if len(letters) > self._max_count or mailbox.size > _MAX_WAITING_SIZE:
            self._pause(mailbox)
        if not mailbox.is_busy:
            mailbox.is_busy = True
            if mailbox.rest is None:
                self._begin(mailbox)
            else:
                mailbox.wake()

    def is_busy(self, connection: Connection) -> bool:
        """
        Tell whether something is being handled.

        Args:
            connection: For whom.

        Returns:
            Whether what happens now has to wait.
        """
        mailbox = self._mailboxes.get(connection)
        return mailbox is not None and mailbox.is_busy

    def keep(self, connection: Connection, is_wanted: Callable[[Letter], bool]) -> None:
        """
        Throw away what else waits.

        Args:
            connection: For whom.
            is_wanted: Tells what is kept.
        """
        mailbox = self._mailboxes.get(connection)
        if mailbox is not None:
            self._keep(mailbox, is_wanted)

    def dismiss(self, connection: Connection) -> None:
        """
        Let the task end, if nothing waits.

        Args:
            connection: Whose.
        """
        mailbox = self._mailboxes.get(connection)
        if mailbox is not None and not mailbox.is_busy:
            mailbox.wake()

    def cancelled(self, connection: Connection) -> bool:
        """
        Throw away all but what is owed, if somebody cancels the task; called from within it.

        Args:
            connection: Whose.

        Returns:
            Whether it was the task; not if what it awaits was cancelled.
        """
        mailbox = self._mailboxes[connection]
        if not _is_being_cancelled(mailbox.task):
            return False
        self._keep(mailbox, self._is_owed)
        return True

    async def finish(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a scope
        """
        Let what is being handled end, and cancel what does not.

        Args:
            timeout: Seconds.
        """
        self._is_finishing = True
        if self._look is not None:
            self._look.cancel()
        for mailbox in [*self._long_resting, *self._resting]:
            mailbox.wake()
        await self._wait(timeout)
        for task in self._tasks:
            task.cancel()
        # Bounded: a callback that catches its cancellation is left behind.
        await self._wait(1.0)

    async def _wait(self, seconds: float) -> None:
        until = self._loop.time() + seconds
        # Again, for a task that takes the place of one that never began.
        while self._tasks:
            await asyncio.wait(self._tasks, timeout=max(until - self._loop.time(), 0))
            if self._loop.time() >= until:
                break

    # What waits.

    def _pause(self, mailbox: _Mailbox) -> None:
        if not mailbox.is_paused:
            mailbox.is_paused = True
            mailbox.connection._link.pause(PAUSED_BY_QUEUE)  # noqa: SLF001 - the row below's own

    def _read_on(self, mailbox: _Mailbox) -> None:
        """Take the pause back, when half of what may wait does: to pause for each takes longer."""
        if len(mailbox.letters) <= self._max_count // 2 and mailbox.size <= _MAX_WAITING_SIZE // 2:
            mailbox.is_paused = False
            mailbox.connection._link.resume(PAUSED_BY_QUEUE)  # noqa: SLF001

    def _keep(self, mailbox: _Mailbox, is_wanted: Callable[[Letter], bool]) -> None:
        letters = list(mailbox.letters)
        mailbox.letters.clear()
        for letter in letters:
            if is_wanted(letter):
                mailbox.letters.append(letter)
            else:
                mailbox.size -= getsizeof(letter)
        if mailbox.is_paused:
            self._read_on(mailbox)

    # The tasks.

    def _begin(self, mailbox: _Mailbox) -> None:
        connection = mailbox.connection
        context = connection._context  # noqa: SLF001 - there for this
        if context is None:
            context = connection._context = self.context.copy()  # noqa: SLF001
        mailbox.task = self._loop.create_task(self._work(mailbox), context=context)
        self._tasks.add(mailbox.task)
        mailbox.task.add_done_callback(partial(self._ended, mailbox))

    def _ended(self, mailbox: _Mailbox, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if self._mailboxes.get(mailbox.connection) is mailbox:
            # It was cancelled before its first step, of which a coroutine never hears.
            self._keep(mailbox, self._is_owed)
            if mailbox.letters:
                self._begin(mailbox)
            else:
                del self._mailboxes[mailbox.connection]

    async def _work(self, mailbox: _Mailbox) -> None:
        connection, letters = mailbox.connection, mailbox.letters
        try:
            while letters:
                letter = letters.popleft()
                await self._handle(connection, letter)
                # Most are alone, and need not be weighed again.
                mailbox.size = mailbox.size - getsizeof(letter) if letters else 0
                # It may be large, and the task rests.
                del letter
                if mailbox.is_paused:
                    self._read_on(mailbox)
                if not letters and self._may_rest(mailbox):
                    mailbox.rest = self._loop.create_future()
                    try:
                        await mailbox.rest
                    except asyncio.CancelledError:
                        mailbox.resting.discard(mailbox)
                        self.cancelled(connection)
        finally:
            del self._mailboxes[connection]

    def _may_rest(self, mailbox: _Mailbox) -> bool:
        """Take note that a task has nothing to do; at its connection's end, it has to end too."""
        mailbox.is_busy = False
        if mailbox.connection.state is not State.OPEN or self._is_finishing:
            return False
        # A callback may have caught what was to end it; that is not to end the next one.
        _is_being_cancelled(mailbox.task)
        mailbox.resting = self._resting
        self._resting.add(mailbox)
        if self._look is None:
            self._look = self._loop.call_later(_REST_INTERVAL, self._end_long_rests)
        return True

    def _end_long_rests(self) -> None:
        for mailbox in list(self._long_resting):
            mailbox.wake()
        self._resting, self._long_resting = self._long_resting, self._resting
        self._look = None
        if self._long_resting:
            self._look = self._loop.call_later(_REST_INTERVAL, self._end_long_rests)


def _is_being_cancelled(task: "asyncio.Task[None] | None") -> bool:
    """Tell, and take back, that somebody cancels this task; not what it awaits."""
    if task is None or not task.cancelling():
        return False
    while task.uncancel():
        pass
    return True
