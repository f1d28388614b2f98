"""
Gateways and business processes on a bus that loses, delays and kills, without a loop or a clock.

Gateways are :class:`~gateman.gateway.dispatch.Dispatch`, what a process has of them is an
:class:`~gateman.gateway.receive_window.ReceiveWindow`; what is between is bytes. A process handles
an event by writing it down, and counts the messages of a client in its session.
"""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

from gateman.cluster.names import ClientId, NodeId, client_id, node_of
from gateman.gateway.actions import Probe, Quarantine, Reply, Resume, Send, StoreSession
from gateman.gateway.dispatch import Dispatch
from gateman.gateway.liveness import BEAT_INTERVAL, TICK_INTERVAL
from gateman.gateway.protocol import (
    AdoptEvent,
    AnyEvent,
    Begun,
    CloseEvent,
    ConnectEvent,
    Discover,
    Events,
    HandshakeAnswer,
    Leave,
    MessageEvent,
    Offer,
    OpenEvent,
    Packet,
    Released,
    Result,
    decode,
    encode,
)
from gateman.gateway.receive_window import ReceiveWindow

# Seconds that the bus takes to notice that a process is dead.
_NOTICE = 0.6

# How often it is looked whether everything is done: each turn is a `TICK_INTERVAL`.
_MAX_TURNS = 200


@dataclass
class _Guest:
    """What a process has of a client."""

    saved: bytes = b""
    waiting: deque[tuple[ReceiveWindow, int, AnyEvent]] = field(default_factory=deque)
    parts: list[tuple[ReceiveWindow, int, MessageEvent]] = field(default_factory=list)


