"""
Which other processes there are, by their signs of life. Pure.

Everybody says hello when it starts, and then in intervals; whoever has said nothing for a while
is thought dead. Nobody is judged while the bus is away: what cannot be heard tells nothing. Who is
new hears from everybody whom they know, so that one answer tells it of all.
"""

from collections.abc import Iterable

from .names import NodeId

# Three signs of life may be lost, or late because a process is busy.
HELLO_INTERVAL = 2.0  # seconds
TIME_TO_LIVE = 7.0  # seconds

# How long a process waits for the first answers before it believes that it knows everybody: a
# round trip to another continent, and a busy process there.
DISCOVERY_TIME = 0.5  # seconds


class Nodes:
    """The other processes that clients may be connected to."""

    __slots__ = ("_heard_at", "_me")

    def __init__(self, me: NodeId) -> None:
        """
        Begin with nobody.

        Args:
            me: Who is no other.
        """
        self._me = me
        self._heard_at: dict[NodeId, float] = {}

    def __len__(self) -> int:
        return len(self._heard_at)

    def __contains__(self, node: object) -> bool:
        return node in self._heard_at

    def names(self) -> tuple[NodeId, ...]:
        """Name them all."""
        return tuple(self._heard_at)

    def hear(self, node: NodeId, now: float) -> bool:
        """
        Take note of a sign of life.

        Args:
            node: Whose.
            now: Monotonic seconds.

        Returns:
            Whether it was not known before.
        """
        if node == self._me:
            return False
        is_new = node not in self._heard_at
        self._heard_at[node] = now
        return is_new

    def hear_of(self, nodes: Iterable[NodeId], now: float) -> None:
        """
        Take note of those whom somebody else knows; they have to give a sign of life in time.

        Args:
            nodes: Whom.
            now: Monotonic seconds.
        """
        for node in nodes:
            if node != self._me:
                self._heard_at.setdefault(node, now)

    def forget(self, node: NodeId) -> bool:
        """
        Take note that one has ended.

        Args:
            node: Which.

        Returns:
            Whether it was known.
        """
        return self._heard_at.pop(node, None) is not None

    def excuse(self, now: float) -> None:
        """
        Give everybody time again, because the bus was away.

        Args:
            now: Monotonic seconds.
        """
        for node in self._heard_at:
            self._heard_at[node] = now

    def expire(self, now: float) -> list[NodeId]:
        """
        Forget those who have been silent for too long.

        Args:
            now: Monotonic seconds.

        Returns:
            Whom.
        """
        silent = [
            node for node, heard_at in self._heard_at.items() if now - heard_at > TIME_TO_LIVE
        ]
        for node in silent:
            del self._heard_at[node]
        return silent
