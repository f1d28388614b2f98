"""Who is asked, how long, and what the answers say; the bus is a list of what is put on it."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from gateman.cluster.channels import EVERYBODY, Channel, node_channel
from gateman.cluster.confirmation import PendingCommand
from gateman.cluster.envelope import (
    OVERHEAD,
    Audience,
    Command,
    Envelope,
    Hello,
    Join,
    Problem,
    Query,
    QueryReply,
    QueryRequest,
    Target,
    decode_value,
    encode_value,
)
from gateman.cluster.fanout import Fanout
from gateman.cluster.local_clients import LocalClients
from gateman.cluster.names import ClientId, Group, NodeId
from gateman.cluster.node_liveness import NodeLiveness
from gateman.cluster.peers import TIME_TO_LIVE
from gateman.cluster.probes import asks
from gateman.cluster.query_client import DEFAULT_TIMEOUT, UNKNOWN_NODE, QueryClient
from gateman.cluster.query_replies import read, refusal
from gateman.errors import ConfirmTimeout, EnvelopeError, PartialResult, UnknownClient

from ..support.loop import MS, eventually, on_loop, turns
from ..support.members import FakeLink, connection

ME, ANN, BOB = NodeId("me"), NodeId("ann"), NodeId("bob")
MINE, HERS = ClientId("me-1"), ClientId("ann-1")
SOON = 100 * MS
ROOMY = OVERHEAD + 10_000


class Process:
    """
    One process that asks and is asked.

    Attributes:
        questions: What is tested.
        local: Its clients; one.
        presence: Who else there is.
        put: What it has published.
        refused: What it has refused.
        warned: What it has written to the log.
        is_connected: Whether it has a bus.
    """

    def __init__(self, *others: NodeId) -> None:
        self.put: list[tuple[Channel, Envelope]] = []
        self.refused: list[str] = []
        self.warned: list[str] = []
        self.is_connected = True
        self.unconfirmed: set[Channel] = set()
        self.local_clients = LocalClients(Fanout(asyncio.get_running_loop().call_soon), NodeId("n"))
        self.local_clients.add(MINE, connection(1, FakeLink()))
        self.liveness = NodeLiveness(
            ME,
            has_clients=True,
            send=lambda channel, hello: self.put.append((channel, hello)),
            publish_marks=lambda: None,
            is_connected=lambda: self.is_connected,
            ask=asks(None),
            on_gone=lambda _node: None,
        )
        self.liveness.peers.heard_of(others, 0.0)
        self.liveness.discovery.end()
        self.query_client = QueryClient(
            ME,
            self.local_clients,
            self.liveness,
            is_unconfirmed=lambda channel: channel in self.unconfirmed,
            publish=lambda channel, envelope: self.put.append((channel, envelope)),
            is_connected=lambda: self.is_connected,
            ask_bus=asks(None),
            reject=lambda error: self.refused.append(error.problem),
            warn=lambda _cause, line: self.warned.append(line),
        )

    async def ask(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Ask, until the question is on its way."""
        task = asyncio.get_running_loop().create_task(coroutine)
        await eventually(lambda: task.done() or bool(self.put))
        await turns()
        return task

    @property
    def question(self) -> QueryRequest:
        """The question that it asked last."""
        question = self.put[-1][1]
        assert isinstance(question, QueryRequest)
        return question

    def heard_from(
        self, source: NodeId, value: Any, *, part: int = 0, is_last: bool = True
    ) -> bool:
        """Let another process answer that question."""
        call = self.question.request_id
        answer = QueryReply(source, call, part, is_last, Problem.NONE, encode_value(value))
        return self.query_client.pending_requests.take(answer)


# About one client.


@on_loop
async def test_a_client_of_this_process_needs_no_query() -> None:
    """The answer is known, also without a bus; and so is that there is no such client."""
    process = Process(ANN)
    process.is_connected = False
    query_client = process.query_client

    assert await query_client.ask_node(Query.IS_ONLINE, MINE) is True
    assert await query_client.ask_node(Query.IS_ONLINE, ClientId("me-2")) is False
    with pytest.raises(UnknownClient, match="there is no client me-2"):
        await query_client.ask_node(Query.SESSION, ClientId("me-2"))
    assert process.put == []


