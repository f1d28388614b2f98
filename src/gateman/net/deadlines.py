"""Deadlines of many connections: a timer for each would cost as much as reading its request."""

import asyncio
from typing import Protocol

# How late a deadline may be noticed, so that each turn ends many of them.
_TICK = 0.05  # seconds


class Expirable(Protocol):
    def expired(self) -> None:
        """Called once, after the deadline."""


class Deadlines:
    """The deadlines of a worker's connections, with one timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._at: dict[Expirable, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0

    def add(self, item: Expirable, at: float) -> None:
        """Call ``item.expired`` at a time of the loop's clock, or up to 50 ms later."""
        self._at[item] = at
        if self._timer is None or at < self._next_at:
            self._schedule(at)

    def discard(self, item: Expirable) -> None:
        self._at.pop(item, None)
        if not self._at:
            self.stop()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __len__(self) -> int:
        return len(self._at)

    def _schedule(self, at: float) -> None:
        self.stop()
        self._next_at = at
        self._timer = self._loop.call_at(at, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._loop.time()
        for item in [item for item, at in self._at.items() if at <= now]:
            # Unless one before it has ended it, or given it another deadline.
            if self._at.get(item, now + 1) <= now:
                del self._at[item]
                item.expired()
        if self._at:
            self._schedule(max(min(self._at.values()), now + _TICK))
