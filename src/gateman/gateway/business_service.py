"""
A business process: it runs callbacks for the events that gateways send, and acknowledges them.

It offers itself to all gateways each second, and reports to each which events it has received and
handled (:mod:`.receive_window`). A leaving process handles the events that it has. When a gateway
is gone, the process runs ``on_close`` for that gateway's clients.
"""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from ..cluster.envelope import CloseClient
from ..cluster.events import EventHandler
from ..cluster.membership import ConnectionMembership
from ..cluster.names import ClientId, NodeId, node_of
from ..cluster.node import Node
from ..cluster.probes import Probes, asks
from ..config.callbacks import BUSINESS_CLIENT_SIGNATURES
from ..log import logger
from ..options import Timeouts
from ..runtime.lifecycle import last_share, started, stopped
from ..websocket.close import GATEWAY_GONE
from .business import BusinessWorker
from .event_runner import EventRunner
from .liveness import (
    BEAT_INTERVAL,
    RECONNECT_GRACE,
    SILENCE_OF_GATEWAY,
    TICK_INTERVAL,
    Liveness,
    grace_period,
)
from .protocol import (
    Begun,
    Discover,
    Events,
    Leave,
    Offer,
    Packet,
    Released,
    Result,
    decode,
    encode,
)
from .receive_window import ReceiveWindow

if TYPE_CHECKING:
    from ..runtime.measurements import Measurements

# Seconds that a leaving process waits for a bus that is away: longer than a broker takes to
# restart, less than the master waits.
_MAX_BUS_WAIT = 600.0


class _Gateway:
    """A gateway that sends events: the :class:`~.client_context.Origin` of these."""

    def __init__(self, service: "BusinessService", name: NodeId, epoch: int) -> None:
        self.prefix = f"{name}-"
        self.window = ReceiveWindow(epoch)
        self.handled = self.window.handled
        self._service = service
        self._name = name

    def complete(self, result: Result) -> None:
        self.window.done(result)
        self._service.schedule_report(self._name)

    def announce(self, number: int) -> None:
        self._service.announce(self._name, Begun(self.window.epoch, number))


