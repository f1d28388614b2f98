"""What a hub is asked: the answers of all, and who is missing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateman.bus import Bus, subject
from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.cluster.hub import Hub
from gateman.cluster.names import ClientId
from gateman.cluster.publication import ClientInfo
from gateman.errors import ConfigError, EnvelopeError, PartialResult, UnknownClient

from ..support.cluster import Client, Deaf, Node, alone, cluster
from ..support.loop import eventually, on_loop


@asynccontextmanager
async def people() -> AsyncIterator[tuple[list[Node], dict[str, Client]]]:
    """Run two nodes: Ann is on both, Bob on the other, and somebody without a uid on the one."""
    async with cluster(2) as [one, other]:
        clients = {
            "ann here": await one.client("room", uid="ann"),
            "ann there": await other.client("room", "hall", uid="ann"),
            "bob": await other.client("room", uid="bob"),
            "nobody": await one.client("room"),
        }
        yield [one, other], clients


@on_loop
async def test_every_node_answers_for_all() -> None:
    """It makes no difference who is asked."""
    async with people() as (nodes, clients):
        ids = {name: client.id for name, client in clients.items()}
        for node in nodes:
            hub = node.hub
            assert await hub.count_clients() == 4
            assert await hub.count_uids() == 2
            assert await hub.count_group("room") == 4
            assert await hub.count_group("nowhere") == 0
            assert await hub.groups() == {"room", "hall"}
            assert await hub.group_sizes() == {"room": 4, "hall": 1}
            assert await hub.uids_of_group("room") == {"ann", "bob"}
            assert await hub.uids_of_group("hall") == {"ann"}
            assert await hub.presence("hall") == {
                ids["ann there"]: ClientInfo(ClientId(ids["ann there"]), "ann")
            }
            assert {client: info.user for client, info in (await hub.presence("room")).items()} == {
                ids["ann here"]: "ann",
                ids["ann there"]: "ann",
                ids["bob"]: "bob",
                ids["nobody"]: "",
            }
            assert sorted(await hub.clients_of_group("room")) == sorted(ids.values())
            assert await hub.clients_of_group("nowhere") == []
            assert sorted(await hub.clients_of_uid("ann")) == sorted(
                [ids["ann here"], ids["ann there"]]
            )
            assert [await hub.is_uid_online(uid) for uid in ("ann", "bob", "eve")] == [
                True,
                True,
                False,
            ]
            assert [await hub.uid_of_client(client) for client in ids.values()] == [
                "ann",
                "ann",
                "bob",
                None,
            ]
            assert [await hub.is_online(client) for client in ids.values()] == [True] * 4


@on_loop
async def test_sessions_are_told() -> None:
    """One, and those of a group."""
    async with people() as (nodes, clients):
        for name, client in clients.items():
            client.connection.session["name"] = name
        for node in nodes:
            assert await node.hub.get_session(clients["bob"].id) == {"name": "bob"}
            assert await node.hub.sessions_of_group("room") == {
                client.id: {"name": name} for name, client in clients.items()
            }


@on_loop
async def test_what_is_told_is_a_copy() -> None:
    """Nobody changes a session by looking at it."""
    async with alone() as node:
        client = await node.client("room")
        (await node.hub.get_session(client.id))["name"] = "x"
        (await node.hub.sessions_of_group("room"))[ClientId(client.id)]["name"] = "x"

        assert client.connection.session == {}


@on_loop
async def test_closed_and_unknown_clients_are_not_online() -> None:
    """Both are unknown; a client that is gone is not online, and has no uid any more."""
    async with cluster(2) as [one, other]:
        client = await other.client("room", uid="ann")
        await client.socket.close()
        await eventually(lambda: not other.hub.local_node.local_clients.registry)
        for gone in (client.id, f"{one.hub.node}-99", "nowhere-1"):
            assert not await one.hub.is_online(gone)
            for hub in (one.hub, other.hub):
                assert await hub.uid_of_client(gone) is None
                with pytest.raises(UnknownClient):
                    await hub.get_session(gone)
        assert not await one.hub.is_uid_online("ann")
        assert await one.hub.groups() == set()


@on_loop
async def test_names_are_checked() -> None:
    """Nobody is asked about what cannot be."""
    async with alone() as node:
        hub = node.hub
        query_client: list[tuple[Callable[[Any], Any], object]] = [
            (hub.is_online, "ann"),
            (hub.uid_of_client, 7),
            (hub.get_session, ""),
            (hub.is_uid_online, 42),
            (hub.clients_of_uid, ""),
            (hub.clients_of_group, None),
            (hub.sessions_of_group, ""),
            (hub.uids_of_group, ""),
            (hub.presence, ""),
            (hub.count_group, "x" * 256),
        ]
        for question, name in query_client:
            with pytest.raises(ConfigError):
                await question(name)


@asynccontextmanager
async def with_a_deaf_one() -> AsyncIterator[tuple[Node, Node, Node]]:
    """Run three nodes, with a client each in one group, of which one hears nothing more."""
    broker = MemoryBroker()
    buses: list[Deaf] = []

    def make() -> Bus:
        buses.append(Deaf(broker=broker))
        return buses[-1]

    async with cluster(3, make) as [one, other, deaf]:
        for number, node in enumerate((one, other, deaf)):
            await node.client("room", uid=f"user {number}")
        await one.hub.count_clients()
        for node in (one, other, deaf):
            node.hub.answer_timeout = 0.7
        buses[2].is_deaf = True
        yield one, other, deaf


@on_loop
async def test_an_incomplete_answer_is_never_given_as_complete() -> None:
    """At the deadline, what is known is told together with who is missing."""
    async with with_a_deaf_one() as (one, other, deaf):
        hub = one.hub
        missing = (deaf.hub.node,)
        ids = {node.connections[0].client_id for node in (one, other)}
        cases = [
            (hub.count_clients(), 2),
            (hub.count_uids(), 2),
            (hub.count_group("room"), 2),
            (hub.groups(), {"room"}),
            (hub.uids_of_group("room"), {"user 0", "user 1"}),
            (hub.is_uid_online("user 2"), False),
            (hub.sessions_of_group("room"), {client: {} for client in ids}),
            (hub.uid_of_client(deaf.connections[0].client_id), None),
            (hub.is_online(deaf.connections[0].client_id), None),
        ]
        answers = await asyncio.gather(*(case for case, _ in cases), return_exceptions=True)

        assert [type(answer) for answer in answers] == [PartialResult] * len(cases)
        partial = [answer for answer in answers if isinstance(answer, PartialResult)]
        assert [answer.missing for answer in partial] == [missing] * len(cases)
        assert [answer.value for answer in partial] == [expected for _, expected in cases]
        assert str(partial[0]) == f"no answer from {deaf.hub.node}."


@on_loop
async def test_the_known_part_is_returned_if_a_process_is_missing() -> None:
    """One who has seen a user is enough, and whoever is asked about a client needs no others."""
    async with with_a_deaf_one() as (one, other, _):
        assert await one.hub.is_uid_online("user 0")
        assert await one.hub.is_uid_online("user 1")
        assert await one.hub.is_online(other.connections[0].client_id)


@on_loop
async def test_while_the_bus_is_away_the_others_are_missing() -> None:
    """At once: nobody waits for an answer that cannot come."""
    broker = MemoryBroker()
    async with cluster(2, lambda: MemoryBus(broker=broker)) as [one, other]:
        clients = [await node.client("room") for node in (one, other)]
        await one.hub.count_clients()
        broker.go_down()
        with pytest.raises(PartialResult) as caught:
            await one.hub.clients_of_group("room")
        broker.come_up()

        assert (caught.value.value, caught.value.missing) == ([clients[0].id], (other.hub.node,))
        await eventually(lambda: one.hub.is_connected)
        assert await one.hub.count_group("room") == 2


@on_loop
async def test_a_hub_that_knows_no_other_gives_no_complete_answer() -> None:
    """A hub that has never heard of others does not claim that there are none."""
    broker = MemoryBroker()
    lonely = Hub()
    await lonely.start(MemoryBus(broker=broker))
    broker.go_down()
    with pytest.raises(PartialResult) as caught:
        await lonely.count_clients()
    broker.come_up()
    await lonely.stop()

    assert (caught.value.value, caught.value.missing) == (0, ("?",))


@on_loop
async def test_a_long_answer_comes_in_parts() -> None:
    """A group may have more members than fit a message of the bus."""
    broker = MemoryBroker()
    async with cluster(2, lambda: MemoryBus(broker=broker, max_payload_size=1024)) as [one, other]:
        clients = [await other.client("room") for _ in range(60)]

        assert sorted(await one.hub.clients_of_group("room")) == sorted(
            client.id for client in clients
        )


@on_loop
async def test_a_session_that_cannot_be_sent_is_missing() -> None:
    """It is not left out of the others' as if it were not there."""
    async with cluster(2) as [one, other]:
        good, bad = [await one.client("room"), await other.client("room")]
        bad.connection.session["socket"] = object()
        with pytest.raises(PartialResult) as caught:
            await one.hub.sessions_of_group("room")
        assert caught.value.value == {good.id: {}}
        assert caught.value.missing == (other.hub.node,)
        assert str(caught.value) == (
            f"no answer, or a session that cannot be sent, from {other.hub.node}."
        )
        with pytest.raises(EnvelopeError):
            await one.hub.get_session(bad.id)
        (line,) = other.server.lines()
        assert "'socket' is of the type object" in line