class Process:
    """A business process; see `gateman.gateway.business_service`."""

    def __init__(self, world: "World", node: NodeId) -> None:
        self.world = world
        self.node = node
        self.is_leaving = False
        self.inboxes: dict[NodeId, ReceiveWindow] = {}
        self.clients: dict[ClientId, _Guest] = {}
        self._next_beat_at = 0.0

    def take(self, source: NodeId, packet: Packet) -> None:
        """Take what a gateway sends."""
        receive_window = self.inboxes.get(source)
        match packet:
            case Events():
                if receive_window is None or packet.epoch > receive_window.epoch:
                    self.forget(source)
                    receive_window = self.inboxes[source] = ReceiveWindow(packet.epoch)
                elif packet.epoch < receive_window.epoch:
                    return
                for number, event in receive_window.accept(packet):
                    self._queue(receive_window, number, event)
                self._say(source, receive_window)
            case Discover():
                self.world.send(self.node, source, self._offer())
            case Released() if receive_window is not None and receive_window.epoch == packet.epoch:
                receive_window.release(packet)
                self._forget_handed_over(source, receive_window)
            case _:
                pass

    def _queue(self, receive_window: ReceiveWindow, number: int, event: AnyEvent) -> None:
        context = self.clients.get(event.client)
        if context is None:
            if not isinstance(event, (AdoptEvent, ConnectEvent)):
                receive_window.done(Result(number))
                return
            context = self.clients[event.client] = _Guest()
        context.waiting.append((receive_window, number, event))

    def forget(self, source: NodeId) -> None:
        """Take a gateway for dead, or for a new one."""
        self.inboxes.pop(source, None)
        for name in self._clients_of(source):
            del self.clients[name]

    def lose(self, source: NodeId) -> None:
        """Tell of the end of the clients of a gateway that is dead."""
        receive_window = self.inboxes.pop(source, None)
        if receive_window is not None:
            self._forget_handed_over(source, receive_window)
        for name in self._clients_of(source):
            self.world.handled(self, name, "close")
            del self.clients[name]

    def _forget_handed_over(self, source: NodeId, receive_window: ReceiveWindow) -> None:
        for name in receive_window.handed_over(self._clients_of(source)):
            del self.clients[name]

    def _clients_of(self, source: NodeId) -> list[ClientId]:
        return [name for name in self.clients if node_of(name) == source]

    def work(self, count: int, *, is_said: bool) -> None:
        """Handle so many events, and tell, or not yet."""
        for name in list(self.clients):
            context = self.clients.get(name)
            while context is not None and context.waiting and count:
                count -= 1
                self._handle(name, context, *context.waiting.popleft())
        if is_said:
            for source, receive_window in self.inboxes.items():
                self._say(source, receive_window)

    def _handle(
        self,
        name: ClientId,
        context: _Guest,
        receive_window: ReceiveWindow,
        number: int,
        event: AnyEvent,
    ) -> None:
        if event.session is not None:
            context.saved = event.session
        if isinstance(event, MessageEvent) and not event.is_last:
            context.parts.append((receive_window, number, event))
            return
        source = node_of(name)
        if event.suspicion and source in self.inboxes:
            self._say(source, self.inboxes[source])
            self.world.send(self.node, source, Begun(receive_window.epoch, number))
        session: bytes | None = None
        answer: HandshakeAnswer | None = None
        match event:
            case MessageEvent():
                payload = b"".join([*(part.payload for _, _, part in context.parts), event.payload])
                self.world.handled(self, name, int(payload))
                session = context.saved = b"%d" % (int(context.saved or b"0") + 1)
            case ConnectEvent():
                self.world.handled(self, name, "connect")
                answer = HandshakeAnswer(403 if name in self.world.refused else 0)
            case OpenEvent():
                self.world.handled(self, name, "open")
            case CloseEvent():
                self.world.handled(self, name, "close")
            case AdoptEvent():
                pass
        for part_inbox, part_number, _ in context.parts:
            part_inbox.done(Result(part_number))
        context.parts = []
        if isinstance(event, CloseEvent) or (answer is not None and answer.status):
            del self.clients[name]
            for late_inbox, late_number, _ in context.waiting:
                late_inbox.done(Result(late_number))
            context.waiting.clear()
        _report(receive_window, Result(number, session, answer))

    def tick(self) -> None:
        """Give signs of life, and leave when nothing is left to do."""
        if self.world.now >= self._next_beat_at:
            self._next_beat_at = self.world.now + BEAT_INTERVAL
            for source in self.world.gateways:
                self.world.send(self.node, source, self._offer())
            for source, receive_window in self.inboxes.items():
                for done in receive_window.heartbeat():
                    self.world.send(self.node, source, done)
        if self.is_leaving:
            for source, receive_window in self.inboxes.items():
                self._forget_handed_over(source, receive_window)
        if self.is_leaving and all(
            receive_window.is_idle for receive_window in self.inboxes.values()
        ):
            for source, receive_window in self.inboxes.items():
                self._say(source, receive_window)
            for source in self.world.gateways:
                self.world.send(self.node, source, Leave())
            self.world.remove(self)

    def _offer(self) -> Offer:
        return Offer(self.is_leaving, len(self.clients))

    def _say(self, source: NodeId, receive_window: ReceiveWindow) -> None:
        for done in receive_window.report():
            self.world.send(self.node, source, done)


