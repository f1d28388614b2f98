"""
Subscribes the SDK clients of a process to channels, and ends their subscriptions.

A client becomes a member of the channel's group in the moment in which it is answered: what it has
missed is in the answer, and what comes later is sent after it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from msgspec import Raw

from ..clients.allow import Allow
from ..clients.channel import Channel, ChannelRules, is_personal
from ..clients.codes import DisconnectCode, ErrorCode, UnsubscribeCode
from ..clients.messages import (
    ConnectResult,
    Push,
    Reply,
    Subscribe,
    SubscribeRequest,
    SubscribeResult,
    raw,
)
from ..clients.messages import Publication as PublicationPart
from ..clients.session import Action, Unsubscribed
from ..clients.session import State as SessionState
from ..cluster.confirmation import DONE, Confirmation
from ..cluster.envelope import (
    Bind,
    BindOnly,
    ClientAction,
    Dissolve,
    HubAction,
    Join,
    Leave,
    Target,
    Unbind,
)
from ..cluster.history_channels import CatchUp
from ..cluster.names import ClientId, Group
from ..cluster.node import Node
from ..cluster.publication import Publication, as_json, personal_channel, unpack
from ..connection import State
from ..errors import BusError, EnvelopeError
from ..history.base import Position, StoredMessage
from ..log import RateLimitedLogger
from .client import Client
from .client_presence import ClientPresence
from .client_send_buffer import data_of, info_of

# The flag of a subscribe command: an error, and no subscription, if something is missing.
_REJECT_UNRECOVERED = 2

# Channels; of a client that comes back.
_MAX_POSITIONS = 128

Act = Callable[[Client, Sequence[Action]], None]
"""Carries out what a session returned."""


class Connecting(NamedTuple):
    """A connect command that the application has allowed."""

    number: int
    result: ConnectResult
    # What was done with the client before.
    actions: Sequence[ClientAction]
    # The positions that it knows.
    subs: dict[str, SubscribeRequest]
    # For the client, of each channel.
    data: dict[str, bytes]
    admit: Callable[[], None]
    ttl: float | None


class _Entry:
    """A channel that a client is about to enter."""

    __slots__ = ("catch_up", "channel", "is_recovering", "name", "options", "target")

    def __init__(self, channel: str, options: Channel, *, is_recovering: bool) -> None:
        self.channel = channel
        self.options = options
        self.is_recovering = is_recovering
        self.target, self.name = target_of(channel)
        self.catch_up: CatchUp | None = None

    def is_at_hand(self, node: Node) -> bool:
        """Tell whether the client can become a member without waiting."""
        if self.catch_up is not None:
            return self.catch_up.is_at_hand()
        return node.subscriptions.is_routed(self.target, self.name)

    async def fetch(self, node: Node) -> None:
        """Wait until the client can become a member; raises BusError."""
        if self.catch_up is not None:
            await self.catch_up.fetch()
        else:
            await node.subscriptions.route(self.target, self.name)


class ClientSubscriptions:
    """The subscriptions of all SDK clients of a worker in one process."""

    def __init__(
        self,
        node: Node,
        rules: ChannelRules,
        clients: dict[ClientId, Client],
        act: Act,
        presence: ClientPresence,
        *,
        max_recovered: int,
        max_unsent: int,
        now: Callable[[], float],
    ) -> None:
        self._node = node
        self._rules = rules
        self._clients = clients
        self._act = act
        self._presence = presence
        self._max_recovered = max_recovered
        self._max_unsent = max_unsent
        self._now = now
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rate_limited = RateLimitedLogger()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def spawn(
        self, coroutine: Coroutine[Any, Any, None], client: Client, number: int = 0
    ) -> "asyncio.Task[None]":
        """Run what answers a command; if it fails unexpectedly, the client gets an error."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, client, number))
        return task

    def _ended(self, client: Client, number: int, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._rate_limited.error("a command of an SDK client failed", error, self._now())
            self._fail(client, number)

    # Subscriptions that the client asks for.

    def subscribe(
        self, client: Client, number: int, request: SubscribeRequest, allowed: Allow
    ) -> None:
        """Subscribe a client that may; raises TypeError for what cannot be written for it."""
        data = raw(b"" if allowed.data is None else client.write(allowed.data))
        info = None if allowed.info is None else Raw(as_json(allowed.info))
        allowed = replace(allowed, data=data, info=info)
        # At once, unless something has to be fetched.
        stack = ExitStack()
        entry = self._enter(stack, request.channel, request)
        subscribe = partial(self._subscribe, client, number, request, allowed, entry)

        async def fetch() -> None:
            with stack:
                try:
                    await entry.fetch(self._node)
                except BusError:
                    self._fail(client, number)
                else:
                    subscribe()

        if entry.is_at_hand(self._node):
            with stack:
                subscribe()
        else:
            self.spawn(fetch(), client, number)

    def _subscribe(
        self,
        client: Client,
        number: int,
        request: SubscribeRequest,
        allowed: Allow,
        entry: _Entry,
    ) -> None:
        session = client.session
        if client.connection.state is not State.OPEN:
            return
        try:
            result = self._result(client, entry)
        except BusError:
            self._fail(client, number)
            return
        result.data = allowed.data
        is_incomplete = result.was_recovering and not result.recovered
        if is_incomplete and request.flag & _REJECT_UNRECOVERED:
            self._act(client, session.refused(number, ErrorCode.UNRECOVERABLE_POSITION))
            return
        is_subscribing = session.is_subscribing(number)
        actions = session.subscribed(number, result, self._now(), ttl=allowed.expires_in)
        if not is_subscribing:
            self._act(client, actions)
            return
        rest = replace(allowed, data=None, expires_in=None)
        if rest != Allow():
            client.allowed[entry.channel] = rest
        self._send_first(client, actions, entry)
        self._presence.joined(client, entry.channel)

    def _fail(self, client: Client, number: int) -> None:
        """Have the SDK try again later: the store or the bus is away."""
        self._node.counts["failed_subscriptions"] += 1
        self._act(client, client.session.refused(number, ErrorCode.INTERNAL))

    def _send_first(self, client: Client, actions: Sequence[Action], entry: _Entry) -> None:
        """Send the answer, and make the client a member before anything else is sent to it."""
        self._act(client, actions[:1])
        self._node.actions.do_for_member(Join(client.id, Group(entry.name)))
        self._act(client, actions[1:])

    def _enter(self, stack: ExitStack, channel: str, request: SubscribeRequest | None) -> _Entry:
        """Begin to enter a channel; the stack ends it."""
        history_channels = self._node.channels.history
        options = self._rules.options_of(channel)
        entry = _Entry(channel, options, is_recovering=request is not None and request.recover)
        if (
            history_channels is not None
            and history_channels.limits(entry.target, entry.name) is not None
        ):
            position = None
            if request is not None and request.recover:
                position = Position(request.epoch, request.offset)
            entry.catch_up = stack.enter_context(
                history_channels.catch_up(entry.target, entry.name, position, self._max_recovered)
            )
        return entry

    def _result(self, client: Client, entry: _Entry, pending: int = 0) -> SubscribeResult:
        """Make the answer to a subscribe; the client has to become a member now."""
        # ``pending``: bytes of other channels in the same answer. Half of what may wait for the
        # client is for live messages: a client that is closed for them would come back for the
        # same recovery, again and again.
        room = max(0, self._max_unsent // 2 - client.connection.send_buffer_size - pending)
        result = SubscribeResult()
        if entry.catch_up is None:
            result.was_recovering = entry.is_recovering
            return result
        recovery = entry.catch_up.finish(room)
        result.epoch, result.offset = recovery.position
        result.positioned = True
        result.recoverable = entry.options.recover
        if entry.is_recovering:
            result.was_recovering, result.recovered = True, recovery.is_complete
            result.publications = [
                part
                for message in recovery.messages
                if (part := self._part(client, entry.channel, message)) is not None
            ]
        return result

    def _part(self, client: Client, channel: str, message: StoredMessage) -> PublicationPart | None:
        try:
            packed = unpack(message.payload)
        except EnvelopeError:
            return None
        if client.id in packed.exclude:
            return None
        made = Publication.of_packed(packed, channel, message.offset)
        data = data_of(made.kind, bytes(made), client.session.codec)
        if data is None:
            self._node.counts["binary_to_json_client"] += 1
            return None
        return PublicationPart(
            data=raw(data), info=info_of(made.info), offset=made.offset, tags=made.tags
        )

    # What the server begins.

    def connect(self, client: Client, connecting: Connecting) -> None:
        """Answer a connect command, with the channels that the application has chosen."""
        channels = _channels_of(connecting.actions)
        if not channels:
            self._finish_connect(client, connecting)
        else:
            self.spawn(self._connect(client, connecting, channels), client, connecting.number)

    async def _connect(
        self, client: Client, connecting: Connecting, channels: Sequence[str]
    ) -> None:
        try:
            with ExitStack() as stack:
                entries = [self._enter(stack, one, connecting.subs.get(one)) for one in channels]
                await asyncio.gather(*(entry.fetch(self._node) for entry in entries))
                if client.connection.state is not State.OPEN:
                    return
                pending = 0
                for entry in entries:
                    result = self._result(client, entry, pending)
                    pending += sum(len(bytes(one.data)) for one in result.publications)
                    result.data = raw(connecting.data.get(entry.channel, b""))
                    connecting.result.subs[entry.channel] = result
                self._finish_connect(client, connecting)
        except BusError:
            self._fail(client, connecting.number)

    def _finish_connect(self, client: Client, connecting: Connecting) -> None:
        actions = client.session.connected(
            connecting.number, connecting.result, self._now(), ttl=connecting.ttl
        )
        if client.session.state is not SessionState.CONNECTED:
            return
        self._act(client, actions[:1])
        client.positions = {
            channel: known
            for channel, known in islice(connecting.subs.items(), _MAX_POSITIONS)
            if known.recover and channel not in connecting.result.subs
        }
        connecting.admit()
        for action in connecting.actions:
            self._node.actions.do_for_member(action)
        self._act(client, actions[1:])
        for channel in connecting.result.subs:
            self._presence.joined(client, channel)

    def do(self, action: HubAction) -> Confirmation[None] | None:
        """Execute an action on an SDK client; see :class:`gateman.cluster.extension.Subscriber`."""
        if isinstance(action, Dissolve):
            self._dissolve(action.group)
            return None
        client = self._clients.get(getattr(action, "client", ClientId("")))
        if client is None or client.session.state is not SessionState.CONNECTED:
            return None
        confirmation: Confirmation[None] | None = None
        match action:
            case Join(_, group) if is_personal(group):
                confirmation = DONE
                self._rate_limited.warning(
                    "personal",
                    f"a client cannot join the group {group!r:.40}, as names with '#' are users'"
                    " personal channels: bind it to the user instead",
                    self._now(),
                )
            case Join(_, group):
                confirmation = DONE
                if not client.session.is_subscribed(group):
                    confirmation = self._confirm(client, self._join(client, group, action))
            case Leave(_, group):
                if self._unsubscribe(client, group, UnsubscribeCode.SERVER):
                    confirmation = DONE
            case Bind(_, uid) | BindOnly(_, uid):
                if client.uid and client.uid != uid:
                    self._unbind(client)
                client.uid = uid
                joining = self._join(client, personal_channel(uid), action)
                confirmation = self._confirm(client, joining)
            case Unbind():
                self._unbind(client)
                confirmation = DONE
        return confirmation

    def _confirm(self, client: Client, coroutine: Coroutine[Any, Any, None]) -> Confirmation[None]:
        task = self.spawn(coroutine, client)

        async def wait() -> None:
            await asyncio.shield(task)

        return Confirmation(wait)

    async def _join(self, client: Client, channel: str, action: ClientAction) -> None:
        confirmation: Confirmation[None] = DONE
        with ExitStack() as stack:
            try:
                known = client.positions.pop(channel, None)
                entry = self._enter(stack, channel, known)
                await entry.fetch(self._node)
                result = self._result(client, entry)
            except BusError:
                # It comes back, and is joined again.
                self._node.counts["failed_subscriptions"] += 1
                self._act(client, client.session.disconnect(DisconnectCode.INSUFFICIENT_STATE))
                return
            if client.connection.state is not State.OPEN:
                return
            push = Subscribe(
                recoverable=result.recoverable,
                epoch=result.epoch,
                offset=result.offset,
                positioned=result.positioned,
            )
            if known is not None and result.publications:
                # They follow, and move it on.
                push.offset = known.offset
            actions = client.session.push_subscribe(channel, push)
            self._act(client, actions[:1])
            if actions and result.publications:
                missed = [Reply(push=Push(channel=channel, pub=one)) for one in result.publications]
                client.send_buffer.send_encoded(client.session.codec.encode(missed))
            confirmation = self._node.actions.do_for_member(action)
            self._act(client, actions[1:])
            self._presence.joined(client, channel)
        await confirmation

    def _unbind(self, client: Client) -> None:
        uid, client.uid = client.uid, ""
        if uid and not self._unsubscribe(client, personal_channel(uid), UnsubscribeCode.SERVER):
            self._node.actions.do_for_member(Unbind(client.id))

    def _unsubscribe(self, client: Client, channel: str, code: UnsubscribeCode) -> bool:
        if channel not in client.session.subscriptions:
            return False
        self._act(client, client.session.push_unsubscribe(channel, code))
        return True

    def _dissolve(self, group: Group) -> None:
        for client in self._members(Target.GROUPS, group):
            self._unsubscribe(client, group, UnsubscribeCode.SERVER)

    def ended(self, client: Client, ended: Unsubscribed) -> None:
        """Take a client out of a channel to which it is no longer subscribed."""
        self._presence.left(client, ended.channel)
        client.allowed.pop(ended.channel, None)
        target, name = target_of(ended.channel)
        if target is Target.UIDS:
            self._node.actions.do_for_member(Unbind(client.id))
        else:
            self._node.actions.do_for_member(Leave(client.id, Group(name)))

    def lost(self, target: Target, name: str) -> None:
        """Have clients come back that may have missed messages of a channel."""
        channel = personal_channel(name) if target is Target.UIDS else name
        for client in self._members(target, name):
            subscription = client.session.subscriptions.get(channel)
            if subscription is None:
                continue
            if subscription.is_server_side:
                self._act(client, client.session.disconnect(DisconnectCode.INSUFFICIENT_STATE))
            else:
                self._unsubscribe(client, channel, UnsubscribeCode.INSUFFICIENT_STATE)

    def _members(self, target: Target, name: str) -> list[Client]:
        registry = self._node.local_clients.registry
        found = (
            registry.clients_of_uid(name)  # type: ignore[arg-type] # a uid, by its target
            if target is Target.UIDS
            else registry.clients_of_group(Group(name))
        )
        return [client for one in found if (client := self._clients.get(one)) is not None]


def target_of(channel: str) -> tuple[Target, str]:
    """Get the recipients that a channel stands for."""
    if is_personal(channel):
        return Target.UIDS, channel[1:]
    return Target.GROUPS, channel


def _channels_of(early: Sequence[ClientAction]) -> list[str]:
    """Get the channels of what was done with a client before it was connected."""
    channels: dict[str, None] = {}
    uid = ""
    for action in early:
        match action:
            case Join(_, group):
                channels[group] = None
            case Leave(_, group):
                channels.pop(group, None)
            case Bind(_, name) | BindOnly(_, name):
                uid = name
            case Unbind():
                uid = ""
    if uid:
        channels[personal_channel(uid)] = None
    return list(channels)
