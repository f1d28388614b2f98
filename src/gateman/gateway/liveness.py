"""Heartbeats between gateways and business processes, and what silence means. PURE."""

from ..cluster.names import NodeId

# Seconds between two heartbeats of either side.
BEAT_INTERVAL = 1.0

# Seconds between two checks for silence.
TICK_INTERVAL = 0.25

# Seconds of silence after which the bus is asked about a process: a business process that has not
# acknowledged an event, any other business process, a gateway.
SILENCE_WITH_WORK = 0.2
SILENCE_OF_BUSINESS = 2 * BEAT_INTERVAL
SILENCE_OF_GATEWAY = 1.25 * BEAT_INTERVAL

# Seconds after a reconnection to the bus in which no process is taken for dead: the others
# reconnect after random pauses that grow.
RECONNECT_GRACE = 5.0


def grace_period(url: str) -> float:
    """Return the seconds for which a bus must report a process as gone before it is believed."""
    return 0.0 if url.startswith("local:") else 1.5


class Liveness:
    """Which processes of the other side live, by heartbeats and the bus's answers."""

    def __init__(self, grace_period: float) -> None:
        self._patience = grace_period
        self._heard_at: dict[NodeId, float] = {}
        self._found_at: dict[NodeId, float] = {}
        self._missing_since: dict[NodeId, float] = {}
        self._trusts_bus_from = 0.0

    def heard(self, node: NodeId, now: float) -> None:
        """Take a heartbeat; the process is watched from now on."""
        self._heard_at[node] = now
        if self._missing_since:
            self._missing_since.pop(node, None)

    def forget(self, node: NodeId) -> None:
        """Stop watching a process."""
        self._heard_at.pop(node, None)
        self._found_at.pop(node, None)
        self._missing_since.pop(node, None)

    def returned(self, now: float) -> None:
        """Take note that this process has reconnected to the bus; others may not have."""
        self._trusts_bus_from = now + RECONNECT_GRACE
        self._missing_since.clear()

    def was_there(self, node: NodeId, since: float) -> bool:
        """Tell whether a process was heard, or found by the bus, since a moment."""
        heard_at = self._heard_at[node]
        return max(heard_at, self._found_at.get(node, heard_at)) >= since

    def should_probe(self, node: NodeId, now: float, silence: float) -> bool:
        """Tell whether to ask the bus about a process."""
        if now < self._trusts_bus_from:
            return False
        return node in self._missing_since or now - self._heard_at[node] > silence

    def probed(self, node: NodeId, now: float, *, is_connected: bool) -> bool:
        """Take the bus's answer about a process; ``True`` if the process is dead."""
        if node not in self._heard_at or now < self._trusts_bus_from:
            return False
        if is_connected:
            self._found_at[node] = now
            self._missing_since.pop(node, None)
            return False
        return now - self._missing_since.setdefault(node, now) >= self._patience
