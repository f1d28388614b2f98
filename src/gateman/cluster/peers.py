"""
The other nodes, as known from their hellos. Pure.

Each node sends a hello when it starts, and then at intervals. A node that has sent nothing for a
while is *silent*: it may be dead or blocked, or this process may not have read its messages yet. So
the bus is asked: a node that is no longer connected is forgotten; one that is connected gets no
queries until it is heard from again. No node is judged while the bus is away. Each node tells a new
one which nodes it knows, so one answer tells the new node about all of them.
"""

from collections.abc import Iterable
from enum import Enum

from .names import NodeId

# Three hellos may be lost, or late because a process is busy.
HELLO_INTERVAL = 2.0  # seconds
TIME_TO_LIVE = 7.0  # seconds

# How long a node waits for the first answers before it assumes that it knows all nodes: a
# round trip to another continent, and a busy process there.
DISCOVERY_TIME = 0.5  # seconds

# After so many answers of the bus that it does not know whether a silent node is connected, the
# node counts as gone. The bus is asked with each of our hellos, so messages are read in between.
_MAX_DOUBTS = 3


class PeerState(Enum):
    """What was found out about a silent node."""

    BLOCKED = "is connected, but sends no hello: it is not asked about its clients"
    GONE = "is gone"


class Peers:
    """The other nodes; those without clients are watched for their end, and not listed."""

    __slots__ = ("_blocked", "_doubts", "_heard_at", "_own_id", "_without_clients")

    def __init__(self, own_id: NodeId) -> None:
        self._own_id = own_id
        self._heard_at: dict[NodeId, float] = {}
        self._without_clients: set[NodeId] = set()
        # Silent nodes that are connected; and how often the bus did not know whether one is.
        self._blocked: set[NodeId] = set()
        self._doubts: dict[NodeId, int] = {}

    def __len__(self) -> int:
        return len(self._heard_at) - len(self._without_clients)

    def __contains__(self, node: object) -> bool:
        return node in self._heard_at and node not in self._without_clients

    def names(self) -> tuple[NodeId, ...]:
        """List the nodes that answer queries."""
        silent = self._blocked | self._without_clients
        return tuple(node for node in self._heard_at if node not in silent)

    def all(self) -> tuple[NodeId, ...]:
        """List the nodes that were heard of, also those without clients."""
        return tuple(self._heard_at)

    def blocked(self) -> tuple[NodeId, ...]:
        """List the nodes that are connected but silent."""
        return tuple(self._blocked - self._without_clients)

    def heard_from(self, node: NodeId, now: float, *, has_clients: bool = True) -> bool:
        """Note that a node was heard from; return whether it is new."""
        if node == self._own_id:
            return False
        is_new = node not in self._heard_at
        self._heard_at[node] = now
        self._blocked.discard(node)
        self._doubts.pop(node, None)
        if has_clients:
            self._without_clients.discard(node)
        else:
            self._without_clients.add(node)
        return is_new

    def watch_senders(self, senders: Iterable[NodeId], now: float) -> None:
        """Watch nodes that send but have sent no hello yet; they have to send one in time."""
        for node in senders:
            if node not in self._heard_at:
                self.heard_from(node, now, has_clients=False)

    def heard_of(self, nodes: Iterable[NodeId], now: float) -> None:
        """Note nodes that another node knows; they have to send a hello in time."""
        for node in nodes:
            if node != self._own_id:
                self._heard_at.setdefault(node, now)
                self._without_clients.discard(node)

    def forget(self, node: NodeId) -> bool:
        """Forget a node that has ended; return whether it was known."""
        self._without_clients.discard(node)
        self._blocked.discard(node)
        self._doubts.pop(node, None)
        return self._heard_at.pop(node, None) is not None

    def restart_timeouts(self, now: float) -> None:
        """Restart the timeout of every node, because the bus was away."""
        for node in self._heard_at:
            self._heard_at[node] = now
        self._blocked.clear()
        self._doubts.clear()

    def silent(self, now: float) -> list[NodeId]:
        """List the nodes that have been silent for too long; the bus is to be asked about them."""
        return [node for node in self._heard_at if self._is_silent(node, now)]

    def _is_silent(self, node: NodeId, now: float) -> bool:
        return now - self._heard_at.get(node, now) > TIME_TO_LIVE

    def on_probe(self, node: NodeId, now: float, *, is_connected: bool | None) -> PeerState | None:
        """Note what the bus says about a node that it was asked about."""
        if not self._is_silent(node, now):
            return None
        if is_connected is None:
            doubts = self._doubts[node] = self._doubts.get(node, 0) + 1
            is_connected = doubts < _MAX_DOUBTS
        if not is_connected:
            self.forget(node)
            return PeerState.GONE
        if node in self._blocked:
            return None
        self._blocked.add(node)
        return PeerState.BLOCKED
