"""A clock that a test moves: timers, timeouts and heartbeats without waiting."""

import asyncio
import math
import sys
from collections.abc import Callable

from ..errors import ConfigError
from ..options import is_positive

# Turns of the loop: a message takes 12 from a client through a gateway and a business worker and
# back. Whatever it starts has to set its timers before the clock moves.
_TURNS = 20

# Seconds. The clock moves to the next timer, and by no less than _MIN_STEP, or a 600th of the whole
# if that is more. No higher than _MAX_MIN_STEP: hellos and leases of processes bear that.
_MIN_STEP = 0.05
_MAX_MIN_STEP = 2.0
_STEPS = 600


async def advance(seconds: float) -> None:
    """
    Move the event loop's clock forward, and run what is due meanwhile.

    ``Timer``, ``worker.every``, ``worker.cron``, ``connection.after``, timeouts, heartbeats and
    ``asyncio.sleep`` follow it; ``time.time`` does not. The clock moves from one timer to the
    next, by at least 0.05 seconds, or a 600th of ``seconds`` up to 2 seconds. The time that the
    test takes for that does not count.

    Args:
        seconds: How far; 0 only lets what is due run.

    Raises:
        ValueError: ``seconds`` is negative or not finite.
        ConfigError: The event loop is not asyncio's own, and its clock cannot be moved.
        RuntimeError: Another task moves the clock already.
    """
    if seconds != 0 and not is_positive(seconds, sys.float_info.max):
        raise ValueError(f"advance({seconds!r}) is not a span of time: give seconds, 0 or more")
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.BaseEventLoop):
        raise ConfigError(
            f"advance() cannot move the clock of {type(loop).__module__}.{type(loop).__name__}",
            "run this test on asyncio's own event loop",
        )
    # The loop asks for the time by this method, wherever it schedules or runs a timer.
    clock = loop.time if isinstance(loop.time, _Clock) else _Clock(loop.time)
    loop.time = clock  # type: ignore[method-assign]
    if clock.stopped_at is not None:
        raise RuntimeError("advance() is running already, in another task of this test")
    # In debug mode, the loop warns of callbacks that take long.
    patience, loop.slow_callback_duration = loop.slow_callback_duration, math.inf
    start = clock()
    end = start + seconds
    least = min(max(_MIN_STEP, seconds / _STEPS), _MAX_MIN_STEP)
    clock.stopped_at = start
    try:
        await settle()
        while clock.stopped_at < end:
            due = max(_next_due(loop), clock.stopped_at + least)
            clock.stopped_at = min(due, end)
            await settle()
    finally:
        clock.go_on()
        loop.slow_callback_duration = patience


def _next_due(loop: asyncio.BaseEventLoop) -> float:
    # A heap, which asyncio rids of cancelled timers at its head.
    timers: list[asyncio.TimerHandle] = vars(loop)["_scheduled"]
    return timers[0].when() if timers else math.inf


async def settle() -> None:
    """Let everything run that can run without waiting."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class _Clock:
    """The loop's clock, which can be stopped, and goes on from there."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ahead = 0.0
        self.stopped_at: float | None = None

    def __call__(self) -> float:
        return self._clock() + self._ahead if self.stopped_at is None else self.stopped_at

    def go_on(self) -> None:
        if self.stopped_at is not None:
            self._ahead = self.stopped_at - self._clock()
            self.stopped_at = None
