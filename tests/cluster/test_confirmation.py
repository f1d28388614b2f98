"""What may be awaited, or left alone."""

import pytest

from gateman.cluster.confirmation import DONE, Confirmation, PendingCommand, failed
from gateman.cluster.envelope import Command, Unbind
from gateman.cluster.names import ClientId, NodeId
from gateman.errors import UnknownClient

from ..support.loop import on_loop


@on_loop
async def test_a_confirmation_need_not_be_awaited() -> None:
    """It may be awaited as often as somebody likes."""
    await DONE
    await DONE


@on_loop
async def test_waiting_begins_with_the_await() -> None:
    """Who does not await causes no work."""
    waits = 0

    async def wait() -> None:
        nonlocal waits
        waits += 1

    confirmation = Confirmation(wait)
    assert waits == 0
    await confirmation
    assert waits == 1


@on_loop
async def test_a_failure_is_raised_by_the_await() -> None:
    """Others are not bothered, and nothing is logged."""
    confirmation = failed(UnknownClient("n-1"))

    with pytest.raises(UnknownClient):
        await confirmation


def test_a_command_requests_an_answer_if_it_is_awaited() -> None:
    """It is made when it is sent, and somebody may have come to wait by then."""
    action = Unbind(ClientId("n-1"))
    pending = PendingCommand(NodeId("me"), action)
    assert not pending.is_made
    pending.request_id = 7

    assert pending.make() == Command(NodeId("me"), 7, action)
    assert pending.is_made
