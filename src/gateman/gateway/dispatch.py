"""
Decides which business process gets which client's events, and what happens if it ends. PURE.

All events of a client go, in order, to the process that had the fewest clients when the client
connected. The gateway keeps an event until that process has handled it. When a process leaves or
dies, its clients and its unhandled events go to other processes: so every event is handled at
least once, and more than once only if a process died or was cut off while it had the event.

An event that crashes its process must not crash them all. Unhandled events of a dead process are
sent again with *suspicion* 1: a process reports when it begins such an event, and begins no other
suspected event meanwhile. If it dies with exactly one of them begun, that event has killed it. An
event that has killed two processes is quarantined: not handled, but logged and counted. The first
death counts if the process had few events. If a process had begun several, because they take long,
these get suspicion 2 and are handled one by one, without a time limit.

:class:`Dispatch` collects its decisions until :meth:`~Dispatch.take_actions`. Every instant is in
monotonic seconds.
"""

from math import inf

from ..cluster.names import ClientId, NodeId
from .actions import (
    DispatchAction,
    Log,
    Probe,
    Quarantine,
    Reply,
    ReplyToCommand,
    Resume,
    Send,
    StoreSession,
)
from .liveness import BEAT_INTERVAL, SILENCE_OF_BUSINESS, SILENCE_WITH_WORK, Liveness
from .protocol import (
    FAILED,
    AdoptEvent,
    AnyEvent,
    Begun,
    CloseEvent,
    ConnectEvent,
    Discover,
    Done,
    HandshakeAnswer,
    Leave,
    MessageEvent,
    Offer,
    OpenEvent,
    Packet,
    Released,
    Result,
)
from .send_window import (
    CONGESTED_SIZE,
    MAX_BATCH_SIZE,
    GatewayClient,
    Pending,
    SendWindow,
    size_of,
)

# Above one of these limits a gateway stops reading from a client until half of its events are done.
MAX_EVENTS = 32
MAX_SIZE = 256 << 10  # bytes

# Above this size of all clients' events, a gateway reads from no client until half of it is done.
# If each of 5000 clients sends a message of 1 MiB, only this limit bounds the gateway's memory.
MAX_TOTAL_SIZE = 64 << 20  # bytes

# If a process had more events when it died, none of them is blamed: an operator's second `kill -9`
# would too easily meet the same event.
_MAX_SUSPECTS = 8

# Seconds without a business process after which a gateway reports a problem. A process that crashed
# is replaced sooner, and handshakes wait for its replacement.
UNSERVED_AFTER = 5.0


