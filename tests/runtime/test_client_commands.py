"""What commands of SDK clients are answered, by patterns, tokens and callbacks."""

from typing import Any

from gateman import Allow, Channel, Connection
from tests.support.client_talk import DENIED, KEPT, OPEN, error, service
from tests.support.loop import on_loop


@on_loop
async def test_nothing_is_allowed_that_nobody_allows() -> None:
    """Connecting is; every other command that reaches a channel is refused."""
    async with service(channels={"seen": Channel(subscribe=True)}) as client:
        ann = await client()

        assert "client" in ann.hello["connect"]
        for channel in ("room", "#42"):
            assert await ann.ask(subscribe={"channel": channel}) == DENIED
            assert await ann.ask(publish={"channel": channel, "data": 1}) == DENIED
        assert await ann.ask(subscribe={"channel": "seen"}) == {"subscribe": {}}
        assert await ann.ask(publish={"channel": "seen", "data": 1}) == DENIED
        assert await ann.ask(history={"channel": "seen"}) == error(108, "not available")
        assert await ann.ask(rpc={"method": "sum"}) == error(104, "method not found")


@on_loop
async def test_a_publication_reaches_the_subscribers() -> None:
    """With who published it; not those who have left."""
    async with service(channels={"room": OPEN}) as client:
        ann, bob, cid = await client(), await client(), await client()
        for one in (ann, bob, cid):
            await one.ask(subscribe={"channel": "room"})
        assert await cid.ask(unsubscribe={"channel": "room"}) == {"unsubscribe": {}}
        assert await ann.ask(publish={"channel": "room", "data": {"n": 1}}) == {"publish": {}}

        name = ann.hello["connect"]["client"]
        wanted = {"channel": "room", "pub": {"data": {"n": 1}, "info": {"client": name}}}
        assert await ann.push() == wanted
        assert await bob.push() == wanted
        assert cid.pushes == []


@on_loop
async def test_history_is_read_in_pages() -> None:
    """From a position, in both directions; with a limit of 0 only the end is told."""
    async with service(channels={"room": KEPT}) as client:
        ann = await client()
        await ann.ask(subscribe={"channel": "room"})
        for number in range(4):
            await ann.ask(publish={"channel": "room", "data": number})

        async def read(**request: Any) -> list[Any]:
            answer = (await ann.ask(history={"channel": "room", **request}))["history"]
            return [one["data"] for one in answer.get("publications", [])]

        assert await read() == []
        assert await read(limit=2) == [0, 1]
        assert await read(limit=-1) == [0, 1, 2, 3]
        assert await read(limit=2, reverse=True) == [3, 2]


@on_loop
async def test_a_connection_is_prolonged() -> None:
    """The client is told how long it may stay, and asks in time."""

    def on_client_connect(_connection: Connection, _token: str, _data: Any) -> Allow:
        return Allow(expires_in=60)

    def on_refresh(_connection: Connection, token: str) -> Any:
        return token == "new" and Allow(expires_in=120)

    async with service(on_client_connect, on_refresh) as client:
        ann = await client()
        assert (ann.hello["connect"]["expires"], ann.hello["connect"]["ttl"]) == (True, 60)
        assert (await ann.ask(refresh={"token": "new"}))["refresh"]["ttl"] == 120
        assert await ann.ask(refresh={"token": "old"}) == DENIED


@on_loop
async def test_a_position_without_an_epoch_is_of_the_present_one() -> None:
    """What follows on it is not left out."""
    async with service(channels={"room": KEPT}) as client:
        ann = await client()
        await ann.ask(subscribe={"channel": "room"})
        for number in range(3):
            await ann.ask(publish={"channel": "room", "data": number})
        page = await ann.ask(history={"channel": "room", "limit": 10, "since": {"offset": 1}})
        assert [one["data"] for one in page["history"]["publications"]] == [1, 2]


@on_loop
async def test_histories_are_read_one_after_the_other() -> None:
    """All that a client asks for in one frame is answered, in order."""
    async with service(channels={"room": KEPT}) as client:
        ann = await client()
        await ann.ask(subscribe={"channel": "room"})
        await ann.ask(publish={"channel": "room", "data": 1})
        frame = '{"id":%d,"history":{"channel":"room","limit":%d}}'
        await ann.write("\n".join(frame % (100 + limit, limit) for limit in range(100)))
        last = await ann.answer(199)
        assert [one["data"] for one in last["history"]["publications"]] == [1]
        assert ann.answered == list(range(100, 199))


@on_loop
async def test_a_text_that_cannot_be_sent_ends_no_connection() -> None:
    """Half of a surrogate pair has no UTF-8."""

    def on_publish(_connection: Connection, _channel: str, data: Any) -> Allow:
        return Allow(data="\ud800" if data else "whole")

    async with service(on_publish) as client:
        ann = await client()
        assert "error" in await ann.ask(publish={"channel": "room", "data": 1})
        assert await ann.ask(publish={"channel": "room", "data": 0}) == {"publish": {}}
