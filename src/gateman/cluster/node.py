"""
A node: the clients connected to this process, and its connection to the bus.

It holds the parts of a process in the cluster, starts and stops them, and gives each what the bus
brings for it. :mod:`.hub` has the public names.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from threading import get_ident
from typing import TYPE_CHECKING, Any

from .. import at_fork
from ..bus import Bus, Cause, Gap
from ..bus.subjects import Subject
from ..errors import EnvelopeError, WrongThread
from ..log import RateLimitedLogger
from . import envelope as envelopes
from .channels import EVERYBODY, Channel, node_channel, subject_of
from .confirmer import Confirmer
from .discovery import InformedNodes
from .events import Events
from .exclusive import ExclusiveLogins
from .extension import NodeExtension
from .fanout import Fanout
from .lease_keeper import LeaseKeeper
from .local_clients import LocalClients
from .names import ClientId, NodeId
from .node_actions import NodeActions
from .node_channels import NOTHING_KEPT, Kept, NodeChannels
from .node_hellos import NodeHellos
from .node_liveness import NodeLiveness
from .node_subscriptions import NodeSubscriptions
from .probes import asks
from .publisher import Publisher
from .query_client import QueryClient
from .receiver import Receiver
from .sender import Sender
from .services import Outline

if TYPE_CHECKING:
    from .presence_keeper import PresenceKeeper

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
        self.bus = bus
        self._loop = asyncio.get_running_loop()
        self.thread = get_ident()
        self._is_forked = False
        at_fork.renew(self, Node._on_fork)
        self._has_clients = has_clients
        self._needs_bus = needs_bus
        self._rate_limited = RateLimitedLogger()
        self._on_gap_tasks: set[asyncio.Task[None]] = set()
        self._presence: PresenceKeeper | None = None

        self._publisher = Publisher(
            self.id,
            _publish_nothing if bus is None else bus.publish,
            max_payload_size=self._max_payload_size,
            call_soon=self._loop.call_soon,
            counts=self.counts,
        )
        self.local_clients = LocalClients(Fanout(self._loop.call_soon), self.id)
        self.channels = NodeChannels(
            kept,
            check=self._publisher.check,
            local_clients=self.local_clients,
            counts=self.counts,
        )
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
            informed_nodes=InformedNodes(bus),
        )
        self.query_client = QueryClient(
            self.id,
            self.local_clients,
            self.liveness,
            is_unconfirmed=self.subscriptions.unconfirmed.__contains__,
            publish=self._publisher.publish,
            is_connected=lambda: self.is_connected,
            ask_bus=asks(bus),
            reject=self._reject,
            warn=self._warn,
        )
        confirmer = Confirmer(
            bus,
            publisher=self._publisher,
            subscriptions=self.subscriptions,
            query_client=self.query_client,
            blocked=self.liveness.peers.blocked,
        )
        self.exclusive = ExclusiveLogins(
            self.id,
            self.local_clients,
            publish=confirmer.publish,
            request_logins=self.liveness.request_logins,
        )
        self._hellos = NodeHellos(
            bus,
            service,
            publisher=self._publisher,
            exclusive=self.exclusive,
            channels=self.channels,
        )
        self.sender = Sender(
            self.id,
            publisher=self._publisher,
            local_clients=self.local_clients,
            channels=self.channels,
            events=self.events,
            query_client=self.query_client,
            is_unknown=self.liveness.is_unknown,
            counts=self.counts,
        )
        self.actions = NodeActions(
            self.id,
            publisher=self._publisher,
            local_clients=self.local_clients,
            subscriptions=self.subscriptions,
            exclusive=self.exclusive,
            confirmer=confirmer,
            is_unknown=self.liveness.is_unknown,
            is_alone=bus is None,
            counts=self.counts,
        )
        self.leases = LeaseKeeper(self.id, self._publish_lease, is_alone=bus is None)
        self._handlers: dict[type[envelopes.Envelope], Callable[[Any], object]] = {
            envelopes.Messages: self._receiver.deliver,
            envelopes.DirectMessages: self._receiver.deliver,
            envelopes.SequenceMark: self._receiver.deliver,
            envelopes.Command: self.actions.execute,
            envelopes.Claims: self.exclusive.on_claims,
            envelopes.QueryRequest: self._answer,
            envelopes.QueryReply: self._on_reply,
            envelopes.ExtensionMessage: self._pass_to_extension,
            envelopes.LeaseMessage: self.leases.on_message,
            envelopes.Hello: self._on_hello,
            envelopes.Bye: self._on_bye,
        }

    @property
    def presence(self) -> "PresenceKeeper":
        """Who joins and leaves channels; few services want to know."""
        if self._presence is None:
            from .presence_keeper import PresenceKeeper

            self._presence = PresenceKeeper(
                self.id, self._publisher.put, known=self.liveness.peers.all()
            )
            for kind in (
                envelopes.PresenceChanges,
                envelopes.PresenceRequest,
                envelopes.PresenceStates,
            ):
                self._handlers[kind] = self._presence.on_message
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
            self.liveness.discovery.end()
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
        self._publisher.open()
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
        self.actions.stop()
        for task in self._on_gap_tasks:
            task.cancel()
        self.local_clients.fanout.flush()
        await self.channels.stop()
        if self._publisher.is_open and self.bus is not None:
            self._publisher.publish(EVERYBODY, envelopes.Bye(self.id))
            self._publisher.close()
            await self.bus.stop()
        self.query_client.pending_requests.end_all()

    @property
    def is_connected(self) -> bool:
        """Whether other nodes can be reached; always true without a bus."""
        return self.bus is None or self.bus.is_connected

    def remove(self, client: ClientId) -> None:
        self.exclusive.logins.forget(client)
        self.subscriptions.update(self.local_clients.registry.remove(client))

    def send_to_extension(self, node: NodeId | None, data: bytes) -> None:
        """Send to the extension of one node or all, after what was sent to their clients."""
        self._publisher.publish(_channel_of(node), envelopes.ExtensionMessage(self.id, data))

    def _max_payload_size(self) -> int:
        return 0 if self.bus is None else self.bus.max_payload_size

    def _receive(self, payload: bytes) -> None:
        if not self._publisher.is_open:
            return
        try:
            envelope = envelopes.decode(payload, max_size=self._max_payload_size())
        except EnvelopeError as error:
            self._reject(error)
            return
        # Nobody here wants to know who is present unless it has a handler.
        handle = self._handlers.get(type(envelope))
        if handle is not None:
            handle(envelope)

    def _answer(self, request: envelopes.QueryRequest) -> None:
        if self._has_clients:
            self.query_client.answer(request, max_size=self._max_payload_size())

    def _on_reply(self, reply: envelopes.QueryReply) -> None:
        if not self.query_client.pending_requests.take(reply):
            self.counts["late_answer"] += 1

    def _pass_to_extension(self, message: envelopes.ExtensionMessage) -> None:
        if self.extension is not None:
            try:
                self.extension.take(message.source, message.data)
            except EnvelopeError as error:
                self._reject(error)

    def _forget_channel(self, channel: Channel) -> None:
        self._receiver.sequences.forget_channel(channel)

    def _say_hello(self, channel: Channel, hello: envelopes.Hello) -> None:
        self._hellos.send(channel, hello)

    def _on_hello(self, hello: envelopes.Hello) -> None:
        self.liveness.on_hello(hello)
        self.exclusive.on_hello(hello)
        self._hellos.on_hello(hello)
        if self._presence is not None:
            self._presence.on_hello(hello)

    def _on_bye(self, bye: envelopes.Bye) -> None:
        self.liveness.peers.forget(bye.source)
        self.exclusive.received.forget(bye.source)
        self._forget(bye.source)

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

    def _on_bus_gap(self, gap: Gap) -> None:
        """Note a gap of the bus that is over, and have the nodes find out what was lost in it."""
        publisher = self._publisher
        if not publisher.is_open:
            return
        unsent, publisher.unsent = publisher.unsent, 0
        gap = replace(gap, unsent=unsent, uncertain=publisher.uncertain(gap.uncertain))
        self.counts["gaps"] += 1
        if gap.uncertain:
            self.counts["uncertain"] += gap.uncertain
        seconds = max(gap.until - gap.since, 0.0)
        self.exclusive.republish(seconds, EVERYBODY)
        if self._presence is not None:
            self._presence.on_bus_gap()
        if gap.cause is not Cause.FULL:
            self._hellos.away_seconds = seconds
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
            task = self._loop.create_task(result)
            self._on_gap_tasks.add(task)
            task.add_done_callback(self._on_gap_tasks.discard)

    def _publish_marks(self) -> None:
        if self._publisher.is_open:
            self._publisher.flush()
            self._publisher.mark()

    def _publish_lease(
        self,
        node: NodeId | None,
        message: envelopes.LeaseMessage,
        on_sent: Callable[[bool], object],
    ) -> None:
        self._publisher.put(_channel_of(node), lambda: message, on_sent)

    def _reject(self, error: EnvelopeError) -> None:
        self.counts["bad_envelope"] += 1
        self._warn("bad_envelope", f"a message of the bus is ignored: {error.problem}")

    def _warn(self, cause: str, message: str) -> None:
        self._rate_limited.warning(cause, message, self._loop.time())


def _channel_of(node: NodeId | None) -> Channel:
    return EVERYBODY if node is None else node_channel(node)


def _publish_nothing(_subject: Subject, _payload: bytes) -> bool:
    return False