class BusinessService:
    """One process of a business worker, as a :class:`~gateman.runtime.process.AnyService`."""

    contexts = None
    present_count = 0

    def __init__(
        self,
        worker: BusinessWorker,
        timeouts: Timeouts,
        measurements: "Measurements | None" = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._worker = worker
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        functions = worker.callbacks
        self._answering = sorted(functions.keys() & BUSINESS_CLIENT_SIGNATURES.keys())
        if measurements is not None:
            functions = measurements.measured(functions)
        self._runner = EventRunner(functions, self.counts, self._close_failed)
        self._local_node: Node | None = None
        self._gateways: dict[NodeId, _Gateway] = {}
        self._reports_due: set[NodeId] = set()
        self._progress = asyncio.Event()
        self._is_leaving = False
        self._has_left = False
        self._is_bus_down = False
        self._returned_at = -inf
        self._next_beat_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._event_handlers: list[EventHandler] = []
        self._liveness = Liveness(0)
        self._probes = Probes(asks(None), self._probed)

    async def start(
        self, _sockets: Sequence[socket.socket], membership: ConnectionMembership
    ) -> None:
        """Run ``on_worker_start``, then offer this process to gateways."""
        self._local_node = membership.local_node
        bus = membership.local_node.bus
        self._liveness = Liveness(grace_period("local:" if bus is None else bus.url))
        self._probes = Probes(asks(bus), self._probed)
        await started(self._worker.callbacks, self._worker)
        self._event_handlers = [
            membership.local_node.events.add(topic, function)
            for topic, function in self._worker.event_handlers
        ]
        membership.local_node.extension = self
        self._tick()

    def accept(self, _sockets: Collection[socket.socket]) -> None:
        """Do nothing: a business process has no listening sockets."""

    async def drain(
        self, _code: int, _reason: str, *, window: float, may_stay: Callable[[], bool] = bool
    ) -> None:
        """Take no more events, and handle those that this process has."""
        deadline = self._loop.time() + window
        self._is_leaving = True
        self._next_beat_at = 0.0
        self._tick()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while not self._is_finished():
                    self._progress.clear()
                    await self._progress.wait()
        await self._runner.finish(deadline - self._loop.time())
        count = len(self._gateways)
        await self._stay(may_stay)
        if len(self._gateways) < count and may_stay():
            await self._runner.finish(self._handler_time)
        self._sign_off()

    async def _stay(self, may_stay: Callable[[], bool]) -> None:
        """
        Wait for a bus that is away, and until it is known which gateways are there.

        Otherwise other processes would handle events again, and no process would run ``on_close``
        for the clients of a gateway that has died.
        """
        now = began_at = self._loop.time()
        has_logged = False
        while now < began_at + _MAX_BUS_WAIT:
            self._check_bus()
            is_away = self._is_bus_down or now < self._returned_at + RECONNECT_GRACE
            is_known = not (is_away and self._has_unacknowledged)
            if (is_known and self._knows_gateways(began_at)) or not may_stay():
                return
            if is_away and not has_logged:
                has_logged = True
                logger.warning(
                    "%s: the bus is away, and gateways do not know which events are handled:"
                    " this process waits until they do, for %g minutes at most",
                    self,
                    _MAX_BUS_WAIT / 60,
                )
            self._progress.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_INTERVAL):
                    await self._progress.wait()
            now = self._loop.time()

    def _knows_gateways(self, since: float) -> bool:
        """Tell whether each gateway of a client that is left has been there since a moment."""
        nodes = set(map(node_of, self._runner.clients)) & self._gateways.keys()
        return all(self._liveness.was_there(node, since) for node in nodes)

    @property
    def _has_unacknowledged(self) -> bool:
        return any(gateway.window.has_unacknowledged for gateway in self._gateways.values())

    def _check_bus(self) -> None:
        if self._local_node is not None and not self._local_node.is_connected:
            self._is_bus_down = True

    async def stop(self, code: int, reason: str) -> None:
        """Drain within the shutdown time, then run ``on_worker_stop``."""
        shutdown, window = self._timeouts.shutdown, self._handler_time
        deadline = self._loop.time() + shutdown
        if self._local_node is not None:
            if not self._has_left:
                await self.drain(code, reason, window=window)
            events_until = deadline - shutdown + window
            await self._local_node.events.remove(self._event_handlers, deadline=events_until)
        await stopped(self._worker.callbacks, self._worker, self, deadline)

    @property
    def _handler_time(self) -> float:
        """Seconds that handlers have when this process stops."""
        shutdown = self._timeouts.shutdown
        return shutdown - last_share(self._worker.callbacks, shutdown)

    def _is_finished(self) -> bool:
        return all(gateway.window.is_idle for gateway in self._gateways.values())

    def _sign_off(self) -> None:
        self._has_left = True
        self._flush_reports()
        self._send(None, Leave())
        if self._timer is not None:
            self._timer.cancel()
        self._probes.cancel()
        if self._local_node is not None:
            self._local_node.extension = None

    # cluster.extension

    def take(self, source: NodeId, data: bytes) -> None:
        """Take a packet of a gateway."""
        packet = decode(data)
        now = self._loop.time()
        gateway = self._gateways.get(source)
        if gateway is not None:
            self._liveness.heard(source, now)
        match packet:
            case Events():
                self._take_events(source, gateway, packet, now)
            case Discover():
                self._send(source, self._offer())
            case Released() if gateway is not None and gateway.window.epoch == packet.epoch:
                gateway.window.release(packet)
                self._forget_handed_over(source, gateway)
                self._progress.set()
            case Leave() if gateway is not None:
                self._remove_gateway(source, gateway)
            case _:
                pass  # For another business process, or of an earlier epoch.

    def returned(self) -> None:
        """Take note that the bus was away, and is back."""
        self._is_bus_down = False
        self._returned_at = self._loop.time()
        self._liveness.returned(self._returned_at)
        self._next_beat_at = 0.0

    def _take_events(
        self, source: NodeId, gateway: _Gateway | None, events: Events, now: float
    ) -> None:
        if gateway is None or events.epoch > gateway.window.epoch:
            if gateway is not None:
                # The gateway took this process for dead and gave its clients to other processes.
                self._forget_clients_of(source)
            gateway = self._gateways[source] = _Gateway(self, source, events.epoch)
            self._liveness.heard(source, now)
        elif events.epoch < gateway.window.epoch:
            return
        # Now, so that no result schedules a report.
        self._reports_due.add(source)
        self._runner.handle(gateway.window.accept(events), gateway)
        # At once, so that one write takes the report and what the handlers have sent.
        self._reports_due.add(source)
        self._flush_reports()
        self._progress.set()

    def _clients_of(self, source: NodeId) -> list[ClientId]:
        return [name for name in self._runner.clients if node_of(name) == source]

    def _forget_clients_of(self, source: NodeId) -> None:
        for name in self._clients_of(source):
            self._runner.forget(name)

    def _forget_handed_over(self, source: NodeId, gateway: _Gateway) -> None:
        """Forget the clients that another process has taken over from this leaving one."""
        for name in gateway.window.handed_over(self._clients_of(source)):
            self._runner.forget(name)

    def _remove_gateway(self, source: NodeId, gateway: _Gateway) -> None:
        """Run ``on_close`` for the clients of a gateway that is gone."""
        self._forget_handed_over(source, gateway)
        del self._gateways[source]
        self._liveness.forget(source)
        self._progress.set()
        for name in self._clients_of(source):
            self._runner.leave(name, *GATEWAY_GONE)

    def announce(self, source: NodeId, begun: Begun) -> None:
        """Send results, and behind them which event begins."""
        self._flush_reports()
        self._send(source, begun)

    def schedule_report(self, source: NodeId) -> None:
        """Report to a gateway at the end of this turn of the loop."""
        self._progress.set()
        if not self._reports_due:
            self._loop.call_soon(self._flush_reports)
        self._reports_due.add(source)

    def _flush_reports(self) -> None:
        due, self._reports_due = self._reports_due, set()
        for source in due:
            gateway = self._gateways.get(source)
            if gateway is not None:
                for done in gateway.window.report():
                    self._send(source, done)

    def _offer(self) -> Offer:
        return Offer(self._is_leaving, len(self._runner.clients), self._answering)

    def _send(self, node: NodeId | None, packet: Packet) -> None:
        if self._local_node is not None:
            self._local_node.send_to_extension(node, encode(packet))

    def _close_failed(self, client: ClientId) -> None:
        if self._local_node is not None:
            self._local_node.actions.do(CloseClient(client, 1011, "internal error"))

    def _tick(self) -> None:
        now = self._loop.time()
        self._check_bus()
        if now >= self._next_beat_at:
            self._next_beat_at = now + BEAT_INTERVAL
            self._send(None, self._offer())
            for source, gateway in self._gateways.items():
                for done in gateway.window.heartbeat():
                    self._send(source, done)
        for source, gateway in self._gateways.items():
            if self._is_leaving:
                self._forget_handed_over(source, gateway)
            if self._liveness.should_probe(source, now, SILENCE_OF_GATEWAY):
                self._probes.ask(source)
        self.counts["clients"] = len(self._runner.clients)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(TICK_INTERVAL, self._tick)

    def _probed(self, source: NodeId, is_connected: bool | None) -> None:  # noqa: FBT001 - the bus's answer
        if is_connected is None:
            return
        if self._liveness.probed(source, self._loop.time(), is_connected=is_connected):
            logger.warning("the gateway %s is gone", source)
            self._remove_gateway(source, self._gateways[source])

    @property
    def message_count(self) -> int:
        """The number of handled events."""
        return self._runner.count

    def describe(self, _limit: int) -> list[dict[str, Any]]:
        """Return nothing: there are no connections to describe."""
        return []

    def __str__(self) -> str:
        return self._worker.name
