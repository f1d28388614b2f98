"""
Pings all connections of a worker from one timer, with a timer wheel.

:class:`Wheel` decides, without a clock; :class:`Heartbeat` has the clock.
"""

import asyncio
from typing import Generic, Protocol, TypeVar


class Pingable(Protocol):
    """One connection, as the heartbeat sees it."""

    slot: int
    """The connection's slot on the wheel; -1 if it is not on the wheel."""
    waited: int
    """Ticks that a ping will have waited for its answer when this is due; -1 for none."""

    def ping(self) -> None:
        """Send a ping; :meth:`is_alive` is about the time since then."""

    def ping_again(self) -> None:
        """Send another while the first is not answered: proxies end idle connections."""

    def is_alive(self) -> bool:
        """Whether a pong or a message arrived since the last ping."""

    def missed_pong(self, seconds: float) -> None:
        """End the connection: no answer for ``seconds``."""


P = TypeVar("P", bound=Pingable)

# Seconds; a loop that is later was blocked, or its process was stopped: there may be unread pongs.
_LATE = 1.0


class Wheel(Generic[P]):
    """Connections that are due in a number of ticks; a tick costs only what is due."""

    __slots__ = ("_at", "_slots")

    def __init__(self, size: int) -> None:
        self._slots: list[set[P]] = [set() for _ in range(size)]
        self._at = 0

    def add(self, pingable: P, ticks: int) -> None:
        """Make a connection due in so many ticks."""
        slot = (self._at + max(1, min(ticks, len(self._slots) - 1))) % len(self._slots)
        pingable.slot = slot
        self._slots[slot].add(pingable)

    def remove(self, pingable: P) -> None:
        if pingable.slot >= 0:
            self._slots[pingable.slot].discard(pingable)
            pingable.slot = -1

    def tick(self) -> list[P]:
        """Advance by one slot; return the connections that are due."""
        self._at = (self._at + 1) % len(self._slots)
        due = self._slots[self._at]
        self._slots[self._at] = set()
        for pingable in due:
            pingable.slot = -1
        return list(due)

    def __len__(self) -> int:
        return sum(len(slot) for slot in self._slots)


class Heartbeat:
    """Ping every connection of a worker, and end those that do not answer."""

    # A ping is sent every `interval`, also while an earlier one is not answered. A peer that
    # neither answers nor sends a message is ended between `pong` and `pong` plus two ticks after
    # the first ping that it did not answer. What has come while the process was blocked or stopped
    # is read before a peer is judged.
    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float, pong: float) -> None:
        self._loop = loop
        self._pong = pong
        self._tick = min(1.0, interval / 4, pong / 4)
        self._ping_ticks = round(interval / self._tick)
        # One more than asked for: the current tick has partly gone by already.
        self._pong_ticks = round(pong / self._tick) + 1
        # Nothing is ever due later than a ping.
        self._wheel: Wheel[Pingable] = Wheel(self._ping_ticks + 1)
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0
        self._was_late = False

    def add(self, pingable: Pingable) -> None:
        pingable.waited = -1
        self._wheel.add(pingable, self._ping_ticks)
        if self._timer is None:
            self._next_at = self._loop.time() + self._tick
            self._timer = self._loop.call_at(self._next_at, self._turn)

    def remove(self, pingable: Pingable) -> None:
        self._wheel.remove(pingable)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __len__(self) -> int:
        return len(self._wheel)

    def _turn(self) -> None:
        now = self._loop.time()
        if now > self._next_at + _LATE and not self._was_late:
            # Read the pongs that came meanwhile first; once, as the loop may be late each time.
            self._was_late = True
            self._next_at = now + self._tick
            self._timer = self._loop.call_at(self._next_at, self._turn)
            return
        self._was_late = False
        for pingable in self._wheel.tick():
            self._beat(pingable)
        if not len(self._wheel):
            self._timer = None
            return
        # From the planned instant, so that delays do not add up. A loop that was blocked does not
        # catch up: clients would have no time to answer.
        self._next_at = max(self._next_at + self._tick, self._loop.time() + self._tick / 2)
        self._timer = self._loop.call_at(self._next_at, self._turn)

    def _beat(self, pingable: Pingable) -> None:
        waited = pingable.waited
        if waited < 0:
            self._ping(pingable)
        elif pingable.is_alive():
            left = self._ping_ticks - waited
            if left > 0:
                pingable.waited = -1
                self._wheel.add(pingable, left)
            else:
                self._ping(pingable)
        elif waited < self._pong_ticks:
            pingable.ping_again()
            self._wait(pingable, waited)
        else:
            pingable.missed_pong(self._pong)

    def _ping(self, pingable: Pingable) -> None:
        pingable.ping()
        self._wait(pingable, 0)

    def _wait(self, pingable: Pingable, waited: int) -> None:
        """Add it for when the next ping is due, or the answer to the first one."""
        ticks = min(self._ping_ticks, self._pong_ticks - waited)
        pingable.waited = waited + ticks
        self._wheel.add(pingable, ticks)
