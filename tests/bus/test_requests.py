"""Requests to a broker and their answers."""

import pytest

from gateman.bus.requests import BrokerRequests, ConnectionLost
from gateman.bus.wire import BrokerReply

from ..support.loop import on_loop


@on_loop
async def test_each_gets_its_own_answer() -> None:
    """In any order; an answer that nobody waits for is ignored."""
    requests = BrokerRequests("test://broker")
    numbers, answers = zip(*(requests.add() for _ in range(4)), strict=True)
    requests.give_up(numbers[2])
    answers[3].cancel()
    replies = [BrokerReply(number, b"%d" % number) for number in numbers]
    for reply in (replies[1], *replies, BrokerReply(99, b"")):
        requests.answered(reply)

    assert [await answers[0], await answers[1]] == [[replies[0]], [replies[1]]]
    assert not answers[2].done()


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

    assert (was_done, await answer) == (False, parts)
