"""
A node: the clients connected to this process, and its connection to the bus.

Every action takes effect in this process first and is published after that, so local clients are
served even while the bus is away. :mod:`.hub` has the public names.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import replace
from threading import get_ident
from typing import TYPE_CHECKING, Any

from msgspec import structs

from .. import at_fork
from ..bus import Bus, Cause, Gap
from ..errors import (
    BusError,
    ConfirmTimeout,
    EnvelopeError,
    HubError,
    PartialResult,
    UnknownClient,
    WrongThread,
)
from ..log import RateLimitedLogger, logger
from .channels import EVERYBODY, Channel, channel_of, node_channel, subject_of
from .confirmation import DONE, Confirmation, PendingCommand, failed
from .envelope import (
    Audience,
    BindOnly,
    Bye,
    Claims,
    ClientAction,
    CloseUid,
    Command,
    DirectMessages,
    Dissolve,
    Envelope,
    ExtensionMessage,
    Hello,
    Item,
    LeaseMessage,
    Messages,
    PresenceChanges,
    PresenceRequest,
    PresenceStates,
    Problem,
    Query,
    QueryReply,
    QueryRequest,
    SequenceMark,
    SetSession,
    Target,
    UpdateSession,
    WideAction,
    decode,
)
from .events import Events
from .exclusive import ExclusiveLogins
from .extension import NodeExtension, Subscriber
from .fanout import Fanout
from .lease_keeper import LeaseKeeper
from .local_clients import LocalClients
from .names import ClientId, NodeId, node_of
from .node_channels import NOTHING_KEPT, Appended, Kept, NodeChannels
from .node_liveness import NodeLiveness
from .node_subscriptions import NodeSubscriptions
from .probes import asks
from .publisher import Publisher
from .query_client import QueryClient
from .query_replies import refusal
from .receiver import Receiver
from .registry import Topic
from .services import Outline, Services, label
from .subscriptions import topic_of

if TYPE_CHECKING:
    from .presence_keeper import PresenceKeeper

# The recipients that are channels, for SDK clients.
_WITH_HISTORY = frozenset({Target.GROUPS, Target.UIDS})

# Seconds that a process with clients waits for its bus before it continues without. A router that
# was started together with it needs less; one that is stuck must not keep clients waiting.
_START_TIMEOUT = 0.3


class Node:
    """A node: the clients connected to this process, and its connection to the bus."""

    def __init__(
        self,
        bus: Bus | None,
        *,
        has_clients: bool,
        needs_bus: bool = False,
        service: Outline = (),
        kept: Kept = NOTHING_KEPT,
    ) -> None:
        self.id = NodeId(secrets.token_hex(6))
        self.counts: Counter[str] = Counter()
        self.on_gap: Callable[[Gap], object] | None = None
        self.extension: NodeExtension | None = None
        # The services of SDK clients, which join and bind them themselves.
        self.subscribers: list[Subscriber] = []
        self.bus = bus
        self._loop = asyncio.get_running_loop()
        self.thread = get_ident()
        self._is_forked = False
        at_fork.renew(self, Node._on_fork)
        self.local_clients = LocalClients(Fanout(self._loop.call_soon), self.id)
        self.subscriptions = NodeSubscriptions(
            bus,
            self._receive,
            self.local_clients.registry,
            forget=self._forget_channel,
            history=lambda: self.channels.history,
        )
        self.events = Events(
            self.counts,
            subscribe=self.subscriptions.add_events,
            unsubscribe=self.subscriptions.remove_events,
        )
        self._receiver = Receiver(
            self.id, self.local_clients, self.events, counts=self.counts, warn=self._warn
        )
        self.liveness = NodeLiveness(
            self.id,
            has_clients=has_clients,
            send=self._say_hello,
            publish_marks=self._publish_marks,
            is_connected=lambda: self.is_connected,
            ask=asks(bus),
            on_gone=self._forget,
            on_silent=self._on_silent,
            senders=self._senders,
        )
        self.query_client = QueryClient(
            self.id,
            self.local_clients,
            self.liveness,
            is_unconfirmed=self.subscriptions.unconfirmed.__contains__,
            publish=self._publish,
            is_connected=lambda: self.is_connected,
            ask_bus=asks(bus),
            reject=self._reject,
            warn=self._warn,
        )
        self.exclusive = ExclusiveLogins(
            self.id,
            self.local_clients,
            publish=self._publish_and_confirm,
            request_logins=self._request_logins,
        )
        self.channels = NodeChannels(
            kept,
            check=self._check_size,
            local_clients=self.local_clients,
            counts=self.counts,
        )
        self.leases = LeaseKeeper(self.id, self._publish_lease, is_alone=bus is None)
        self._presence: PresenceKeeper | None = None
        self._service = service
        self._services = Services(service)
        self._away_seconds = 0.0
        self._has_clients = has_clients
        self._needs_bus = needs_bus
        self._rate_limited = RateLimitedLogger()
        self._publisher: Publisher | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def presence(self) -> "PresenceKeeper":
        """Who joins and leaves channels; few services want to know."""
        if self._presence is None:
            from .presence_keeper import PresenceKeeper

            self._presence = PresenceKeeper(
                self.id, self._publish_made, known=self.liveness.peers.all()
            )
        return self._presence

    @property
    def is_closed(self) -> bool:
        """Whether the event loop has closed, or belongs to the parent of this forked process."""
        return self._is_forked or self._loop.is_closed()

    def _on_fork(self) -> None:
        self._is_forked = True

    def check_thread(self, verb: str) -> None:
        """Raise :class:`WrongThread` outside the thread of the event loop."""
        if get_ident() != self.thread:
            raise WrongThread(verb)

    async def start(self) -> None:
        """Connect to the bus; without ``needs_bus``, return while it is away and keep trying."""
        bus = self.bus
        if bus is None:
            await self.channels.start(None)
            return
        bus.on_gap = self._on_bus_gap
        subscribing = [
            bus.subscribe(subject_of(channel), self._receive)
            for channel in (EVERYBODY, node_channel(self.id))
        ]
        patience = None if self._needs_bus else _START_TIMEOUT
        patient_until = None if patience is None else self._loop.time() + patience
        try:
            await bus.start(patience=patience)
            # Local clients are served whether or not the bus is connected.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(patient_until if bus.is_connected else 0):
                    for one in subscribing:
                        await one
        except BaseException:
            # Cancelled or refused: the caller does not call `stop`, and the bus may be connected.
            await bus.stop()
            raise
        self._publisher = Publisher(
            self.id,
            bus.publish,
            max_payload_size=lambda: bus.max_payload_size,
            call_soon=self._loop.call_soon,
            counts=self.counts,
        )
        await self.channels.start(bus)
        self.liveness.start()
        if self._needs_bus and not self._has_clients:
            await self.channels.wait_until_told(bus)

    async def stop(self) -> None:
        """Send what is pending, say goodbye to the other nodes, and disconnect."""
        self.liveness.stop()
        self.leases.stop()
        if self._presence is not None:
            self._presence.stop()
        for task in self._tasks:
            task.cancel()
        self.local_clients.fanout.flush()
        await self.channels.stop()
        publisher, self._publisher = self._publisher, None
        if publisher is not None and self.bus is not None:
            publisher.put(EVERYBODY, lambda: Bye(self.id))
            publisher.flush()
            await self.bus.stop()
        self.query_client.pending_requests.end_all()

    @property
    def is_connected(self) -> bool:
        """Whether other nodes can be reached; always true without a bus."""
        return self.bus is None or self.bus.is_connected

    def remove(self, client: ClientId) -> None:
        self.exclusive.logins.forget(client)
        self.subscriptions.update(self.local_clients.registry.remove(client))

    def _forget_channel(self, channel: Channel) -> None:
        self._receiver.sequences.forget_channel(channel)

    def send(  # noqa: PLR0917 - each of them belongs to a message
        self,
        target: Target,
        names: tuple[str, ...],
        kind: int,
        payload: bytes,
        exclude: tuple[ClientId, ...] = (),
        key: str = "",
        *,
        skips_history: bool = False,
    ) -> Appended:
        """
        Send to clients of all nodes; a message that is too big for the bus is sent to none.

        Return what confirms that channels with history have it.
        """
        appended: Appended = ()
        if self.channels.history is not None and target in _WITH_HISTORY and not skips_history:
            names, appended = self.channels.send(target, names, kind, payload, exclude, key)
            if not names:
                return appended
        publisher = self._publisher
        if publisher is not None:
            publisher.check(payload, names, exclude)
        if target is Target.EVENTS:
            self.events.deliver(names[0], [payload])
        else:
            self.local_clients.send(target, names, ((kind, payload, exclude),))
        if publisher is not None:
            item = Item(kind, payload, exclude)
            publisher.send(channel_of(target, names, self.id), target, names, item)
        return appended

    def _check_size(
        self, payload: bytes, names: tuple[str, ...], exclude: tuple[ClientId, ...]
    ) -> None:
        if self._publisher is not None:
            self._publisher.check(payload, names, exclude)

    def send_to_client(self, client: ClientId, kind: int, payload: bytes) -> None:
        """Send to a client by id, unless the message is too big for the bus."""
        publisher = self._publisher
        if publisher is None or not publisher.send_another(client, kind, payload):
            self.send_to_clients((client,), kind, payload)

    def send_to_clients(self, clients: tuple[ClientId, ...], kind: int, payload: bytes) -> None:
        """Send to clients by id; a message that is too big for the bus is sent to none."""
        by_node: dict[NodeId, list[ClientId]] = {}
        for client in clients:
            by_node.setdefault(node_of(client), []).append(client)
        local = tuple(by_node.pop(self.id, ()))
        publisher = self._publisher
        if publisher is not None:
            for remote in by_node.values():
                publisher.check(payload, tuple(remote), ())
        if local:
            self._count("unknown_client", self.local_clients.count_missing(local))
            self.local_clients.send(Target.CLIENTS, local, ((kind, payload, ()),))
        for node, remote in by_node.items():
            if publisher is None or self.liveness.is_unknown(node):
                self._count("unknown_client", len(remote))
            elif len(remote) == 1:
                publisher.send_direct(node, remote[0], kind, payload)
            else:
                item = Item(kind, payload)
                publisher.send(node_channel(node), Target.CLIENTS, tuple(remote), item)

    async def count(
        self, target: Target, names: tuple[str, ...], exclude: tuple[ClientId, ...]
    ) -> int:
        """Count the recipients of a message, with a query that follows that message on the bus."""
        audience = Audience(target, names, exclude)
        values, missing = await self.query_client.ask_all(
            Query.COUNT_AUDIENCE, "", audience=audience
        )
        if missing:
            raise PartialResult(sum(values), missing)
        return sum(values)

    async def count_appended(
        self,
        appended: Appended,
        target: Target,
        names: tuple[str, ...],
        exclude: tuple[ClientId, ...],
    ) -> int:
        """Wait until histories have a message, and count its recipients; raises HubError."""
        try:
            for one in appended:
                await asyncio.shield(one)
        except BusError as error:
            raise HubError(f"the message may not have been published: {error}") from None
        return await self.count(target, names, exclude)

    def send_to_extension(self, node: NodeId | None, data: bytes) -> None:
        """Send to the extension of one node or all, after what was sent to their clients."""
        channel = EVERYBODY if node is None else node_channel(node)
        self._publish(channel, ExtensionMessage(self.id, data))

    def do_everywhere(self, action: WideAction) -> Confirmation[None]:
        """Execute an action on a group or a uid in all nodes."""
        self._do_wide(action)
        match action:
            case Dissolve(group):
                channel, consequence = (
                    Channel(Target.GROUPS, group),
                    f"the group {group!r} may go on",
                )
            case CloseUid(uid):
                channel, consequence = Channel(Target.UIDS, uid), f"clients of {uid!r} may stay"
        return self._publish_and_confirm(
            channel, Command(self.id, 0, action), f"{consequence} there"
        )

    def _do_wide(self, action: WideAction) -> None:
        for subscriber in self.subscribers:
            subscriber.do(action)
        self.subscriptions.update(self.local_clients.do(action))

    def _publish_and_confirm(
        self, channel: Channel, envelope: Envelope, consequence: str
    ) -> Confirmation[None]:
        """Publish; when awaited, wait until all nodes have answered a query that follows it."""
        if self._publisher is None:
            return DONE
        sent: list[bool] = []
        self._publisher.put(channel, lambda: envelope, sent.append)
        return Confirmation(self._wait_until_everywhere, (sent, consequence))

    async def _wait_until_everywhere(self, sent: list[bool], consequence: str) -> None:
        _, missing = await self.query_client.ask_all(Query.COUNT_CLIENTS, "")
        missing = (*missing, *self.liveness.peers.blocked())
        if self._publisher is not None and not sent:
            # Without another process, nothing has waited for the end of the turn.
            self._publisher.flush()
        if missing:
            raise ConfirmTimeout(f"no answer from {', '.join(missing)}: {consequence}")
        if sent != [True]:
            raise ConfirmTimeout(f"the bus was away, and others were not told: {consequence}")

    def do(self, action: ClientAction) -> Confirmation[None]:
        """Execute an action on one client, on whichever node it is connected."""
        node = node_of(action.client)
        if node == self.id:
            return self._do_locally(action)
        if self._publisher is None or self.liveness.is_unknown(node):
            return self._fail_unknown_client(UnknownClient(action.client))
        if isinstance(action, SetSession | UpdateSession):
            self._publisher.check_command(Command(self.id, 0, action))
        pending = PendingCommand(self.id, action)
        self._publisher.put(node_channel(node), pending.make)
        return Confirmation(self.query_client.confirm, (node, pending))

    def _do_locally(self, action: ClientAction) -> Confirmation[None]:
        for subscriber in self.subscribers:
            confirmation = subscriber.do(action)
            if confirmation is not None:
                return confirmation
        return self.do_for_member(action)

    def do_for_member(self, action: ClientAction) -> Confirmation[None]:
        """Execute an action on a client of this node in the registry."""
        try:
            subscribing = self.subscriptions.update(self.local_clients.do(action))
        except UnknownClient as error:
            if self.local_clients.do_early(action):
                return DONE
            return self._fail_unknown_client(error)
        announced = self.exclusive.on_action(action)
        topic = topic_of(action)
        if topic is None or self.bus is None:
            return DONE
        if isinstance(action, BindOnly):
            return Confirmation(self._wait_until_exclusive, (topic, subscribing, announced))
        return Confirmation(self._wait_until_routed, (topic, subscribing))

    def _fail_unknown_client(self, error: UnknownClient) -> Confirmation[None]:
        self._count("unknown_client")
        return failed(error)

    async def _wait_until_exclusive(
        self, topic: Topic, subscribing: list[Awaitable[None]], announced: Confirmation[None]
    ) -> None:
        await self.subscriptions.confirm(topic, subscribing, self.query_client.timeout)
        # A node that has answered a query behind the login has also handled the subscription.
        await announced

    async def _wait_until_routed(self, topic: Topic, subscribing: list[Awaitable[None]]) -> None:
        await self.subscriptions.confirm(topic, subscribing, self.query_client.timeout)
        if self.bus is not None and self.bus.is_spread:
            # A query follows the subscription from server to server, so its answer confirms both.
            _, missing = await self.query_client.ask_all(Query.COUNT_CLIENTS, "")
            if missing:
                raise ConfirmTimeout(
                    f"no answer from {', '.join(missing)}: what is sent there to the"
                    f" {topic.kind} {topic.name!r} may not arrive here yet"
                )

    def _receive(self, payload: bytes) -> None:
        if self.bus is None or self._publisher is None:
            return
        try:
            envelope = decode(payload, max_size=self.bus.max_payload_size)
        except EnvelopeError as error:
            self._reject(error)
            return
        match envelope:
            case Messages() | DirectMessages() | SequenceMark():
                self._receiver.deliver(envelope)
            case Command():
                self._execute(envelope)
            case Claims():
                self.exclusive.on_claims(envelope)
            case QueryRequest():
                if self._has_clients:
                    self.query_client.answer(envelope, max_size=self.bus.max_payload_size)
            case QueryReply():
                if not self.query_client.pending_requests.take(envelope):
                    self._count("late_answer")
            case ExtensionMessage(source, data):
                self._pass_to_extension(source, data)
            case _:
                self._on_news(envelope)

    def _on_news(
        self,
        message: Hello | Bye | LeaseMessage | PresenceChanges | PresenceRequest | PresenceStates,
    ) -> None:
        if isinstance(message, LeaseMessage):
            self.leases.on_message(message)
        elif isinstance(message, PresenceChanges | PresenceRequest | PresenceStates):
            if self._presence is not None:
                self._presence.on_message(message)
        elif isinstance(message, Hello):
            self.liveness.on_hello(message)
            self.exclusive.on_hello(message)
            if message.has_clients or message.kept:
                self.channels.learn(message.kept)
            if self._presence is not None:
                self._presence.on_hello(message)
            if self._services.detect_other(message.service):
                logger.warning(
                    "%s is on the bus %s too, as is %s: if these are two services, they reach each"
                    " other's users; give each a name of its own in its bus's URL",
                    label(message.service),
                    "" if self.bus is None else self.bus.url,
                    label(self._service),
                )
        else:
            self.liveness.peers.forget(message.source)
            self.exclusive.received.forget(message.source)
            self._forget(message.source)

    def _forget(self, node: NodeId) -> None:
        """Stop waiting for answers and messages of a node that has ended."""
        self.query_client.pending_requests.forget(node)
        self._receiver.sequences.forget_source(node)
        self.leases.on_gone(node)
        self._on_silent(node)

    def _on_silent(self, node: NodeId) -> None:
        """Count the clients of a node that does not answer as gone."""
        if self._presence is not None:
            self._presence.on_gone(node)

    def _senders(self) -> Collection[NodeId]:
        senders = self._receiver.sequences.senders()
        return senders if self._presence is None else self._presence.senders().union(senders)

    def _pass_to_extension(self, source: NodeId, data: bytes) -> None:
        if self.extension is not None:
            try:
                self.extension.take(source, data)
            except EnvelopeError as error:
                self._reject(error)

    def _execute(self, command: Command) -> None:
        # Not `do`, which would forward an action on a client of another node.
        action = command.action
        if isinstance(action, WideAction):
            self._do_wide(action)
            return
        confirmation = self._do_locally(action)
        if command.request_id:
            self._spawn(self._answer_when_done(command, confirmation))

    async def _answer_when_done(self, command: Command, confirmation: Confirmation[None]) -> None:
        problem = Problem.NONE
        try:
            await confirmation
        except UnknownClient:
            problem = Problem.UNKNOWN_CLIENT
        except ConfirmTimeout:
            return  # The other node has given up by now, too.
        self._publish(node_channel(command.source), refusal(self.id, command.request_id, problem))

    def _on_bus_gap(self, gap: Gap) -> None:
        """Note a gap of the bus that is over, and have the nodes find out what was lost in it."""
        publisher = self._publisher
        if publisher is None:
            return
        unsent, publisher.unsent = publisher.unsent, 0
        gap = replace(gap, unsent=unsent, uncertain=publisher.uncertain(gap.uncertain))
        self.counts["gaps"] += 1
        self._count("uncertain", gap.uncertain)
        seconds = max(gap.until - gap.since, 0.0)
        self.exclusive.republish(seconds, EVERYBODY)
        if self._presence is not None:
            self._presence.on_bus_gap()
        if gap.cause is not Cause.FULL:
            self._away_seconds = seconds
            self.liveness.on_bus_restored()
            if self.extension is not None:
                self.extension.returned()
        if self.on_gap is not None:
            self._call_on_gap(self.on_gap, gap)

    def _call_on_gap(self, on_gap: Callable[[Gap], object], gap: Gap) -> None:
        try:
            result = on_gap(gap)
        except Exception as error:  # noqa: BLE001 - an application's fault must not end the bus
            self._rate_limited.error("on_gap failed", error, self._loop.time())
            return
        if asyncio.iscoroutine(result):
            self._spawn(result)

    def _publish_marks(self) -> None:
        if self._publisher is not None:
            self._publisher.flush()
            self._publisher.mark()

    def _request_logins(self, node: NodeId, seconds: float) -> None:
        hello = Hello(self.id, self._has_clients, is_new=False, was_away=False, nodes=())
        self._say_hello(node_channel(node), structs.replace(hello, away=seconds))

    def _say_hello(self, channel: Channel, hello: Hello) -> None:
        envelope = structs.replace(
            hello,
            away=self._away_seconds if hello.was_away else hello.away,
            clock=self.exclusive.logins.clock,
            claims=self.exclusive.count,
            # A new node announces its service to all, and each of them answers it.
            service=self._service if hello.is_new or channel != EVERYBODY else (),
            kept=self.channels.rules if hello.is_new or channel != EVERYBODY else (),
        )
        self._publish(channel, envelope)

    def _publish(self, channel: Channel, envelope: Envelope) -> None:
        if self._publisher is not None:
            self._publisher.put(channel, lambda: envelope)

    def _publish_lease(
        self, node: NodeId | None, message: LeaseMessage, on_sent: Callable[[bool], object]
    ) -> None:
        channel = EVERYBODY if node is None else node_channel(node)
        self._publish_made(channel, lambda: message, on_sent)

    def _publish_made(
        self, channel: Channel, make: Callable[[], Envelope], on_sent: Callable[[bool], object]
    ) -> None:
        if self._publisher is None:
            make()
            on_sent(False)  # noqa: FBT003 - the bus's answer
        else:
            self._publisher.put(channel, make, on_sent)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _count(self, cause: str, number: int = 1) -> None:
        # The counter lists only causes that have happened.
        if number:
            self.counts[cause] += number

    def _reject(self, error: EnvelopeError) -> None:
        self._count("bad_envelope")
        self._warn("bad_envelope", f"a message of the bus is ignored: {error.problem}")

    def _warn(self, cause: str, message: str) -> None:
        self._rate_limited.warning(cause, message, self._loop.time())
