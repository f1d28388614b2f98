"""A bus within one process, for a service with one process and for tests of several nodes."""

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from ..errors import BusError
from .base import MAX_PAYLOAD_SIZE, MAX_PENDING_SIZE, Bus, Gap, Receive
from .gaps import GapTracker
from .handlers import MessageHandlers
from .interest import answered
from .subjects import Subject
from .subscriptions import PendingSubscription, PendingSubscriptions

if TYPE_CHECKING:
    from ..history.base import FollowingHistory, History
    from ..history.store import HistoryStore

_named: Final[WeakValueDictionary[str, "MemoryBroker"]] = WeakValueDictionary()


class MemoryBroker:
    """The broker that several :class:`MemoryBus` share; it can be stopped, to test an outage."""

    def __init__(self) -> None:
        self.is_up = True
        self._buses: dict[MemoryBus, None] = {}
        self._interest: dict[str, tuple[MemoryBus, ...]] = {}
        self._store: HistoryStore | None = None

    @classmethod
    def named(cls, name: str) -> "MemoryBroker":
        """Get the broker of a name."""
        if not name:
            return cls()
        broker = _named.get(name)
        if broker is None:
            broker = _named[name] = cls()
        return broker

    @property
    def store(self) -> "HistoryStore":
        """The history of the channels, which is made when it is first used."""
        if self._store is None:
            # Imported here: most services have no history.
            from ..history.store import HistoryStore

            self._store = HistoryStore(secrets.token_hex(8))
        return self._store

    def go_down(self) -> None:
        """Disconnect all buses; what was published before still arrives."""
        self.is_up = False
        self._interest.clear()
        for bus in tuple(self._buses):
            bus.on_broker_down()

    def come_up(self) -> None:
        """Connect all buses again."""
        self.is_up = True
        for bus in tuple(self._buses):
            bus.on_broker_up()

    def join(self, bus: "MemoryBus") -> None:
        self._buses[bus] = None

    def leave(self, bus: "MemoryBus") -> None:
        """Remove a bus and its subscriptions."""
        self._buses.pop(bus, None)
        for subject in tuple(self._interest):
            self.drop_interest(subject, bus)

    def add_interest(self, subject: str, bus: "MemoryBus") -> None:
        interested = self._interest.get(subject, ())
        if bus not in interested:
            self._interest[subject] = (*interested, bus)

    def drop_interest(self, subject: str, bus: "MemoryBus") -> None:
        left = tuple(one for one in self._interest.get(subject, ()) if one is not bus)
        if left:
            self._interest[subject] = left
        else:
            self._interest.pop(subject, None)

    def has_interest(self, subject: str, *, besides: "MemoryBus") -> bool:
        """Whether another bus subscribes to a subject."""
        return any(bus is not besides for bus in self._interest.get(subject, ()))

    def route(self, publisher: "MemoryBus", subject: str, payload: bytes) -> None:
        """Pass a message to all subscribers except its publisher."""
        for bus in self._interest.get(subject, ()):
            if bus is not publisher:
                bus.put(subject, payload)

    def send_to_followers(self, subject: str, payload: bytes) -> None:
        """Pass a message of the history to all subscribers."""
        for bus in self._interest.get(subject, ()):
            bus.put(subject, payload)


