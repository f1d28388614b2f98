"""
What a gateway has sent to one business process, and what came of it. PURE.

Events are kept until the process says that they are done. The bus may lose what is sent: then the
process says how far it got, and it is sent again from there. No more than a window of bytes is on
its way at once, so that a bus with bounded queues is not asked for more than it takes.
"""

from collections import deque
from collections.abc import Iterator

from ..cluster.names import ClientId, NodeId
from .protocol import EVENT_OVERHEAD, AnyEvent, ConnectEvent, Done, Events, MessageEvent, Result

# bytes on the way to one process that are not known to have arrived, of the 8 MiB that a bus keeps.
WINDOW = 1 << 20

# bytes of payload in one envelope, and in one event; NATS takes a megabyte in all.
MAX_BATCH_SIZE = 256 << 10

# bytes of events that a process may have that it has not handled; it has as much of each gateway.
MAX_UNHANDLED_SIZE = 16 << 20

# bytes, and events, that may be with one process before each client gets one at a time.
CONGESTED_SIZE = 4 << 20
CONGESTED_COUNT = 8192


class Pending:
    """
    An event that is not done yet.

    Attributes:
        event: It.
        client: To whom it happened.
        size: What it takes, in bytes.
        weight: What it takes on the way, with the session that goes with it; in bytes.
        number: Its number on its client's link; 0 while it waits for one.
        has_begun: Whether the process that has it said that a handler begins with it.
        kill_count: How many processes it has killed, as far as is known.
    """

    __slots__ = ("client", "event", "has_begun", "kill_count", "number", "size", "weight")

    def __init__(self, event: AnyEvent, client: "GatewayClient") -> None:
        self.event = event
        self.client = client
        self.size = self.weight = size_of(event)
        self.number = 0
        self.has_begun = False
        self.kill_count = 0


def size_of(event: AnyEvent) -> int:
    """Tell what an event takes, but for a session."""
    if isinstance(event, MessageEvent):
        return EVENT_OVERHEAD + len(event.payload)
    return EVENT_OVERHEAD + (len(event.head) if isinstance(event, ConnectEvent) else 0)


class GatewayClient:
    """
    One client of this gateway.

    Attributes:
        name: Its id.
        remote_ip: Its address.
        remote_port: Its port.
        link: Whose it is; ``None`` if nobody is there.
        pending: What is not done yet, in order; what is on the link comes first.
        size: What that takes, in bytes.
        is_paused: Whether it is not read from.
        session: Its session, as MessagePack.
        known: What its process takes its session for; ``None`` if it knows none.
    """

    __slots__ = (
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
        self.window: SendWindow | None = None
        self.pending: deque[Pending] = deque()
        self.size = 0
        self.is_paused = False
        self.session = b""
        self.known_session: bytes | None = None


class SendWindow:
    """
    One business process, for as long as it is there.

    Attributes:
        node: The process.
        epoch: Which link to it this is.
        clients: Whose events go there, each with its place in the order of coming.
        pending: What it has not done yet, by number; in order.
        arrived: The number up to which it has all events.
        load: How many clients it says that it has, of all gateways.
        is_leaving: Whether it takes no more.
    """

    def __init__(self, node: NodeId, epoch: int) -> None:
        self.node = node
        self.epoch = epoch
        self.clients: dict[GatewayClient, None] = {}
        self.pending: dict[int, Pending] = {}
        self.load = 0
        self.is_leaving = False
        self._size = 0
        self._next = 1
        # What has the numbers from `arrived` + 1 to `sent` is on its way; up to `tried` all was.
        self.acknowledged = 0
        self._sent = 0
        self._highest_sent = 0
        self._in_flight_size = 0
        # Bytes of those that were sent and are not done.
        self._unhandled_size = 0
        # Of its results.
        self._result_count = 0

    @property
    def is_congested(self) -> bool:
        """Whether so much is with it that each client gets one event at a time."""
        return self._size > CONGESTED_SIZE or len(self.pending) > CONGESTED_COUNT

    @property
    def is_waiting(self) -> bool:
        """Whether something was sent of which it is not known that it has arrived."""
        return self._sent > self.acknowledged

    @property
    def last(self) -> int:
        """The number of the last event; 0 if there was none."""
        return self._next - 1

    def add(self, pending: Pending) -> None:
        """Take an event, behind the others."""
        pending.number = self._next
        pending.weight = pending.size + len(pending.event.session or b"")
        pending.has_begun = False
        self.pending[self._next] = pending
        self._next += 1
        self._size += pending.size

    def acknowledge(self, number: int) -> None:
        """Take note of what has arrived."""
        # What is sent again may have come the first time.
        while self.acknowledged < min(number, self._highest_sent):
            self.acknowledged += 1
            if self.acknowledged <= self._sent:
                self._in_flight_size -= self.pending[self.acknowledged].weight
        self._sent = max(self._sent, self.acknowledged)

    def new_results(self, done: Done) -> list[Result]:
        """Tell what is new of what the process says."""
        known = self._result_count + 1 - done.first
        fresh = done.results[known:] if known >= 0 else []
        self._result_count += len(fresh)
        return fresh

    def remove(self, number: int) -> Pending | None:
        """Forget an event."""
        pending = self.pending.pop(number, None) if number <= self.acknowledged else None
        if pending is not None:
            self._size -= pending.size
            self._unhandled_size -= pending.size
        return pending

    def rewind(self) -> None:
        """Send again what has not arrived."""
        self._sent = self.acknowledged
        self._in_flight_size = 0

    def batches(self) -> Iterator[Events]:
        """Give what is to be sent now."""
        while (
            self._sent < self.last
            and self._in_flight_size < WINDOW
            and (self._sent < self._highest_sent or self._unhandled_size < MAX_UNHANDLED_SIZE)
        ):
            first, size = self._sent + 1, 0
            items: list[AnyEvent] = []
            while self._sent < self.last:
                pending = self.pending[self._sent + 1]
                if items and size + pending.weight > MAX_BATCH_SIZE:
                    break
                self._sent += 1
                items.append(pending.event)
                size += pending.weight
                if self._sent > self._highest_sent:
                    self._unhandled_size += pending.size
            self._highest_sent = max(self._highest_sent, self._sent)
            self._in_flight_size += size
            yield Events(self.epoch, self._result_count, first, items)

    def heartbeat(self) -> Events:
        """Make a sign of life, which tells the process what it should have."""
        return Events(self.epoch, self._result_count, self._sent + 1, [])
