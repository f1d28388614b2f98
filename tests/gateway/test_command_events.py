"""Commands of SDK clients, which callbacks of a business worker answer."""

import asyncio

import pytest

from gateman.cluster.names import ClientId
from gateman.errors import ClientError, Disconnect, Refuse
from gateman.gateway.commands import NotDeclared, decode_result, encode_question
from gateman.gateway.current import current_client
from gateman.gateway.protocol import (
    MessageEvent,
)
from gateman.gateway.send_window import MAX_BATCH_SIZE
from gateman.runtime.client_callbacks import INTERNAL, Disconnected, Refused
from tests.support.event_runner import ANN, RunnerHarness, adopt, packed
from tests.support.loop import on_loop


def command(client: ClientId, number: int, callback: str, *arguments: object) -> MessageEvent:
    """Make a question."""
    payload = encode_question(number, callback, arguments)
    return MessageEvent(client, 0, None, False, payload, is_command=True)  # noqa: FBT003


def answers(harness: RunnerHarness) -> list[tuple[int, object]]:
    """Give what was answered."""
    return [decode_result(result.reply) for result in harness.results if result.reply is not None]


@on_loop
async def test_commands_are_answered_by_their_callbacks() -> None:
    """Plain and async, in order; the session goes with the answer."""

    async def rpc(client_id: ClientId, method: str, data: object) -> object:
        current_client.session["method"] = method
        await asyncio.sleep(0)
        return [client_id, method, data]

    harness = RunnerHarness(
        on_rpc=rpc,
        on_subscribe=lambda _client_id, channel, _data: channel != "secret",
        on_message=lambda client_id, data: harness.said.append((client_id, data)),
    )
    harness.handle(
        adopt(ANN),
        command(ANN, 7, "on_rpc", "m", {"a": 1}),
        command(ANN, 8, "on_subscribe", "secret", None),
        command(ANN, 9, "on_subscribe", "chat", None),
        command(ANN, 10, "on_message", b"\xff"),
        command(ANN, 11, "on_refresh", "token"),
    )

    assert await harness.until(6) == [1, 2, 3, 4, 5, 6]
    assert answers(harness) == [
        (7, [ANN, "m", {"a": 1}]),
        (8, False),
        (9, True),
        (10, None),
        (11, NotDeclared()),
    ]
    assert harness.results[1].session == packed({"method": "m"})
    assert (ANN, b"\xff") in harness.said
    assert harness.closed == []


@on_loop
async def test_what_callbacks_of_commands_raise(caplog: pytest.LogCaptureFixture) -> None:
    """A mistake costs the command, and not the client."""
    raised: list[Exception] = [
        ClientError(404, "no such room"),
        Disconnect(4500, "banned"),
        Refuse(403, "no"),
        ValueError("a mistake"),
    ]

    def rpc(_client_id: ClientId, method: str, _data: object) -> object:
        if method == "object":
            return object()
        if method == "long":
            return "x" * MAX_BATCH_SIZE
        raise raised[int(method)]

    harness = RunnerHarness(on_rpc=rpc)
    harness.handle(
        adopt(ANN),
        *(command(ANN, number, "on_rpc", str(number), None) for number in range(4)),
        command(ANN, 4, "on_rpc", "object", None),
        command(ANN, 5, "on_rpc", "long", None),
    )

    assert answers(harness) == [
        (0, Refused(404, "no such room", is_temporary=False)),
        (1, Disconnected(4500, "banned")),
        (2, Refused(103, "no")),
        (3, INTERNAL),
        (4, INTERNAL),
        (5, INTERNAL),
    ]
    assert harness.closed == []
    assert harness.counts["callback_failed"] == 3
    assert "on_rpc raised ValueError for gate-1, which gets an error for it" in caplog.text


@on_loop
async def test_a_command_in_pieces() -> None:
    harness = RunnerHarness(on_rpc=lambda _client_id, _method, data: len(data))
    whole = encode_question(7, "on_rpc", ("m", "x" * 99))
    pieces = [whole[:50], whole[50:]]
    harness.handle(
        adopt(ANN),
        *(
            MessageEvent(ANN, 0, None, False, piece, piece is pieces[1], is_command=True)  # noqa: FBT003
            for piece in pieces
        ),
    )

    assert answers(harness) == [(7, 99)]
    assert [result.number for result in harness.results] == [1, 2, 3]


@on_loop
async def test_a_forged_command_ends_its_client(caplog: pytest.LogCaptureFixture) -> None:
    harness = RunnerHarness()
    harness.handle(adopt(ANN), MessageEvent(ANN, payload=b"nonsense", is_command=True))

    assert harness.closed == [ANN]
    assert "a question about a command is malformed" in caplog.text
