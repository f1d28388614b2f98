"""
Recognises that something in front of a worker cuts silent connections. PURE.

Its sign: connections end without a Close at different moments, each after the same time without a
byte. Connections that all end at once, as when a proxy restarts, are not counted.
"""

from collections import deque

from ..findings import Finding
from ..findings.lasting import IDLE_CUTS

_COUNT = 5
_SPREAD = 0.6  # seconds between the shortest and the longest silence
_MIN_SILENCE = 5.0  # seconds: below, clients that come and go may agree by chance
_MIN_DISTANCE = 1.0  # seconds between two ends


class IdleCuts:
    """The last connections that ended without a Close; bounded."""

    __slots__ = ("_ended_at", "_silences")

    def __init__(self) -> None:
        self._silences: deque[float] = deque(maxlen=_COUNT)
        self._ended_at = float("-inf")

    def ended(self, silence: float, now: float) -> Finding | None:
        """Note that a connection has ended without a Close, so many seconds after its last byte."""
        if now - self._ended_at < _MIN_DISTANCE:
            return None
        self._ended_at = now
        self._silences.append(silence)
        shortest, longest = min(self._silences), max(self._silences)
        is_complete = len(self._silences) == _COUNT
        if not is_complete or shortest < _MIN_SILENCE or longest - shortest > _SPREAD:
            return None
        return IDLE_CUTS.found(count=_COUNT, seconds=shortest, evidence=f"{longest:.2f} s at most")