@on_loop
async def test_an_answer_that_makes_no_sense_is_no_answer() -> None:
    """Its process is missing, and it is counted."""
    from gateman.cluster.envelope import Hello, Problem, QueryReply, QueryRequest, decode, encode
    from gateman.cluster.envelope import encode_value as value
    from gateman.cluster.names import NodeId

    broker = MemoryBroker()
    liar = MemoryBus(broker=broker)
    me = NodeId("liar")

    def answer(payload: bytes) -> None:
        question = decode(payload, max_size=1 << 20)
        if isinstance(question, QueryRequest):
            raw = value("many")
            lie = QueryReply(
                me, question.request_id, part=0, is_last=True, problem=Problem.NONE, value=raw
            )
            liar.publish(subject("node", question.source), encode(lie))

    await liar.start()
    await liar.subscribe(subject("all"), answer)
    honest, bus = Hub(), MemoryBus(broker=broker)
    await honest.start(bus)
    hello = Hello(me, has_clients=True, is_new=False, was_away=False, nodes=())
    liar.publish(subject("all"), encode(hello))
    with pytest.raises(PartialResult) as caught:
        await honest.count_clients()
    assert (caught.value.value, caught.value.missing) == (0, ("liar",))
    with pytest.raises(PartialResult):
        await honest.is_uid_online("ann")
    assert honest.counts["bad_envelope"] == 2
    assert bus.counts["receiver_failed"] == 0
    await honest.stop()
    await liar.stop()


