"""SDK clients of a gateway: business workers answer, also while they are replaced."""

import asyncio
from functools import partial
from typing import Any

from gateman import Channel, ClientError, Disconnect, Hub
from gateman.cluster.names import ClientId
from gateman.gateway.commands import encode_question, encode_result
from gateman.gateway.gateway_client_service import RemoteCallbacks
from gateman.gateway.protocol import MessageEvent
from gateman.runtime.client_callbacks import INTERNAL
from tests.support.client_talk import KEPT, OPEN, Talk
from tests.support.gateways import GatewayNode, Site, site
from tests.support.loop import eventually, on_loop

DENIED = {"error": {"code": 103, "message": "permission denied"}}
CHANNELS = {"chat:*": OPEN, "kept:*": KEPT, "#*": Channel(history_size=10)}


async def gateway_of(there: Site, **options: Any) -> GatewayNode:
    return await there.gateway(client_protocol="centrifuge", channels=CHANNELS, **options)


async def talk(gateway: GatewayNode, **connect: Any) -> tuple[Talk, Any]:
    """Connect a client; gives the answer to its connect command."""
    client = Talk(await gateway.client())
    return client, await client.ask(connect=connect)


@on_loop
async def test_what_the_application_does_before_the_answer_is_in_it() -> None:
    """So a personal channel is recovered by the connect command."""
    async with site() as there:
        hub = Hub()

        def connect(client_id: ClientId, token: str, data: Any) -> Any:
            hub.bind_uid(client_id, token)
            hub.join_group(client_id, "news")
            return {"got": data}

        await there.business(hub, on_client_connect=connect)
        client, hello = await talk(await gateway_of(there), token="ann", data=[1])

        assert hello["connect"]["data"] == {"got": [1]}
        assert hello["connect"]["subs"].keys() == {"news", "#ann"}
        assert hello["connect"]["subs"]["#ann"]["recoverable"]
        hub.send_to_group("news", {"a": 1})
        assert await client.push() == {"channel": "news", "pub": {"data": {"a": 1}}}


@on_loop
async def test_commands_are_answered_by_callbacks() -> None:
    async with site() as there:
        got: list[Any] = []

        async def rpc(_client_id: ClientId, method: str, data: Any) -> Any:
            if method == "error":
                raise ClientError(404, "no such room")
            if method == "end":
                raise Disconnect(4500, "banned")
            return [method, data]

        await there.business(
            on_rpc=rpc,
            on_message=lambda _client_id, data: got.append(data),
            on_subscribe=lambda _client_id, channel, _data: True if channel == "vip" else None,
        )
        errors: list[str] = []
        client, hello = await talk(await gateway_of(there, errors=errors))

        assert await client.ask(rpc={"method": "m", "data": "x" * 300_000}) == {
            "error": {"code": 100, "message": "internal server error", "temporary": True}
        }
        name = hello["connect"]["client"]
        errors.append(f"{name} gets an error: its answer has more than 262144 bytes")
        assert await client.ask(rpc={"method": "m", "data": {"b": 2}}) == {
            "rpc": {"data": ["m", {"b": 2}]}
        }
        assert await client.ask(rpc={"method": "error"}) == {
            "error": {"code": 404, "message": "no such room"}
        }
        assert "subscribe" in await client.ask(subscribe={"channel": "vip"})
        assert "subscribe" in await client.ask(subscribe={"channel": "chat:1"})
        assert await client.ask(subscribe={"channel": "other"}) == DENIED
        assert await client.ask(publish={"channel": "chat:1", "data": 5}) == {"publish": {}}
        assert (await client.push())["pub"]["data"] == 5
        assert await client.ask(publish={"channel": "vip", "data": 5}) == DENIED
        # No process has these callbacks.
        assert (await client.ask(refresh={"token": "t"}))["error"]["code"] == 108
        await client.send(rpc={"method": "end"})
        assert await client.closed() == (4500, "banned")


@on_loop
async def test_messages_without_an_answer() -> None:
    async with site() as there:
        got: list[Any] = []
        await there.business(on_message=lambda _client_id, data: got.append(data))
        client, _ = await talk(await gateway_of(there))

        await client.send(send={"data": {"a": 1}})
        await eventually(lambda: got == [{"a": 1}])
        # Without callbacks, patterns decide, and nobody is asked.
        assert await client.ask(subscribe={"channel": "other"}) == DENIED
        assert (await client.ask(rpc={"method": "m"}))["error"]["code"] == 104


