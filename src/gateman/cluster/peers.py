"""
Which other processes there are, by their signs of life. Pure.

Each process says hello when it starts, and then in intervals. A process that has said nothing for
a while is *silent*: it may be dead, or blocked, or this process may not have read what it said. So
the bus is asked: only a process that is not connected any more is forgotten; one that is gets no
questions until it is heard again. No process is judged while the bus is away. A new process hears
from each of the others whom that one knows, so that one answer tells it of all.
"""

from collections.abc import Iterable
from enum import Enum

from .names import NodeId

# Three signs of life may be lost, or late because a process is busy.
HELLO_INTERVAL = 2.0  # seconds
TIME_TO_LIVE = 7.0  # seconds

# How long a process waits for the first answers before it believes that it knows everybody: a
# round trip to another continent, and a busy process there.
DISCOVERY_TIME = 0.5  # seconds

# So often the bus may not know whether a silent process is connected, until silence decides. It is
# asked with each of our own signs of life, and in between what has come is read.
_MAX_DOUBTS = 3


class Verdict(Enum):
    """What is news of a silent process."""

    BLOCKED = "is connected, but gives no sign of life: it is not asked about its clients"
    GONE = "is gone"


class Peers:
    """
    The other processes that clients may be connected to.

    Those without clients, business workers and programs beside a service, are watched too, so that
    their end is noticed, but not named.
    """

    __slots__ = ("_beside", "_blocked", "_doubts", "_heard_at", "_me")

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._heard_at: dict[NodeId, float] = {}
        self._beside: set[NodeId] = set()
        # Those that are silent, though connected; and how often nobody knew whether they are.
        self._blocked: set[NodeId] = set()
        self._doubts: dict[NodeId, int] = {}

    def __len__(self) -> int:
        return len(self._heard_at) - len(self._beside)

    def __contains__(self, node: object) -> bool:
        return node in self._heard_at and node not in self._beside

    def names(self) -> tuple[NodeId, ...]:
        """Name all that would answer."""
        silent = self._blocked | self._beside
        return tuple(node for node in self._heard_at if node not in silent)

    def blocked(self) -> tuple[NodeId, ...]:
        """Name those that would not answer, although they are there."""
        return tuple(self._blocked - self._beside)

    def hear(self, node: NodeId, now: float, *, has_clients: bool = True) -> bool:
        """Take note of a sign of life."""
        if node == self._me:
            return False
        is_new = node not in self._heard_at
        self._heard_at[node] = now
        self._blocked.discard(node)
        self._doubts.pop(node, None)
        if has_clients:
            self._beside.discard(node)
        else:
            self._beside.add(node)
        return is_new

    def suppose(self, senders: Iterable[NodeId], now: float) -> None:
        """Watch those who send and have given no sign of life; they have to give one in time."""
        for node in senders:
            if node not in self._heard_at:
                self.hear(node, now, has_clients=False)

    def hear_of(self, nodes: Iterable[NodeId], now: float) -> None:
        """Take note of those whom somebody else knows; they have to give a sign of life in time."""
        for node in nodes:
            if node != self._me:
                self._heard_at.setdefault(node, now)
                self._beside.discard(node)

    def forget(self, node: NodeId) -> bool:
        """Take note that one has ended."""
        self._beside.discard(node)
        self._blocked.discard(node)
        self._doubts.pop(node, None)
        return self._heard_at.pop(node, None) is not None

    def excuse(self, now: float) -> None:
        """Give everybody time again, because the bus was away."""
        for node in self._heard_at:
            self._heard_at[node] = now
        self._blocked.clear()
        self._doubts.clear()

    def silent(self, now: float) -> list[NodeId]:
        """Tell for which processes the bus is to be asked: they have said nothing for too long."""
        return [node for node in self._heard_at if self._is_silent(node, now)]

    def _is_silent(self, node: NodeId, now: float) -> bool:
        return now - self._heard_at.get(node, now) > TIME_TO_LIVE

    def told(self, node: NodeId, now: float, *, is_there: bool | None) -> Verdict | None:
        """Take the bus's word about a process for which it was asked."""
        if not self._is_silent(node, now):
            return None
        if is_there is None:
            doubts = self._doubts[node] = self._doubts.get(node, 0) + 1
            is_there = doubts < _MAX_DOUBTS
        if not is_there:
            self.forget(node)
            return Verdict.GONE
        if node in self._blocked:
            return None
        self._blocked.add(node)
        return Verdict.BLOCKED