@on_loop
async def test_only_the_process_of_a_client_is_asked_about_it() -> None:
    """On its own channel, and its answer is the answer."""
    process = Process(ANN, BOB)
    task = await process.ask(process.query_client.ask_node(Query.UID_OF_CLIENT, HERS))

    assert process.put == [(node_channel(ANN), QueryRequest(ME, 1, Query.UID_OF_CLIENT, HERS))]
    assert process.heard_from(ANN, "42")
    assert await task == "42"


@on_loop
async def test_a_client_of_an_unknown_process_is_unknown() -> None:
    """Nobody is asked, and nobody waited for."""
    process = Process(BOB)
    with pytest.raises(UnknownClient) as raised:
        await process.query_client.ask_node(Query.SESSION, HERS)

    assert raised.value.client_id == HERS
    assert process.put == []


@on_loop
async def test_a_process_may_not_know_its_client_any_more() -> None:
    """It says so, and whoever asked hears so."""
    process = Process(ANN)
    task = await process.ask(process.query_client.ask_node(Query.SESSION, HERS))
    assert process.query_client.pending_requests.take(
        refusal(ANN, process.question.request_id, Problem.UNKNOWN_CLIENT)
    )

    with pytest.raises(UnknownClient, match="there is no client ann-1"):
        await task


@on_loop
async def test_a_process_that_does_not_answer_is_named() -> None:
    """After the deadline, and what it says then comes too late."""
    process = Process(ANN)
    process.query_client.timeout = SOON
    with pytest.raises(PartialResult) as raised:
        await process.query_client.ask_node(Query.SESSION, HERS)

    assert (raised.value.value, raised.value.missing) == (None, (ANN,))
    assert str(raised.value) == "no answer from ann."
    assert not process.heard_from(ANN, {})


@on_loop
async def test_a_session_that_cannot_be_sent_is_no_answer() -> None:
    """At once: nobody waits for what will not come."""
    process = Process(ANN)
    task = await process.ask(process.query_client.ask_node(Query.SESSION, HERS))
    process.query_client.pending_requests.take(
        refusal(ANN, process.question.request_id, Problem.NOT_SENDABLE)
    )

    with pytest.raises(EnvelopeError) as raised:
        await task
    assert str(raised.value) == (
        f"the session of {HERS} cannot be sent to another process; the log of ann says why."
    )


@on_loop
async def test_an_answer_of_another_kind_is_refused() -> None:
    """It is noted, and its sender counts as one that did not answer."""
    process = Process(ANN)
    task = await process.ask(process.query_client.ask_node(Query.SESSION, HERS))
    process.heard_from(ANN, "no session")

    with pytest.raises(PartialResult) as raised:
        await task
    assert raised.value.missing == (ANN,)
    assert len(process.refused) == 1
    assert "malformed" in process.refused[0]


@on_loop
async def test_without_a_bus_no_process_is_asked_about_a_client() -> None:
    """Whoever asks is told at once that nobody can say, whether or not its process is known."""
    for process in (Process(ANN), Process()):
        process.is_connected = False
        with pytest.raises(PartialResult) as raised:
            await process.query_client.ask_node(Query.SESSION, HERS)

        assert (raised.value.value, raised.value.missing) == (None, (ANN,))
        assert process.put == []


@on_loop
async def test_the_clients_of_a_process_end_with_it() -> None:
    """Whoever has asked about one hears that it is gone, not that nobody knows."""
    process = Process(ANN)
    task = await process.ask(process.query_client.ask_node(Query.SESSION, HERS))
    process.query_client.pending_requests.forget(ANN)

    with pytest.raises(UnknownClient, match="there is no client ann-1"):
        await task


# Whether it is done.

JOIN = Join(HERS, Group("room"))


