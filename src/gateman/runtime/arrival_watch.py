"""Remembers for a while what arrives here, when the doctor asks for it."""

import asyncio
from typing import Any

from ..net.arrivals import WATCH_TIME, Arrivals


class ArrivalWatch:
    """The arrivals of one worker, until ``WATCH_TIME`` after the doctor's last question."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.arrivals: Arrivals | None = None
        self._loop = loop
        self._end: asyncio.TimerHandle | None = None

    def report(self, nonce: str) -> dict[str, Any]:
        """Report what arrives with the doctor's nonce, from the first call with it on."""
        if self.arrivals is None or self.arrivals.nonce != nonce:
            self.arrivals = Arrivals(nonce)
        if self._end is not None:
            self._end.cancel()
        self._end = self._loop.call_later(WATCH_TIME, self.stop)
        return self.arrivals.report()

    def stop(self) -> None:
        if self._end is not None:
            self._end.cancel()
        self.arrivals = self._end = None
