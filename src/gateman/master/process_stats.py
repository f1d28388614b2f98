"""What a process says of itself, each second and when it is asked."""

import resource
import sys
import time
from collections import deque
from collections.abc import Mapping
from math import inf
from pathlib import Path

from ..runtime.process import AnyService
from ..runtime.timer import Timers
from .channel import Report

_STATM = Path("/proc/self/statm")

# Over how many beats the lag is the worst, and the rate the mean.
_SPAN = 5

# Each connection counts its messages, as part of its rate limit. To add up those of 50 000 takes
# 15 ms in which nobody is served, so the more there are, the less often it is done.
_SECONDS_PER_CONNECTION = 1e-4
_FEW_CONNECTIONS = 1000

SAMPLE_INTERVAL = 0.15
"""How often the lag is looked at, in seconds; what holds everybody up for longer is seen."""


class ProcessStats:
    """The numbers of one process."""

    def __init__(
        self, service: AnyService, timers: Timers, hub_counts: Mapping[str, int] | None = None
    ) -> None:
        self._hub_counts = {} if hub_counts is None else hub_counts
        self._service = service
        self._timers = timers
        # The worst of each of the last beats, and of the one that is going on.
        self._lags: deque[float] = deque([0.0] * _SPAN, maxlen=_SPAN)
        self._due_at = inf
        self._received: deque[tuple[float, int]] = deque()
        self._counted: tuple[float, int] = (-inf, 0)

    def sample(self, now: float) -> float:
        """Take note of how late the event loop is with this, the next of its samples."""
        self._lags[-1] = max(self._lags[-1], self._lateness(now))
        self._due_at = now + SAMPLE_INTERVAL
        return self._due_at

    def _lateness(self, now: float) -> float:
        return max(now - self._due_at, 0.0)

    def beat(self, now: float) -> Report:
        """Take note that a second has passed."""
        self._count_messages(now)
        if not self._received or self._received[-1] != self._counted:
            self._received.append(self._counted)
        # What is older than the span is kept only if nothing else is.
        while len(self._received) > 2 and self._received[1][0] <= now - _SPAN:
            self._received.popleft()
        report = self.report(now)
        self._lags.append(0.0)
        return report

    def report(self, now: float) -> Report:
        """Tell how the process is."""
        service = self._service
        return {
            "memory": memory(),
            "connections": service.present_count,
            "messages": self._count_messages(now),
            "qps": self._rate(),
            "send_fail": service.counts["dropped_slow_peer"],
            "timers": self._timers.count,
            "lag": round(max(*self._lags, self._lateness(now)), 4),
            "counts": self._counts(),
            "hub": dict(self._hub_counts),
            "certificate_days": self._certificate_days(),
        }

    def _count_messages(self, now: float) -> int:
        service = self._service
        connections, (counted_at, _) = service.present_count, self._counted
        if connections < _FEW_CONNECTIONS or (
            now >= counted_at + connections * _SECONDS_PER_CONNECTION
        ):
            self._counted = (now, service.message_count)
        return self._counted[1]

    def _counts(self) -> dict[str, int]:
        counts = dict(self._service.counts)
        if self._timers.skipped_count:
            counts["timer_skipped"] = self._timers.skipped_count
        return counts

    def _rate(self) -> float:
        if len(self._received) < 2:
            return 0.0
        (first_at, first), (last_at, last) = self._received[0], self._received[-1]
        return round((last - first) / (last_at - first_at), 1)

    def _certificate_days(self) -> int | None:
        contexts = self._service.contexts
        if contexts is None:
            return None
        now = time.time()
        days = [certificate.days_left(now) for certificate in contexts.certificates]
        return min((one for one in days if one is not None), default=None)


def memory() -> int:
    """Tell how much memory this process has resident."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak << 10
    return pages * resource.getpagesize()
