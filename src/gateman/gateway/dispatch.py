"""
Which business process gets which client's events, and what happens when one is gone. PURE.

A client's events go to one process, in the order in which they happened: the one with the fewest
clients when the client came. They are kept until that process has handled them. When it leaves
or dies, its clients, and what it has not handled, go to others, in order: so every event is
handled at least once, and more than once only if a process died, or was cut off, with it.

An event that kills whoever handles it must not kill them all. What a process had when it died is
sent on with *care* 1: a process says when it begins with it, and does not begin with others of that
kind meanwhile. If it dies with just one such event begun, that one has killed it. What has killed
two is set aside: not handled, logged and counted; the first time counts if it was one of a few that
the process had. If it had begun with several, as they take long, those get care 2, and are handled
one by one, however long they take.

:class:`Dispatch` is told what happened and what time it is, and collects what to do until
:meth:`~Dispatch.take`. Every instant is in monotonic seconds.
"""

from math import inf

from ..cluster.names import ClientId, NodeId
from .actions import DispatchAction, Log, Probe, Quarantine, Reply, Resume, Send, StoreSession
from .liveness import BEAT_INTERVAL, SILENCE_OF_BUSINESS, SILENCE_WITH_WORK, Liveness
from .protocol import (
    AdoptEvent,
    AnyEvent,
    Begun,
    CloseEvent,
    ConnectEvent,
    Done,
    Farewell,
    HandshakeAnswer,
    MessageEvent,
    Offer,
    OpenEvent,
    Packet,
    Released,
    Result,
    Seek,
)
from .send_window import CROWD_SIZE, MAX_BATCH_SIZE, GatewayClient, Pending, SendWindow

# What waits of one client before it is not read from any more: its own share.
MAX_EVENTS = 32
MAX_SIZE = 256 << 10  # bytes

# What waits of all clients before none is read from any more, until half of it is done. Where each
# of 5000 clients may have one message of 1 MiB, only this bounds the memory of a gateway whose
# business side is slow or away.
MAX_TOTAL_SIZE = 64 << 20  # bytes

# Of so many events that a process had when it died, each may have killed it. Of more, an operator's
# `kill -9` would too easily meet one of them a second time.
_FEW = 8

# Seconds without a process that takes clients after which a gateway says that it serves nobody: one
# that crashes is replaced sooner, and handshakes that come meanwhile wait for it.
DESERTED_AFTER = 5.0

_TOO_DANGEROUS = HandshakeAnswer(500, "internal error")


