"""The session of a client, and `current_client`, in what its handlers do."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateman.cluster.names import ClientId
from gateman.errors import HubError
from gateman.gateway.current import current_client
from gateman.gateway.protocol import (
    MessageEvent,
    OpenEvent,
    Result,
)
from gateman.gateway.send_window import MAX_BATCH_SIZE
from tests.support.event_runner import ANN, BOB, RunnerHarness, adopt, packed, text
from tests.support.loop import on_loop, turns


@on_loop
async def test_a_session_is_told_when_it_was_changed() -> None:
    """To what it is; empty when nothing is left in it."""
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda session: session.get("n"),
        lambda session: session.update(n=2),
        lambda session: session.update(n=2),
        lambda session: session.clear(),
    ]
    business_node = RunnerHarness(
        on_message=lambda _client, message: changes[int(message)](current_client.session)
    )
    business_node.handle(
        adopt(ANN, packed({"n": 1})), *(text(ANN, str(number)) for number in range(4))
    )

    sessions = [result.session for result in business_node.results]
    assert sessions == [None, None, packed({"n": 2}), None, b""]


@on_loop
async def test_the_session_that_comes_with_an_event_is_the_newest() -> None:
    """Whatever a task of an earlier handler has looked at."""
    seen: list[dict[str, Any]] = []
    tasks: list[asyncio.Task[None]] = []

    async def look() -> None:
        await turns()
        seen.append(dict(current_client.session))

    def on_message(_client: ClientId, _message: str) -> None:
        seen.append(dict(current_client.session))
        tasks.append(asyncio.ensure_future(look()))

    business_node = RunnerHarness(on_message=on_message)
    business_node.handle(adopt(ANN, packed({"n": 1})), text(ANN, ""))
    await tasks[0]
    business_node.handle(MessageEvent(ANN, 0, packed({"n": 2})))
    await tasks[1]

    assert seen == [{"n": 1}, {"n": 1}, {"n": 2}, {"n": 2}]
    assert [result.session for result in business_node.results] == [None, None, None]


@pytest.mark.parametrize(
    ("session", "problem"),
    [
        ({"x": object()}, "cannot be kept: 'x' is of the type object, or holds such a thing"),
        ({"x": [object()]}, "cannot be kept: 'x' is of the type list, or holds such a thing"),
        ({1: 2}, "cannot be kept: the key 1 is not a text"),
        ({"x": 1 << 70}, "cannot be kept: 'x' is of the type int, or holds such a thing"),
        ({"x": bytes(MAX_BATCH_SIZE)}, f"has more than {MAX_BATCH_SIZE} bytes"),
        ({"x": "\ud800"}, "cannot be kept: 'x' has a lone surrogate, which UTF-8 cannot carry"),
    ],
    ids=["an object", "within a list", "a number as a key", "a big number", "too much", "no text"],
)
def test_a_session_that_cannot_travel_is_an_error(
    session: dict[Any, Any], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its gateway keeps what it had; the log says which key it is, and which handler left it."""

    @on_loop
    async def spoil() -> None:
        business_node = RunnerHarness(
            on_message=lambda *_args: current_client.session.update(session)
        )
        business_node.handle(adopt(ANN), text(ANN, "x"))

        assert business_node.results == [Result(1), Result(2)]
        assert (business_node.closed, business_node.counts) == ([ANN], {"callback_failed": 1})

    spoil()
    assert caplog.messages == [f"{ANN} is closed: after on_message, its session {problem}"]


@on_loop
async def test_current_is_the_client_in_whatever_a_handler_starts() -> None:
    """And nobody where none runs."""
    seen: list[ClientId] = []
    tasks: list[asyncio.Task[None]] = []

    async def later() -> None:
        await turns()
        seen.append(current_client.client_id)

    async def on_message(client: ClientId, _message: str) -> None:
        assert current_client.client_id == client
        await later()
        tasks.append(asyncio.ensure_future(later()))

    business_node = RunnerHarness(
        on_message=on_message, on_open=lambda _client: seen.append(current_client.client_id)
    )
    business_node.handle(adopt(ANN), OpenEvent(ANN), adopt(BOB), text(ANN, "x"), text(BOB, "x"))
    with pytest.raises(HubError):
        _ = current_client.client_id
    await business_node.until(5)
    await asyncio.gather(*tasks)

    assert seen == [ANN, ANN, BOB, ANN, BOB]
