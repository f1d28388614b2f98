"""Handlers: for each client one at a time and in order, and what they raise costs that client."""

import asyncio
import logging
import weakref
from contextvars import ContextVar

import pytest

from gateman.cluster.names import ClientId
from gateman.errors import Refuse, UnknownClient
from gateman.gateway.current import current_client
from gateman.gateway.protocol import (
    CloseEvent,
    ConnectEvent,
    HandshakeAnswer,
    MessageEvent,
    OpenEvent,
    Result,
)
from tests.support.event_runner import ANN, BOB, HEAD, RunnerHarness, adopt, text
from tests.support.loop import on_loop, turns

# Plain and async.


@on_loop
async def test_what_handlers_are_called_with() -> None:
    """The client's id, and what happened."""
    calls: list[tuple[object, ...]] = []
    business_node = RunnerHarness(
        on_websocket_connect=lambda client, request: calls.append((client, request.path)),
        on_open=lambda *args: calls.append(args),
        on_message=lambda *args: calls.append(args),
        on_close=lambda *args: calls.append(args),
    )
    business_node.handle(
        ConnectEvent(ANN, 0, b"", "10.0.0.1", 1, HEAD), OpenEvent(ANN), text(ANN, "grüße")
    )
    business_node.handle(
        MessageEvent(ANN, is_text=False, payload=b"\xff"), CloseEvent(ANN, 0, None, 1001, "bye")
    )

    assert calls == [
        (ANN, "/chat"),
        (ANN,),
        (ANN, "grüße"),
        (ANN, b"\xff"),
        (ANN, 1001, "bye"),
    ]
    assert business_node.results == [
        Result(1, None, HandshakeAnswer(0)),
        *map(Result, (2, 3, 4, 5)),
    ]
    assert (business_node.handlers.clients, business_node.handlers.count) == ({}, 5)


@on_loop
async def test_what_has_no_handler_is_done() -> None:
    """Every client is accepted."""
    business_node = RunnerHarness()
    business_node.handle(
        ConnectEvent(ANN, 0, b"", "10.0.0.1", 1, HEAD),
        OpenEvent(ANN),
        text(ANN, "x"),
        CloseEvent(ANN),
    )

    assert business_node.results == [Result(1, None, HandshakeAnswer(0)), *map(Result, (2, 3, 4))]


@on_loop
async def test_events_of_an_unknown_client_are_ignored() -> None:
    """It was refused, or is gone with its gateway."""
    business_node = RunnerHarness(on_message=lambda *_args: pytest.fail("nobody is there"))
    business_node.handle(text(ANN, "x"))

    assert (business_node.results, business_node.handlers.count) == ([Result(1)], 0)


@on_loop
async def test_one_client_s_events_wait_for_each_other() -> None:
    """While a coroutine runs; other clients do not wait."""
    gate = asyncio.Event()
    begun: list[tuple[ClientId, str]] = []

    async def on_message(client: ClientId, message: str) -> None:
        begun.append((client, message))
        if client == ANN:
            await gate.wait()

    business_node = RunnerHarness(on_message=on_message)
    business_node.handle(
        adopt(ANN), adopt(BOB), text(ANN, "1"), text(ANN, "2"), text(BOB, "3"), OpenEvent(ANN)
    )

    assert await business_node.until(3) == [1, 2, 5]
    assert begun == [(ANN, "1"), (BOB, "3")]
    gate.set()
    assert await business_node.until(6) == [1, 2, 5, 3, 4, 6]
    assert begun[2:] == [(ANN, "2")]


@on_loop
async def test_async_handler_that_does_not_wait_runs_at_once() -> None:
    """In the idle task of its client; one that waits goes on in it, and holds later events up."""
    tasks: list[object] = []
    gate = asyncio.Event()

    async def on_message(client: ClientId, message: str) -> None:
        tasks.append(asyncio.current_task())
        assert current_client.client_id == client
        if message == "wait":
            await gate.wait()
            tasks.append(asyncio.current_task())

    business_node = RunnerHarness(on_message=on_message)
    business_node.handle(adopt(ANN), adopt(BOB), text(ANN, "1"), text(BOB, "2"))
    await business_node.until(4)
    await turns(2)

    def from_the_loop() -> None:
        business_node.handle(text(ANN, "3"), text(ANN, "wait"), text(ANN, "5"), text(BOB, "6"))
        assert business_node.said == [1, 2, 3, 4, 5, 8]
        gate.set()

    asyncio.get_running_loop().call_soon(from_the_loop)
    await business_node.until(8)

    assert business_node.said == [1, 2, 3, 4, 5, 8, 6, 7]
    ann, bob = tasks[:2]
    assert tasks[2:] == [ann, ann, bob, ann, ann]
    assert ann is not bob