class MemoryBus:
    """A bus between the users of one :class:`MemoryBroker`; see :class:`~.base.Bus`."""

    def __init__(
        self,
        name: str = "",
        *,
        broker: MemoryBroker | None = None,
        max_payload_size: int = MAX_PAYLOAD_SIZE,
        max_pending_size: int = MAX_PENDING_SIZE,
    ) -> None:
        self.on_gap: Callable[[Gap], None] | None = None
        self.counts: Counter[str] = Counter()
        self._url = f"memory://{name}"
        self._broker = broker or MemoryBroker.named(name)
        self._max_payload_size = max_payload_size
        self._max_pending_size = max_pending_size
        self._handlers = MessageHandlers(self.counts)
        self._gaps = GapTracker(self.counts)
        self._subscriptions = PendingSubscriptions(self._url)
        self._inbox: deque[tuple[str, bytes]] = deque()
        self._inbox_size = 0
        self._missed = 0
        self._missed_since = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._history: FollowingHistory | None = None

    def __repr__(self) -> str:
        return f"<MemoryBus {self._url}>"

    @property
    def url(self) -> str:
        return self._url

    @property
    def history(self) -> "History":
        if self._history is None:
            from .memory_history import MemoryHistory

            self._history = MemoryHistory(self, self._broker)
        return self._history

    @property
    def is_connected(self) -> bool:
        return self._is_up and not self._gaps.is_away

    @property
    def _is_up(self) -> bool:
        return self._loop is not None and self._broker.is_up

    @property
    def max_payload_size(self) -> int:
        return self._max_payload_size

    @property
    def is_spread(self) -> bool:
        return False

    async def start(self, *, patience: float | None = None) -> None:
        """Connect; this takes no time, and never waits."""
        if self._loop is not None:
            return
        self._subscriptions.check()
        if patience is None and not self._broker.is_up:
            raise BusError(self._url, "nothing answers there")
        self._broker.join(self)
        self._loop = asyncio.get_running_loop()
        if self._broker.is_up:
            self.on_broker_up()
        else:
            self.on_broker_down()

    async def stop(self) -> None:
        self._subscriptions.stop()
        self._broker.leave(self)
        self._inbox.clear()
        self._loop = None

    def publish(self, subject: Subject, payload: bytes) -> bool:
        if len(payload) > self._max_payload_size:
            raise BusError.too_big(self._url, len(payload), self._max_payload_size)
        if not self._is_up:
            self._gaps.refused_away(time.time())
            return False
        self.counts["published"] += 1
        self._broker.route(self, subject, payload)
        return True

    def subscribe(self, subject: Subject, receive: Receive) -> PendingSubscription:
        self._handlers.add(subject, receive)
        pending = self._subscriptions.wait()
        if self._is_up:
            self._broker.add_interest(subject, self)
            self._subscriptions.asked()
            self._subscriptions.confirmed()
        return pending

    def has_subscriber(self, subject: Subject) -> Awaitable[bool | None]:
        if not self._is_up:
            return answered(has_subscriber=None)
        return answered(has_subscriber=self._broker.has_interest(subject, besides=self))

    def unsubscribe(self, subject: Subject) -> None:
        if self._handlers.remove(subject):
            self._broker.drop_interest(subject, self)

    def on_broker_down(self) -> None:
        """Handle the end of the broker; called by it."""
        self._gaps.broken(time.time(), uncertain=0)
        if self._history is not None and self._loop is not None:
            self._loop.call_soon(self._history.lose_all)

    def on_broker_up(self) -> None:
        """Handle the return of the broker; called by it."""
        self._ask()
        assert self._loop is not None
        self._loop.call_soon(self._settle)

    def put(self, subject: str, payload: bytes) -> None:
        """Queue a message for the next turn of the loop; called by the broker."""
        assert self._loop is not None  # A bus that is not started has no subscriptions.
        if self._inbox_size + len(payload) > self._max_pending_size:
            self._missed_since = self._missed_since or time.time()
            self._missed += 1
            return
        if not self._inbox:
            self._loop.call_soon(self._deliver)
        self._inbox.append((subject, payload))
        self._inbox_size += len(payload)

    def _deliver(self) -> None:
        if self._loop is None:
            return
        now = self._loop.time()
        arrived, self._inbox = self._inbox, deque()
        self._inbox_size = 0
        for subject, payload in arrived:
            self._handlers.deliver(subject, payload, now)
        if self._missed:
            missed, since = self._missed, self._missed_since
            self._missed, self._missed_since = 0, 0.0
            if self._history is not None:
                self._history.lose_all()
            self._report(self._gaps.dropped(since, time.time(), missed))

    def _settle(self) -> None:
        if self._is_up:
            self._report(self._gaps.restored(time.time()))

    def _ask(self) -> None:
        for subject in self._handlers:
            self._broker.add_interest(subject, self)
        self._subscriptions.asked()
        self._subscriptions.confirmed()

    def _report(self, gap: Gap | None) -> None:
        if gap is not None:
            self._handlers.report(gap, self.on_gap)


_: type[Bus] = MemoryBus
