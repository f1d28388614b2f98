"""A clock that a test moves: timers, timeouts and heartbeats without waiting."""

import asyncio
import math
from collections.abc import Callable

from ..errors import ConfigError

# Turns of the loop. Between two steps, enough for what one timer starts to start its own. At the
# end, enough for a message to get through a gateway and a business worker and back, which takes 12.
_TURNS_OF_STEP = 4
_TURNS = 20
_MIN_STEP = 0.05  # seconds
_MAX_STEPS = 600


async def advance(seconds: float) -> None:
    """
    Move the event loop's clock forward, and run what is due meanwhile.

    ``Timer``, ``worker.every``, ``connection.after``, timeouts, heartbeats and ``asyncio.sleep``
    follow it; ``time.time`` does not. The clock moves in steps of 0.05 seconds, and of a 600th of
    ``seconds`` if that is more, and the time that the test takes for them does not count.

    Args:
        seconds: How far; 0 only lets what is due run.

    Raises:
        ValueError: ``seconds`` is negative or not finite.
        ConfigError: The event loop is not asyncio's own, and its clock cannot be moved.
    """
    if not 0 <= seconds < math.inf:
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
    # In debug mode, the loop warns of callbacks that take long.
    patience, loop.slow_callback_duration = loop.slow_callback_duration, math.inf
    start = clock()
    steps = min(math.ceil(seconds / _MIN_STEP), _MAX_STEPS)
    try:
        for step in range(1, steps + 1):
            clock.stopped_at = start + seconds * step / steps
            await settle(_TURNS_OF_STEP)
    finally:
        clock.go_on()
        loop.slow_callback_duration = patience
    await settle()


async def settle(turns: int = _TURNS) -> None:
    """Let everything run that can run without waiting."""
    for _ in range(turns):
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
