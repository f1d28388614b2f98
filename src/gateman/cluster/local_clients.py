"""The clients connected to this process: sending, actions, and queries about them."""

from collections.abc import Callable, Collection, Iterable
from typing import Any, assert_never

from ..connection import Connection
from ..connection_interfaces import MessageSender
from .envelope import (
    Audience,
    Bind,
    BindOnly,
    ClientAction,
    ClientInfo,
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
from .registry import NO_CHANGE, Change, Registry

LocalMessage = tuple[int, bytes, Collection[ClientId]]
"""1 for text or 2 for binary, the payload, and the excluded clients."""


class _ConnectingClient:
    """A client whose handshake is not done, and the actions that wait for its end."""

    __slots__ = ("actions", "connection")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.actions: list[ClientAction] = []


class LocalClients:
    """The clients connected to this process, with their registry and their fan-out."""

    def __init__(self, fanout: Fanout, node: NodeId) -> None:
        self.node = node
        self.registry: Registry[MessageSender] = Registry()
        self._connecting: dict[ClientId, _ConnectingClient] = {}
        self.fanout = fanout
        # Set by a service of SDK clients: what it knows of a client, and of it in a channel.
        self.client_info: Callable[[ClientId, Group], tuple[bytes, bytes]] = _no_info
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

    def do_early(self, action: ClientAction) -> bool:
        """Queue an action until the handshake is done; return whether one is in progress."""
        connecting = self._connecting.get(action.client)
        if connecting is not None:
            connecting.actions.append(action)
        return connecting is not None

    def _send_early(self, client: str, opcode: int, payload: bytes) -> bool:
        """Send a message that leaves after the response to the handshake."""
        connecting = self._connecting.get(ClientId(client))
        if connecting is not None:
            connecting.connection.send_buffer.send(opcode, payload)
        return connecting is not None

    def send(
        self, target: Target, names: tuple[str, ...], messages: Iterable[LocalMessage]
    ) -> None:
        """Send messages to the local clients of a target."""
        members = self._members(target, names)
        if target is Target.CLIENTS and len(members) < len(names):
            messages = tuple(messages)
            for opcode, payload, _ in messages:
                for name in names:
                    self._send_early(name, opcode, payload)
        if not members:
            return
        for opcode, payload, exclude in messages:
            excluded: Collection[MessageSender] = ()
            if exclude:
                found = map(self.registry.member, exclude)
                excluded = {member for member in found if member is not None}
            self.fanout.send(members, opcode, payload, excluded)

    def deliver(self, messages: Iterable[DirectMessage]) -> int:
        """Send messages to single clients; return how many are for clients not connected here."""
        find, send = self.registry.member, self.fanout.send_one
        unknown = 0
        for message in messages:
            member = find(message.client)
            opcode = 1 if message.is_text else 2
            if member is not None:
                send(member, opcode, message.payload)
            elif not self._send_early(message.client, opcode, message.payload):
                unknown += 1
        return unknown

    def count_missing(self, clients: tuple[str, ...]) -> int:
        """Count the clients that are not connected here."""
        return sum(
            client not in self.registry and client not in self._connecting for client in clients
        )

    def count(self, audience: Audience) -> int:
        """Count the local recipients of a message, without those whose connection is closing."""
        members = self._members(audience.target, audience.names)
        if audience.exclude:
            excluded = set(map(self.registry.member, audience.exclude))
            members = tuple(member for member in members if member not in excluded)
        count = sum(not member.is_closed for member in members)
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
            self.node, len(registry), len(registry.uids()), len(registry.groups()), sizes
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
