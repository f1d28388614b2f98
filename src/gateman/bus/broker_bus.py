"""
A bus with a broker in another process: what NATS and the router have in common.

A :class:`BrokerProtocol` knows how to reach one kind of broker, and how to speak with it.
Everything that :class:`~.base.Bus` guarantees is implemented here, by these rules:

* What is published or subscribed to in one turn of the event loop is written at its end, together.
* A broker handles what we write in order, so its answer to a ping confirms that it has received
  everything before. A ping follows subscriptions at once, publishing within ``_PROBE_DELAY``, and
  silence within ``_BEAT_INTERVAL``.
* Messages that are not followed by an answered ping when the connection ends are uncertain.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import BusError
from ..log import RateLimitedLogger
from .base import MAX_PAYLOAD_SIZE, MAX_PENDING_SIZE, Bus, Gap, Receive
from .broker_connection import BrokerConnection
from .gaps import GapTracker
from .handlers import MessageHandlers
from .interest import InterestQueries, answered
from .requests import BrokerRequests
from .subjects import Subject
from .subscriptions import PendingSubscription, PendingSubscriptions
from .wire import (
    Broken,
    BrokerEvent,
    BrokerHello,
    BrokerRefusal,
    BrokerReply,
    Control,
    Dropped,
    NoSubscribers,
    Wire,
)

if TYPE_CHECKING:
    from ..history.base import FollowingHistory, History

# Seconds; how much of what was published is uncertain when the broker dies.
_PROBE_DELAY = 0.05

# Seconds; a blocked loop counts as one beat, however long it is blocked.
_BEAT_INTERVAL = 2.0
_MAX_SILENT_BEATS = 5

# Seconds between attempts to connect, of which a random part is taken, so that
# processes do not reconnect in step.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0

# Seconds to send what is pending when the bus is stopped.
_DRAIN_TIMEOUT = 1.0


class BrokerProtocol(Protocol):
    """A kind of broker, and its address."""

    @property
    def url(self) -> str:
        """The URL, without passwords and tokens."""

    async def dial(self) -> BrokerConnection:
        """Connect and greet, or raise a BusError; leaves nothing open then, nor if cancelled."""

    def history(self, bus: "BrokerBus") -> "FollowingHistory":
        """Make the store of this kind of broker; imported only then."""


class _Ping(NamedTuple):
    """A ping without an answer yet: how much had been published when it was sent."""

    published: int
    sent_time: float


class BrokerBus:
    """The bus of a broker; see :class:`~.base.Bus`."""

    def __init__(
        self,
        protocol: BrokerProtocol,
        *,
        max_pending_size: int = MAX_PENDING_SIZE,
        beat_interval: float = _BEAT_INTERVAL,
    ) -> None:
        self.on_gap: Callable[[Gap], None] | None = None
        self.counts: Counter[str] = Counter()
        self._protocol = protocol
        self._max_pending_size = max_pending_size
        self._beat_interval = beat_interval
        self._max_payload_size = MAX_PAYLOAD_SIZE
        self._handlers = MessageHandlers(self.counts)
        self._gaps = GapTracker(self.counts)
        self._subscriptions = PendingSubscriptions(protocol.url)
        self._interest_queries = InterestQueries()
        self._requests = BrokerRequests(protocol.url)
        self._history: FollowingHistory | None = None
        self._rate_limited = RateLimitedLogger()
        self._connection: BrokerConnection | None = None
        self._is_stopped = False
        self._reconnecting: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        # Pending until the end of this turn, and its size in bytes; then the transport's backlog.
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._backlog = 0
        self._is_flush_due = False
        self._must_ping = False
        self._pings: deque[_Ping] = deque()
        # Messages published on this connection, and those that a pong has confirmed.
        self._published = 0
        self._confirmed = 0
        self._last_good_time = 0.0
        self._reason = ""
        self._refusal: BusError | None = None
        self._silent_beats = 0
        self._heartbeat_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    @property
    def url(self) -> str:
        return self._protocol.url

    @property
    def history(self) -> "History":
        if self._history is None:
            self._history = self._protocol.history(self)
        return self._history

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and not self._gaps.is_away

    @property
    def max_payload_size(self) -> int:
        return self._max_payload_size

    @property
    def is_spread(self) -> bool:
        return self._connection is not None and self._connection.is_spread

    async def start(self, *, patience: float | None = None) -> None:
        self._subscriptions.check()
        if self._connection is not None or self._reconnecting is not None:
            return
        if patience is not None:
            await self._start_with_patience(patience)
        else:
            connection = await self._protocol.dial()
            if self._is_stopped:
                connection.abort()
                self._subscriptions.check()
            self._open(connection)

    async def _start_with_patience(self, patience: float) -> None:
        since = time.time()
        connecting = asyncio.get_running_loop().create_task(self._reconnect(is_first=True))
        self._reconnecting = connecting
        try:
            await asyncio.wait([connecting], timeout=patience)
        except BaseException:
            connecting.cancel()
            raise
        if not connecting.done():
            self._gaps.broken(since, 0)
            self._log("dial", f"the bus {self.url} cannot be reached yet: continuing without it")

    async def stop(self) -> None:
        self._is_stopped = True
        if self._history is not None:
            self._history.stop()
        # In a task of its own: before Python 3.11.4, a timeout in one that was cancelled does not
        # end as a timeout, and the connection stayed open.
        await asyncio.get_running_loop().create_task(self._disconnect())

    async def _disconnect(self) -> None:
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.wait([self._reconnecting])
        connection = self._connection
        if connection is not None:
            self._drained = asyncio.get_running_loop().create_future()
            self._ping_after_pending()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_TIMEOUT):
                    await self._drained
            if self._connection is not None:
                self._drop_connection()
            await connection.close(_DRAIN_TIMEOUT)
        self._subscriptions.stop()

    def publish(self, subject: Subject, payload: bytes) -> bool:
        size = len(payload)
        if size > self._max_payload_size:
            raise BusError.too_big(self.url, size, self._max_payload_size)
        if self._connection is None or self._is_stopped:
            self._gaps.refused_away(time.time())
            return False
        if self._pending_size + self._backlog + size > self._max_pending_size:
            self._backlog = self._connection.backlog
            if self._pending_size + self._backlog + size > self._max_pending_size:
                self._gaps.refused(time.time())
                return False
        self._queue(self._connection.wire.publish(subject, payload))
        self._published += 1
        self.counts["published"] += 1
        return True

    def subscribe(self, subject: Subject, receive: Receive) -> PendingSubscription:
        is_new = self._handlers.add(subject, receive)
        if self._connection is not None:
            if is_new:
                self._queue(self._connection.wire.subscribe(subject))
            self._ping_after_pending()
        return self._subscriptions.wait()

    def has_subscriber(self, subject: Subject) -> Awaitable[bool | None]:
        connection = self._connection
        if connection is None or self._is_stopped:
            return answered(has_subscriber=None)
        if self._pending_size + connection.backlog > self._max_pending_size:
            return answered(has_subscriber=None)
        number, answer = self._interest_queries.add()
        self._queue(connection.wire.ask(subject, number))
        self._ping_after_pending()
        return answer

    def unsubscribe(self, subject: Subject) -> None:
        if self._handlers.remove(subject) and self._connection is not None:
            self._queue(self._connection.wire.unsubscribe(subject))

    def request(
        self,
        write: Callable[[Wire, int], bytes],
        size: int = 0,
        *,
        is_last: Callable[[BrokerReply], bool] | None = None,
    ) -> Awaitable[list[BrokerReply]]:
        """Send what is written for the number of a request at once; return its whole answer."""
        # The answer fails with a BusError if the connection ends, or after five seconds.
        connection = self._connection
        if connection is None or self._is_stopped:
            raise BusError(self.url, "it is away")
        if self._pending_size + connection.backlog + size > self._max_pending_size:
            raise BusError(self.url, "too much is waiting to be sent")
        number, answer = self._requests.add(is_last)
        self._queue(write(connection.wire, number))
        return answer

    def take_reply(self, number: int, payload: bytes) -> None:
        """Take an answer that came as a message."""
        self._requests.answered(BrokerReply(number, payload))

    def on_unknown(self, take: Callable[[str, bytes], None]) -> None:
        """Pass messages of subjects without a handler to a function."""
        self._handlers.otherwise = take

    def fail_requests(self, problem: str) -> None:
        self._requests.fail(BusError(self.url, problem))

    def _open(self, connection: BrokerConnection) -> None:
        loop = asyncio.get_running_loop()
        self._connection = connection
        self._max_payload_size = connection.max_payload_size
        self._published = self._confirmed = 0
        self._last_good_time = time.time()
        self._reason = "it closed the connection"
        self._silent_beats = 0
        self._heartbeat_timer = loop.call_later(self._beat_interval, self._on_heartbeat, connection)
        connection.hand_over(
            partial(self._on_events, connection),
            on_lost=self._on_lost,
            on_writable=partial(self._on_writable, connection),
            room=self._max_pending_size // 2,
        )
        if self._connection is connection:
            self._subscribe_again(connection)

    def _subscribe_again(self, connection: BrokerConnection) -> None:
        for subject in self._handlers:
            self._queue(connection.wire.subscribe(subject))
        self._ping_after_pending()

    def _queue(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _ping_after_pending(self) -> None:
        """Send a ping after everything that is pending."""
        self._must_ping = True
        self._queue(b"")

    def _flush(self) -> None:
        self._is_flush_due = False
        connection = self._connection
        if connection is None:
            return
        if self._must_ping:
            self._must_ping = False
            self._pending.append(connection.wire.ping)
            self._pings.append(_Ping(self._published, time.time()))
            self._subscriptions.asked()
            self._interest_queries.asked()
        elif self._probe_timer is None and self._published > self._confirmed:
            self._start_probe_timer()
        connection.write(b"".join(self._pending))
        self._pending.clear()
        self._pending_size = 0
        self._on_writable(connection)

    def _start_probe_timer(self) -> None:
        self._probe_timer = asyncio.get_running_loop().call_later(_PROBE_DELAY, self._on_probe)

    def _on_probe(self) -> None:
        self._probe_timer = None
        if self._published > self._confirmed and not self._pings:
            self._ping_after_pending()

    def _on_writable(self, connection: BrokerConnection) -> None:
        self._backlog = connection.backlog
        if self._gaps.is_full and self._backlog <= self._max_pending_size // 2:
            self._report(self._gaps.relieved(time.time()))

    def _on_heartbeat(self, connection: BrokerConnection) -> None:
        self._silent_beats += 1
        if self._silent_beats > _MAX_SILENT_BEATS:
            silence = _MAX_SILENT_BEATS * self._beat_interval
            self._reason = f"it has sent nothing for {silence:g} seconds"
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        self._heartbeat_timer = loop.call_later(self._beat_interval, self._on_heartbeat, connection)
        if not self._pings:
            self._ping_after_pending()

    def _on_events(self, connection: BrokerConnection, events: list[BrokerEvent]) -> None:
        self._silent_beats = 0
        now = asyncio.get_running_loop().time()
        for event in events:
            if type(event) is tuple:
                self._handlers.deliver(event[0], event[1], now)
            elif event is Control.PONG:
                self._on_pong(connection)
            elif event is Control.PING:
                self._queue(connection.wire.pong)
            else:
                self._on_control(connection, event)

    def _on_pong(self, connection: BrokerConnection) -> None:
        if not self._pings:
            return
        ping = self._pings.popleft()
        self._confirmed = ping.published
        self._last_good_time = ping.sent_time
        self._subscriptions.confirmed(self._refusal)
        self._interest_queries.confirmed(
            has_subscriber=True if connection.wire.can_confirm else None
        )
        self._refusal = None
        if self._gaps.is_away:
            self._report(self._gaps.restored(time.time()))
        if self._confirmed < self._published and self._probe_timer is None:
            self._start_probe_timer()
        if self._drained is not None and not self._pings and not self._drained.done():
            self._drained.set_result(None)

    def _on_control(self, connection: BrokerConnection, event: BrokerEvent) -> None:
        match event:
            case BrokerReply():
                self._requests.answered(event)
            case Dropped():
                if self._history is not None:
                    self._history.lose_all()
                self._report(self._gaps.dropped(event.since, time.time(), event.count))
            case NoSubscribers():
                self._interest_queries.denied(event.number)
            case BrokerRefusal():
                self._on_refused(event)
            case BrokerHello({"max_payload": int(size)}):
                self._max_payload_size = size
            case Broken():
                self._reason = event.text
                connection.abort()
            case _:
                pass

    def _on_refused(self, event: BrokerRefusal) -> None:
        self.counts["refused"] += 1
        self._interest_queries.doubted()
        self._reason = f"it refuses: {event.text}"
        self._log("refused", f"the bus {self.url}: {self._reason}")
        if event.is_of_subscribing:
            # It comes before the answer to the ping that follows the subscription.
            self._refusal = BusError(self.url, self._reason)
        if self._history is not None:
            self._history.refused(event.text)

    def _on_lost(self) -> None:
        if self._connection is None:
            return
        self._drop_connection()
        if self._is_stopped:
            return
        self._log("lost", f"the bus {self.url} is away: {self._reason}")
        self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect())

    def _drop_connection(self) -> None:
        """Drop the connection, and count what may be lost with it."""
        self._connection = None
        for timer in (self._heartbeat_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        self._heartbeat_timer = self._probe_timer = None
        self._gaps.broken(self._last_good_time, self._published - self._confirmed)
        self._pending.clear()
        self._pending_size = self._backlog = 0
        self._must_ping = False
        self._refusal = None
        self._pings.clear()
        self._subscriptions.broken()
        self._interest_queries.broken()
        self._requests.broken()
        if self._history is not None and not self._is_stopped:
            self._history.lose_all()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def _reconnect(self, *, is_first: bool = False) -> None:
        for attempt in itertools.count():
            longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(attempt, 10))
            if attempt or not is_first:
                await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - no secret
            try:
                connection = await self._protocol.dial()
            except BusError as error:
                self._log("dial", f"the bus {self.url} is still away: {error.problem}")
            else:
                self._reconnecting = None
                self._open(connection)
                return

    def _report(self, gap: Gap | None) -> None:
        if gap is None:
            return
        missed = "unknown" if gap.missed is None else gap.missed
        self._log(
            f"gap {gap.cause}",
            f"the bus {self.url}: {gap.cause} for {gap.until - gap.since:.1f} s:"
            f" {gap.unsent} messages not sent, {gap.uncertain} uncertain, {missed} missed",
        )
        self._handlers.report(gap, self.on_gap)

    def _log(self, cause: str, message: str) -> None:
        self._rate_limited.warning(cause, message, asyncio.get_running_loop().time())


_: type[Bus] = BrokerBus
