"""Waiting for answers: for all, for enough, and no longer than agreed."""

import asyncio
from typing import Any

from gateman.cluster.envelope import Problem, QueryReply, decode_value, encode_value
from gateman.cluster.names import NodeId
from gateman.cluster.pending_requests import PendingRequest, PendingRequests

from ..support.loop import on_loop

ANN, BOB = NodeId("ann"), NodeId("bob")


def answer(
    call: PendingRequest,
    source: NodeId,
    value: Any,
    *,
    part: int = 0,
    is_last: bool = True,
    problem: Problem = Problem.NONE,
) -> QueryReply:
    """Make an answer."""
    raw = encode_value(value)
    return QueryReply(source, call.number, part=part, is_last=is_last, problem=problem, value=raw)


def values(call: PendingRequest) -> dict[NodeId, list[Any]]:
    """Read what has been answered."""
    return {
        node: [decode_value(part, object) for part in parts] for node, parts in call.values.items()
    }


async def wait(call: PendingRequest, seconds: float = 5.0) -> None:
    """Wait for a call."""
    await call.wait(asyncio.get_running_loop().time() + seconds)


@on_loop
async def test_all_answers_are_waited_for() -> None:
    """A call is over when everybody has answered, in whatever parts."""
    pending_requests = PendingRequests()
    call = pending_requests.begin([ANN, BOB])
    waiting = asyncio.ensure_future(wait(call))

    assert pending_requests.take(answer(call, ANN, [1], is_last=False))
    assert pending_requests.take(answer(call, BOB, [7]))
    assert call.missing == {ANN}
    assert pending_requests.take(answer(call, ANN, [2], part=1))
    await waiting
    assert values(call) == {ANN: [[1], [2]], BOB: [[7]]}
    assert call.missing == set()


@on_loop
async def test_a_process_that_does_not_answer_is_named() -> None:
    """At the deadline it is known who is missing, and a part is no answer."""
    pending_requests = PendingRequests()
    call = pending_requests.begin([ANN, BOB])
    pending_requests.take(answer(call, ANN, [1], is_last=False))
    pending_requests.take(answer(call, BOB, [2]))
    await wait(call, 0.01)

    assert (call.missing, values(call)) == ({ANN}, {BOB: [[2]]})


@on_loop
async def test_a_request_to_no_process_ends_at_once() -> None:
    """A call to nobody is over as it begins."""
    call = PendingRequests().begin([])
    await wait(call)

    assert call.missing == set()


@on_loop
async def test_one_answer_may_be_enough() -> None:
    """Who has said it all need not be waited for by the others."""
    pending_requests = PendingRequests()
    call = pending_requests.begin([ANN, BOB], lambda raw: bool(decode_value(raw, bool)))
    pending_requests.take(answer(call, ANN, value=True))
    await wait(call)

    assert (call.missing, values(call)) == (set(), {ANN: [True]})


@on_loop
async def test_one_answer_may_be_not_enough() -> None:
    """The others may still say it."""
    pending_requests = PendingRequests()
    call = pending_requests.begin([ANN, BOB], lambda raw: bool(decode_value(raw, bool)))
    pending_requests.take(answer(call, ANN, value=False))

    assert call.missing == {BOB}
    pending_requests.end_all()


@on_loop
async def test_problems_are_answers() -> None:
    """Whoever says that it cannot tell is not waited for."""
    pending_requests = PendingRequests()
    call = pending_requests.begin([ANN])
    pending_requests.take(answer(call, ANN, None, problem=Problem.UNKNOWN_CLIENT))
    await wait(call)

    assert (call.missing, call.values) == (set(), {})
    assert call.problems == {ANN: Problem.UNKNOWN_CLIENT}


@on_loop
async def test_parts_come_in_order_or_not_at_all() -> None:
    """A part that is missing makes the answer one that has not come."""
    pending_requests = PendingRequests()
    call = pending_requests.begin([ANN])

    assert not pending_requests.take(answer(call, ANN, [2], part=1))
    assert call.missing == {ANN}
    assert pending_requests.take(answer(call, ANN, [1], is_last=False))
    assert not pending_requests.take(answer(call, ANN, [3], part=2))
    assert call.missing == {ANN}
    pending_requests.end(call)


@on_loop
async def test_the_unexpected_may_answer_too() -> None:
    """A process that nobody had known knows as much as any."""
    pending_requests = PendingRequests()
    call = pending_requests.begin([ANN])
    pending_requests.take(answer(call, BOB, [2]))
    pending_requests.take(answer(call, ANN, [1]))
    await wait(call)

    assert values(call) == {BOB: [[2]], ANN: [[1]]}


@on_loop
async def test_who_is_expected_later_may_have_answered() -> None:
    request = PendingRequests().begin([NodeId("?")])
    request.take(answer(request, ANN, 1))
    request.expect([ANN, BOB])
    assert request.missing == {BOB}
    request.take(answer(request, BOB, 2))
    await wait(request)

    assert values(request) == {ANN: [1], BOB: [2]}


@on_loop
async def test_late_answers_are_told() -> None:
    """What nobody waits for any more was not taken."""
    pending_requests = PendingRequests()
    call = pending_requests.begin([ANN])
    pending_requests.end(call)

    assert not pending_requests.take(answer(call, ANN, [1]))


@on_loop
async def test_a_process_that_ends_is_not_waited_for() -> None:
    """A process that has said goodbye has nothing to tell any more."""
    pending_requests = PendingRequests()
    call = pending_requests.begin([ANN, BOB])
    pending_requests.forget(ANN)
    pending_requests.take(answer(call, BOB, [2]))
    await wait(call)

    assert call.missing == set()


@on_loop
async def test_the_end_lets_everybody_go() -> None:
    """Nobody waits for a hub that has stopped."""
    pending_requests = PendingRequests()
    call = pending_requests.begin([ANN])
    waiting = asyncio.ensure_future(wait(call))
    pending_requests.end_all()
    await waiting

    assert call.missing == {ANN}
