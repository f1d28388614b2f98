"""
The events that a gateway sends to one business process, until they are handled. PURE.

The bus may lose packets: then the process reports the last event that it has received, and the
gateway sends again from there. At most a window of bytes is in flight, because the queues of a bus
are bounded.
"""

from collections import deque
from collections.abc import Iterator

from msgspec import Struct

from ..cluster.names import ClientId, NodeId
from .protocol import EVENT_OVERHEAD, AnyEvent, ConnectEvent, Done, Events, MessageEvent, Result

# Bytes in flight to one process; a bus keeps 8 MiB.
WINDOW = 1 << 20

# Bytes of events in one packet, and of one event; a NATS message has at most 1 MiB.
MAX_BATCH_SIZE = 256 << 10

# Bytes of unhandled events that a process may have of each gateway.
MAX_UNHANDLED_SIZE = 16 << 20

# Bytes and events of one process above which each of its clients gets one event at a time.
CONGESTED_SIZE = 4 << 20
CONGESTED_COUNT = 8192


class Pending(Struct, eq=False, gc=False):
    """An event that is not handled yet; the collector of cycles does not look at it."""

    event: AnyEvent
    client: "GatewayClient"
    size: int  # bytes in memory, without a session
    # Bytes in packets of all events of its window up to this one, with their sessions.
    end: int = 0
    number: int = 0  # in the window of its client's process; 0 while it is in no window
    has_begun: bool = False  # whether the process has reported that a handler begins it
    kill_count: int = 0  # how many processes it has killed, as far as is known


def size_of(event: AnyEvent) -> int:
    """Return the bytes of an event without its session."""
    if type(event) is MessageEvent:
        return EVENT_OVERHEAD + len(event.payload)
    return EVENT_OVERHEAD + (len(event.head) if type(event) is ConnectEvent else 0)


class GatewayClient:
    """One client of this gateway."""

    __slots__ = (
        "is_new",
        "is_paused",
        "known_session",
        "name",
        "pending",
        "remote_ip",
        "remote_port",
        "session",
        "size",
        "window",
    )

    def __init__(self, name: ClientId, remote_ip: str, remote_port: int) -> None:
        self.name = name
        self.remote_ip = remote_ip
        self.remote_port = remote_port
        # None if there is no business process for it.
        self.window: SendWindow | None = None
        # Its unhandled events, in order; those in the window come first.
        self.pending: deque[Pending] = deque()
        # Bytes of `pending`.
        self.size = 0
        # Whether the gateway does not read from it.
        self.is_paused = False
        # Whether it was never given to a process, so that none has heard of it.
        self.is_new = True
        # As MessagePack.
        self.session = b""
        # The session that its process has; None if the process has none.
        self.known_session: bytes | None = None


class SendWindow:
    """The numbered events for one business process, for as long as it lives."""

    def __init__(self, node: NodeId, epoch: int) -> None:
        self.node = node
        # Distinguishes this window from earlier ones of the gateway.
        self.epoch = epoch
        # An ordered set.
        self.clients: dict[GatewayClient, None] = {}
        # Unhandled events by number, in order.
        self.pending: dict[int, Pending] = {}
        # How many clients of all gateways the process has reported.
        self.load = 0
        # The callbacks that it has for commands of SDK clients.
        self.callbacks: list[str] = []
        # Whether the process takes no new clients.
        self.is_leaving = False
        self._size = 0
        self._next = 1
        self._end = 0
        # Events from `acknowledged` + 1 to `_sent` are in flight. `_sent` goes back in `rewind`,
        # `_highest_sent` does not.
        self.acknowledged = 0
        self._sent = 0
        self._highest_sent = 0
        # The `end` of the events `acknowledged` and `_sent`.
        self._acknowledged_end = 0
        self._sent_end = 0
        # Bytes of events that were sent and are not handled.
        self._unhandled_size = 0
        self._result_count = 0

    @property
    def is_congested(self) -> bool:
        """Whether each client of this process gets one event at a time."""
        return self._size > CONGESTED_SIZE or len(self.pending) > CONGESTED_COUNT

    @property
    def is_waiting(self) -> bool:
        """Whether a sent event is not acknowledged."""
        return self._sent > self.acknowledged

    @property
    def last(self) -> int:
        """The number of the last event; 0 if there was none."""
        return self._next - 1

    def add(self, pending: Pending) -> None:
        """Append an event; with its client's session, if the process does not have it."""
        client, size = pending.client, pending.size
        if client.session != client.known_session:
            client.known_session = pending.event.session = client.session
            self._end += len(client.session)
        number = pending.number = self._next
        self._end += size
        pending.end = self._end
        pending.has_begun = False
        self.pending[number] = pending
        self._next = number + 1
        self._size += size

    def acknowledge(self, number: int) -> None:
        """Take note that the process has received all events up to ``number``."""
        # After `rewind`, an acknowledgement of the first sending may still come.
        number = min(number, self._highest_sent)
        if number > self.acknowledged:
            self.acknowledged = number
            self._acknowledged_end = self.pending[number].end
            if number > self._sent:
                self._sent, self._sent_end = number, self._acknowledged_end

    def new_results(self, done: Done) -> list[Result]:
        """Return the results in ``done`` that were not in an earlier report."""
        known = self._result_count + 1 - done.first
        fresh = done.results[known:] if known >= 0 else []
        self._result_count += len(fresh)
        return fresh

    def remove(self, first: int, count: int) -> list[Pending]:
        """Remove handled events; those that are not in this window are ignored."""
        # Forged numbers do not loop.
        first, end = max(first, next(iter(self.pending), 0)), first + count
        numbers = range(first, min(end, self.acknowledged + 1))
        removed = [self.pending.pop(number) for number in numbers if number in self.pending]
        size = sum([pending.size for pending in removed])
        self._size -= size
        self._unhandled_size -= size
        return removed

    def rewind(self) -> None:
        """Send all unacknowledged events again with the next batches."""
        self._sent, self._sent_end = self.acknowledged, self._acknowledged_end

    def batches(self) -> Iterator[Events]:
        """Yield what may be sent now."""
        while (
            self._sent < self.last
            and self._sent_end - self._acknowledged_end < WINDOW
            and (self._sent < self._highest_sent or self._unhandled_size < MAX_UNHANDLED_SIZE)
        ):
            first, end = self._sent + 1, self._sent_end
            max_end = end + MAX_BATCH_SIZE
            items: list[AnyEvent] = []
            for number in range(first, self._next):
                pending = self.pending[number]
                if pending.end > max_end and items:
                    break
                items.append(pending.event)
                end = pending.end
                if number > self._highest_sent:
                    self._unhandled_size += pending.size
            self._sent, self._sent_end = self._sent + len(items), end
            self._highest_sent = max(self._highest_sent, self._sent)
            yield Events(self.epoch, self._result_count, first, items)

    def heartbeat(self) -> Events:
        """Return a packet without events, which shows the process whether it has a gap."""
        return Events(self.epoch, self._result_count, self._sent + 1, [])
