"""What a process does about the clients that are connected to it."""

import pytest

from gateman.cluster.envelope import (
    Audience,
    CloseClient,
    Dissolve,
    Join,
    NodeTotals,
    Query,
    Target,
    UpdateSession,
)
from gateman.cluster.fanout import Fanout
from gateman.cluster.local_clients import _ANSWERS, LocalClients
from gateman.cluster.names import ClientId, Group, NodeId
from gateman.cluster.registry import Change, Topic, TopicKind
from gateman.errors import UnknownClient

from ..support.cluster import alone
from ..support.loop import on_loop

NOBODY = ClientId("n-1")


def test_every_question_has_an_answer() -> None:
    """What may be asked is answered by every process; an audience is counted here."""
    asked_otherwise = {Query.COUNT_AUDIENCE, Query.CHALLENGES, Query.PRESENCE, Query.TOTALS}
    assert set(_ANSWERS) | asked_otherwise == set(Query)


def test_the_totals_of_a_process_say_how_long_it_runs() -> None:
    clock = iter([1000.5, 4601.0])
    local_clients = LocalClients(Fanout(lambda _: None), NodeId("n"), now=lambda: next(clock))

    assert local_clients.answer(Query.TOTALS, "") == [
        NodeTotals(NodeId("n"), clients=0, users=0, groups=0, subscriptions=0, uptime=3600)
    ]


@on_loop
async def test_actions_return_what_changed() -> None:
    """Others route to us from the first client of a group to its last."""
    async with alone() as node:
        client = ClientId((await node.client()).id)
        local_clients = node.hub.local_node.local_clients
        room = Topic(TopicKind.GROUP, "room")

        assert local_clients.do(Join(client, Group("room"))) == Change(gained=(room,))
        assert local_clients.do(UpdateSession(client, {"level": 7})) == Change()
        assert local_clients.do(Dissolve(Group("room"))) == Change(lost=(room,))
        assert local_clients.answer(Query.SESSION, client) == {"level": 7}


@on_loop
async def test_actions_on_unknown_clients_fail() -> None:
    """An action or a question about somebody unknown is refused."""
    async with alone() as node:
        local_clients = node.hub.local_node.local_clients
        for action in (CloseClient(NOBODY, 1000, ""), UpdateSession(NOBODY, {})):
            with pytest.raises(UnknownClient):
                local_clients.do(action)
        for query in (Query.UID_OF_CLIENT, Query.SESSION):
            with pytest.raises(UnknownClient):
                local_clients.answer(query, NOBODY)
        assert local_clients.answer(Query.IS_ONLINE, NOBODY) is False
        assert local_clients.count_missing((NOBODY, NOBODY)) == 2


@on_loop
async def test_messages_to_a_target_without_clients_do_nothing() -> None:
    """A scope without members here is left at once."""
    async with alone() as node:
        local_clients = node.hub.local_node.local_clients
        for target, names in [
            (Target.ALL, ()),
            (Target.GROUPS, ("room",)),
            (Target.UIDS, ("ann", "bob")),
            (Target.CLIENTS, (NOBODY,)),
        ]:
            local_clients.send(target, names, [(1, b"x", ())])


@on_loop
async def test_everybody_is_everybody_by_any_name() -> None:
    """What others send may have names where none belong."""
    async with alone() as node:
        client = await node.client()
        local_clients = node.hub.local_node.local_clients
        for names in ((), ("room",), ("room", "hall")):
            local_clients.send(Target.ALL, names, [(1, b"x", ())])

        assert await client.read(3) == ["x"] * 3


@on_loop
async def test_a_client_whose_connection_is_closing_is_not_counted_as_a_recipient() -> None:
    """It gets nothing more, although it is in its groups until the end."""
    async with alone() as node:
        clients = [await node.client("room") for _ in range(2)]
        local_clients = node.hub.local_node.local_clients
        room = Audience(Target.GROUPS, ("room",), ())
        both = Audience(Target.CLIENTS, tuple(ClientId(one.id) for one in clients), ())
        assert (local_clients.count(room), local_clients.count(both)) == (2, 2)
        clients[0].connection.close(4000, "bye")

        assert (local_clients.count(room), local_clients.count(both)) == (1, 1)
        assert local_clients.count(Audience(Target.ALL, (), (ClientId(clients[1].id),))) == 0


@on_loop
async def test_unknown_excluded_clients_are_ignored() -> None:
    """Who is excluded may have gone, or be elsewhere."""
    async with alone() as node:
        client = await node.client("room")
        node.hub.send_to_group("room", "1", exclude=[NOBODY])
        node.hub.send_to_group("room", "2", exclude=[client.id])
        node.hub.send_to_group("room", "3")

        assert await client.read(2) == ["1", "3"]