@pytest.mark.parametrize("is_async", [False, True])
@on_loop
async def test_context_is_the_client_s_own(*, is_async: bool) -> None:
    """A context variable lasts as long as the client, and is not set for others."""
    room: ContextVar[str] = ContextVar("room", default="nowhere")
    seen: list[tuple[ClientId, str]] = []

    def enter(client: ClientId, message: str) -> None:
        seen.append((client, room.get()))
        room.set(message)

    async def enter_later(client: ClientId, message: str) -> None:
        enter(client, message)

    business_node = RunnerHarness(
        on_message=enter_later if is_async else enter,
        on_close=lambda client, _code, _reason: seen.append((client, room.get())),
    )
    business_node.handle(adopt(ANN), adopt(BOB), text(ANN, "a"), text(BOB, "b"), text(ANN, "c"))
    await business_node.until(5)
    business_node.handle(CloseEvent(ANN))
    await business_node.until(6)

    assert (sorted(seen), room.get()) == (
        [(ANN, "a"), (ANN, "c"), (ANN, "nowhere"), (BOB, "nowhere")],
        "nowhere",
    )


@on_loop
async def test_removed_client_needs_no_collector() -> None:
    """Its memory is free at once, as a process has many."""
    business_node = RunnerHarness(on_message=lambda *_args: None)
    business_node.handle(adopt(ANN), adopt(BOB), text(ANN, "a"))
    clients = [weakref.ref(client) for client in business_node.handlers.clients.values()]
    business_node.handle(CloseEvent(ANN))
    business_node.handlers.forget(BOB)

    assert [client() for client in clients] == [None, None]


@on_loop
async def test_pieces_are_one_message() -> None:
    """They are done when it is; a character may be cut."""
    got: list[str] = []
    business_node = RunnerHarness(on_message=lambda _client, message: got.append(message))
    whole = "grüße".encode()
    for suspicion in (0, 1):
        first = MessageEvent(ANN, suspicion, payload=whole[:3], is_last=False)
        business_node.handle(adopt(ANN), first)
        await turns(9)
        assert len(business_node.results) == 1 + 3 * suspicion
        business_node.handle(MessageEvent(ANN, suspicion, payload=whole[3:]))
        await business_node.until(3 + 3 * suspicion)

    assert got == ["grüße", "grüße"]
    assert business_node.said == [1, 2, 3, 4, "begins 6", 5, 6]


# What they raise.


@pytest.mark.parametrize(("gone", "is_failure"), [(ANN, False), (BOB, True)])
@on_loop
async def test_a_handler_that_finds_its_client_gone_has_not_failed(
    gone: ClientId,
    is_failure: bool,  # noqa: FBT001
) -> None:
    async def take(_client: str, _message: str) -> None:
        raise UnknownClient(gone)

    business_node = RunnerHarness(on_message=take)
    business_node.handle(adopt(ANN), text(ANN, "a"))
    await business_node.until(2)

    assert business_node.counts["callback_failed"] == is_failure
    assert business_node.closed == ([ANN] if is_failure else [])


