"""The registry: against a model that is too simple to be wrong, and what it costs."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateman.cluster.names import ClientId, Group, Uid
from gateman.cluster.registry import NO_CHANGE, Change, Registry, Topic, TopicKind
from gateman.errors import UnknownClient

A, B, C = ClientId("n-1"), ClientId("n-2"), ClientId("n-3")
ROOM, HALL = Group("room"), Group("hall")
ANN, BOB = Uid("ann"), Uid("bob")


def registry(*clients: ClientId) -> Registry[str]:
    """Make a registry in which a client's member is its id in capitals."""
    made: Registry[str] = Registry()
    for client in clients:
        made.add(client, client.upper())
    return made


def group(name: Group) -> Topic:
    """Name a group's topic."""
    return Topic(TopicKind.GROUP, name)


def uid(name: Uid) -> Topic:
    """Name a uid's topic."""
    return Topic(TopicKind.UID, name)


def test_the_first_to_join_makes_a_group_interesting() -> None:
    """Others route a group to us from its first client here to its last."""
    known = registry(A, B)

    assert known.join(A, ROOM) == Change(gained=(group(ROOM),))
    assert known.join(B, ROOM) == NO_CHANGE
    assert known.leave(A, ROOM) == NO_CHANGE
    assert known.leave(B, ROOM) == Change(lost=(group(ROOM),))
    assert list(known.groups()) == []


def test_joining_twice_is_joining_once() -> None:
    """A client is in a group or it is not."""
    known = registry(A)
    known.join(A, ROOM)

    assert known.join(A, ROOM) == NO_CHANGE
    assert known.leave(A, ROOM) == Change(lost=(group(ROOM),))
    assert known.leave(A, ROOM) == NO_CHANGE


def test_a_client_has_one_uid() -> None:
    """Binding again replaces the uid, and tells both ends of it."""
    known = registry(A)

    assert known.bind(A, ANN) == Change(gained=(uid(ANN),))
    assert known.bind(A, ANN) == NO_CHANGE
    assert known.bind(A, BOB) == Change(gained=(uid(BOB),), lost=(uid(ANN),))
    assert known.unbind(A) == Change(lost=(uid(BOB),))
    assert known.unbind(A) == NO_CHANGE
    assert known.uid_of(A) is None


def test_a_uid_has_many_clients() -> None:
    """A user with a phone and a laptop is reached on both."""
    known = registry(A, B)
    known.bind(A, ANN)

    assert known.bind(B, ANN) == NO_CHANGE
    assert sorted(known.members_of_uid(ANN)) == ["N-1", "N-2"]
    assert known.unbind(A) == NO_CHANGE
    assert known.members_of_uid(ANN) == ("N-2",)


def test_a_closed_connection_leaves_all_groups() -> None:
    """One change tells all that has ended with a client."""
    known = registry(A, B)
    known.bind(A, ANN)
    known.join(A, ROOM)
    known.join(A, HALL)
    known.join(B, HALL)

    change = known.remove(A)

    assert change == Change(lost=(group(ROOM), uid(ANN)))
    assert known.remove(A) == NO_CHANGE
    assert list(known) == [B]


def test_a_dissolved_group_has_no_members() -> None:
    """Its clients stay, and may join again."""
    known = registry(A, B)
    known.join(A, ROOM)
    known.join(B, ROOM)
    known.join(B, HALL)

    assert known.dissolve(ROOM) == Change(lost=(group(ROOM),))
    assert known.dissolve(ROOM) == NO_CHANGE
    assert known.clients_of_group(ROOM) == []
    assert known.clients_of_group(HALL) == [B]
    assert known.join(A, ROOM) == Change(gained=(group(ROOM),))


@pytest.mark.parametrize(
    ("verb", "names"), [("bind", [ANN]), ("unbind", []), ("join", [ROOM]), ("leave", [ROOM])]
)
def test_nothing_is_done_to_unknown_clients(verb: str, names: list[str]) -> None:
    """Whoever has gone meanwhile is named in the error."""
    with pytest.raises(UnknownClient) as caught:
        getattr(registry(A), verb)(B, *names)

    assert caught.value.client_id == B


def test_an_id_is_given_once() -> None:
    """Two clients under one id would be a fault of ours."""
    with pytest.raises(ValueError, match="n-1 is already registered"):
        registry(A).add(A, "again")


def test_many_messages_find_the_same_tuple() -> None:
    """Those of a group are put together once, until it changes."""
    known = registry(A, B, C)
    for client in (A, B):
        known.join(client, ROOM)
    members = known.members_of_group(ROOM)
    everybody = known.members()

    assert known.members_of_group(ROOM) is members
    assert known.members() is everybody
    known.join(C, ROOM)
    assert sorted(known.members_of_group(ROOM)) == ["N-1", "N-2", "N-3"]
    assert sorted(members) == ["N-1", "N-2"]
    assert known.members() is everybody
    known.remove(C)
    assert sorted(known.members()) == ["N-1", "N-2"]