class GatewayNode:
    """A gateway process; see `gateman.gateway.gateway_service`."""

    def __init__(self, world: "World", node: NodeId, grace_period: float) -> None:
        self.world = world
        self.node = node
        self.dispatch = Dispatch(grace_period=grace_period)
        self.pending: set[ClientId] = set()
        self.sessions: dict[ClientId, bytes] = {}
        self._count = 0

    def connect(self, *, is_refused: bool) -> None:
        """Let a client come."""
        self._count += 1
        name = client_id(self.node, self._count)
        if is_refused:
            self.world.refused.add(name)
        self.pending.add(name)
        self.world.happened[name].append("connect")
        self.dispatch.connect(name, "10.0.0.1", 1, b"")
        self.act()

    def message(self, name: ClientId, size: int) -> None:
        """Let a client send a message, if it is read from."""
        if name not in self.dispatch.clients or not self.dispatch.clients[name].is_paused:
            number = len(self.world.happened[name])
            self.world.happened[name].append(number)
            payload = b"%*d" % (size, number)
            client = self.dispatch.clients[name]
            self.dispatch.set_session(client, self.sessions[name])
            self.dispatch.message(client, payload.decode())
            self.act()

    def close(self, name: ClientId) -> None:
        """Let a client go."""
        self.pending.discard(name)
        self.world.final[name] = self.sessions.pop(name, b"")
        self.dispatch.close(name, 1000, "", self.world.final[name])
        if name in self.dispatch.clients:
            self.world.happened[name].append("close")
        else:
            assert self.world.happened.pop(name) == ["connect"]
            assert name not in self.world.handlings
        self.act()

    def take(self, source: NodeId, packet: Packet) -> None:
        """Take what a process sends."""
        self.dispatch.receive(source, packet, self.world.now)
        self.act()

    def act(self) -> None:
        """Do what the dispatch says."""
        while actions := self.dispatch.take_actions():
            for action in actions:
                match action:
                    case Send(node, packet):
                        for one in self.world.processes if node is None else [node]:
                            self.world.send(self.node, one, packet)
                    case Probe(node):
                        is_connected = self.world.has(node)
                        self.dispatch.probed(node, self.world.now, is_connected=is_connected)
                    case Resume(client):
                        assert not self.dispatch.clients[client].is_paused
                    case StoreSession(client, session):
                        (self.sessions if client in self.sessions else self.world.final)[client] = (
                            session
                        )
                    case Reply(client, answer) if client in self.pending:
                        self._replied(client, answer)
                    case Quarantine(client, event):
                        self.world.quarantined(client, event)
                    case _:
                        pass

    def left(self) -> list[object]:
        """Tell what the dispatch still has of clients; nothing, when they are gone."""
        dispatch = self.dispatch
        waiting_size, unassigned = dispatch._waiting_size, dispatch._unassigned  # noqa: SLF001
        numbers = [dispatch.pending_count, dispatch.paused_count, dispatch.size, waiting_size]
        for window in dispatch.windows.values():
            numbers += [len(window.clients), len(window.pending)]
            in_flight_size = window._sent_end - window._acknowledged_end  # noqa: SLF001
            numbers += [window._size, in_flight_size, window._unhandled_size]  # noqa: SLF001
        tables: list[object] = [*dispatch.clients, *unassigned]
        return [*tables, *filter(None, numbers)]

    def _replied(self, client: ClientId, answer: HandshakeAnswer) -> None:
        self.pending.discard(client)
        if not answer.status:
            self.sessions[client] = b""
            self.world.happened[client].append("open")
            self.dispatch.open(client)


