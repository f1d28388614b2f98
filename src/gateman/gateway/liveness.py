"""Signs of life between gateways and business processes, and what silence means. PURE."""

from ..cluster.names import NodeId

# Seconds; both sides give one so often.
BEAT_INTERVAL = 1.0

# Seconds; how often it is looked whether somebody is silent.
TICK_INTERVAL = 0.25

# Seconds of silence after which the bus is asked: for a business process with something on its way
# to it, for one without, and for a gateway.
SILENCE_WITH_WORK = 0.2
SILENCE_OF_BUSINESS = 2 * BEAT_INTERVAL
SILENCE_OF_GATEWAY = 1.25 * BEAT_INTERVAL

# Seconds after the bus was away in which its word is not taken that somebody is gone: others
# find back to it after pauses that grow and are random.
RECONNECT_GRACE = 5.0


def grace_period(url: str) -> float:
    """Tell for how long a bus may say that a process is gone until it is believed."""
    return 0.0 if url.startswith("local:") else 1.5


class Liveness:
    """
    Who of the other side is still there: by their signs of life, and by the bus's word.

    Who is silent may be blocked, and so the bus is asked. Every instant is in monotonic seconds.
    """

    def __init__(self, grace_period: float) -> None:
        self._patience = grace_period
        self._heard_at: dict[NodeId, float] = {}
        self._missing_since: dict[NodeId, float] = {}
        self._believes_from = 0.0

    def heard(self, node: NodeId, now: float) -> None:
        """Take a sign of life, from one that is watched or will be."""
        self._heard_at[node] = now
        if self._missing_since:
            self._missing_since.pop(node, None)

    def forget(self, node: NodeId) -> None:
        """Watch a process no more."""
        self._heard_at.pop(node, None)
        self._missing_since.pop(node, None)

    def returned(self, now: float) -> None:
        """The bus was away, and is back; others may not be."""
        self._believes_from = now + RECONNECT_GRACE
        self._missing_since.clear()

    def should_probe(self, node: NodeId, now: float, silence: float) -> bool:
        """Tell whether the bus is to be asked for a process."""
        if now < self._believes_from:
            return False
        return node in self._missing_since or now - self._heard_at[node] > silence

    def probed(self, node: NodeId, now: float, *, is_connected: bool) -> bool:
        """Take the bus's word about a process."""
        if node not in self._heard_at or now < self._believes_from:
            return False
        if is_connected:
            self._missing_since.pop(node, None)
            return False
        return now - self._missing_since.setdefault(node, now) >= self._patience