@on_loop
async def test_an_order_is_confirmed() -> None:
    """What is not sent yet says that an answer is wanted; what was sent is sent again with that."""
    for is_made in (False, True):
        process, pending = Process(ANN), PendingCommand(ME, JOIN)
        if is_made:
            assert pending.make() == Command(ME, 0, JOIN)
        task = asyncio.ensure_future(process.query_client.confirm(ANN, pending))
        await turns()
        assert pending.make() == Command(ME, 1, JOIN)
        assert process.put == ([(node_channel(ANN), pending.make())] if is_made else [])
        assert process.query_client.pending_requests.take(refusal(ANN, 1, Problem.NONE))

        await task


@on_loop
async def test_an_order_to_a_process_that_ends_is_about_a_client_that_is_gone() -> None:
    """So is one that the process refuses."""
    process = Process(ANN)
    task = asyncio.ensure_future(process.query_client.confirm(ANN, PendingCommand(ME, JOIN)))
    await turns()
    process.query_client.pending_requests.forget(ANN)
    with pytest.raises(UnknownClient, match="there is no client ann-1"):
        await task
    task = asyncio.ensure_future(process.query_client.confirm(ANN, PendingCommand(ME, JOIN)))
    await turns()
    process.query_client.pending_requests.take(refusal(ANN, 2, Problem.UNKNOWN_CLIENT))
    with pytest.raises(UnknownClient, match="there is no client ann-1"):
        await task


@on_loop
async def test_a_command_that_is_not_confirmed_is_reported() -> None:
    """At the deadline; and at once where the bus is away."""
    process = Process(ANN)
    process.query_client.timeout = SOON
    with pytest.raises(ConfirmTimeout, match="no answer from ann, where ann-1 is connected"):
        await process.query_client.confirm(ANN, PendingCommand(ME, JOIN))
    process.query_client.timeout = 60
    process.is_connected = False
    with pytest.raises(ConfirmTimeout, match="the bus is away, and with it ann"):
        await process.query_client.confirm(ANN, PendingCommand(ME, JOIN))


# About everybody.


@on_loop
async def test_all_are_asked_with_one_message() -> None:
    """This process's answer comes first, then those of the others."""
    process = Process(ANN, BOB)
    task = await process.ask(process.query_client.ask_all(Query.COUNT_CLIENTS, ""))

    assert process.put == [(EVERYBODY, QueryRequest(ME, 1, Query.COUNT_CLIENTS, ""))]
    process.heard_from(BOB, 20)
    await turns()
    assert not task.done()
    process.heard_from(ANN, 300)
    assert await task == ([1, 20, 300], ())


@on_loop
async def test_a_process_alone_answers_itself() -> None:
    """One process alone answers itself."""
    process = Process()

    assert await process.query_client.ask_all(Query.COUNT_CLIENTS, "") == ([1], ())
    assert process.put == []


@on_loop
async def test_silent_processes_are_named() -> None:
    """With the answers of the others, as soon as the deadline is over."""
    process = Process(ANN, BOB)
    process.query_client.timeout = SOON
    task = await process.ask(process.query_client.ask_all(Query.COUNT_CLIENTS, ""))
    process.heard_from(ANN, 20)

    assert await task == ([1, 20], (BOB,))


@on_loop
async def test_processes_that_cannot_answer_are_named() -> None:
    """A refusal and nonsense are no answers, and are not waited for."""
    process = Process(ANN, BOB)
    task = await process.ask(process.query_client.ask_all(Query.COUNT_CLIENTS, ""))
    process.query_client.pending_requests.take(
        refusal(ANN, process.question.request_id, Problem.NOT_SENDABLE)
    )
    process.heard_from(BOB, "many")

    values, missing = await task
    assert (values, sorted(missing)) == ([1], [ANN, BOB])
    assert len(process.refused) == 1