@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_handler_raises_costs_its_client(
    is_async: bool,  # noqa: FBT001 - a parameter of the test
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is closed, the event is done, and the log has one line for many."""

    def plain(_client: ClientId, _message: str) -> None:
        raise LookupError("no such room")

    async def slow(_client: ClientId, _message: str) -> None:
        raise LookupError("no such room")

    @on_loop
    async def fail() -> None:
        business_node = RunnerHarness(on_message=slow if is_async else plain)
        business_node.handle(adopt(ANN), text(ANN, "1"), text(ANN, "2"))

        assert await business_node.until(3) == [1, 2, 3]
        assert (business_node.closed, business_node.counts) == ([ANN, ANN], {"callback_failed": 2})

    with caplog.at_level(logging.ERROR, "gateman"):
        fail()

    assert caplog.messages == ["on_message raised LookupError for gate-1, which is closed for it"]


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (Refuse(403, "no", {"X": "y"}), HandshakeAnswer(403, "no", {"X": "y"})),
        (LookupError(), HandshakeAnswer(500, "internal error")),
    ],
)
def test_a_refused_client_is_forgotten(error: Exception, answer: HandshakeAnswer) -> None:
    """Its end, which waits behind, is not handled."""

    async def on_websocket_connect(_client: ClientId, _request: object) -> None:
        raise error

    @on_loop
    async def refuse() -> None:
        business_node = RunnerHarness(
            on_websocket_connect=on_websocket_connect, on_close=lambda *_args: pytest.fail("not in")
        )
        business_node.handle(ConnectEvent(ANN, 0, b"", "10.0.0.1", 1, HEAD), CloseEvent(ANN))
        await business_node.until(2)

        assert sorted(business_node.results, key=lambda one: one.number) == [
            Result(1, None, answer),
            Result(2),
        ]
        assert (business_node.handlers.clients, business_node.closed) == ({}, [])

    refuse()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("result", [False, 0, "no", Refuse(403)], ids=repr)
@on_loop
async def test_a_client_refused_by_a_handler_s_result_is_not_accepted(
    result: object, caplog: pytest.LogCaptureFixture, *, is_async: bool
) -> None:
    """A user of other libraries writes ``return False``; the log says what to write here."""

    async def later() -> object:
        await turns(1)
        return result

    business_node = RunnerHarness(on_websocket_connect=lambda *_: later() if is_async else result)
    business_node.handle(ConnectEvent(ANN, 0, b"", "10.0.0.1", 1, HEAD))
    await business_node.until(1)

    assert business_node.results == [Result(1, None, HandshakeAnswer(500, "internal error"))]
    assert business_node.handlers.clients == {}
    returned = "False" if result is False else f"a {type(result).__name__}"
    assert caplog.messages == [
        f"{ANN} is closed: on_websocket_connect returned {returned}: raise Refuse(403) to refuse a"
        " client, and return nothing to accept it."
    ]


@pytest.mark.parametrize("is_async", [False, True])
@on_loop
async def test_false_of_on_open_ends_the_client(*, is_async: bool) -> None:
    """It may have been meant to."""

    async def later() -> bool:
        await turns(1)
        return False

    business_node = RunnerHarness(on_open=lambda _: later() if is_async else False)
    business_node.handle(adopt(ANN), OpenEvent(ANN))
    await business_node.until(2)

    assert business_node.closed == [ANN]


# What may kill this process.


@on_loop
async def test_what_may_kill_is_announced() -> None:
    """Some turns before it begins, so that the word is out."""
    business_node = RunnerHarness(on_message=lambda *_args: business_node.said.append("handler"))
    business_node.handle(adopt(ANN), text(ANN, "x", 1), text(ANN, "y"))
    await turns(2)
    assert business_node.said == [1, "begins 2"]

    await business_node.until(3)
    assert business_node.said == [1, "begins 2", "handler", 2, "handler", 3]


@on_loop
async def test_what_may_kill_is_handled_one_by_one() -> None:
    """Whosever it is."""

    async def on_message(_client: ClientId, _message: str) -> None:
        await turns(5)

    for suspicion in (1, 2):
        business_node = RunnerHarness(on_message=on_message)
        business_node.handle(
            adopt(ANN), adopt(BOB), text(ANN, "x", suspicion), text(BOB, "x", suspicion)
        )
        await business_node.until(4)
        assert business_node.said == [1, 2, "begins 3", 3, "begins 4", 4]


@on_loop
async def test_what_takes_long_lets_others_begin_unless_it_is_suspected_more() -> None:
    """With care 1 for a second; with care 2 everybody waits for its end."""
    may_end = asyncio.Event()

    async def on_message(client: ClientId, _message: str) -> None:
        if client == ANN:
            await may_end.wait()

    business_node = RunnerHarness(on_message=on_message)
    business_node.handle(adopt(ANN), adopt(BOB), text(ANN, "x", 1), text(BOB, "x", 1))
    await business_node.until(3)
    assert business_node.said == [1, 2, "begins 3", "begins 4", 4]
    business_node.handle(text(BOB, "x", 2))
    await business_node.until(4)
    business_node.handle(text(BOB, "x", 1))
    await business_node.until(5)
    may_end.set()
    await business_node.until(6)
    assert business_node.said[5:] == ["begins 5", 5, "begins 6", 6, 3]


# Ends.


@on_loop
async def test_a_gateway_s_end_is_the_end_of_its_clients() -> None:
    """Behind what they have sent."""
    calls: list[tuple[object, ...]] = []
    business_node = RunnerHarness(
        on_message=lambda *args: calls.append(args), on_close=lambda *args: calls.append(args)
    )
    business_node.handle(adopt(ANN), text(ANN, "x"))
    business_node.handlers.leave(ANN, 1006, "gone")
    business_node.handlers.leave(ANN, 1006, "gone")

    assert calls == [(ANN, "x"), (ANN, 1006, "gone")]


@on_loop
async def test_a_forgotten_client_has_no_waiting_events() -> None:
    """It is another process's now; only what runs goes on."""
    gate = asyncio.Event()

    async def on_message(_client: ClientId, _message: str) -> None:
        await gate.wait()

    business_node = RunnerHarness(on_message=on_message)
    business_node.handle(adopt(ANN), text(ANN, "1"), text(ANN, "2"))
    await turns()
    business_node.handlers.forget(ANN)
    business_node.handlers.forget(BOB)
    gate.set()

    assert await business_node.until(2) == [1, 2]
    assert business_node.handlers.clients == {}


@on_loop
async def test_what_does_not_end_in_time_is_undone() -> None:
    """And so is all that waits behind it, or comes now; another process will handle it."""
    begun: list[str] = []

    async def on_message(_client: ClientId, message: str) -> None:
        begun.append(message)
        await asyncio.Event().wait()

    business_node = RunnerHarness(on_message=on_message)
    business_node.handle(adopt(ANN), adopt(BOB), text(ANN, "1"), text(ANN, "2"))
    await turns()
    # Cancelled before its first step.
    business_node.handle(text(BOB, "3"))
    await business_node.handlers.finish(0)
    business_node.handle(text(ANN, "4"))

    assert begun[:1] == ["1"]
    assert [result.number for result in business_node.results] == [1, 2]


@on_loop
async def test_what_begins_while_others_end_is_cancelled_with_them() -> None:
    """What came at the last moment would be handled here and elsewhere."""
    business_node = RunnerHarness(on_message=lambda _client, _message: asyncio.sleep(30))
    business_node.handle(adopt(ANN), adopt(BOB), text(ANN, "1"))
    finishing = asyncio.ensure_future(business_node.handlers.finish(0.05))
    await turns()
    business_node.handle(text(BOB, "2"))
    await finishing

    assert [result.number for result in business_node.results] == [1, 2]


@on_loop
async def test_what_ends_in_time_is_done() -> None:
    """Without anything to end, nobody waits."""

    async def on_message(_client: ClientId, _message: str) -> None:
        await turns(9)

    business_node = RunnerHarness(on_message=on_message)
    await business_node.handlers.finish(5)
    business_node.handle(adopt(ANN), text(ANN, "1"))
    await business_node.handlers.finish(5)

    assert [result.number for result in business_node.results] == [1, 2]


@pytest.mark.parametrize("turn_count", [0, 3])
def test_an_application_that_cancels_everything_fails_in_what_runs(turn_count: int) -> None:
    """Also before the first step of it; what waits behind it is handled."""
    got: list[str] = []

    async def on_message(_client: ClientId, message: str) -> None:
        if message == "1":
            await asyncio.Event().wait()
        got.append(message)

    @on_loop
    async def cancel() -> None:
        business_node = RunnerHarness(on_message=on_message)
        business_node.handle(adopt(ANN), text(ANN, "1"), text(ANN, "2"))
        await turns(turn_count)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

        assert await business_node.until(3) == [1, 2, 3]
        assert (got, business_node.closed) == (["2"], [ANN])

    cancel()
