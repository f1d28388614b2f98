"""
The registry: the clients connected to this process, their uids and their groups. Pure.

    client id ──► client ──► uid, groups
    uid, group ──► client, or a set of clients

The hub of every process has one. What other processes must route here follows from it: each change
returns the topics that now have a first local client, and those whose last client has left.

The only client of a uid or a group is stored directly, and a set is made for the second one: most
uids have one connection, and a set takes 216 bytes (``bench/hub.py``). The members of a group are
returned as a tuple, which is cached until a client joins or leaves.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from msgspec import Struct

from ..errors import UnknownClient
from .names import ClientId, Group, Uid

M = TypeVar("M")
N = TypeVar("N", Uid, Group)


class TopicKind(StrEnum):
    """What clients share under a name."""

    UID = "uid"
    """The user."""
    GROUP = "group"
    """A group."""


class Topic(NamedTuple):
    """A uid or a group, as something that a node subscribes to."""

    kind: TopicKind
    name: str


class Change(Struct, frozen=True):
    """The topics that gained their first local client, and those that lost their last."""

    gained: tuple[Topic, ...] = ()
    lost: tuple[Topic, ...] = ()


NO_CHANGE = Change()


class _RegisteredClient(Generic[M]):
    __slots__ = ("groups", "id", "member", "uid")

    def __init__(self, name: ClientId, member: M) -> None:
        self.id = name
        self.member = member
        self.uid: Uid | None = None
        # None, the only group itself, or a set of them.
        self.groups: Group | set[Group] | None = None


class _MemberSet(set[_RegisteredClient[M]]):
    """Two clients or more, with a tuple of their members that is cached until one changes."""

    __slots__ = ("members",)

    members: tuple[M, ...] | None


_Entry = _RegisteredClient[M] | _MemberSet[M]


class Registry(Generic[M]):
    """The clients of one process; a *member* is the object that a client's messages go to."""

    # Every change takes constant time; to remove a client takes a step for each of its groups.

    __slots__ = ("_all_members", "_clients", "_groups", "_uids")

    def __init__(self) -> None:
        self._clients: dict[ClientId, _RegisteredClient[M]] = {}
        self._uids: dict[Uid, _Entry[M]] = {}
        self._groups: dict[Group, _Entry[M]] = {}
        self._all_members: tuple[M, ...] | None = ()

    def add(self, client: ClientId, member: M) -> None:
        if client in self._clients:
            raise ValueError(f"{client} is already registered")
        self._clients[client] = _RegisteredClient(client, member)
        self._all_members = None

    def remove(self, client: ClientId) -> Change:
        """Remove a client with its uid and groups; does nothing if it is not registered."""
        gone = self._clients.pop(client, None)
        if gone is None:
            return NO_CHANGE
        self._all_members = None
        lost = [
            Topic(TopicKind.GROUP, group)
            for group in _each(gone.groups)
            if _remove_from(self._groups, group, gone)
        ]
        if gone.uid is not None and _remove_from(self._uids, gone.uid, gone):
            lost.append(Topic(TopicKind.UID, gone.uid))
        return Change(lost=tuple(lost)) if lost else NO_CHANGE

    def bind(self, client: ClientId, uid: Uid) -> Change:
        """Bind a client to a uid; a client has one uid at a time."""
        found = self._client(client)
        if found.uid == uid:
            return NO_CHANGE
        lost = self._unbind(found)
        found.uid = uid
        is_first = _add_to(self._uids, uid, found)
        return Change((Topic(TopicKind.UID, uid),) if is_first else (), lost)

    def unbind(self, client: ClientId) -> Change:
        lost = self._unbind(self._client(client))
        return Change(lost=lost) if lost else NO_CHANGE

    def join(self, client: ClientId, group: Group) -> Change:
        found = self._client(client)
        groups = found.groups
        if groups is None:
            found.groups = group
        elif isinstance(groups, set):
            if group in groups:
                return NO_CHANGE
            groups.add(group)
        elif groups == group:
            return NO_CHANGE
        else:
            found.groups = {groups, group}
        is_first = _add_to(self._groups, group, found)
        return Change((Topic(TopicKind.GROUP, group),)) if is_first else NO_CHANGE

    def leave(self, client: ClientId, group: Group) -> Change:
        found = self._client(client)
        if group not in _each(found.groups):
            return NO_CHANGE
        _forget_group(found, group)
        if _remove_from(self._groups, group, found):
            return Change(lost=(Topic(TopicKind.GROUP, group),))
        return NO_CHANGE

    def dissolve(self, group: Group) -> Change:
        entry = self._groups.pop(group, None)
        if entry is None:
            return NO_CHANGE
        for client in _clients(entry):
            _forget_group(client, group)
        return Change(lost=(Topic(TopicKind.GROUP, group),))

    def _client(self, client: ClientId) -> _RegisteredClient[M]:
        found = self._clients.get(client)
        if found is None:
            raise UnknownClient(client)
        return found

    def _unbind(self, client: _RegisteredClient[M]) -> tuple[Topic, ...]:
        uid, client.uid = client.uid, None
        if uid is not None and _remove_from(self._uids, uid, client):
            return (Topic(TopicKind.UID, uid),)
        return ()

    def member(self, client: ClientId) -> M | None:
        found = self._clients.get(client)
        return None if found is None else found.member

    def get(self, client: ClientId) -> M:
        """Get the member of a client; raises UnknownClient."""
        return self._client(client).member

    def members(self) -> tuple[M, ...]:
        """Get all members; the same object until a client is added or removed."""
        if self._all_members is None:
            self._all_members = tuple(client.member for client in self._clients.values())
        return self._all_members

    def members_of_uid(self, uid: Uid) -> tuple[M, ...]:
        return _members(self._uids.get(uid))

    def members_of_group(self, group: Group) -> tuple[M, ...]:
        return _members(self._groups.get(group))

    def __len__(self) -> int:
        return len(self._clients)

    def __contains__(self, client: object) -> bool:
        return client in self._clients

    def __iter__(self) -> Iterator[ClientId]:
        return iter(self._clients)

    def uids(self) -> AbstractSet[Uid]:
        """Get every uid that has a local client."""
        return self._uids.keys()

    def groups(self) -> AbstractSet[Group]:
        """Get every group that has a local client."""
        return self._groups.keys()

    def has_uid(self, uid: Uid) -> bool:
        return uid in self._uids

    def uid_of(self, client: ClientId) -> Uid | None:
        return self._client(client).uid

    def clients_of_uid(self, uid: Uid) -> list[ClientId]:
        return [client.id for client in _clients(self._uids.get(uid))]

    def clients_of_group(self, group: Group) -> list[ClientId]:
        return [client.id for client in _clients(self._groups.get(group))]

    def uids_of_group(self, group: Group) -> set[Uid]:
        """Get the users in a group; clients without a uid are left out."""
        clients = _clients(self._groups.get(group))
        return {client.uid for client in clients if client.uid is not None}

    def count_group(self, group: Group) -> int:
        entry = self._groups.get(group)
        return len(entry) if isinstance(entry, _MemberSet) else int(entry is not None)