@on_loop
async def test_half_an_answer_is_none() -> None:
    """Who stops in the middle is named, and its first part is not taken for all."""
    process = Process(ANN)
    process.query_client.timeout = SOON
    task = await process.ask(process.query_client.ask_all(Query.GROUPS, ""))
    process.heard_from(ANN, ["room"], is_last=False)

    assert await task == ([[]], (ANN,))


@on_loop
async def test_one_answer_may_be_enough() -> None:
    """Then the others are neither waited for nor missed."""
    process = Process(ANN, BOB)
    ask = process.query_client.ask_all(
        Query.IS_UID_ONLINE, "42", lambda raw: msgspec.msgpack.decode(raw) is True
    )
    task = await process.ask(ask)
    process.heard_from(ANN, value=False)
    await turns()
    assert not task.done()
    process.heard_from(BOB, value=True)

    assert await task == ([False, False, True], ())


@on_loop
async def test_without_a_bus_everybody_is_missing() -> None:
    """At once; and who has never heard of anybody says that there may be some."""
    process, lonely = Process(ANN, BOB), Process()
    process.is_connected = lonely.is_connected = False

    assert await process.query_client.ask_all(Query.COUNT_CLIENTS, "") == ([1], (ANN, BOB))
    assert await lonely.query_client.ask_all(Query.COUNT_CLIENTS, "") == ([1], (UNKNOWN_NODE,))
    assert process.put == lonely.put == []


@on_loop
async def test_a_process_that_has_just_started_asks_at_once_and_waits_for_those_it_hears_of() -> (
    None
):
    """Who answers before counts; who does not, came later, and is asked again."""
    process = Process()
    process.liveness.start()
    task = asyncio.get_running_loop().create_task(
        process.query_client.ask_all(Query.COUNT_CLIENTS, "")
    )
    await turns()
    assert process.put[-1] == (EVERYBODY, QueryRequest(ME, 1, Query.COUNT_CLIENTS, ""))
    assert process.heard_from(ANN, 20)
    for node in (ANN, BOB):
        hello = Hello(node, has_clients=True, is_new=False, was_away=False, nodes=())
        process.liveness.on_hello(hello)
    asked_again = (node_channel(BOB), QueryRequest(ME, 1, Query.COUNT_CLIENTS, ""))
    await eventually(lambda: process.put[-1] == asked_again)
    assert (node_channel(ANN), process.question) not in process.put
    assert process.heard_from(BOB, 300)

    assert await task == ([1, 20, 300], ())
    process.liveness.stop()


@on_loop
async def test_a_process_that_has_just_started_does_not_wait_if_one_answer_is_enough() -> None:
    process = Process()
    process.liveness.start()
    ask = process.query_client.ask_all(Query.IS_UID_ONLINE, "42", lambda _raw: True)
    task = await process.ask(ask)
    process.heard_from(ANN, value=True)
    process.liveness.on_hello(Hello(BOB, has_clients=True, is_new=False, was_away=False, nodes=()))

    assert await task == ([False, True], ())
    process.liveness.stop()


@on_loop
async def test_a_short_deadline_holds_also_in_the_beginning() -> None:
    """What has to be known by then is not waited for longer."""
    process = Process(ANN)
    process.query_client.timeout = SOON
    process.liveness.start()
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    assert await process.query_client.ask_all(Query.COUNT_CLIENTS, "") == ([1], (ANN,))

    assert loop.time() - asked_at < 0.4
    process.liveness.stop()


@on_loop
async def test_a_cancelled_query_is_forgotten() -> None:
    """An answer to a cancelled question is too late."""
    process = Process(ANN)
    task = await process.ask(process.query_client.ask_all(Query.COUNT_CLIENTS, ""))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not process.heard_from(ANN, 20)
    assert process.query_client.timeout == DEFAULT_TIMEOUT


# Being asked.


@on_loop
async def test_an_answer_goes_to_the_asking_process() -> None:
    """With the number of the question."""
    process = Process()
    process.query_client.answer(QueryRequest(ANN, 7, Query.COUNT_CLIENTS, ""), max_size=ROOMY)

    answer = QueryReply(ME, 7, 0, is_last=True, problem=Problem.NONE, value=encode_value(1))
    assert process.put == [(node_channel(ANN), answer)]


