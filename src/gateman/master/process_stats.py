"""The state of a process, reported to the master each second and on request."""

import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path

from ..runtime.process import AnyService
from ..runtime.timer import Timers
from .channel import Report

_STATM = Path("/proc/self/statm")

# The lag is the maximum, and the rate the mean, over so many heartbeats.
_SPAN = 5

# Each connection counts its messages, for its rate limit. Their sum over 50 000 connections blocks
# the event loop for 15 ms, so with more connections it is made less often.
_SECONDS_PER_CONNECTION = 1e-4
_FEW_CONNECTIONS = 1000

SAMPLE_INTERVAL = 0.15
"""Seconds between two measurements of the lag; each longer delay of the event loop is noticed."""


class ProcessStats:
    def __init__(
        self,
        service: AnyService,
        timers: Timers,
        hub_counts: Mapping[str, int] | None = None,
        *,
        on_lag: Callable[[float], None] | None = None,
    ) -> None:
        self._on_lag = on_lag
        self._hub_counts = {} if hub_counts is None else hub_counts
        self._service = service
        self._timers = timers
        # The maximum before each of the last heartbeats; the last element is that since then.
        self._lags: deque[float] = deque([0.0] * _SPAN, maxlen=_SPAN)
        self._due_at = inf
        self._received: deque[tuple[float, int]] = deque()
        self._counted: tuple[float, int] = (-inf, 0)

    def sample(self, now: float) -> float:
        """Measure how late the event loop calls this; return when to call it again."""
        lateness = self._lateness(now)
        self._lags[-1] = max(self._lags[-1], lateness)
        if self._on_lag is not None:
            self._on_lag(lateness)
        self._due_at = now + SAMPLE_INTERVAL
        return self._due_at

    def _lateness(self, now: float) -> float:
        return max(now - self._due_at, 0.0)

    def heartbeat(self, now: float) -> Report:
        """Return the report of a second."""
        self.count_messages(now)
        if not self._received or self._received[-1] != self._counted:
            self._received.append(self._counted)
        # One older value stays if there is no second newer one.
        while len(self._received) > 2 and self._received[1][0] <= now - _SPAN:
            self._received.popleft()
        report = self.report(now)
        self._lags.append(0.0)
        return report

    def report(self, now: float) -> Report:
        service = self._service
        return {
            "memory": memory(),
            "connections": service.present_count,
            "messages": self.count_messages(now),
            "qps": self._rate(),
            "send_fail": service.counts["dropped_slow_peer"],
            "timers": self._timers.count,
            "lag": round(max(*self._lags, self._lateness(now)), 4),
            "counts": self._counts(),
            "hub": dict(self._hub_counts),
            "certificate_days": self._certificate_days(),
        }

    def count_messages(self, now: float) -> int:
        """Return how many messages the process has received, or had shortly before."""
        service = self._service
        connections, (counted_at, _) = service.present_count, self._counted
        if connections < _FEW_CONNECTIONS or (
            now >= counted_at + connections * _SECONDS_PER_CONNECTION
        ):
            self._counted = (now, service.message_count)
        return self._counted[1]

    def _counts(self) -> dict[str, int]:
        return {**self._service.counts, **self._timers.counts}

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
    """Return the resident memory of this process in bytes; where that is not known, its maximum."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak << 10
    return pages * resource.getpagesize()