@on_loop
async def test_clients_of_a_process_that_the_bus_has_lost_are_not_present() -> None:
    """Who is in a channel is known at once after a kill; other questions wait for the answer."""
    broker = MemoryBroker()
    async with cluster(3, lambda: MemoryBus(broker=broker)) as [one, other, killed]:
        here, there = await one.client("room", uid="ann"), await other.client("room", uid="bob")
        await killed.client("room", uid="cid")
        assert await one.hub.presence_stats("room") == (3, 3)
        assert killed.bus is not None
        await killed.bus.stop()

        presence, stats = await asyncio.gather(
            one.hub.presence("room"), one.hub.presence_stats("room")
        )

        assert set(presence) == {here.id, there.id}
        assert stats == (2, 2)
        one.hub.answer_timeout = 0.1
        with pytest.raises(PartialResult):
            await one.hub.count_group("room")


@on_loop
async def test_presence_without_the_answer_of_a_connected_process_is_partial() -> None:
    async with with_a_deaf_one() as (one, other, deaf):
        ids = {node.connections[0].client_id for node in (one, other)}
        one.hub.answer_timeout = 1.5

        with pytest.raises(PartialResult) as caught:
            await one.hub.presence("room")

        assert (set(caught.value.value), caught.value.missing) == (ids, (deaf.hub.node,))
