"""
One process's place in the cluster: its clients, its bus, and what goes between the two.

Everything is done here first and published then, so that the clients of this process are served
whatever becomes of the bus. :mod:`.hub` has the names for all of it.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from threading import get_ident
from typing import Any, assert_never

from msgspec import structs

from .. import at_fork
from ..bus import Bus, Cause, Gap
from ..errors import EnvelopeError, Partial, Unconfirmed, UnknownClient, WrongThread
from ..log import Sampled, logger
from .channels import EVERYBODY, Channel, Seen, channel_of, node_channel, subject_of
from .deeds import DONE, Deed, Order, failed
from .envelope import (
    Answer,
    Audience,
    BindOnly,
    Bye,
    Claims,
    ClientAction,
    CloseUid,
    Command,
    Dissolve,
    Envelope,
    Hello,
    Item,
    Letters,
    Mark,
    Messages,
    Parcel,
    Problem,
    Question,
    Scope,
    SetSession,
    UpdateSession,
    What,
    WideAction,
    decode,
)
from .events import Events
from .exclusive import ExclusiveLogins
from .fanout import Fanout
from .interest import channel_of_topic, topic_of
from .local import Local
from .names import ClientId, NodeId, node_of
from .post import Post
from .presence import Presence
from .probes import asks
from .questions import Questions
from .registry import Change, Kind, Topic
from .replies import refusal
from .services import Outline, Services, label
from .tenant import Tenant

# Seconds for which a process that serves waits for its bus before it does without. A router that
# was started together with it needs less; one that is stuck must not keep clients waiting.
_PATIENCE = 0.3


class Station:
    """
    One process's place in the cluster.

    Attributes:
        tenant: Who else speaks on its bus; ``None`` if nobody does.
        node: Its name.
        thread: The event loop's.
        counts: How often each happened; see :attr:`gateman.cluster.hub.Hub.counts`.
        local: The clients here.
        presence: Who else there is.
        questions: What is asked about clients.
        exclusive: The logins of those who are to be the only one of their user.
        events: What code here handles.
        on_gap: Called after each gap; ``None`` if nobody wants to know.
    """

    def __init__(
        self,
        bus: Bus | None,
        *,
        has_clients: bool,
        needs_bus: bool = False,
        service: Outline = (),
    ) -> None:
        """
        Make a place; :meth:`start` takes it.

        Args:
            bus: What connects it with others; ``None`` if it is alone. Not started.
            has_clients: Whether clients connect to it; others only ask and send.
            needs_bus: Whether it is of no use while the bus is not there.
            service: What service it is of; empty for a program beside it.
        """
        self.node = NodeId(secrets.token_hex(6))
        self.counts: Counter[str] = Counter()
        self.on_gap: Callable[[Gap], object] | None = None
        self.tenant: Tenant | None = None
        self.bus = bus
        self._loop = asyncio.get_running_loop()
        self.thread = get_ident()
        self._is_forked = False
        at_fork.renew(self, Station._forked)
        self.local = Local(Fanout(self._loop.call_soon))
        self._seen = Seen()
        self.presence = Presence(
            self.node,
            has_clients=has_clients,
            say=self._say_hello,
            mark=self._mark,
            is_connected=lambda: self.is_connected,
            ask=asks(bus),
            on_gone=self._forget,
            senders=self._seen.senders,
        )
        self.questions = Questions(
            self.node,
            self.local,
            self.presence,
            put=self._put,
            is_connected=lambda: self.is_connected,
            refuse=self._refuse,
            warn=self._warn,
        )
        self.exclusive = ExclusiveLogins(
            self.node, self.local, announce=self._announce, ask=self._ask_for_logins
        )
        self.events = Events(
            self.counts, subscribe=self._subscribe_topic, unsubscribe=self._unsubscribe_topic
        )
        self._service = service
        self._services = Services(service)
        self._away = 0.0
        self._has_clients = has_clients
        self._needs_bus = needs_bus
        self._sampled = Sampled()
        self._post: Post | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # Its life.

    @property
    def is_over(self) -> bool:
        """Whether nothing that is sent can leave: its event loop has ended, or is the parent's."""
        return self._is_forked or self._loop.is_closed()

    def _forked(self) -> None:
        self._is_forked = True

    def check_thread(self, verb: str) -> None:
        """
        Check that something is called where it has to be.

        Args:
            verb: What is called.

        Raises:
            WrongThread: From another thread than the event loop's.
        """
        if get_ident() != self.thread:
            raise WrongThread(verb)

    async def start(self) -> None:
        """
        Connect with the others; soon, or whenever it can be, unless the bus is needed.

        Raises:
            BusError: The bus is not there and needed, or refuses us.
        """
        bus = self.bus
        if bus is None:
            return
        bus.on_gap = self._report
        routed = [
            bus.subscribe(subject_of(channel), self._receive)
            for channel in (EVERYBODY, node_channel(self.node))
        ]
        patience = None if self._needs_bus else _PATIENCE
        patient_until = None if patience is None else self._loop.time() + patience
        try:
            await bus.start(patience=patience)
            # Clients here are served whether or not there is anybody else.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(patient_until if bus.is_connected else 0):
                    for one in routed:
                        await one
        except BaseException:
            # Told to end, or refused: nobody calls `stop`, and the bus may be connected by now.
            await bus.stop()
            raise
        self._post = Post(
            self.node,
            bus.publish,
            max_payload_size=lambda: bus.max_payload_size,
            call_soon=self._loop.call_soon,
            counts=self.counts,
        )
        self.presence.start()

    async def stop(self) -> None:
        """Send what waits, say good-bye, and disconnect."""
        self.presence.stop()
        for task in self._tasks:
            task.cancel()
        self.local.fanout.flush()
        post, self._post = self._post, None
        if post is not None and self.bus is not None:
            post.put(EVERYBODY, lambda: Bye(self.node))
            post.flush()
            await self.bus.stop()
        self.questions.calls.end_all()

    @property
    def is_connected(self) -> bool:
        """Whether the others can be reached; always true of one that is alone."""
        return self.bus is None or self.bus.is_connected

    # Interest.

    def remove(self, client: ClientId) -> None:
        """
        Forget a client.

        Args:
            client: Which.
        """
        self.exclusive.logins.forget(client)
        self._follow(self.local.registry.remove(client))

    def _follow(self, change: Change) -> list[Awaitable[None]]:
        """Let the bus know what is of interest here; returns what it confirms it with."""
        if self.bus is None:
            return []
        for topic in change.lost:
            channel = channel_of_topic(topic)
            self.bus.unsubscribe(subject_of(channel))
            self._seen.forget_channel(channel)
        return [self._subscribe(topic) for topic in change.gained]

    def _subscribe(self, topic: Topic) -> Awaitable[None]:
        assert self.bus is not None
        return self.bus.subscribe(subject_of(channel_of_topic(topic)), self._receive)

    def _subscribe_topic(self, topic: str) -> None:
        if self.bus is not None:
            self.bus.subscribe(subject_of(Channel(Scope.EVENTS, topic)), self._receive)

    def _unsubscribe_topic(self, topic: str) -> None:
        channel = Channel(Scope.EVENTS, topic)
        self._seen.forget_channel(channel)
        if self.bus is not None:
            self.bus.unsubscribe(subject_of(channel))

    # Sending.

    def send(
        self,
        scope: Scope,
        names: tuple[str, ...],
        opcode: int,
        payload: bytes,
        exclude: tuple[ClientId, ...] = (),
    ) -> None:
        """
        Send a message, here and everywhere.

        Args:
            scope: Whom it is for; not clients. Events have one name, their topic.
            names: Which of those.
            opcode: 1 for text, 2 for binary.
            payload: The message.
            exclude: Who does not get it.

        Raises:
            HubError: It is more than the bus can carry; then nobody got it.
        """
        post = self._post
        if post is not None:
            post.check(payload, names, exclude)
        if scope is Scope.EVENTS:
            self.events.deliver(names[0], [payload])
        else:
            self.local.send(scope, names, ((opcode, payload, exclude),))
        if post is not None:
            item = Item(opcode == 1, payload, exclude)
            post.send(channel_of(scope, names, self.node), scope, names, item)

    def send_to_clients(self, clients: tuple[ClientId, ...], opcode: int, payload: bytes) -> None:
        """
        Send a message to single clients, wherever they are.

        Args:
            clients: Which; each once.
            opcode: 1 for text, 2 for binary.
            payload: The message.

        Raises:
            HubError: It is more than the bus can carry; then nobody got it.
        """
        by_node: dict[NodeId, list[ClientId]] = {}
        for client in clients:
            by_node.setdefault(node_of(client), []).append(client)
        here = tuple(by_node.pop(self.node, ()))
        post = self._post
        if post is not None:
            for there in by_node.values():
                post.check(payload, tuple(there), ())
        if here:
            self._count("unknown_client", self.local.count_missing(here))
            self.local.send(Scope.CLIENTS, here, ((opcode, payload, ()),))
        for node, there in by_node.items():
            if post is None or self.presence.is_unknown(node):
                self._count("unknown_client", len(there))
            elif len(there) == 1:
                post.send_letter(node_channel(node), there[0], opcode, payload)
            else:
                item = Item(opcode == 1, payload)
                post.send(node_channel(node), Scope.CLIENTS, tuple(there), item)

    async def count(
        self, scope: Scope, names: tuple[str, ...], exclude: tuple[ClientId, ...]
    ) -> int:
        """
        Count the clients that a message was for, behind that message.

        Args:
            scope: Whom it was for.
            names: Which of those.
            exclude: Who did not get it.

        Returns:
            How many there were, in all processes.

        Raises:
            Partial: A process did not answer in time; its ``value`` is that of the others.
        """
        audience = Audience(scope, names, exclude)
        values, missing = await self.questions.ask_all(What.COUNT_AUDIENCE, "", audience=audience)
        if missing:
            raise Partial(sum(values), missing)
        return sum(values)

    def send_parcel(self, node: NodeId | None, data: bytes) -> None:
        """
        Send something to another process's tenant, behind all that was sent to its clients.

        Args:
            node: Whose; ``None`` for everybody's.
            data: What.
        """
        parcel = Parcel(self.node, data)
        self._put(EVERYBODY if node is None else node_channel(node), parcel)

    # Doing.

    def do_everywhere(self, action: WideAction) -> Deed[None]:
        """
        Do something with clients that have something in common, here and everywhere.

        Args:
            action: What.

        Returns:
            What may be awaited to know that it is in effect everywhere.
        """
        self._follow(self.local.do(action))
        match action:
            case Dissolve(group):
                channel, doubt = Channel(Scope.GROUPS, group), f"the group {group!r} may go on"
            case CloseUid(uid):
                channel, doubt = Channel(Scope.UIDS, uid), f"clients of {uid!r} may stay"
        return self._announce(channel, Command(self.node, 0, action), f"{doubt} there")

    def _announce(self, channel: Channel, envelope: Envelope, doubt: str) -> Deed[None]:
        """Publish what is in effect everywhere when all have answered what is asked behind it."""
        if self._post is None:
            return DONE
        was_sent: list[bool] = []
        self._post.put(channel, lambda: envelope, was_sent.append)
        return Deed(self._wait_until_everywhere, was_sent, doubt)

    async def _wait_until_everywhere(self, was_sent: list[bool], doubt: str) -> None:
        _, missing = await self.questions.ask_all(What.COUNT_CLIENTS, "")
        missing = (*missing, *self.presence.nodes.blocked())
        if missing:
            raise Unconfirmed(f"no answer from {', '.join(missing)}: {doubt}")
        if was_sent != [True]:
            raise Unconfirmed(f"the bus was away, and others were not told: {doubt}")

    def do(self, action: ClientAction) -> Deed[None]:
        """
        Do something with a client, wherever it is.

        Args:
            action: What.

        Returns:
            What may be awaited to know that it is in effect everywhere.

        Raises:
            HubError: It is more than the bus can carry.
        """
        node = node_of(action.client)
        if node == self.node:
            return self._do_here(action)
        if self._post is None or self.presence.is_unknown(node):
            return self._unknown(UnknownClient(action.client))
        if isinstance(action, SetSession | UpdateSession):
            self._post.check_command(Command(self.node, 0, action))
        order = Order(self.node, action)
        self._post.put(node_channel(node), order.make)
        return Deed(self.questions.confirm, node, order)

    def _do_here(self, action: ClientAction) -> Deed[None]:
        try:
            routed = self._follow(self.local.do(action))
        except UnknownClient as error:
            if self.local.do_early(action):
                return DONE
            return self._unknown(error)
        announced = self.exclusive.note(action)
        topic = topic_of(action)
        if topic is None or self.bus is None:
            return DONE
        if isinstance(action, BindOnly):
            return Deed(self._wait_until_only, topic, routed, announced)
        return Deed(self._wait_until_heard, topic, routed)

    def _unknown(self, error: UnknownClient) -> Deed[None]:
        self._count("unknown_client")
        return failed(error)

    async def _wait_until_only(
        self, topic: Topic, routed: list[Awaitable[None]], announced: Deed[None]
    ) -> None:
        await self._wait_until_routed(topic, routed)
        # Who has answered what follows the login, is behind the subscription too.
        await announced

    async def _wait_until_routed(self, topic: Topic, routed: list[Awaitable[None]]) -> None:
        registry = self.local.registry
        names = registry.uids() if topic.kind is Kind.UID else registry.groups()
        if not routed and topic.name in names:
            # Somebody else was the first, perhaps just now.
            routed = [self._subscribe(topic)]
        try:
            async with asyncio.timeout(self.questions.timeout):
                for one in routed:
                    await one
        except TimeoutError:
            raise Unconfirmed(
                f"the bus has not confirmed in {self.questions.timeout:g} seconds that what is"
                f" sent to the {topic.kind} {topic.name!r} elsewhere comes here"
            ) from None

    async def _wait_until_heard(self, topic: Topic, routed: list[Awaitable[None]]) -> None:
        await self._wait_until_routed(topic, routed)
        if self.bus is not None and self.bus.is_spread:
            # A question follows the subscription from server to server: who answers, is behind it.
            _, missing = await self.questions.ask_all(What.COUNT_CLIENTS, "")
            if missing:
                raise Unconfirmed(
                    f"no answer from {', '.join(missing)}: what is sent there to the"
                    f" {topic.kind} {topic.name!r} may not come here yet"
                )

    # What others say.

    def _receive(self, payload: bytes) -> None:
        if self.bus is None or self._post is None:
            return
        try:
            envelope = decode(payload, max_size=self.bus.max_payload_size)
        except EnvelopeError as error:
            self._refuse(error)
            return
        match envelope:
            case Messages() | Letters() | Mark():
                self._deliver(envelope)
            case Command():
                self._obey(envelope)
            case Claims():
                self.exclusive.take(envelope)
            case Question():
                if self._has_clients:
                    self.questions.answer(envelope, max_size=self.bus.max_payload_size)
            case Answer():
                if not self.questions.calls.take(envelope):
                    self._count("late_answer")
            case Parcel(source, data):
                self._hand_over(source, data)
            case Hello() | Bye():
                self._meet(envelope)
            case _:
                assert_never(envelope)

    def _meet(self, sign: Hello | Bye) -> None:
        if isinstance(sign, Hello):
            self.presence.take(sign)
            self.exclusive.meet(sign)
            if self._services.meet(sign.service):
                logger.warning(
                    "%s is on the bus %s too, as is %s: if these are two services, they reach each"
                    " other's users; give each a name of its own in its bus's URL",
                    label(sign.service),
                    "" if self.bus is None else self.bus.url,
                    label(self._service),
                )
        else:
            self.presence.nodes.forget(sign.source)
            self.exclusive.heard.forget(sign.source)
            self._forget(sign.source)

    def _forget(self, node: NodeId) -> None:
        """Take note that a process has ended: it answers and sends no more."""
        self.questions.calls.forget(node)
        self._seen.forget_source(node)

    def _hand_over(self, source: NodeId, data: bytes) -> None:
        if self.tenant is not None:
            try:
                self.tenant.take(source, data)
            except EnvelopeError as error:
                self._refuse(error)

    def _deliver(self, messages: Messages | Letters | Mark) -> None:
        if isinstance(messages, Mark):
            channel = channel_of(messages.scope, messages.names, self.node)
            self._miss(messages.source, self._seen.mark(channel, messages))
            return
        self.counts["received"] += len(messages.items)
        if isinstance(messages, Letters):
            channel = node_channel(self.node)
            self._miss(messages.source, self._seen.messages(channel, messages))
            for letter in messages.items:
                if not self.local.deliver(letter):
                    self._count("unknown_client")
            return
        scope, names = messages.scope, messages.names
        channel = channel_of(scope, names, self.node)
        self._miss(messages.source, self._seen.messages(channel, messages))
        if scope is Scope.EVENTS:
            payloads = [item.payload for item in messages.items]
            for topic in names:
                self.events.deliver(topic, payloads)
            return
        if scope is Scope.CLIENTS:
            missing = self.local.count_missing(names)
            self._count("unknown_client", missing * len(messages.items))
        self.local.send(
            scope,
            names,
            [(1 if item.is_text else 2, item.payload, item.exclude) for item in messages.items],
        )

    def _miss(self, source: NodeId, count: int) -> None:
        if count:
            self.counts["lost"] += count
            self._warn("lost", f"{count} messages of the process {source} did not arrive")

    def _obey(self, command: Command) -> None:
        # Not `do`: what is not for this process goes nowhere else from here.
        action = command.action
        if isinstance(action, WideAction):
            self._follow(self.local.do(action))
            return
        deed = self._do_here(action)
        if command.call:
            self._spawn(self._answer_when_done(command, deed))

    async def _answer_when_done(self, command: Command, deed: Deed[None]) -> None:
        problem = Problem.NONE
        try:
            await deed
        except UnknownClient:
            problem = Problem.UNKNOWN_CLIENT
        except Unconfirmed:
            return  # Whoever asked waits no longer either.
        self._put(node_channel(command.source), refusal(self.node, command.call, problem))

    # Gaps.

    def _report(self, gap: Gap) -> None:
        """Take note of a gap that is over, and find out what was lost in it."""
        post = self._post
        if post is None:
            return
        unsent, post.unsent = post.unsent, 0
        gap = replace(gap, unsent=unsent, uncertain=post.uncertain(gap.uncertain))
        self.counts["gaps"] += 1
        self._count("uncertain", gap.uncertain)
        seconds = max(gap.until - gap.since, 0.0)
        self.exclusive.repeat(seconds, EVERYBODY)
        if gap.cause is not Cause.FULL:
            self._away = seconds
            self.presence.return_()
            if self.tenant is not None:
                self.tenant.returned()
        if self.on_gap is not None:
            self._call_on_gap(self.on_gap, gap)

    def _call_on_gap(self, on_gap: Callable[[Gap], object], gap: Gap) -> None:
        try:
            result = on_gap(gap)
        except Exception:  # noqa: BLE001 - an application's fault must not end the bus
            logger.exception("on_gap failed")
            return
        if asyncio.iscoroutine(result):
            self._spawn(result)

    def _mark(self) -> None:
        if self._post is not None:
            self._post.flush()
            self._post.mark()

    # Odds of all of it.

    def _ask_for_logins(self, node: NodeId, seconds: float) -> None:
        hello = Hello(self.node, self._has_clients, is_new=False, was_away=False, nodes=())
        self._say_hello(node_channel(node), structs.replace(hello, away=seconds))

    def _say_hello(self, channel: Channel, hello: Hello) -> None:
        envelope = structs.replace(
            hello,
            away=self._away if hello.was_away else hello.away,
            clock=self.exclusive.logins.clock,
            claims=self.exclusive.count,
            # Who is new tells all, and all tell who is new.
            service=self._service if hello.is_new or channel != EVERYBODY else (),
        )
        self._put(channel, envelope)

    def _put(self, channel: Channel, envelope: Envelope) -> None:
        if self._post is not None:
            self._post.put(channel, lambda: envelope)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _count(self, cause: str, number: int = 1) -> None:
        # A cause that never happened is not in the counts.
        if number:
            self.counts[cause] += number

    def _refuse(self, error: EnvelopeError) -> None:
        self._count("bad_envelope")
        self._warn("bad_envelope", f"a message of the bus is ignored: {error.problem}")

    def _warn(self, cause: str, message: str) -> None:
        line = self._sampled.line(cause, message, self._loop.time())
        if line is not None:
            logger.warning(line)
