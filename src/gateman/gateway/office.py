"""
A business worker at work: what gateways send it is handled, and they are told.

It offers itself to all gateways each second. Whoever sends it events is answered with what was
received and what is done (:mod:`.inbox`). When it leaves, it says so, and handles what it has; when
a gateway is gone, it handles the end of that gateway's clients.
"""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from math import inf
from typing import Any

from ..cluster.envelope import Close
from ..cluster.events import EventHandler
from ..cluster.here import Here
from ..cluster.names import ClientId, NodeId, node_of
from ..cluster.probes import Probes, asks
from ..cluster.station import Station
from ..hooks import last_share, started, stopped
from ..log import logger
from ..options import Timeouts
from .business import BusinessWorker
from .handlers import Handlers, Work
from .inbox import Inbox
from .parcels import Begun, Events, Farewell, Offer, Parcel, Released, Result, Seek, decode, encode
from .signs import BEAT_INTERVAL, RETURN, SILENCE_OF_GATEWAY, STEP, Watch, patience

# Seconds that a process stays behind its window for a bus that is away: longer than a broker takes
# to be started again; less than its master waits.
_MAX_STAY = 600.0

# RFC 6455, section 7.1.5: no Close was received.
_GONE = (1006, "the gateway is gone")


class BusinessService:
    """
    One process of a business worker; see :class:`~gateman.process.AnyService`.

    Attributes:
        counts: How often each cause that an operator may ask for has happened.
        contexts: None: there is no TLS here.
        present_count: None: there are no connections here.
        dropped_count: None.
    """

    contexts = None
    present_count = 0
    dropped_count = 0

    def __init__(self, worker: BusinessWorker, timeouts: Timeouts) -> None:
        """
        Prepare to serve.

        Args:
            worker: What was declared.
            timeouts: Its timeouts.
        """
        self.counts: Counter[str] = Counter()
        self._worker = worker
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._handlers = Handlers(worker.callbacks, self.counts, self._close_failed)
        self._station: Station | None = None
        self._inboxes: dict[NodeId, Inbox] = {}
        self._due: set[NodeId] = set()
        self._progress = asyncio.Event()
        self._is_leaving = False
        self._has_left = False
        self._is_away = False
        self._returned_at = -inf
        self._beats_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._event_handlers: list[EventHandler] = []
        self._watch = Watch(0)
        self._probes = Probes(asks(None), self._probed)

    # Its life.

    async def start(self, _sockets: Sequence[socket.socket], here: Here) -> None:
        """See :meth:`gateman.process.AnyService.start`."""
        self._station = here.station
        bus = here.station.bus
        self._watch = Watch(patience("local:" if bus is None else bus.url))
        self._probes = Probes(asks(bus), self._probed)
        await started(self._worker.callbacks, self._worker)
        self._event_handlers = [
            here.station.events.add(topic, function)
            for topic, function in self._worker.event_handlers
        ]
        here.station.tenant = self
        self._tick()

    def accept(self, _sockets: Collection[socket.socket]) -> None:
        """There is nothing to accept on."""

    async def drain(
        self, _code: int, _reason: str, *, window: float, may_stay: Callable[[], bool] = bool
    ) -> None:
        """
        Take no more events, and handle those that are here.

        Args:
            window: Seconds that this may take.
            may_stay: See :meth:`gateman.process.AnyService.drain`.
        """
        deadline = self._loop.time() + window
        self._is_leaving = True
        self._beats_at = 0.0
        self._tick()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while not self._is_finished():
                    self._progress.clear()
                    await self._progress.wait()
        await self._handlers.finish(deadline - self._loop.time())
        await self._stay_until_told(may_stay)
        self._leave()

    async def _stay_until_told(self, may_stay: Callable[[], bool]) -> None:
        """Wait for a bus that is away, or gateways would have others handle events once more."""
        stays_until = self._loop.time() + _MAX_STAY
        has_said = False
        while self._is_cut_off() and self._loop.time() < stays_until and may_stay():
            if not has_said:
                logger.warning(
                    "%s: the bus is away, and gateways do not know yet what was handled: this"
                    " process stays until they do, for %g minutes at most",
                    self,
                    _MAX_STAY / 60,
                )
            has_said = True
            self._progress.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_INTERVAL):
                    await self._progress.wait()

    def _is_cut_off(self) -> bool:
        """Tell whether gateways have not heard what was done, because the bus is or was away."""
        if not any(inbox.has_unheard for inbox in self._inboxes.values()):
            return False
        self._look_for_bus()
        return self._is_away or self._loop.time() < self._returned_at + RETURN

    def _look_for_bus(self) -> None:
        if self._station is not None and not self._station.is_connected:
            self._is_away = True

    async def stop(self, code: int, reason: str) -> None:
        """See :meth:`gateman.process.AnyService.stop`."""
        shutdown = self._timeouts.shutdown
        deadline = self._loop.time() + shutdown
        window = shutdown - last_share(self._worker.callbacks, shutdown)
        if self._station is not None:
            if not self._has_left:
                await self.drain(code, reason, window=window)
            events_until = deadline - shutdown + window
            await self._station.events.remove(self._event_handlers, deadline=events_until)
        await stopped(self._worker.callbacks, self._worker, self, deadline)

    def _is_finished(self) -> bool:
        return all(inbox.is_idle for inbox in self._inboxes.values())

    def _leave(self) -> None:
        self._has_left = True
        self._flush()
        self._say(None, Farewell())
        if self._timer is not None:
            self._timer.cancel()
        self._probes.cancel()
        if self._station is not None:
            self._station.tenant = None

    # What gateways say; see cluster.tenant.

    def take(self, source: NodeId, data: bytes) -> None:
        """See :meth:`gateman.cluster.tenant.Tenant.take`."""
        parcel = decode(data)
        now = self._loop.time()
        inbox = self._inboxes.get(source)
        if inbox is not None:
            self._watch.heard(source, now)
        match parcel:
            case Events():
                self._take_events(source, inbox, parcel, now)
            case Seek():
                self._say(source, self._offer())
            case Released() if inbox is not None and inbox.epoch == parcel.epoch:
                inbox.release(parcel)
                self._forget_handed_over(source, inbox)
                self._progress.set()
            case Farewell() if inbox is not None:
                self._lose(source, inbox)
            case _:
                pass  # Of another business process, or late.

    def returned(self) -> None:
        """See :meth:`gateman.cluster.tenant.Tenant.returned`."""
        self._is_away = False
        self._returned_at = self._loop.time()
        self._watch.returned(self._returned_at)
        self._beats_at = 0.0

    def _take_events(self, source: NodeId, inbox: Inbox | None, events: Events, now: float) -> None:
        if inbox is None or events.epoch > inbox.epoch:
            if inbox is not None:
                # It had taken us for dead, and its clients are with others.
                self._forget_clients(source)
            inbox = self._inboxes[source] = Inbox(events.epoch)
            self._watch.heard(source, now)
        elif events.epoch < inbox.epoch:
            return
        settle = partial(self._settle, source, inbox)
        announce = partial(self._announce, source, inbox)
        for number, event in inbox.take(events):
            if node_of(event.client) == source:
                self._handlers.handle(Work(number, event, settle, announce))
            else:
                inbox.done(Result(number))  # Of a client that cannot be the sender's.
        self._touch(source)

    def _clients_of(self, source: NodeId) -> list[ClientId]:
        return [name for name in self._handlers.guests if node_of(name) == source]

    def _forget_clients(self, source: NodeId) -> None:
        for name in self._clients_of(source):
            self._handlers.forget(name)

    def _forget_handed_over(self, source: NodeId, inbox: Inbox) -> None:
        """Forget the clients that another process has by now, while this one leaves."""
        for name in inbox.handed_over(self._clients_of(source)):
            self._handlers.forget(name)

    def _lose(self, source: NodeId, inbox: Inbox) -> None:
        """Handle the end of the clients of a gateway that is gone."""
        self._forget_handed_over(source, inbox)
        del self._inboxes[source]
        self._watch.forget(source)
        self._progress.set()
        for name in self._clients_of(source):
            self._handlers.leave(name, *_GONE)

    # What they are told.

    def _settle(self, source: NodeId, inbox: Inbox, result: Result) -> None:
        inbox.done(result)
        self._touch(source)

    def _announce(self, source: NodeId, inbox: Inbox, number: int) -> None:
        self._flush()
        self._say(source, Begun(inbox.epoch, number))

    def _touch(self, source: NodeId) -> None:
        self._progress.set()
        if not self._due:
            self._loop.call_soon(self._flush)
        self._due.add(source)

    def _flush(self) -> None:
        due, self._due = self._due, set()
        for source in due:
            inbox = self._inboxes.get(source)
            if inbox is not None:
                for done in inbox.report():
                    self._say(source, done)

    def _offer(self) -> Offer:
        return Offer(self._is_leaving, len(self._handlers.guests))

    def _say(self, node: NodeId | None, parcel: Parcel) -> None:
        if self._station is not None:
            self._station.send_parcel(node, encode(parcel))

    def _close_failed(self, client: ClientId) -> None:
        if self._station is not None:
            self._station.do(Close(client, 1011, "internal error"))

    # Time.

    def _tick(self) -> None:
        now = self._loop.time()
        self._look_for_bus()
        if now >= self._beats_at:
            self._beats_at = now + BEAT_INTERVAL
            self._say(None, self._offer())
            for source, inbox in self._inboxes.items():
                for done in inbox.sign():
                    self._say(source, done)
        for source, inbox in self._inboxes.items():
            if self._is_leaving:
                self._forget_handed_over(source, inbox)
            if self._watch.has_to_ask(source, now, SILENCE_OF_GATEWAY):
                self._probes.ask(source)
        self.counts["clients"] = len(self._handlers.guests)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(STEP, self._tick)

    def _probed(self, source: NodeId, is_there: bool | None) -> None:  # noqa: FBT001 - the bus's answer
        if is_there is None:
            return
        if self._watch.told(source, self._loop.time(), is_there=is_there):
            logger.warning("the gateway %s is gone", source)
            self._lose(source, self._inboxes[source])

    # For operators.

    @property
    def message_count(self) -> int:
        """Events that were handled."""
        return self._handlers.count

    def describe(self, _limit: int) -> list[dict[str, Any]]:
        """See :meth:`gateman.process.AnyService.describe`; there are none."""
        return []

    def __str__(self) -> str:
        """Name it for a log line."""
        return self._worker.name
