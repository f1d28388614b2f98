"""Until when the body of a request has to arrive, and its response to be taken. PURE."""

import math

# As Apache's mod_reqtimeout: what a body has to arrive with.
_MIN_RATE = 500  # bytes per second


class TransferTime:
    """The times of one connection; ``limit`` is how long a peer may make no progress."""

    __slots__ = ("_limit", "_receive_until", "_unsent", "send_until")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        # Infinity where nothing is waited for.
        self._receive_until = self.send_until = math.inf
        self._unsent = 0

    def receive(self, now: float) -> float:
        """Wait for a part of the body; return until when."""
        self._receive_until = now + self._limit
        return self._receive_until

    def received(self, size: int, now: float) -> None:
        """Give time for a part that has arrived, unless nothing is waited for."""
        if self._receive_until < math.inf:
            until = self._receive_until + size / _MIN_RATE
            self._receive_until = min(until, now + self._limit)

    def stop_receiving(self) -> None:
        self._receive_until = math.inf

    def send(self, unsent: int, now: float) -> float:
        """Wait for the peer to take what is unsent; return until when."""
        self._unsent = unsent
        self.send_until = now + self._limit
        return self.send_until

    def stop_sending(self) -> None:
        self.send_until = math.inf

    def until(self, unsent: int, now: float) -> float:
        """Return the earlier time; a peer that has taken a part since the last look gets more."""
        if self.send_until <= now and unsent < self._unsent:
            self.send(unsent, now)
        return min(self._receive_until, self.send_until)
