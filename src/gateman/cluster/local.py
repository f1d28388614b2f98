"""What a process does and knows about the clients that are connected to it."""

from collections.abc import Callable, Collection, Iterable
from typing import Any, assert_never

from ..connection import Connection
from ..net.outbox import Outbox
from .envelope import (
    Action,
    Audience,
    Bind,
    BindOnly,
    ClientAction,
    Close,
    CloseUid,
    Dissolve,
    Join,
    Leave,
    Letter,
    Scope,
    SetSession,
    Unbind,
    UpdateSession,
    What,
)
from .fanout import Fanout
from .names import ClientId
from .registry import NO_CHANGE, Change, Registry

Message = tuple[int, bytes, Collection[ClientId]]
"""1 for text or 2 for binary, the payload, and who does not get it."""


def outbox_of(connection: Connection) -> Outbox | None:
    """
    Find the way out to a client.

    Args:
        connection: Its connection.

    Returns:
        It; ``None`` if it is not open any more, or not yet.
    """
    outbox: Outbox | None = getattr(connection._link, "outbox", None)  # noqa: SLF001
    return outbox


class _Arriving:
    """A client whose handshake is not done, and what is to be done with it when it is."""

    __slots__ = ("actions", "connection")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.actions: list[ClientAction] = []


class Local:
    """
    The clients here.

    Attributes:
        registry: Who they are.
        fanout: How to write to many.
    """

    def __init__(self, fanout: Fanout) -> None:
        """
        Begin with nobody.

        Args:
            fanout: How to write to many.
        """
        self.registry: Registry[Outbox] = Registry()
        self._arriving: dict[ClientId, _Arriving] = {}
        self.fanout = fanout
        # Not asked for one after the other: this is on the way of every message (bench/hub.py).
        self._members_of: dict[Scope, Callable[[Any], tuple[Outbox, ...]]] = {
            Scope.GROUPS: self.registry.members_of_group,
            Scope.UIDS: self.registry.members_of_uid,
            Scope.CLIENTS: self._member,
            # It has no name, but who knows what others send.
            Scope.ALL: lambda _name: self.registry.members(),
            # They are for code, not for clients.
            Scope.EVENTS: lambda _name: (),
        }

    def arrive(self, client: ClientId, connection: Connection) -> None:
        """
        Take note of a client that may soon be open.

        Args:
            client: Its id.
            connection: Its connection.
        """
        self._arriving[client] = _Arriving(connection)

    def leave(self, client: ClientId) -> None:
        """
        Forget a client that has arrived; nothing happens if it has been added since.

        Args:
            client: Its id.
        """
        self._arriving.pop(client, None)

    def add(self, client: ClientId, connection: Connection) -> list[ClientAction]:
        """
        Take in a client.

        Args:
            client: Its id.
            connection: Its connection; open.

        Returns:
            What is to be done with it now.
        """
        outbox = outbox_of(connection)
        if outbox is not None:
            self.registry.add(client, outbox)
        arriving = self._arriving.pop(client, None)
        return [] if arriving is None else arriving.actions

    def do_early(self, action: ClientAction) -> bool:
        """
        Do something with a client as soon as it is open.

        Args:
            action: What.

        Returns:
            Whether its handshake is under way here.
        """
        arriving = self._arriving.get(action.client)
        if arriving is not None:
            arriving.actions.append(action)
        return arriving is not None

    def _send_early(self, client: str, opcode: int, payload: bytes) -> bool:
        """Send a message that goes out behind the 101."""
        arriving = self._arriving.get(ClientId(client))
        if arriving is not None:
            arriving.connection._wire(opcode, payload)  # noqa: SLF001 - as an outbox does
        return arriving is not None

    def send(self, scope: Scope, names: tuple[str, ...], messages: Iterable[Message]) -> None:
        """
        Send messages to those who are here.

        Args:
            scope: Whom they are for.
            names: Which of those.
            messages: They, in order.
        """
        members = self._members(scope, names)
        if scope is Scope.CLIENTS and len(members) < len(names):
            messages = tuple(messages)
            for opcode, payload, _ in messages:
                for name in names:
                    self._send_early(name, opcode, payload)
        if not members:
            return
        for opcode, payload, exclude in messages:
            excluded: Collection[Outbox] = ()
            if exclude:
                found = map(self.registry.member, exclude)
                excluded = {member for member in found if member is not None}
            self.fanout.send(members, opcode, payload, excluded)

    def deliver(self, letter: Letter) -> bool:
        """
        Send a message to one client.

        Args:
            letter: The message, and whom it is for.

        Returns:
            Whether the client is here.
        """
        opcode = 1 if letter.is_text else 2
        member = self.registry.member(letter.client)
        if member is None:
            return self._send_early(letter.client, opcode, letter.payload)
        self.fanout.send((member,), opcode, letter.payload)
        return True

    def count_missing(self, clients: tuple[str, ...]) -> int:
        """
        Count those who are not here.

        Args:
            clients: Their ids.

        Returns:
            How many.
        """
        return sum(
            client not in self.registry and client not in self._arriving for client in clients
        )

    def count(self, audience: Audience) -> int:
        """Count those here whom a message was for."""
        if audience.scope is Scope.CLIENTS:
            here = len(audience.names) - self.count_missing(audience.names)
        else:
            here = len(self._members(audience.scope, audience.names))
        if here and audience.exclude:
            members = self._members(audience.scope, audience.names)
            excluded = set(map(self.registry.member, audience.exclude))
            here = sum(member not in excluded for member in members)
        return here

    def _members(self, scope: Scope, names: tuple[str, ...]) -> tuple[Outbox, ...]:
        if len(names) == 1:
            return self._members_of[scope](names[0])
        if scope is Scope.ALL:
            return self.registry.members()
        # Whoever is under several names gets the message once.
        members_of = self._members_of[scope]
        return tuple(dict.fromkeys(one for name in names for one in members_of(name)))

    def _member(self, client: ClientId) -> tuple[Outbox, ...]:
        member = self.registry.member(client)
        return () if member is None else (member,)

    def do(self, action: Action) -> Change:
        """
        Do something with a client or a group.

        Args:
            action: What.

        Returns:
            What it means for others.

        Raises:
            UnknownClient: The client is not here.
        """
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
            case Close(client, code, reason):
                self._connection(client).close(code, reason)
            case CloseUid(uid, code, reason, exclude):
                for client in registry.clients_of_uid(uid):
                    if client not in exclude:
                        self._connection(client).close(code, reason)
            case SetSession(client, session):
                self._connection(client)._session = dict(session)  # noqa: SLF001
            case UpdateSession(client, changes):
                self._connection(client).session.update(changes)
            case _:
                assert_never(action)
        return NO_CHANGE

    def _connection(self, client: ClientId) -> Connection:
        return self.registry.get(client).connection

    def tell(self, what: What, name: str, audience: Audience | None = None) -> Any:
        """
        Answer a question about those who are here.

        Args:
            what: Which.
            name: About whom.
            audience: Who is to be counted, for that question.

        Returns:
            The answer; see :class:`~.envelope.What`.

        Raises:
            UnknownClient: It is about a client that is not here.
        """
        if what is What.COUNT_AUDIENCE:
            return 0 if audience is None else self.count(audience)
        return _ANSWERS[what](self.registry, name)


def _session(registry: Registry[Outbox], client: ClientId) -> dict[str, Any]:
    return dict(registry.get(client).connection.session)


_ANSWERS: dict[What, Callable[[Registry[Outbox], Any], Any]] = {
    What.UID_OF_CLIENT: Registry.uid_of,
    What.IS_ONLINE: Registry.__contains__,
    What.SESSION: _session,
    What.IS_UID_ONLINE: Registry.has_uid,
    What.CLIENTS_OF_UID: Registry.clients_of_uid,
    What.CLIENTS_OF_GROUP: Registry.clients_of_group,
    What.UIDS_OF_GROUP: lambda registry, group: list(registry.uids_of_group(group)),
    What.SESSIONS_OF_GROUP: lambda registry, group: [
        (client, _session(registry, client)) for client in registry.clients_of_group(group)
    ],
    What.COUNT_GROUP: Registry.count_group,
    What.COUNT_CLIENTS: lambda registry, _: len(registry),
    What.UIDS: lambda registry, _: list(registry.uids()),
    What.GROUPS: lambda registry, _: list(registry.groups()),
}
