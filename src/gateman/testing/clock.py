"""A clock that a test moves: timers, timeouts and heartbeats without waiting."""

import asyncio
import math
from collections.abc import Callable

# A pause between two steps is enough for what one timer starts to start its own.
_TURNS = 4
_MIN_STEP = 0.05  # seconds
_MAX_STEPS = 600


async def advance(seconds: float) -> None:
    """
    Move the event loop's clock forward, and run what is due meanwhile.

    ``Timer``, ``worker.every``, ``connection.after``, timeouts, heartbeats and ``asyncio.sleep``
    follow it; ``time.time`` does not. The clock moves in steps of 0.05 seconds, and of a 600th of
    ``seconds`` if that is more.

    Args:
        seconds: How far; 0 only lets what is due run.

    Raises:
        ValueError: ``seconds`` is negative or not finite.
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f"advance({seconds!r}) is not a span of time: give seconds, 0 or more")
    loop = asyncio.get_running_loop()
    steps = min(math.ceil(seconds / _MIN_STEP), _MAX_STEPS)
    for _ in range(steps):
        # The loop asks for the time by this method, wherever it schedules or runs a timer.
        loop.time = _later(loop.time, seconds / steps)  # type: ignore[method-assign]
        await settle()
    await settle()


async def settle() -> None:
    """Let everything run that can run without waiting."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class _Later:
    """A clock that is ahead of the loop's own."""

    def __init__(self, clock: Callable[[], float], ahead: float) -> None:
        self.clock = clock
        self.ahead = ahead

    def __call__(self) -> float:
        return self.clock() + self.ahead


def _later(clock: Callable[[], float], seconds: float) -> _Later:
    if isinstance(clock, _Later):
        return _Later(clock.clock, clock.ahead + seconds)
    return _Later(clock, seconds)
