"""Counts the messages that a bus has lost, and reports them as gaps. Pure."""

from collections import Counter

from .base import Cause, Gap


class GapTracker:
    """Counts messages lost between two instants (seconds since 1970) at which none were."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._away_since: float | None = None
        self._full_since: float | None = None
        self._unsent = 0
        self._uncertain = 0

    @property
    def is_away(self) -> bool:
        """Whether the broker is away."""
        return self._away_since is not None

    @property
    def is_full(self) -> bool:
        """Whether messages were refused because too many were pending, in an open gap."""
        return self._full_since is not None

    def broken(self, since: float, uncertain: int) -> None:
        """Begin a gap, or extend the current one, because the broker is away."""
        if self._away_since is None:
            self._away_since = since if self._full_since is None else min(since, self._full_since)
        self._full_since = None
        self._uncertain += uncertain
        self._counts["uncertain"] += uncertain

    def refused(self, now: float) -> None:
        """Count a message that was not sent."""
        self._unsent += 1
        self._counts["unsent"] += 1
        if self._away_since is None and self._full_since is None:
            self._full_since = now

    def refused_away(self, now: float) -> None:
        """Count a message that was not sent because the broker is away."""
        if self._away_since is None:
            self.broken(now, 0)
        self.refused(now)

    def restored(self, now: float) -> Gap | None:
        """End the gap: the broker is back, and knows our subscriptions."""
        if self._away_since is None:
            return None
        return self._close(Cause.DISCONNECTED, self._away_since, now, None)

    def relieved(self, now: float) -> Gap | None:
        """End the gap of a full buffer: it has room again."""
        if self._full_since is None:
            return None
        return self._close(Cause.FULL, self._full_since, now, 0)

    def dropped(self, since: float, now: float, missed: int | None) -> Gap:
        """Report messages for this process that the broker dropped because it was slow."""
        self._counts["missed"] += missed or 0
        self._counts["gaps"] += 1
        return Gap(cause=Cause.SLOW, since=since, until=now, unsent=0, uncertain=0, missed=missed)

    def _close(self, cause: Cause, since: float, now: float, missed: int | None) -> Gap:
        gap = Gap(
            cause=cause,
            since=since,
            until=max(since, now),
            unsent=self._unsent,
            uncertain=self._uncertain,
            missed=missed,
        )
        self._away_since = self._full_since = None
        self._unsent = self._uncertain = 0
        self._counts["gaps"] += 1
        return gap