def test_an_empty_registry_answers_everything() -> None:
    """An empty registry answers everything."""
    known = registry()

    assert (len(known), known.members(), known.member(A)) == (0, (), None)
    assert (known.members_of_uid(ANN), known.members_of_group(ROOM)) == ((), ())
    assert (known.clients_of_uid(ANN), known.clients_of_group(ROOM)) == ([], [])
    assert (known.uids_of_group(ROOM), known.count_group(ROOM), known.has_uid(ANN)) == (
        set(),
        0,
        False,
    )


clients = st.sampled_from([ClientId(f"n-{number}") for number in range(6)])
groups = st.sampled_from([Group(name) for name in "abc"])
uids = st.sampled_from([Uid(name) for name in "xyz"])


@dataclass
class Person:
    """A client, in the model."""

    uid: Uid | None = None
    groups: set[Group] = field(default_factory=set)


class Model(RuleBasedStateMachine):
    """The same calls, to the registry and to a dictionary of people."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = registry()
        self.people: dict[ClientId, Person] = {}

    def topics(self) -> set[Topic]:
        """Tell what has a client."""
        people = self.people.values()
        return {uid(one.uid) for one in people if one.uid is not None} | {
            group(name) for one in people for name in one.groups
        }

    def change(self, client: ClientId | None, verb: str, *names: Any) -> None:
        """Let the registry do what was done to the model, and compare what it returns."""
        before = self.topics()
        if client is not None and client not in self.people and verb != "remove":
            with pytest.raises(UnknownClient):
                getattr(self.registry, verb)(client, *names)
            return
        self.do(client, verb, *names)
        after = self.topics()
        change = getattr(self.registry, verb)(*([client] if client else []), *names)
        assert (set(change.gained), set(change.lost)) == (after - before, before - after)
        assert len(change.gained + change.lost) == len(after ^ before)

    def do(self, client: ClientId | None, verb: str, *names: Any) -> None:
        """Change the model."""
        if verb == "dissolve":
            for one in self.people.values():
                one.groups -= set(names)
        elif verb == "remove":
            self.people.pop(client or A, None)
        else:
            person = self.people[client or A]
            if verb in {"bind", "unbind"}:
                person.uid = names[0] if names else None
            elif verb == "join":
                person.groups |= set(names)
            else:
                person.groups -= set(names)

    @rule(client=clients)
    def add(self, client: ClientId) -> None:
        """Somebody comes."""
        if client not in self.people:
            self.people[client] = Person()
            self.registry.add(client, client.upper())

    @rule(client=clients)
    def remove(self, client: ClientId) -> None:
        """Somebody goes."""
        self.change(client, "remove")

    @rule(client=clients, name=uids)
    def bind(self, client: ClientId, name: Uid) -> None:
        """Somebody logs in."""
        self.change(client, "bind", name)

    @rule(client=clients)
    def unbind(self, client: ClientId) -> None:
        """Somebody logs out."""
        self.change(client, "unbind")

    @rule(client=clients, name=groups)
    def join(self, client: ClientId, name: Group) -> None:
        """Somebody joins."""
        self.change(client, "join", name)

    @rule(client=clients, name=groups)
    def leave(self, client: ClientId, name: Group) -> None:
        """Somebody leaves."""
        self.change(client, "leave", name)

    @rule(name=groups)
    def dissolve(self, name: Group) -> None:
        """A group ends."""
        self.change(None, "dissolve", name)

    @invariant()
    def answers_are_equal(self) -> None:
        """Both say the same of everything."""
        by_group: defaultdict[Group, set[ClientId]] = defaultdict(set)
        by_uid: defaultdict[Uid, set[ClientId]] = defaultdict(set)
        for client, person in self.people.items():
            assert self.registry.member(client) == client.upper()
            assert self.registry.uid_of(client) == person.uid
            for name in person.groups:
                by_group[name].add(client)
            if person.uid is not None:
                by_uid[person.uid].add(client)
        assert set(self.registry) == set(self.people)
        assert sorted(self.registry.members()) == sorted(map(str.upper, self.people))
        assert set(self.registry.groups()) == set(by_group)
        assert set(self.registry.uids()) == set(by_uid)
        for group_name, here in by_group.items():
            members = self.registry.members_of_group(group_name)
            assert sorted(members) == sorted(map(str.upper, here))
            assert sorted(self.registry.clients_of_group(group_name)) == sorted(here)
            assert self.registry.count_group(group_name) == len(here)
            people = [self.people[client].uid for client in here]
            assert self.registry.uids_of_group(group_name) == set(people) - {None}
        for uid_name, here in by_uid.items():
            members = self.registry.members_of_uid(uid_name)
            assert sorted(members) == sorted(map(str.upper, here))
            assert sorted(self.registry.clients_of_uid(uid_name)) == sorted(here)
            assert self.registry.has_uid(uid_name)


TestModel = Model.TestCase