class Dispatch:
    """
    The clients of a gateway process, and the business processes for them.

    Attributes:
        clients: By their id.
        links: The business processes that are there.
        paused_count: How many clients are not read from, because of what waits of them.
        size: What waits of all clients, in bytes.
        is_full: Whether that is so much that no client is to be read from.
        repeated_count: How many events were sent a second time, because a process had died.
    """

    def __init__(self, *, patience: float) -> None:
        self.clients: dict[ClientId, GatewayClient] = {}
        self.windows: dict[NodeId, SendWindow] = {}
        self.paused_count = 0
        self.size = 0
        self.is_full = False
        self.repeated_count = 0
        self._liveness = Liveness(patience)
        self._epoch = 0
        # Those who have no process, and what waits of theirs; in bytes.
        self._unassigned: dict[GatewayClient, None] = {}
        self._waiting_size = 0
        self._touched: dict[SendWindow, None] = {}
        # Those that are told how far this gateway is, and those that there is nothing more for.
        self._signs: dict[SendWindow, None] = {}
        self._releases: dict[SendWindow, None] = {}
        # Those whose session is about to be kept: until then, theirs is not the newest.
        self._kept: set[GatewayClient] = set()
        self._beats_at = 0.0
        self._had_business_at = -inf
        self._todo: list[DispatchAction] = []

    @property
    def pending_count(self) -> int:
        """How many events are not done."""
        homes = [window.clients for window in self.windows.values() if window.is_leaving]
        waiting = sum(len(one.pending) for home in (*homes, self._unassigned) for one in home)
        taking = [window.pending for window in self.windows.values() if not window.is_leaving]
        return waiting + sum(map(len, taking))

    @property
    def has_business(self) -> bool:
        """Whether there is a business process that takes clients."""
        return self._choose() is not None

    def is_deserted(self, now: float) -> bool:
        """Tell whether no business process takes clients, for a while now."""
        return not self.has_business and now > self._had_business_at + DESERTED_AFTER

    def take(self) -> list[DispatchAction]:
        """Give what is to be done."""
        self._kept.clear()
        touched, self._touched = self._touched, {}
        # A process that leaves must not hear that a client is another's before that one does: if
        # this gateway died in between, nobody would tell the application of the client's end.
        for window in sorted(touched, key=lambda window: window.is_leaving):
            self._todo += [Send(window.node, events) for events in window.take()]
        releases, self._releases = self._releases, {}
        has_heir = self.has_business if releases else False
        self._todo += [
            Send(window.node, Released(window.epoch, window.last, has_heir)) for window in releases
        ]
        signs, self._signs = self._signs, {}
        self._todo += [Send(window.node, window.sign()) for window in signs]
        todo, self._todo = self._todo, []
        return todo

    # What happens to clients.

    def connect(self, name: ClientId, remote_ip: str, remote_port: int, head: bytes) -> None:
        """A client wants in; :class:`Reply` follows."""
        client = self.clients[name] = GatewayClient(name, remote_ip, remote_port)
        self._happened(client, ConnectEvent(name, 0, None, remote_ip, remote_port, head))

    def open(self, name: ClientId) -> None:
        """A client was let in."""
        client = self.clients.get(name)
        if client is not None:
            self._happened(client, OpenEvent(name))

    def message(self, name: ClientId, payload: bytes, session: bytes, *, is_text: bool) -> None:
        """A client sent a message."""
        client = self.clients.get(name)
        if client is None:
            return
        self._renew(client, session)
        start, end = 0, len(payload) - MAX_BATCH_SIZE
        while start < end:
            piece = payload[start : start + MAX_BATCH_SIZE]
            self._happened(client, MessageEvent(name, 0, None, is_text, piece, is_last=False))
            start += MAX_BATCH_SIZE
        self._happened(
            client, MessageEvent(name, 0, None, is_text, payload[start:] if start else payload)
        )

    def close(self, name: ClientId, code: int, reason: str, session: bytes) -> None:
        """A client is gone; nothing more happens to it."""
        client = self.clients.get(name)
        if client is None:
            return
        self._renew(client, session)
        if client.is_paused:
            client.is_paused = False
            self.paused_count -= 1
        first = client.pending[0].event if client.pending else None
        if client.window is None and type(first) is ConnectEvent and not first.suspicion:
            # Nobody has heard of it, and nobody needs to.
            self._waiting_size -= client.size
            self._resize(client, -client.size)
            self._remove(client)
            return
        self._happened(client, CloseEvent(name, 0, None, code, reason))

    def set_back(self, size: int) -> None:
        """Count bytes of clients that were read and are not told yet; fewer, if negative."""
        self.size += size
        if self.size > MAX_TOTAL_SIZE:
            self.is_full = True
        elif self.size <= MAX_TOTAL_SIZE // 2:
            self.is_full = False

    def _resize(self, client: GatewayClient, size: int) -> None:
        client.size += size
        self.set_back(size)

    def _renew(self, client: GatewayClient, session: bytes) -> None:
        if client not in self._kept:
            client.session = session

    def _happened(self, client: GatewayClient, event: AnyEvent) -> None:
        pending = Pending(event, client)
        client.pending.append(pending)
        self._resize(client, pending.size)
        self._waiting_size += pending.size
        window = client.window
        if window is None or (window.is_leaving and not client.pending[0].number):
            window = self._settle(client)
        elif not window.is_leaving:
            self._put(client, window, pending)
        if type(event) is CloseEvent or client.is_paused:
            return
        if self._is_too_much(client, window):
            client.is_paused = True
            self.paused_count += 1

    def _is_too_much(self, client: GatewayClient, window: SendWindow | None) -> bool:
        is_crowded = self._waiting_size > CROWD_SIZE if window is None else window.is_crowded
        return is_crowded or len(client.pending) >= MAX_EVENTS or client.size > MAX_SIZE

    def _put(self, client: GatewayClient, window: SendWindow, pending: Pending) -> None:
        self._waiting_size -= pending.size
        event = pending.event
        if client.session != client.known:
            client.known = event.session = client.session
        window.add(pending)
        self._touched[window] = None

    # Who gets whom.

    def _settle(self, client: GatewayClient) -> SendWindow | None:
        """Find a process for a client, and send there what waits; ``None`` if there is none."""
        if client.window is not None:
            del client.window.clients[client]
        window = client.window = self._choose()
        if window is None:
            self._unassigned[client] = None
            return None
        self._unassigned.pop(client, None)
        window.clients[client] = None
        client.known = None
        if not (client.pending and type(client.pending[0].event) is ConnectEvent):
            adopted = AdoptEvent(client.name, 0, None, client.remote_ip, client.remote_port)
            client.pending.appendleft(Pending(adopted, client))
            self._resize(client, client.pending[0].size)
            self._waiting_size += client.pending[0].size
        for pending in client.pending:
            pending.event.session = None
            self._put(client, window, pending)
        return window

    def _choose(self) -> SendWindow | None:
        """Find the process with the fewest clients."""
        return min(
            (window for window in self.windows.values() if not window.is_leaving),
            key=lambda window: (len(window.clients), window.load, window.node),
            default=None,
        )

    # What processes say.

    def heard(self, node: NodeId, packet: Packet, now: float) -> None:
        """Take what a process says."""
        window = self.windows.get(node)
        if window is not None:
            self._liveness.heard(node, now)
        match packet:
            case Offer(is_leaving, load):
                self._offered(node, window, load, now, is_leaving=is_leaving)
            case Done() if window is not None and packet.epoch == window.epoch:
                self._done(window, packet)
            case Begun(epoch, number) if window is not None and epoch == window.epoch:
                pending = window.pending.get(number)
                if pending is not None:
                    pending.has_begun = True
            case Farewell() if window is not None:
                self._lose(window)
            case _:
                pass  # Of another gateway, or late.

    def _offered(
        self, node: NodeId, window: SendWindow | None, load: int, now: float, *, is_leaving: bool
    ) -> None:
        if window is None:
            if is_leaving:
                return
            self._epoch += 1
            window = self.windows[node] = SendWindow(node, self._epoch)
            self._liveness.heard(node, now)
            self._signs[window] = None
            for client in list(self._unassigned):
                self._settle(client)
            self._release_all()
        window.load = load
        if not is_leaving:
            self._had_business_at = now
        else:
            if not window.is_leaving:
                window.is_leaving = True
                for client in [one for one in window.clients if not one.pending]:
                    self._settle(client)
            self._touched[window] = self._signs[window] = None
            self._release_all()

    def _release_all(self) -> None:
        """Tell all that leave, also of whether anybody takes over from them."""
        self._releases.update(
            (window, None) for window in self.windows.values() if window.is_leaving
        )

    def _done(self, window: SendWindow, done: Done) -> None:
        if done.received < window.arrived:
            # It has taken this gateway for dead, and begun anew: so do we, when it offers itself.
            self._lose(window)
            return
        window.received(done.received)
        if done.has_gap:
            window.rewind()
        for result in window.heard(done):
            pending = window.done(result.number)
            if pending is not None:
                self._finished(pending, result)
        self._touched[window] = None
        if window.is_leaving:
            # It waits to hear that we have heard, and that its clients are others' now.
            self._signs[window] = None

    def _finished(self, pending: Pending, result: Result) -> None:
        client = pending.client
        self._forget(pending)
        # One that was set meanwhile, and sent, is what the process has now.
        if result.session is not None and not any(
            one.event.session is not None for one in client.pending
        ):
            client.session = client.known = result.session
            self._kept.add(client)
            self._todo.append(StoreSession(client.name, result.session))
        if result.answer is not None:
            self._answer(client, result.answer)
        window = client.window
        has_here = bool(client.pending and client.pending[0].number)
        if window is not None and window.is_leaving and not has_here and client in window.clients:
            self._settle(client)

    def _answer(self, client: GatewayClient, answer: HandshakeAnswer) -> None:
        self._todo.append(Reply(client.name, answer))
        if not answer.status:
            return
        # Who was not let in has no end; a process that has got it nevertheless knows that.
        for pending in [one for one in client.pending if not one.number]:
            self._drop(pending)
        if not client.pending:
            self._remove(client)

    def _remove(self, client: GatewayClient) -> None:
        self.clients.pop(client.name, None)
        self._unassigned.pop(client, None)
        if client.window is not None:
            client.window.clients.pop(client, None)

    def _forget(self, pending: Pending) -> None:
        """Take an event from its client, which may be the last that there was of it."""
        client = pending.client
        if client.pending[0] is pending:
            client.pending.popleft()
        else:
            client.pending.remove(pending)
        self._resize(client, -pending.size)
        if type(pending.event) is CloseEvent:
            self._remove(client)
        elif client.is_paused and self._is_little(client):
            client.is_paused = False
            self.paused_count -= 1
            self._todo.append(Resume(client.name))

    def _is_little(self, client: GatewayClient) -> bool:
        return not client.pending or not (
            len(client.pending) > MAX_EVENTS // 2
            or client.size > MAX_SIZE // 2
            or self._is_too_much(client, client.window)
        )

    # When one is gone.

    def probed(self, node: NodeId, now: float, *, is_there: bool) -> None:
        """Take what the bus says about a process that is silent."""
        if self._liveness.told(node, now, is_there=is_there):
            window = self.windows[node]
            self._todo.append(Log("warning", f"the business process {node} is gone"))
            self._suspect(window)
            self._lose(window)

    def returned(self, now: float) -> None:
        """The bus was away, and is back; others may not be."""
        self._liveness.returned(now)
        self._todo.append(Send(None, Seek()))

    def _suspect(self, window: SendWindow) -> None:
        """Set aside what has killed a process, if that is known, and be careful with the rest."""
        begun = [pending for pending in window.pending.values() if pending.has_begun]
        suspects = [pending for pending in begun if pending.event.suspicion > 1] or begun
        new = [pending for pending in window.pending.values() if not pending.event.suspicion]
        self.repeated_count += len(window.pending)
        for pending in new:
            pending.event.suspicion = 1
            pending.kill_count = int(len(new) <= _FEW)
        if len(suspects) == 1:
            suspects[0].kill_count += 1
            if suspects[0].kill_count > 1:
                self._quarantine(suspects[0])
                return
        for pending in suspects:
            pending.event.suspicion = 2

    def _quarantine(self, killer: Pending) -> None:
        client, event = killer.client, killer.event
        # The pieces before it are the same message; who is not let in has no end.
        dropped: list[Pending] = []
        for pending in client.pending:
            if pending is killer:
                break
            if type(pending.event) is MessageEvent and not pending.event.is_last:
                dropped.append(pending)
            else:
                dropped.clear()
        for pending in list(client.pending) if type(event) is ConnectEvent else [*dropped, killer]:
            self._drop(pending)
        self._todo.append(Quarantine(client.name, event))
        if type(event) is ConnectEvent:
            self._answer(client, _TOO_DANGEROUS)

    def _drop(self, pending: Pending) -> None:
        if not pending.number:
            self._waiting_size -= pending.size
        elif pending.client.window is not None:
            pending.client.window.pending.pop(pending.number, None)
        self._forget(pending)

    def _lose(self, window: SendWindow) -> None:
        """Give what a process had to others."""
        del self.windows[window.node]
        self._liveness.forget(window.node)
        for told in (self._touched, self._signs, self._releases):
            told.pop(window, None)
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
            self._settle(client)

    # Time.

    def tick(self, now: float) -> None:
        """Send heartbeats and check those of others; called a few times each second."""
        if now >= self._beats_at:
            self._beats_at = now + BEAT_INTERVAL
            self._signs.update(dict.fromkeys(self.windows.values()))
        for window in self.windows.values():
            silence = SILENCE_WITH_WORK if window.is_waiting else SILENCE_OF_BUSINESS
            if self._liveness.has_to_ask(window.node, now, silence):
                self._todo.append(Probe(window.node))

    def start(self) -> None:
        """Look for business processes."""
        self._todo.append(Send(None, Seek()))

    def stop(self) -> None:
        """Say that this gateway is gone; what is not done is not done."""
        self._todo.append(Send(None, Farewell()))