class Dispatch:
    """
    The clients of a gateway process, and the business processes for them.

    Args:
        grace_period: See :class:`~.liveness.Liveness`.
        has_commands: Whether what clients send are commands of SDKs, which have answers.
    """

    def __init__(self, *, grace_period: float, has_commands: bool = False) -> None:
        self.clients: dict[ClientId, GatewayClient] = {}
        self.windows: dict[NodeId, SendWindow] = {}
        # Clients that are not read from because of their own events.
        self.paused_count = 0
        # Bytes of all clients' events that are not handled.
        self.size = 0
        # Whether `size` is so large that the gateway reads from no client.
        self.is_full = False
        # Events that were sent again because a process had died.
        self.repeated_count = 0
        self._has_commands = has_commands
        self._liveness = Liveness(grace_period)
        self._epoch = 0
        # Clients without a process, and the bytes of all events that are not in a window.
        self._unassigned: dict[GatewayClient, None] = {}
        self._waiting_size = 0
        self._unsent: dict[SendWindow, None] = {}
        # Processes that are due a heartbeat, or a `Released`.
        self._beats_due: dict[SendWindow, None] = {}
        self._releases_due: dict[SendWindow, None] = {}
        # Clients with a StoreSession that is not carried out yet: the caller's copy is older.
        self._stored: set[GatewayClient] = set()
        self._next_beat_at = 0.0
        self._had_business_at = -inf
        self._actions: list[DispatchAction] = []

    @property
    def pending_count(self) -> int:
        """How many events are not handled."""
        leaving = [window.clients for window in self.windows.values() if window.is_leaving]
        waiting = sum(
            len(one.pending) for clients in (*leaving, self._unassigned) for one in clients
        )
        taking = [window.pending for window in self.windows.values() if not window.is_leaving]
        return waiting + sum(map(len, taking))

    @property
    def has_business(self) -> bool:
        """Whether a business process takes new clients."""
        return self._least_loaded() is not None

    def may_answer(self, callback: str) -> bool:
        """Tell whether a business process has a callback, or will perhaps have it."""
        return not self.windows or any(
            callback in window.callbacks for window in self.windows.values()
        )

    def is_unserved(self, now: float) -> bool:
        """Tell whether no business process has taken clients for ``UNSERVED_AFTER`` seconds."""
        return not self.has_business and now > self._had_business_at + UNSERVED_AFTER

    def take_actions(self) -> list[DispatchAction]:
        """Return the decisions that were made since the last call, in order."""
        self._stored.clear()
        touched, self._unsent = self._unsent, {}
        # The new process of a client must hear of it before the leaving process gives it up: if
        # this gateway died in between, no process would run the client's on_close.
        for window in sorted(touched, key=lambda window: window.is_leaving):
            self._actions += [Send(window.node, events) for events in window.batches()]
        releases, self._releases_due = self._releases_due, {}
        has_successor = self.has_business if releases else False
        self._actions += [
            Send(window.node, Released(window.epoch, window.last, has_successor))
            for window in releases
        ]
        beats, self._beats_due = self._beats_due, {}
        self._actions += [Send(window.node, window.heartbeat()) for window in beats]
        todo, self._actions = self._actions, []
        return todo

    def connect(self, name: ClientId, remote_ip: str, remote_port: int, head: bytes) -> None:
        """Take a handshake; :class:`Reply` follows."""
        client = self.clients[name] = GatewayClient(name, remote_ip, remote_port)
        self._add_event(client, ConnectEvent(name, 0, None, remote_ip, remote_port, head))

    def open(self, name: ClientId) -> None:
        """Take note that the 101 was sent."""
        client = self.clients.get(name)
        if client is not None:
            self._add_event(client, OpenEvent(name))

    def arrive(self, name: ClientId, remote_ip: str, remote_port: int) -> None:
        """Take a client whose protocol has no handshake: it is open."""
        client = self.clients[name] = GatewayClient(name, remote_ip, remote_port)
        self._add_event(client, OpenEvent(name))

    def message(self, client: GatewayClient, message: str | bytes) -> None:
        """Take a client's message."""
        is_text = isinstance(message, str)
        payload = message.encode() if isinstance(message, str) else message
        if len(payload) > MAX_BATCH_SIZE:
            starts = range(0, len(payload) - MAX_BATCH_SIZE, MAX_BATCH_SIZE)
            for start in starts:
                piece = payload[start : start + MAX_BATCH_SIZE]
                event = MessageEvent(
                    client.name,
                    0,
                    None,
                    is_text,
                    piece,
                    is_last=False,
                    is_command=self._has_commands,
                )
                self._add_event(client, event)
            payload = payload[starts[-1] + MAX_BATCH_SIZE :]
        self._add_event(
            client,
            MessageEvent(client.name, 0, None, is_text, payload, is_command=self._has_commands),
        )

    def close(self, name: ClientId, code: int, reason: str, session: bytes) -> None:
        """Take a client's last event."""
        client = self.clients.get(name)
        if client is None:
            return
        self.set_session(client, session)
        if client.is_paused:
            client.is_paused = False
            self.paused_count -= 1
        if client.is_new and len(client.pending) == 1:
            # No process has heard of this client, and it has sent nothing.
            self._waiting_size -= client.size
            self._resize(client, -client.size)
            self._remove_client(client)
            return
        self._add_event(client, CloseEvent(name, 0, None, code, reason))

    def count_backlog(self, size: int) -> None:
        """Add the bytes of messages that wait outside of this dispatch; negative to subtract."""
        self.size += size
        if self.size > MAX_TOTAL_SIZE:
            self.is_full = True
        elif self.size <= MAX_TOTAL_SIZE // 2:
            self.is_full = False

    def _resize(self, client: GatewayClient, size: int) -> None:
        client.size += size
        self.count_backlog(size)

    def set_session(self, client: GatewayClient, session: bytes) -> None:
        """Take a client's session, as MessagePack; it goes with the next event."""
        if client not in self._stored:
            client.session = session

    def _add_event(self, client: GatewayClient, event: AnyEvent) -> None:
        size = size_of(event)
        pending = Pending(event, client, size)
        queue = client.pending
        queue.append(pending)
        # As `_resize`, inlined: every message passes here.
        client.size += size
        self.size += size
        if self.size > MAX_TOTAL_SIZE:
            self.is_full = True
        window = client.window
        if window is None or window.is_leaving:
            self._waiting_size += size
            if not queue[0].number:
                window = self._assign(client)
        else:
            window.add(pending)
            self._unsent[window] = None
        if client.is_paused or type(event) is CloseEvent:
            return
        if self._exceeds_limits(client, window):
            client.is_paused = True
            self.paused_count += 1

    def _exceeds_limits(self, client: GatewayClient, window: SendWindow | None) -> bool:
        is_congested = (
            self._waiting_size > CONGESTED_SIZE if window is None else window.is_congested
        )
        return is_congested or len(client.pending) >= MAX_EVENTS or client.size > MAX_SIZE

    def _assign(self, client: GatewayClient) -> SendWindow | None:
        """Choose a process for a client and send it the client's events."""
        if client.window is not None:
            del client.window.clients[client]
        window = client.window = self._least_loaded()
        if window is None:
            self._unassigned[client] = None
            return None
        self._unassigned.pop(client, None)
        window.clients[client] = None
        client.is_new = False
        client.known_session = None
        if not (client.pending and type(client.pending[0].event) is ConnectEvent):
            adopted = AdoptEvent(client.name, 0, None, client.remote_ip, client.remote_port)
            client.pending.appendleft(Pending(adopted, client, size_of(adopted)))
            self._resize(client, client.pending[0].size)
            self._waiting_size += client.pending[0].size
        for pending in client.pending:
            pending.event.session = None
            self._waiting_size -= pending.size
            window.add(pending)
        self._unsent[window] = None
        return window

    def _least_loaded(self) -> SendWindow | None:
        return min(
            (window for window in self.windows.values() if not window.is_leaving),
            key=lambda window: (len(window.clients), window.load, window.node),
            default=None,
        )

    def receive(self, node: NodeId, packet: Packet, now: float) -> None:
        """Take a packet of a business process."""
        window = self.windows.get(node)
        if window is not None:
            self._liveness.heard(node, now)
        match packet:
            case Offer():
                self._take_offer(node, window, packet, now)
            case Done() if window is not None and packet.epoch == window.epoch:
                self._take_done(window, packet)
            case Begun(epoch, number) if window is not None and epoch == window.epoch:
                pending = window.pending.get(number)
                if pending is not None:
                    pending.has_begun = True
            case Leave() if window is not None:
                self._remove_process(window)
            case _:
                pass  # For another gateway, or of an earlier epoch.

    def _take_offer(
        self, node: NodeId, window: SendWindow | None, offer: Offer, now: float
    ) -> None:
        if window is None:
            if offer.is_leaving:
                return
            self._epoch += 1
            window = self.windows[node] = SendWindow(node, self._epoch)
            self._liveness.heard(node, now)
            self._beats_due[window] = None
            for client in list(self._unassigned):
                self._assign(client)
            self._release_all()
        window.load, window.callbacks = offer.load, offer.callbacks
        if not offer.is_leaving:
            self._had_business_at = now
        else:
            if not window.is_leaving:
                window.is_leaving = True
                for client in [one for one in window.clients if not one.pending]:
                    self._assign(client)
            self._unsent[window] = self._beats_due[window] = None
            self._release_all()

    def _release_all(self) -> None:
        """Send ``Released`` to all leaving processes: ``has_successor`` may have changed."""
        self._releases_due.update(
            (window, None) for window in self.windows.values() if window.is_leaving
        )

    def _take_done(self, window: SendWindow, done: Done) -> None:
        if done.received < window.acknowledged:
            # The process took this gateway for dead and started again from 0. Its next Offer opens
            # a new window.
            self._remove_process(window)
            return
        window.acknowledge(done.received)
        if done.has_gap:
            window.rewind()
        for result in window.new_results(done):
            for pending in window.remove(result.number, result.count):
                self._remove_event(pending)
                if (
                    result.session is not None
                    or result.answer is not None
                    or result.reply is not None
                    or window.is_leaving
                ):
                    self._take_result(pending.client, result)
        self._unsent[window] = None
        if window.is_leaving:
            # A leaving process waits for this acknowledgement and for the move of its clients.
            self._beats_due[window] = None

    def _take_result(self, client: GatewayClient, result: Result) -> None:
        # A newer session that is on its way to the process wins.
        if result.session is not None and not any(
            one.event.session is not None for one in client.pending
        ):
            client.session = client.known_session = result.session
            self._stored.add(client)
            self._actions.append(StoreSession(client.name, result.session))
        if result.answer is not None:
            self._answer_handshake(client, result.answer)
        if result.reply is not None:
            self._actions.append(ReplyToCommand(client.name, result.reply))
        window = client.window
        if window is not None and window.is_leaving and client in window.clients:
            has_sent = bool(client.pending and client.pending[0].number)
            if not has_sent:
                self._assign(client)

    def _answer_handshake(self, client: GatewayClient, answer: HandshakeAnswer) -> None:
        self._actions.append(Reply(client.name, answer))
        if not answer.status:
            return
        # A refused client gets no on_close; a process drops its events that were sent already.
        for pending in [one for one in client.pending if not one.number]:
            self._drop_event(pending)
        if not client.pending:
            self._remove_client(client)

    def _remove_client(self, client: GatewayClient) -> None:
        self.clients.pop(client.name, None)
        self._unassigned.pop(client, None)
        if client.window is not None:
            client.window.clients.pop(client, None)

    def _remove_event(self, pending: Pending) -> None:
        """Remove an event from its client, and the client if this was its end."""
        client = pending.client
        if client.pending[0] is pending:
            client.pending.popleft()
        else:
            client.pending.remove(pending)
        # As `_resize`, inlined: every message passes here.
        client.size -= pending.size
        self.size -= pending.size
        if self.is_full and self.size <= MAX_TOTAL_SIZE // 2:
            self.is_full = False
        if type(pending.event) is CloseEvent:
            self._remove_client(client)
        elif client.is_paused and self._is_below_half(client):
            client.is_paused = False
            self.paused_count -= 1
            self._actions.append(Resume(client.name))

    def _is_below_half(self, client: GatewayClient) -> bool:
        return not client.pending or not (
            len(client.pending) > MAX_EVENTS // 2
            or client.size > MAX_SIZE // 2
            or self._exceeds_limits(client, client.window)
        )

    def probed(self, node: NodeId, now: float, *, is_connected: bool) -> None:
        """Take the bus's answer to a :class:`Probe`."""
        if self._liveness.probed(node, now, is_connected=is_connected):
            window = self.windows[node]
            self._actions.append(Log("warning", f"the business process {node} is gone"))
            self._suspect(window)
            self._remove_process(window)

    def returned(self, now: float) -> None:
        """Take note that this process has reconnected to the bus; others may not have."""
        self._liveness.returned(now)
        self._actions.append(Send(None, Discover()))

    def _suspect(self, window: SendWindow) -> None:
        """Raise the suspicion of a dead process's events; quarantine one that killed twice."""
        begun = [pending for pending in window.pending.values() if pending.has_begun]
        suspects = [pending for pending in begun if pending.event.suspicion > 1] or begun
        new = [pending for pending in window.pending.values() if not pending.event.suspicion]
        self.repeated_count += len(window.pending)
        for pending in new:
            pending.event.suspicion = 1
            pending.kill_count = int(len(new) <= _MAX_SUSPECTS)
        if len(suspects) == 1:
            suspects[0].kill_count += 1
            if suspects[0].kill_count > 1:
                self._quarantine(suspects[0])
                return
        for pending in suspects:
            pending.event.suspicion = 2

    def _quarantine(self, killer: Pending) -> None:
        client, event = killer.client, killer.event
        # The pieces before it belong to the same message. A refused client has no other events.
        dropped: list[Pending] = []
        for pending in client.pending:
            if pending is killer:
                break
            if type(pending.event) is MessageEvent and not pending.event.is_last:
                dropped.append(pending)
            else:
                dropped.clear()
        for pending in list(client.pending) if type(event) is ConnectEvent else [*dropped, killer]:
            self._drop_event(pending)
        self._actions.append(Quarantine(client.name, event))
        if type(event) is ConnectEvent:
            self._answer_handshake(client, FAILED)

    def _drop_event(self, pending: Pending) -> None:
        if not pending.number:
            self._waiting_size -= pending.size
        elif pending.client.window is not None:
            pending.client.window.pending.pop(pending.number, None)
        self._remove_event(pending)

    def _remove_process(self, window: SendWindow) -> None:
        """Move a process's clients and unhandled events to other processes."""
        del self.windows[window.node]
        self._liveness.forget(window.node)
        for windows in (self._unsent, self._beats_due, self._releases_due):
            windows.pop(window, None)
        self._release_all()
        for client in list(window.clients):
            for pending in list(client.pending):
                if pending.number:
                    pending.number = 0
                    self._waiting_size += pending.size
                if type(pending.event) is AdoptEvent:
                    client.pending.remove(pending)
                    self._resize(client, -pending.size)
                    self._waiting_size -= pending.size
            self._assign(client)

    def tick(self, now: float) -> None:
        """Send heartbeats and check those of others; call it each ``TICK_INTERVAL``."""
        if now >= self._next_beat_at:
            self._next_beat_at = now + BEAT_INTERVAL
            self._beats_due.update(dict.fromkeys(self.windows.values()))
        for window in self.windows.values():
            silence = SILENCE_WITH_WORK if window.is_waiting else SILENCE_OF_BUSINESS
            if self._liveness.should_probe(window.node, now, silence):
                self._actions.append(Probe(window.node))

    def start(self) -> None:
        """Ask which business processes there are."""
        self._actions.append(Send(None, Discover()))

    def stop(self) -> None:
        """Announce that this gateway ends; unhandled events are lost."""
        self._actions.append(Send(None, Leave()))
