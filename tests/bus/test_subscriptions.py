"""What waits for a subscription ends with the broker's answer to what was asked after it."""

import asyncio
from collections.abc import Awaitable

import pytest

from gateman.bus.subscriptions import PendingSubscriptions
from gateman.errors import BusError

from ..support.loop import on_loop, turns

URL = "local:///bus"


def _ended(*waiting: Awaitable[None]) -> list[str]:
    """Tell how each has ended, as seen by those who await now."""
    return [_end(one) for one in waiting]


def _end(one: Awaitable[None]) -> str:
    steps = one.__await__()
    try:
        next(steps)
    except StopIteration:
        return "well"
    except BusError as error:
        return error.problem
    finally:
        steps.close()
    return "waits"


@on_loop
async def test_each_waits_for_its_own_answer() -> None:
    """What is asked for together ends together, in the order of the questions."""
    subscriptions = PendingSubscriptions(URL)
    first, second = subscriptions.wait(), subscriptions.wait()
    subscriptions.asked()
    third = subscriptions.wait()
    subscriptions.asked()
    fourth = subscriptions.wait()
    before = _ended(first, second, third, fourth)

    subscriptions.confirmed()
    between = _ended(first, second, third, fourth)
    subscriptions.confirmed()

    assert before == ["waits"] * 4
    assert between == ["well", "well", "waits", "waits"]
    assert _ended(first, second, third, fourth) == ["well", "well", "well", "waits"]


@on_loop
async def test_questions_for_nothing_are_answered_too() -> None:
    """A ping that follows no subscription has an answer like the others."""
    subscriptions = PendingSubscriptions(URL)
    subscriptions.asked()
    waiting = subscriptions.wait()
    subscriptions.asked()

    subscriptions.confirmed()
    before = _ended(waiting)
    subscriptions.confirmed()

    assert before == ["waits"]
    assert _ended(waiting) == ["well"]


@on_loop
async def test_a_broken_connection_makes_all_wait_for_the_next() -> None:
    """Everything is asked for again at once, and ends with that answer, however often."""
    subscriptions = PendingSubscriptions(URL)
    first = subscriptions.wait()
    subscriptions.asked()
    second = subscriptions.wait()
    subscriptions.broken()
    third = subscriptions.wait()
    subscriptions.asked()
    subscriptions.broken()
    subscriptions.asked()
    before = _ended(first, second, third)

    subscriptions.confirmed()

    assert before == ["waits"] * 3
    assert _ended(first, second, third) == ["well"] * 3


@on_loop
async def test_a_refusal_ends_what_was_asked_with_it() -> None:
    """And nothing else."""
    subscriptions = PendingSubscriptions(URL)
    first = subscriptions.wait()
    subscriptions.asked()
    second = subscriptions.wait()
    subscriptions.asked()

    subscriptions.confirmed(BusError(URL, "it refuses"))
    subscriptions.confirmed()

    assert _ended(first, second) == ["it refuses", "well"]


@on_loop
async def test_stopping_fails_all() -> None:
    """Those who wait, those who come, and those who wanted to start."""
    subscriptions = PendingSubscriptions(URL)
    subscriptions.check()
    first = subscriptions.wait()
    subscriptions.asked()
    second = subscriptions.wait()

    subscriptions.stop()

    assert _ended(first, second, subscriptions.wait()) == ["it was stopped"] * 3
    with pytest.raises(BusError, match="was stopped"):
        subscriptions.check()


@on_loop
async def test_many_may_await_and_give_up() -> None:
    """Who is cancelled takes nobody along, and each error has its own traceback."""
    subscriptions = PendingSubscriptions(URL)
    waiting = subscriptions.wait()

    async def wait() -> None:
        await waiting

    impatient, *others = (asyncio.ensure_future(wait()) for _ in range(3))
    await turns()
    impatient.cancel()
    await turns()
    still_waiting = [task.done() for task in others]
    subscriptions.stop()
    errors = await asyncio.gather(*others, return_exceptions=True)

    assert impatient.cancelled()
    assert still_waiting == [False, False]
    assert [str(error) for error in errors] == ["the bus local:///bus: it was stopped."] * 2
    assert errors[0] is not errors[1]
