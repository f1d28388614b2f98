"""The clients connected to this process: sending, actions, and queries about them."""

from collections.abc import Callable, Collection, Iterable
from time import monotonic
from typing import Any, assert_never

from ..connection import Connection
from ..connection_interfaces import MessageSender
from .envelope import (
    Audience,
    Bind,
    BindOnly,
    ClientAction,
    CloseClient,
    CloseUid,
    DirectMessage,
    Dissolve,
    HubAction,
    Join,
    Leave,
    NodeTotals,
    Query,
    SetSession,
    Target,
    Unbind,
    UpdateSession,
)
from .fanout import Fanout
from .names import ClientId, Group, NodeId
from .publication import BINARY, ClientInfo, Publication, personal_channel
from .registry import NO_CHANGE, Change, Registry

LocalMessage = tuple[int, bytes, Collection[ClientId]]
"""The kind (:mod:`.publication`), the payload, and the excluded clients."""


class _ConnectingClient:
    """A client whose handshake is not done, and the actions that wait for its end."""

    __slots__ = ("actions", "connection")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.actions: list[ClientAction] = []


class LocalClients:
    """The clients connected to this process, with their registry and their fan-out."""

    def __init__(
        self, fanout: Fanout, node: NodeId, *, now: Callable[[], float] = monotonic
    ) -> None:
        self.node = node
        self._now = now
        self._started_at = now()
        self.registry: Registry[MessageSender] = Registry()
        self._connecting: dict[ClientId, _ConnectingClient] = {}
        self.fanout = fanout
        # Set by a service of SDK clients: what it knows of a client, and of it in a channel.
        self.client_info: Callable[[ClientId, Group], tuple[bytes, bytes]] = _no_info
        # Whether SDK clients may be connected here: messages to groups and users are publications.
        self.has_channels = False
        # Set by a service whose certificates are ordered while it runs.
        self.check_challenges: Callable[[str], str | None] = lambda _text: None
        # A table and no chain of conditions: every message is looked up here (bench/hub.py).
        self._members_of: dict[Target, Callable[[Any], tuple[MessageSender, ...]]] = {
            Target.GROUPS: self.registry.members_of_group,
            Target.UIDS: self.registry.members_of_uid,
            Target.CLIENTS: self._member,
            # It has no name, but another node may send one.
            Target.ALL: lambda _name: self.registry.members(),
            # Events are for code, not for clients.
            Target.EVENTS: lambda _name: (),
        }

    def add_connecting(self, client: ClientId, connection: Connection) -> None:
        """Register a client whose handshake begins."""
        self._connecting[client] = _ConnectingClient(connection)

    def remove_connecting(self, client: ClientId) -> None:
        """Forget a client whose handshake failed; does nothing if it was added since."""
        self._connecting.pop(client, None)

    def add(self, client: ClientId, connection: Connection) -> list[ClientAction]:
        """Add a client; return the actions that waited for its handshake."""
        self.registry.add(client, connection.send_buffer)
        connecting = self._connecting.pop(client, None)
        return [] if connecting is None else connecting.actions

    def early_actions(self, client: ClientId) -> list[ClientAction]:
        """Get the actions that wait until a client is added, without taking them."""
        connecting = self._connecting.get(client)
        return [] if connecting is None else list(connecting.actions)

    def do_early(self, action: ClientAction) -> bool:
        """Queue an action until the handshake is done; return whether one is in progress."""
        connecting = self._connecting.get(action.client)
        if connecting is not None:
            connecting.actions.append(action)
        return connecting is not None

    def _send_early(self, client: str, kind: int, payload: bytes) -> bool:
        """Send a message that leaves after the response to the handshake."""
        connecting = self._connecting.get(ClientId(client))
        if connecting is not None:
            connecting.connection.send_buffer.send(*_as_frame(kind, payload))
        return connecting is not None

    def send(
        self, target: Target, names: tuple[str, ...], messages: Iterable[LocalMessage]
    ) -> None:
        """Send messages to the local clients of a target."""
        if self.has_channels and (target is Target.GROUPS or target is Target.UIDS):
            self._publish(target, names, messages)
            return
        members = self._members(target, names)
        if target is Target.CLIENTS and len(members) < len(names):
            messages = tuple(messages)
            for kind, payload, _ in messages:
                for name in names:
                    self._send_early(name, kind, payload)
        if not members:
            return
        for kind, payload, exclude in messages:
            if kind > BINARY:
                self.fanout.send(members, *_as_frame(kind, payload), self._excluded(exclude))
            else:
                self.fanout.send(members, kind, payload, self._excluded(exclude) if exclude else ())

    def _publish(
        self, target: Target, names: tuple[str, ...], messages: Iterable[LocalMessage]
    ) -> None:
        """Send messages to channels: an SDK client gets one in each of its channels."""
        messages = tuple(messages)
        served: set[MessageSender] = set()
        for name in names:
            channel = personal_channel(name) if target is Target.UIDS else name
            members = self._members(target, (name,))
            if not members:
                continue
            for kind, payload, exclude in messages:
                made = Publication.of(kind, payload, channel)
                excluded = self._excluded(exclude)
                self.fanout.send(members, made.opcode, made, {*excluded, *served})
            if len(names) > 1:
                # A plain client gets it once.
                served.update(member for member in members if not member.has_channels)

    def publish(
        self,
        target: Target,
        name: str,
        publication: Publication,
        exclude: Collection[ClientId],
    ) -> None:
        """Send a publication of a history to the members of its channel."""
        members = self._members(target, (name,))
        if members:
            excluded = self._excluded(exclude)
            self.fanout.send(members, publication.opcode, publication, excluded)

    def _excluded(self, exclude: Collection[ClientId]) -> Collection[MessageSender]:
        if not exclude:
            return ()
        found = map(self.registry.member, exclude)
        return {member for member in found if member is not None}

    def deliver(self, messages: Iterable[DirectMessage]) -> int:
        """Send messages to single clients; return how many are for clients not connected here."""
        find, send = self.registry.member, self.fanout.send_one
        unknown = 0
        for message in messages:
            member = find(message.client)
            kind = message.kind
            if member is not None:
                if kind > BINARY:
                    send(member, *_as_frame(kind, message.payload))
                else:
                    send(member, kind, message.payload)
            elif not self._send_early(message.client, kind, message.payload):
                unknown += 1
        return unknown

    def count_missing(self, clients: tuple[str, ...]) -> int:
        """Count the clients that are not connected here."""
        return sum(
            client not in self.registry and client not in self._connecting for client in clients
        )

    def count(self, audience: Audience) -> int:
        """Count the local clients that get a message: not those that close, or cannot carry it."""
        members = self._members(audience.target, audience.names)
        if audience.exclude:
            excluded = set(map(self.registry.member, audience.exclude))
            members = tuple(member for member in members if member not in excluded)
        kind = audience.kind
        count = sum(not member.is_closed and member.carries(kind) for member in members)
        if audience.target is Target.CLIENTS:
            count += sum(client in self._connecting for client in audience.names)
        return count

    def _members(self, target: Target, names: tuple[str, ...]) -> tuple[MessageSender, ...]:
        if len(names) == 1:
            return self._members_of[target](names[0])
        if target is Target.ALL:
            return self.registry.members()
        # A client with several of the names gets the message once.
        members_of = self._members_of[target]
        return tuple(dict.fromkeys(one for name in names for one in members_of(name)))

    def _member(self, client: ClientId) -> tuple[MessageSender, ...]:
        member = self.registry.member(client)
        return () if member is None else (member,)

    def do(self, action: HubAction) -> Change:
        """Execute an action on a client, a uid or a group; raises UnknownClient."""
        registry = self.registry
        match action:
            case Join(client, group):
                return registry.join(client, group)
            case Leave(client, group):
                return registry.leave(client, group)
            case Bind(client, uid) | BindOnly(client, uid):
                return registry.bind(client, uid)
            case Unbind(client):
                return registry.unbind(client)
            case Dissolve(group):
                return registry.dissolve(group)
            case CloseClient(client, code, reason):
                self._connection(client).close(code, reason)
            case CloseUid(uid, code, reason, exclude):
                for client in registry.clients_of_uid(uid):
                    if client not in exclude:
                        self._connection(client).close(code, reason)
            case SetSession(client, session):
                self._connection(client).stored_session = dict(session)
            case UpdateSession(client, changes):
                self._connection(client).session.update(changes)
            case _:
                assert_never(action)
        return NO_CHANGE

    def totals(self) -> NodeTotals:
        registry = self.registry
        sizes = sum(map(registry.count_group, registry.groups()))
        return NodeTotals(
            self.node,
            clients=len(registry),
            users=len(registry.uids()),
            groups=len(registry.groups()),
            subscriptions=sizes,
            uptime=int(self._now() - self._started_at),
        )

    def _presence(self, channel: Group) -> list[ClientInfo]:
        registry = self.registry
        return [
            ClientInfo(client, registry.uid_of(client) or "", *self.client_info(client, channel))
            for client in registry.clients_of_group(channel)
        ]

    def _connection(self, client: ClientId) -> Connection:
        connection: Connection = self.registry.get(client).connection
        return connection

    def answer(self, query: Query, name: str, audience: Audience | None = None) -> Any:
        """Answer a query about local clients; raises UnknownClient."""
        if query is Query.COUNT_AUDIENCE:
            return 0 if audience is None else self.count(audience)
        if query is Query.PRESENCE:
            return self._presence(Group(name))
        if query is Query.TOTALS:
            return [self.totals()]
        if query is Query.CHALLENGES:
            return self.check_challenges(name)
        return _ANSWERS[query](self.registry, name)


