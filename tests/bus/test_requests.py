"""Requests to a broker and their answers."""

import pytest

from gateman.bus.requests import BrokerRequests, ConnectionLost
from gateman.bus.wire import BrokerReply
from gateman.errors import BusError

from ..support.loop import on_loop


@on_loop
async def test_each_gets_its_own_answer() -> None:
    """In any order; an answer that nobody waits for is ignored."""
    requests = BrokerRequests("test://broker")
    numbers, answers = zip(*(requests.add() for _ in range(4)), strict=True)
    answers[2].cancel()
    replies = [BrokerReply(number, b"%d" % number) for number in numbers[:3]]
    for reply in (replies[1], *replies, BrokerReply(99, b"")):
        requests.answered(reply)

    assert [await answers[0], await answers[1]] == [[replies[0]], [replies[1]]]
    assert not answers[3].done()
    requests.fail(BusError("test://broker", "it was not needed"))
    with pytest.raises(BusError, match="it was not needed"):
        await answers[3]


@on_loop
async def test_all_fail_with_their_connection() -> None:
    """Once; those that follow are not concerned."""
    requests = BrokerRequests("test://broker")
    _, first = requests.add()
    _, cancelled = requests.add()
    cancelled.cancel()
    requests.broken()
    number, second = requests.add()
    requests.answered(BrokerReply(number, b""))

    with pytest.raises(ConnectionLost) as caught:
        await first
    assert caught.value.problem == "the connection was lost before the answer came"
    requests.broken()
    assert await second == [BrokerReply(number, b"")]


@on_loop
async def test_an_answer_may_have_parts() -> None:
    """They are put together, up to the last."""
    requests = BrokerRequests("test://broker")
    number, answer = requests.add(lambda reply: reply.payload == b"end")
    parts = [BrokerReply(number, payload) for payload in (b"a", b"b", b"end")]
    for part in parts[:2]:
        requests.answered(part)
    was_done = answer.done()
    requests.answered(parts[2])
    requests.broken()

    assert (was_done, await answer) == (False, parts)


@on_loop
async def test_the_time_for_an_answer() -> None:
    """It is that of each request; parts do not prolong it, and what is in time is an answer."""
    requests = BrokerRequests("test://broker", timeout=0.05)
    _, silent = requests.add()
    number, partial = requests.add(lambda _: False)
    requests.answered(BrokerReply(number, b"a"))
    good, answered = requests.add()
    requests.answered(BrokerReply(good, b""))
    problems = []
    for answer in (silent, partial):
        with pytest.raises(BusError) as caught:
            await answer
        problems.append(caught.value.problem)
    later, also = requests.add()
    requests.answered(BrokerReply(later, b""))

    assert problems == ["it has not answered within 0.05 seconds"] * 2
    assert await answered == [BrokerReply(good, b"")]
    assert await also == [BrokerReply(later, b"")]
