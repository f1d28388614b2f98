"""What the application decides about SDK clients, and answers them."""

import asyncio
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from gateman import Allow, ClientError, Connection, Disconnect, Refuse, hub
from tests.support.client_talk import DENIED, OPEN, error, service
from tests.support.loop import on_loop


@on_loop
async def test_the_application_decides_who_connects() -> None:
    """It binds and joins; the client has those subscriptions with the answer."""

    def on_client_connect(connection: Connection, token: str, data: Any) -> Any:
        if token == "none":
            return False
        if token == "later":
            raise ClientError(499, "not now", temporary=True)
        if token == "never":
            raise Disconnect(4500, "go away")
        if token == "refused":
            raise Refuse(text="no")
        connection.bind(token)
        connection.join("news")
        return Allow(data={"hello": data}, info={"name": "Ann"})

    async with service(on_client_connect, channels={"room": OPEN}) as client:
        ann = await client(token="ann", data=[1])
        found = ann.hello["connect"]
        assert found["data"] == {"hello": [1]}
        assert sorted(found["subs"]) == ["#ann", "news"]
        assert await hub.is_uid_online("ann")
        await ann.ask(subscribe={"channel": "room"})
        await ann.ask(publish={"channel": "room", "data": 1})
        info = (await ann.push())["pub"]["info"]
        assert info == {"user": "ann", "client": found["client"], "conn_info": {"name": "Ann"}}

        assert (await client(token="none")).hello == DENIED
        assert (await client(token="later")).hello == error(499, "not now", temporary=True)
        assert (await client(token="refused")).hello == error(103, "no")
        with pytest.raises(ConnectionClosed) as caught:
            await client(token="never")
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4500, "go away")


@on_loop
async def test_callbacks_decide_about_channels() -> None:
    """They see what the client sent; what they return replaces it, or is added to the answer."""
    seen: list[Any] = []

    async def on_subscribe(_connection: Connection, channel: str, data: Any) -> Any:
        await asyncio.sleep(0)
        seen.append(("subscribe", channel, data))
        if channel == "closed":
            raise Refuse
        if channel == "quiet":
            return None
        return Allow(data="hello", publish=channel == "talk", info={"role": "guest"})

    def on_publish(_connection: Connection, channel: str, data: Any) -> Any:
        seen.append(("publish", channel, data))
        return {"bad": False, "loud": "quiet", "good": True}.get(data)

    async with service(on_subscribe, on_publish) as client:
        ann = await client()
        # In one frame: the second waits for the callback of the first.
        number = await ann.send(subscribe={"channel": "talk", "data": {"x": 1}})
        assert await ann.ask(publish={"channel": "talk", "data": "loud"}) == {"publish": {}}
        del number
        assert (await ann.push())["pub"]["data"] == "quiet"
        assert await ann.ask(publish={"channel": "talk", "data": "bad"}) == DENIED
        # It says nothing about this, and no pattern allows it elsewhere.
        assert await ann.ask(publish={"channel": "else", "data": "hm"}) == DENIED
        assert await ann.ask(publish={"channel": "else", "data": "good"}) == {"publish": {}}
        assert await ann.ask(publish={"channel": "#ann", "data": "good"}) == DENIED
        assert await ann.ask(subscribe={"channel": "quiet"}) == DENIED
        assert await ann.ask(subscribe={"channel": "closed"}) == DENIED
        assert seen == [
            ("subscribe", "talk", {"x": 1}),
            ("publish", "talk", "loud"),
            ("publish", "talk", "bad"),
            ("publish", "else", "hm"),
            ("publish", "else", "good"),
            ("subscribe", "quiet", None),
            ("subscribe", "closed", None),
        ]


@on_loop
async def test_calls_and_messages_reach_the_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In order, each after the one before; an exception is an error of the one command."""
    seen: list[Any] = []

    async def on_rpc(_connection: Connection, method: str, data: Any) -> Any:
        await asyncio.sleep(0)
        seen.append(data)
        if method == "fail":
            raise ValueError("secret")
        return b"" if method == "bytes" else {method: data}

    def on_message(connection: Connection, data: Any) -> None:
        seen.append(data)
        connection.send({"echo": data})

    async with service(on_rpc, on_message) as client:
        ann = await client()
        await ann.send(rpc={"method": "one", "data": 1})
        await ann.send(send={"data": 2})
        assert await ann.ask(rpc={"method": "two", "data": 3}) == {"rpc": {"data": {"two": 3}}}
        assert await ann.push() == {"message": {"data": {"echo": 2}}}
        internal = error(100, "internal server error", temporary=True)
        assert await ann.ask(rpc={"method": "fail", "data": 4}) == internal
        assert await ann.ask(rpc={"method": "bytes", "data": 5}) == internal
        assert seen == [1, 2, 3, 4, 5]
    assert "which gets an error for it" in caplog.text


@on_loop
async def test_what_a_callback_awaits_may_be_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """That is the application's fault, and an error of the one command."""

    async def on_rpc(_connection: Connection, _method: str, _data: Any) -> Any:
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled

    async with service(on_rpc) as client:
        ann = await client()
        internal = error(100, "internal server error", temporary=True)
        assert await ann.ask(rpc={"method": "one"}) == internal
        assert await ann.ask(rpc={"method": "two"}) == internal
    assert "what it awaited was cancelled" in caplog.text


@on_loop
async def test_what_cannot_be_sent_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """In one line with the callback's name; the client gets error 100, and stays connected."""
    wrong = {"data": object(), "info": Allow(info=object()), "seconds": 3600}

    def on_subscribe(_connection: Connection, channel: str, _data: Any) -> Any:
        return wrong[channel]

    def on_publish(_connection: Connection, channel: str, _data: Any) -> Any:
        return wrong[channel]

    def on_rpc(_connection: Connection, method: str, _data: Any) -> Any:
        return wrong[method]

    def on_refresh(_connection: Connection, token: str) -> Any:
        return wrong[token]

    async with service(on_subscribe, on_publish, on_rpc, on_refresh) as client:
        ann = await client()
        internal = error(100, "internal server error", temporary=True)
        assert await ann.ask(subscribe={"channel": "data"}) == internal
        assert await ann.ask(subscribe={"channel": "info"}) == internal
        assert await ann.ask(publish={"channel": "data", "data": 1}) == internal
        assert await ann.ask(rpc={"method": "data"}) == internal
        assert await ann.ask(refresh={"token": "seconds"}) == internal

    sentence = (
        "returned what cannot be sent: This cannot be written as JSON (Encoding objects of type"
        " object is unsupported): use text, numbers, lists and dictionaries."
    )
    assert [one.message.partition(" gets an error: ")[2] for one in caplog.records] == [
        f"on_subscribe {sentence}",  # Once for both, as they come at once.
        "on_publish returned what cannot be sent: A message is str or bytes-like, not object:"
        " encode it first, for example with json.dumps.",
        f"on_rpc {sentence}",
        "on_refresh returned data, which no refresh has: return Allow(expires_in=…), True or False",
    ]
