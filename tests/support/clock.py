"""Time that a test moves."""

import asyncio

from .loop import turns

STEP = 0.05  # seconds


class Clock(asyncio.SelectorEventLoop):
    """
    An event loop whose time goes only where a test wants it.

    Attributes:
        now: What time it is.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__()

    def time(self) -> float:
        """Tell the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time go on by small steps, and what is due in them happen."""
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            self.run_until_complete(turns())