def _add_to(index: dict[N, _Entry[M]], name: N, client: _RegisteredClient[M]) -> bool:
    """Add a client under a name; return whether it is the first."""
    entry = index.get(name)
    if entry is None:
        index[name] = client
        return True
    if isinstance(entry, _MemberSet):
        entry.add(client)
    else:
        entry = index[name] = _MemberSet((entry, client))
    entry.members = None
    return False


def _remove_from(index: dict[N, _Entry[M]], name: N, client: _RegisteredClient[M]) -> bool:
    """Remove a client from under a name; return whether it was the last."""
    entry = index[name]
    if not isinstance(entry, _MemberSet):
        del index[name]
        return True
    entry.remove(client)
    entry.members = None
    if len(entry) == 1:
        index[name] = entry.pop()
    return False


def _forget_group(client: _RegisteredClient[M], group: Group) -> None:
    groups = client.groups
    if isinstance(groups, set):
        groups.remove(group)
        if len(groups) == 1:
            client.groups = groups.pop()
    else:
        client.groups = None


def _each(groups: Group | set[Group] | None) -> Iterable[Group]:
    if groups is None:
        return ()
    return groups if isinstance(groups, set) else (groups,)


def _clients(entry: _Entry[M] | None) -> Iterable[_RegisteredClient[M]]:
    if entry is None:
        return ()
    return entry if isinstance(entry, _MemberSet) else (entry,)


def _members(entry: _Entry[M] | None) -> tuple[M, ...]:
    if entry is None:
        return ()
    if not isinstance(entry, _MemberSet):
        return (entry.member,)
    if entry.members is None:
        entry.members = tuple(client.member for client in entry)
    return entry.members