class World:
    """
    All of it, and what has happened.

    Attributes:
        now: Seconds.
        gateways: The gateways.
        processes: The business processes that live.
        refused: Clients that are not let in.
        happened: What happened to each client, in order.
        handlings: By client: what was handled, where; in order.
        final: The session that each client ended with.
        quarantine: By client, what was quarantined.
        unsteady: Processes that were killed or cut off.
        is_lossy: Whether the bus still loses what it is told to.
    """

    def __init__(self, gateway_count: int, grace_period: float) -> None:
        self.now = 0.0
        self.gateways: dict[NodeId, GatewayNode] = {}
        self.processes: dict[NodeId, Process] = {}
        self.refused: set[ClientId] = set()
        self.happened: defaultdict[ClientId, list[int | str]] = defaultdict(list)
        self.handlings: defaultdict[ClientId, list[tuple[int | str, NodeId]]] = defaultdict(list)
        self.final: dict[ClientId, bytes] = {}
        self.quarantine: defaultdict[ClientId, list[int | str]] = defaultdict(list)
        self.unsteady: set[NodeId] = set()
        self.is_lossy = True
        self._wires: dict[tuple[NodeId, NodeId], deque[bytes]] = {}
        self._losses: Counter[tuple[NodeId, NodeId]] = Counter()
        self._dead_from: dict[NodeId, float] = {}
        self._count = 0
        for number in range(gateway_count):
            node = NodeId(f"g{number}")
            self.gateways[node] = GatewayNode(self, node, grace_period)
            self.gateways[node].dispatch.start()

    # The bus.

    def send(self, source: NodeId, target: NodeId, packet: Packet) -> None:
        """Send bytes, behind what is under way already; or lose them."""
        wire = (source, target)
        if self._losses[wire] > 0 and self.is_lossy:
            self._losses[wire] -= 1
        else:
            self._wires.setdefault(wire, deque()).append(encode(packet))

    def deliver(self, place: int, count: int) -> None:
        """Let arrive what was sent first between some two processes."""
        wires = [wire for wire, queue in self._wires.items() if queue]
        if not wires:
            return
        source, target = wire = wires[place % len(wires)]
        queue = self._wires[wire]
        there = self.gateways.get(target) or self.processes.get(target)
        for _ in range(min(count, len(queue))):
            data = queue.popleft()
            if there is not None:
                there.take(source, decode(data))

    def lose(self, place: int, count: int) -> None:
        """Lose what is sent next between some two processes, and what is under way."""
        wires = list(self._wires)
        if wires and self.is_lossy:
            wire = wires[place % len(wires)]
            self._losses[wire] = count
            self._wires[wire].clear()

    def has(self, node: NodeId) -> bool:
        """Tell what the bus believes of a process."""
        return node in self.processes or self.now < self._dead_from[node]

    # What happens to processes.

    def join(self) -> None:
        """Start a business process."""
        self._count += 1
        node = NodeId(f"b{self._count}")
        self.processes[node] = Process(self, node)

    def remove(self, process: Process) -> None:
        """End a business process that has said good-bye."""
        del self.processes[process.node]
        self._dead_from[process.node] = self.now

    def kill_gateway(self, gateway_node: GatewayNode) -> None:
        """End a gateway without a word; what it has said arrives, and then all know of it."""
        del self.gateways[gateway_node.node]
        for (source, target), queue in self._wires.items():
            if source == gateway_node.node:
                while queue:
                    data = queue.popleft()
                    if target in self.processes:
                        self.processes[target].take(source, decode(data))
        for process in self.processes.values():
            process.lose(gateway_node.node)

    def kill(self, process: Process) -> None:
        """End a business process without a word."""
        self.unsteady.add(process.node)
        del self.processes[process.node]
        self._dead_from[process.node] = self.now + _NOTICE

    def cut(self, process: Process, gateway_node: GatewayNode, *, from_here: bool) -> None:
        """Let one of the two believe that the other is gone."""
        self.unsteady.add(process.node)
        if from_here:
            gateway_node.dispatch.probed(process.node, self.now - 2, is_connected=False)
            gateway_node.dispatch.probed(process.node, self.now, is_connected=False)
            gateway_node.act()
        else:
            process.forget(gateway_node.node)

    def tick(self) -> None:
        """Let a step of time pass."""
        self.now += TICK_INTERVAL
        for gateway_node in self.gateways.values():
            gateway_node.dispatch.tick(self.now)
            gateway_node.act()
        for process in list(self.processes.values()):
            process.tick()

    def run(self) -> None:
        """Let a step of time pass in which everybody does what there is to do."""
        self.tick()
        for place in reversed(range(len(self._wires))):
            self.deliver(place, 1000)
        for process in list(self.processes.values()):
            process.work(1000, is_said=True)

    def heal(self) -> None:
        """Let everybody go, and everything be done."""
        self.is_lossy = False
        for gateway_node in self.gateways.values():
            for name in [*gateway_node.sessions, *sorted(gateway_node.pending)]:
                gateway_node.close(name)
        if all(process.is_leaving for process in self.processes.values()):
            self.join()
        for _ in range(_MAX_TURNS):
            self.run()
            if not any(gateway_node.dispatch.clients for gateway_node in self.gateways.values()):
                break

    # What is written down.

    def handled(self, process: Process, client: ClientId, what: int | str) -> None:
        """Write down that an event was handled."""
        self.handlings[client].append((what, process.node))

    def quarantined(self, client: ClientId, event: AnyEvent) -> None:
        """Write down that an event was quarantined."""
        what: int | str = type(event).__name__.lower()
        if isinstance(event, MessageEvent):
            what = int(event.payload)
        self.quarantine[client].append(what)


def _report(receive_window: ReceiveWindow, result: Result) -> None:
    if result == Result(result.number):
        receive_window.handled(result.number)
    else:
        receive_window.done(result)