def _no_info(_client: ClientId, _channel: Group) -> tuple[bytes, bytes]:
    return b"", b""


def _as_frame(kind: int, payload: bytes) -> tuple[int, bytes]:
    """Get the opcode and the payload of a message that was sent to no channel."""
    if kind <= BINARY:
        return kind, payload
    publication = Publication.of(kind, payload)
    return publication.opcode, publication


def _session(registry: Registry[MessageSender], client: ClientId) -> dict[str, Any]:
    return dict(registry.get(client).connection.session)


_ANSWERS: dict[Query, Callable[[Registry[MessageSender], Any], Any]] = {
    Query.UID_OF_CLIENT: Registry.uid_of,
    Query.IS_ONLINE: Registry.__contains__,
    Query.SESSION: _session,
    Query.IS_UID_ONLINE: Registry.has_uid,
    Query.CLIENTS_OF_UID: Registry.clients_of_uid,
    Query.CLIENTS_OF_GROUP: Registry.clients_of_group,
    Query.UIDS_OF_GROUP: lambda registry, group: list(registry.uids_of_group(group)),
    Query.SESSIONS_OF_GROUP: lambda registry, group: [
        (client, _session(registry, client)) for client in registry.clients_of_group(group)
    ],
    Query.COUNT_GROUP: Registry.count_group,
    Query.COUNT_CLIENTS: lambda registry, _: len(registry),
    Query.GROUP_SIZES: lambda registry, _: [
        (group, registry.count_group(group)) for group in registry.groups()
    ],
    Query.UIDS: lambda registry, _: list(registry.uids()),
    Query.GROUPS: lambda registry, _: list(registry.groups()),
}
