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
from .actions import Action, Keep, Probe, Reply, Resume, Say, Send, SetAside
from .link import CROWD_SIZE, MAX_BATCH_SIZE, Client, Link, Pending
from .parcels import (
    Adopt,
    Answer,
    AnyEvent,
    Begun,
    Close,
    Connect,
    Done,
    Farewell,
    Message,
    Offer,
    Open,
    Parcel,
    Released,
    Result,
    Seek,
)
from .signs import BEAT_INTERVAL, SILENCE_OF_BUSINESS, SILENCE_WITH_WORK, Watch

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

_TOO_DANGEROUS = Answer(500, "internal error")


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
        """
        Begin with nobody.

        Args:
            patience: For how many seconds the bus may say that a process is gone until it is
                believed.
        """
        self.clients: dict[ClientId, Client] = {}
        self.links: dict[NodeId, Link] = {}
        self.paused_count = 0
        self.size = 0
        self.is_full = False
        self.repeated_count = 0
        self._watch = Watch(patience)
        self._epoch = 0
        # Those who have no process, and what waits of theirs; in bytes.
        self._homeless: dict[Client, None] = {}
        self._waiting_size = 0
        self._touched: dict[Link, None] = {}
        # Those that are told how far this gateway is, and those that there is nothing more for.
        self._signs: dict[Link, None] = {}
        self._releases: dict[Link, None] = {}
        # Those whose session is about to be kept: until then, theirs is not the newest.
        self._kept: set[Client] = set()
        self._beats_at = 0.0
        self._had_business_at = -inf
        self._todo: list[Action] = []

    @property
    def pending_count(self) -> int:
        """How many events are not done."""
        homes = [link.clients for link in self.links.values() if link.is_leaving]
        waiting = sum(len(one.pending) for home in (*homes, self._homeless) for one in home)
        taking = [link.pending for link in self.links.values() if not link.is_leaving]
        return waiting + sum(map(len, taking))

    @property
    def has_business(self) -> bool:
        """Whether there is a business process that takes clients."""
        return self._choose() is not None

    def is_deserted(self, now: float) -> bool:
        """Tell whether no business process takes clients, for a while now."""
        return not self.has_business and now > self._had_business_at + DESERTED_AFTER

    def take(self) -> list[Action]:
        """
        Give what is to be done.

        Returns:
            It, in this order.
        """
        self._kept.clear()
        touched, self._touched = self._touched, {}
        # A process that leaves must not hear that a client is another's before that one does: if
        # this gateway died in between, nobody would tell the application of the client's end.
        for link in sorted(touched, key=lambda link: link.is_leaving):
            self._todo += [Send(link.node, events) for events in link.take()]
        releases, self._releases = self._releases, {}
        has_heir = self.has_business if releases else False
        self._todo += [
            Send(link.node, Released(link.epoch, link.last, has_heir)) for link in releases
        ]
        signs, self._signs = self._signs, {}
        self._todo += [Send(link.node, link.sign()) for link in signs]
        todo, self._todo = self._todo, []
        return todo

    # What happens to clients.

    def connect(self, name: ClientId, remote_ip: str, remote_port: int, head: bytes) -> None:
        """
        A client wants in; :class:`Reply` follows.

        Args:
            name: Its id.
            remote_ip: Its address.
            remote_port: Its port.
            head: The head of its request.
        """
        client = self.clients[name] = Client(name, remote_ip, remote_port)
        self._happened(client, Connect(name, 0, None, remote_ip, remote_port, head))

    def open(self, name: ClientId) -> None:
        """
        A client was let in.

        Args:
            name: Its id.
        """
        client = self.clients.get(name)
        if client is not None:
            self._happened(client, Open(name))

    def message(self, name: ClientId, payload: bytes, session: bytes, *, is_text: bool) -> None:
        """
        A client sent a message.

        Args:
            name: Its id.
            payload: The message; of a text, its UTF-8.
            session: The client's session, as MessagePack; empty if it has none.
            is_text: Whether it is text.
        """
        client = self.clients.get(name)
        if client is None:
            return
        self._renew(client, session)
        start, end = 0, len(payload) - MAX_BATCH_SIZE
        while start < end:
            piece = payload[start : start + MAX_BATCH_SIZE]
            self._happened(client, Message(name, 0, None, is_text, piece, is_last=False))
            start += MAX_BATCH_SIZE
        self._happened(
            client, Message(name, 0, None, is_text, payload[start:] if start else payload)
        )

    def close(self, name: ClientId, code: int, reason: str, session: bytes) -> None:
        """
        A client is gone; nothing more happens to it.

        Args:
            name: Its id.
            code: The close code.
            reason: The close reason.
            session: Its session, as MessagePack; empty if it has none.
        """
        client = self.clients.get(name)
        if client is None:
            return
        self._renew(client, session)
        if client.is_paused:
            client.is_paused = False
            self.paused_count -= 1
        first = client.pending[0].event if client.pending else None
        if client.link is None and type(first) is Connect and not first.care:
            # Nobody has heard of it, and nobody needs to.
            self._waiting_size -= client.size
            self._resize(client, -client.size)
            self._remove(client)
            return
        self._happened(client, Close(name, 0, None, code, reason))

    def set_back(self, size: int) -> None:
        """Count bytes of clients that were read and are not told yet; fewer, if negative."""
        self.size += size
        if self.size > MAX_TOTAL_SIZE:
            self.is_full = True
        elif self.size <= MAX_TOTAL_SIZE // 2:
            self.is_full = False

    def _resize(self, client: Client, size: int) -> None:
        client.size += size
        self.set_back(size)

    def _renew(self, client: Client, session: bytes) -> None:
        if client not in self._kept:
            client.session = session

    def _happened(self, client: Client, event: AnyEvent) -> None:
        pending = Pending(event, client)
        client.pending.append(pending)
        self._resize(client, pending.size)
        self._waiting_size += pending.size
        link = client.link
        if link is None or (link.is_leaving and not client.pending[0].number):
            link = self._settle(client)
        elif not link.is_leaving:
            self._put(client, link, pending)
        if type(event) is Close or client.is_paused:
            return
        if self._is_too_much(client, link):
            client.is_paused = True
            self.paused_count += 1

    def _is_too_much(self, client: Client, link: Link | None) -> bool:
        is_crowded = self._waiting_size > CROWD_SIZE if link is None else link.is_crowded
        return is_crowded or len(client.pending) >= MAX_EVENTS or client.size > MAX_SIZE

    def _put(self, client: Client, link: Link, pending: Pending) -> None:
        self._waiting_size -= pending.size
        event = pending.event
        if client.session != client.known:
            client.known = event.session = client.session
        link.add(pending)
        self._touched[link] = None

    # Who gets whom.

    def _settle(self, client: Client) -> Link | None:
        """Find a process for a client, and send there what waits; ``None`` if there is none."""
        if client.link is not None:
            del client.link.clients[client]
        link = client.link = self._choose()
        if link is None:
            self._homeless[client] = None
            return None
        self._homeless.pop(client, None)
        link.clients[client] = None
        client.known = None
        if not (client.pending and type(client.pending[0].event) is Connect):
            adopted = Adopt(client.name, 0, None, client.remote_ip, client.remote_port)
            client.pending.appendleft(Pending(adopted, client))
            self._resize(client, client.pending[0].size)
            self._waiting_size += client.pending[0].size
        for pending in client.pending:
            pending.event.session = None
            self._put(client, link, pending)
        return link

    def _choose(self) -> Link | None:
        """Find the process with the fewest clients."""
        return min(
            (link for link in self.links.values() if not link.is_leaving),
            key=lambda link: (len(link.clients), link.load, link.node),
            default=None,
        )

    # What processes say.

    def heard(self, node: NodeId, parcel: Parcel, now: float) -> None:
        """
        Take what a process says.

        Args:
            node: Which.
            parcel: What.
            now: When.
        """
        link = self.links.get(node)
        if link is not None:
            self._watch.heard(node, now)
        match parcel:
            case Offer(is_leaving, load):
                self._offered(node, link, load, now, is_leaving=is_leaving)
            case Done() if link is not None and parcel.epoch == link.epoch:
                self._done(link, parcel)
            case Begun(epoch, number) if link is not None and epoch == link.epoch:
                pending = link.pending.get(number)
                if pending is not None:
                    pending.has_begun = True
            case Farewell() if link is not None:
                self._lose(link)
            case _:
                pass  # Of another gateway, or late.

    def _offered(
        self, node: NodeId, link: Link | None, load: int, now: float, *, is_leaving: bool
    ) -> None:
        if link is None:
            if is_leaving:
                return
            self._epoch += 1
            link = self.links[node] = Link(node, self._epoch)
            self._watch.heard(node, now)
            self._signs[link] = None
            for client in list(self._homeless):
                self._settle(client)
            self._release_all()
        link.load = load
        if not is_leaving:
            self._had_business_at = now
        else:
            if not link.is_leaving:
                link.is_leaving = True
                for client in [one for one in link.clients if not one.pending]:
                    self._settle(client)
            self._touched[link] = self._signs[link] = None
            self._release_all()

    def _release_all(self) -> None:
        """Tell all that leave, also of whether anybody takes over from them."""
        self._releases.update((link, None) for link in self.links.values() if link.is_leaving)

    def _done(self, link: Link, done: Done) -> None:
        if done.received < link.arrived:
            # It has taken this gateway for dead, and begun anew: so do we, when it offers itself.
            self._lose(link)
            return
        link.received(done.received)
        if done.has_gap:
            link.rewind()
        for result in link.heard(done):
            pending = link.done(result.number)
            if pending is not None:
                self._finished(pending, result)
        self._touched[link] = None
        if link.is_leaving:
            # It waits to hear that we have heard, and that its clients are others' now.
            self._signs[link] = None

    def _finished(self, pending: Pending, result: Result) -> None:
        client = pending.client
        self._forget(pending)
        # One that was set meanwhile, and sent, is what the process has now.
        if result.session is not None and not any(
            one.event.session is not None for one in client.pending
        ):
            client.session = client.known = result.session
            self._kept.add(client)
            self._todo.append(Keep(client.name, result.session))
        if result.answer is not None:
            self._answer(client, result.answer)
        link = client.link
        has_here = bool(client.pending and client.pending[0].number)
        if link is not None and link.is_leaving and not has_here and client in link.clients:
            self._settle(client)

    def _answer(self, client: Client, answer: Answer) -> None:
        self._todo.append(Reply(client.name, answer))
        if not answer.status:
            return
        # Who was not let in has no end; a process that has got it nevertheless knows that.
        for pending in [one for one in client.pending if not one.number]:
            self._drop(pending)
        if not client.pending:
            self._remove(client)

    def _remove(self, client: Client) -> None:
        self.clients.pop(client.name, None)
        self._homeless.pop(client, None)
        if client.link is not None:
            client.link.clients.pop(client, None)

    def _forget(self, pending: Pending) -> None:
        """Take an event from its client, which may be the last that there was of it."""
        client = pending.client
        if client.pending[0] is pending:
            client.pending.popleft()
        else:
            client.pending.remove(pending)
        self._resize(client, -pending.size)
        if type(pending.event) is Close:
            self._remove(client)
        elif client.is_paused and self._is_little(client):
            client.is_paused = False
            self.paused_count -= 1
            self._todo.append(Resume(client.name))

    def _is_little(self, client: Client) -> bool:
        return not client.pending or not (
            len(client.pending) > MAX_EVENTS // 2
            or client.size > MAX_SIZE // 2
            or self._is_too_much(client, client.link)
        )

    # When one is gone.

    def probed(self, node: NodeId, now: float, *, is_there: bool) -> None:
        """
        Take what the bus says about a process that is silent.

        Args:
            node: Which.
            now: When.
            is_there: Whether it is still connected to the bus.
        """
        if self._watch.told(node, now, is_there=is_there):
            link = self.links[node]
            self._todo.append(Say("warning", f"the business process {node} is gone"))
            self._suspect(link)
            self._lose(link)

    def returned(self, now: float) -> None:
        """
        The bus was away, and is back; others may not be.

        Args:
            now: When.
        """
        self._watch.returned(now)
        self._todo.append(Send(None, Seek()))

    def _suspect(self, link: Link) -> None:
        """Set aside what has killed a process, if that is known, and be careful with the rest."""
        begun = [pending for pending in link.pending.values() if pending.has_begun]
        suspects = [pending for pending in begun if pending.event.care > 1] or begun
        new = [pending for pending in link.pending.values() if not pending.event.care]
        self.repeated_count += len(link.pending)
        for pending in new:
            pending.event.care = 1
            pending.kill_count = int(len(new) <= _FEW)
        if len(suspects) == 1:
            suspects[0].kill_count += 1
            if suspects[0].kill_count > 1:
                self._set_aside(suspects[0])
                return
        for pending in suspects:
            pending.event.care = 2

    def _set_aside(self, killer: Pending) -> None:
        client, event = killer.client, killer.event
        # The pieces before it are the same message; who is not let in has no end.
        dropped: list[Pending] = []
        for pending in client.pending:
            if pending is killer:
                break
            if type(pending.event) is Message and not pending.event.is_last:
                dropped.append(pending)
            else:
                dropped.clear()
        for pending in list(client.pending) if type(event) is Connect else [*dropped, killer]:
            self._drop(pending)
        self._todo.append(SetAside(client.name, event))
        if type(event) is Connect:
            self._answer(client, _TOO_DANGEROUS)

    def _drop(self, pending: Pending) -> None:
        if not pending.number:
            self._waiting_size -= pending.size
        elif pending.client.link is not None:
            pending.client.link.pending.pop(pending.number, None)
        self._forget(pending)

    def _lose(self, link: Link) -> None:
        """Give what a process had to others."""
        del self.links[link.node]
        self._watch.forget(link.node)
        for told in (self._touched, self._signs, self._releases):
            told.pop(link, None)
        self._release_all()
        for client in list(link.clients):
            for pending in list(client.pending):
                if pending.number:
                    pending.number = 0
                    self._waiting_size += pending.size
                if type(pending.event) is Adopt:
                    client.pending.remove(pending)
                    self._resize(client, -pending.size)
                    self._waiting_size -= pending.size
            self._settle(client)

    # Time.

    def tick(self, now: float) -> None:
        """
        Give signs of life, and look for those of others; to be called a few times each second.

        Args:
            now: When.
        """
        if now >= self._beats_at:
            self._beats_at = now + BEAT_INTERVAL
            self._signs.update(dict.fromkeys(self.links.values()))
        for link in self.links.values():
            silence = SILENCE_WITH_WORK if link.is_waiting else SILENCE_OF_BUSINESS
            if self._watch.has_to_ask(link.node, now, silence):
                self._todo.append(Probe(link.node))

    def start(self) -> None:
        """Look for business processes."""
        self._todo.append(Send(None, Seek()))

    def stop(self) -> None:
        """Say that this gateway is gone; what is not done is not done."""
        self._todo.append(Send(None, Farewell()))
