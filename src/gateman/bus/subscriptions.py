"""What :meth:`.base.Bus.subscribe` returns: the confirmation of a subscription."""

import asyncio
from collections import deque
from collections.abc import Generator

from ..errors import BusError


class PendingSubscription:
    """A confirmation that any number of tasks may await; it succeeds or fails once."""

    __slots__ = ("_error", "_waiters", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self._error: BusError | None = None
        # Created only when a task awaits: most subscriptions are never awaited.
        self._waiters: list[asyncio.Future[None]] = []

    def __await__(self) -> Generator[object, None, None]:
        if not self.is_done:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            yield from waiter
        if self._error is not None:
            # A new exception for each task, with a traceback of its own.
            raise BusError(self._error.url, self._error.problem)

    def end(self, error: BusError | None = None) -> None:
        self.is_done = True
        self._error = error
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


class PendingSubscriptions:
    """
    The subscriptions that the broker has not confirmed yet, in the order in which they were sent.

    A broker handles the commands of a connection in order, so it confirms many subscriptions with
    one answer, and one :class:`PendingSubscription` is shared by all that were sent together.
    """

    __slots__ = ("_asked", "_stopped", "_unasked", "_url")

    def __init__(self, url: str) -> None:
        self._url = url
        self._unasked: PendingSubscription | None = None
        self._asked: deque[PendingSubscription | None] = deque()
        self._stopped: BusError | None = None

    def check(self) -> None:
        """Raise BusError if the bus was stopped."""
        if self._stopped is not None:
            raise BusError(self._url, self._stopped.problem)

    def wait(self) -> PendingSubscription:
        """Get the confirmation of the subscriptions that are sent next."""
        if self._stopped is not None:
            return _ended(self._stopped)
        if self._unasked is None:
            self._unasked = PendingSubscription()
        return self._unasked

    def asked(self) -> None:
        """Note that the broker was asked to confirm everything so far."""
        self._asked.append(self._unasked)
        self._unasked = None

    def confirmed(self, error: BusError | None = None) -> None:
        """End the oldest confirmation that was asked for."""
        oldest = self._asked.popleft()
        if oldest is not None:
            oldest.end(error)

    def broken(self) -> None:
        """Merge all confirmations into one: all subscriptions are sent again."""
        waiting = [one for one in (*self._asked, self._unasked) if one is not None]
        self._asked.clear()
        self._unasked = None
        if waiting:
            self._unasked = _CombinedSubscription(waiting)

    def stop(self) -> None:
        """Fail all confirmations, now and from now on."""
        self._stopped = BusError(self._url, "it was stopped")
        for one in (*self._asked, self._unasked):
            if one is not None:
                one.end(self._stopped)
        self._asked.clear()
        self._unasked = None


class _CombinedSubscription(PendingSubscription):
    """Several confirmations that end together."""

    __slots__ = ("_parts",)

    def __init__(self, parts: list[PendingSubscription]) -> None:
        super().__init__()
        self._parts = parts

    def end(self, error: BusError | None = None) -> None:
        for part in self._parts:
            part.end(error)
        super().end(error)


def _ended(error: BusError | None) -> PendingSubscription:
    pending = PendingSubscription()
    pending.end(error)
    return pending