@on_loop
async def test_a_command_whose_process_leaves_is_answered_by_it() -> None:
    """A reload is invisible: the next process has the next command, and the subscriptions stay."""
    async with site() as there:
        has_begun, answered = asyncio.Event(), asyncio.Event()

        async def slow(_client_id: ClientId, _method: str, _data: Any) -> str:
            has_begun.set()
            await answered.wait()
            return "old"

        old = await there.business(timeouts={"shutdown": 30}, on_rpc=slow)
        gateway = await gateway_of(there)
        client, _ = await talk(gateway)
        await client.ask(subscribe={"channel": "chat:1"})
        first = await client.send(rpc={"method": "m"})
        await has_begun.wait()
        new = await there.business(on_rpc=lambda *_: "new")
        leaving = asyncio.create_task(old.stop())
        await eventually(lambda: any(one.is_leaving for one in gateway.dispatch.windows.values()))
        second = await client.send(rpc={"method": "m"})
        answered.set()

        assert await client.answer(first) == {"rpc": {"data": "old"}}
        assert await client.answer(second) == {"rpc": {"data": "new"}}
        await leaving
        assert new.clients
        await client.ask(publish={"channel": "chat:1", "data": 1})
        assert (await client.push())["pub"]["data"] == 1
        await gateway.stop()


@on_loop
async def test_a_command_whose_process_dies_goes_to_another() -> None:
    async with site() as there:
        has_begun = asyncio.Event()

        async def never(*_: Any) -> None:
            has_begun.set()
            await asyncio.Event().wait()

        old = await there.business(on_rpc=never)
        gateway = await gateway_of(there)
        client, _ = await talk(gateway)
        number = await client.send(rpc={"method": "m"})
        await has_begun.wait()
        await there.business(on_rpc=lambda *_: "new")
        await old.kill()

        assert await client.answer(number) == {"rpc": {"data": "new"}}
        await gateway.stop()


@on_loop
async def test_commands_wait_for_a_business_process() -> None:
    """A gateway that has just started knows none."""
    async with site() as there:
        gateway = await gateway_of(there)
        connecting = asyncio.create_task(talk(gateway))
        await eventually(lambda: bool(gateway.dispatch.clients))
        await there.business(on_client_connect=lambda *_: {"a": 1})

        _, hello = await connecting
        assert hello["connect"]["data"] == {"a": 1}
        await gateway.stop()


@on_loop
async def test_the_application_is_told_of_the_end() -> None:
    async with site() as there:
        business = await there.business()
        client, hello = await talk(await gateway_of(there))
        name = hello["connect"]["client"]

        await client.leave()
        await business.journal.until("close", name)


@on_loop
async def test_what_was_missed_is_recovered() -> None:
    async with site() as there:
        await there.business()
        gateway = await gateway_of(there)
        client, _ = await talk(gateway)
        result = (await client.ask(subscribe={"channel": "kept:1"}))["subscribe"]
        await client.ask(publish={"channel": "kept:1", "data": 1})
        pushed = (await client.push())["pub"]
        await client.leave()
        gateway.hub.send_to_group("kept:1", {"n": 2})
        other, _ = await talk(gateway)
        position = {"epoch": result["epoch"], "offset": pushed["offset"]}
        recovered = await other.ask(subscribe={"channel": "kept:1", "recover": True, **position})

        assert recovered["subscribe"]["recovered"]
        assert [one["data"] for one in recovered["subscribe"]["publications"]] == [{"n": 2}]


def test_a_command_that_kills_is_refused() -> None:
    """Others of the client are answered, and what is answered twice counts once."""
    sent: list[bytes] = []
    client: Any = object()
    callbacks = RemoteCallbacks(lambda _client, question: sent.append(question), lambda _name: True)
    answers: list[tuple[str, Any]] = []

    def note(name: str, result: Any) -> None:
        answers.append((name, result))

    names = ("one", "two", "large")
    for name in names:
        callbacks.call("on_rpc", client, name, None, then=partial(note, name))
    events = [MessageEvent(ClientId("gate-1"), payload=question) for question in sent]

    callbacks.quarantined(client, events[1])
    callbacks.answered(client, encode_result(1, 5))
    callbacks.answered(client, encode_result(1, 6))
    # The last piece of a large one is no question.
    callbacks.quarantined(client, MessageEvent(ClientId("gate-1"), payload=sent[2][5:]))
    callbacks.quarantined(client, events[2])

    assert sent == [
        encode_question(number, "on_rpc", (name, None)) for number, name in enumerate(names, 1)
    ]
    assert answers == [("two", INTERNAL), ("one", 5), ("large", INTERNAL)]


def test_nobody_waits_for_the_answers_of_a_client_that_is_gone() -> None:
    client: Any = object()
    callbacks = RemoteCallbacks(lambda *_: None, lambda _name: True)
    answers: list[Any] = []
    callbacks.call("on_rpc", client, "m", None, then=answers.append)

    callbacks.forget(client)
    callbacks.answered(client, encode_result(1, 5))

    assert answers == []