@on_loop
async def test_clients_are_not_counted_before_messages_are_routed_to_them() -> None:
    """The message before the query was published when nobody here had subscribed."""
    process = Process(ANN)
    process.local_clients.do(Join(MINE, Group("room")))
    audience = Audience(Target.GROUPS, ("room",), ())
    request = QueryRequest(ANN, 7, Query.COUNT_AUDIENCE, "", audience)
    process.unconfirmed.add(Channel(Target.GROUPS, "room"))
    process.query_client.answer(request, max_size=ROOMY)
    process.unconfirmed.clear()
    process.query_client.answer(request, max_size=ROOMY)

    counts = [decode_value(reply.value, int) for _, reply in process.put]  # type: ignore[union-attr]
    assert counts == [0, 1]


@on_loop
async def test_an_unknown_client_is_answered_too() -> None:
    """So that nobody waits for it."""
    process = Process()
    process.query_client.answer(QueryRequest(ANN, 7, Query.SESSION, "me-2"), max_size=ROOMY)

    assert process.put == [(node_channel(ANN), refusal(ME, 7, Problem.UNKNOWN_CLIENT))]


@on_loop
async def test_a_session_that_cannot_be_sent_is_answered_too() -> None:
    """With a refusal; the process where it was set says which key it is."""
    process = Process()
    process.local_clients.registry.join(MINE, Group("room"))
    session = process.local_clients.registry.get(MINE).connection.session
    asked = [
        QueryRequest(ANN, 7, Query.SESSION, MINE),
        QueryRequest(ANN, 7, Query.SESSIONS_OF_GROUP, "room"),
    ]
    bad_ones: list[dict[Any, Any]] = [{"socket": object()}, {5: "five"}, {"long": "x" * ROOMY}]
    for bad in bad_ones:
        session.clear()
        session.update(name="ann")
        session.update(bad)
        for question in asked:
            process.query_client.answer(question, max_size=ROOMY)

    assert process.put == [(node_channel(ANN), refusal(ME, 7, Problem.NOT_SENDABLE))] * 6
    begins = f"another process asked for the session of {MINE}, which cannot be sent: "
    end = "; keep in a session what MessagePack can carry"
    assert process.warned == [
        *[f"{begins}'socket' is of the type object, or holds such a thing{end}"] * 2,
        *[f"{begins}the key 5 is not a text{end}"] * 2,
        f"the answer about {MINE} is more than the bus can carry",
        "the answer about room is more than the bus can carry",
    ]


@on_loop
async def test_a_long_answer_comes_in_parts() -> None:
    """All on the channel of whoever asks, in order."""
    process = Process()
    for number in range(2, 100):
        client = ClientId(f"me-{number}")
        process.local_clients.add(client, connection(number, FakeLink()))
        process.local_clients.registry.join(client, Group("room"))
    question = QueryRequest(ANN, 7, Query.CLIENTS_OF_GROUP, "room")
    process.query_client.answer(question, max_size=OVERHEAD + 100)

    parts = [answer for _, answer in process.put if isinstance(answer, QueryReply)]
    assert {channel for channel, _ in process.put} == {node_channel(ANN)}
    assert [part.part for part in parts] == list(range(len(parts)))
    found = read(question.query, [part.value for part in parts])
    assert len({client for clients in found for client in clients}) == 98


@on_loop
async def test_a_process_that_is_blocked_is_named_at_once() -> None:
    """Its clients are somewhere; who asks which are present leaves them out."""
    process = Process(ANN)
    process.query_client.timeout = 60
    assert process.liveness.peers.on_probe(ANN, TIME_TO_LIVE + 1, is_connected=True)

    assert await process.query_client.ask_all(Query.COUNT_CLIENTS, "") == ([1], (ANN,))
    assert await process.query_client.ask_all(Query.COUNT_CLIENTS, "", needs_all=False) == ([1], ())
