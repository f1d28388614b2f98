"""Tokens of SDK clients: what they allow, and the answers to those that are not valid."""

import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from gateman import Allow, Connection, Tokens, hub
from tests.support.client_talk import DENIED, OPEN, error, service
from tests.support.loop import on_loop
from tests.support.tokens import token

KEY = b"a secret of 32 bytes, or of more"
TOKENS = Tokens(secret=KEY)
EXPIRED = error(109, "token expired")


def made(**claims: Any) -> str:
    return token(KEY, claims, algorithm="HS256")


@on_loop
async def test_a_connection_token_says_who_a_client_is() -> None:
    """And to what it is subscribed; others see what it says about the client."""
    async with service(tokens=TOKENS, channels={"room": OPEN}) as client:
        ann = await client(
            token=made(
                sub="ann",
                exp=int(time.time()) + 60,
                info={"name": "Ann"},
                subs={"news": {"data": {"topic": "tea"}}},
            )
        )
        found = ann.hello["connect"]
        assert found["expires"]
        assert 50 <= found["ttl"] <= 60
        assert sorted(found["subs"]) == ["#ann", "news"]
        assert found["subs"]["news"]["data"] == {"topic": "tea"}
        assert await hub.clients_of_uid("ann") == [found["client"]]
        await ann.ask(subscribe={"channel": "room"})
        await ann.ask(publish={"channel": "room", "data": 1})
        assert (await ann.push())["pub"]["info"]["conn_info"] == {"name": "Ann"}


@on_loop
async def test_a_token_that_is_not_valid_ends_the_connection() -> None:
    """For good; after an expired one the SDK gets another. Without one, a client may connect."""
    async with service(tokens=TOKENS) as client:
        assert "client" in (await client()).hello["connect"]
        expired = await client(token=made(sub="ann", exp=1))
        assert expired.hello == EXPIRED
        with pytest.raises(ConnectionClosed) as caught:
            await client(token=token(b"x" * 32, {"sub": "ann"}, algorithm="HS256"))
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (3500, "invalid token")


@on_loop
async def test_a_subscription_token_opens_its_channel() -> None:
    """To its user alone, and as long as it says."""
    async with service(tokens=TOKENS) as client:
        ann = await client(token=made(sub="ann"))
        later = int(time.time()) + 60
        for claims, channel, answer in (
            ({"sub": "ann", "channel": "room"}, "other", DENIED),
            ({"sub": "bob", "channel": "room"}, "room", DENIED),
            ({"sub": "ann", "channel": "room", "exp": 1}, "room", EXPIRED),
        ):
            asked = {"channel": channel, "token": made(**claims)}
            assert await ann.ask(subscribe=asked) == answer
        good = made(sub="ann", channel="room", exp=later)
        found = await ann.ask(subscribe={"channel": "room", "token": good})
        assert 50 <= found["subscribe"]["ttl"] <= 60
        again = made(sub="ann", channel="room", exp=later + 60)
        found = await ann.ask(sub_refresh={"channel": "room", "token": again})
        assert 110 <= found["sub_refresh"]["ttl"] <= 120


@on_loop
async def test_a_connection_is_prolonged_by_a_token_of_its_user(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another user's ends it."""
    async with service(tokens=TOKENS) as client:
        ann = await client(token=made(sub="ann", exp=int(time.time()) + 60))
        longer = made(sub="ann", exp=int(time.time()) + 120)
        assert 110 <= (await ann.ask(refresh={"token": longer}))["refresh"]["ttl"] <= 120
        await ann.send(refresh={"token": made(sub="bob")})
        assert (await ann.closed())[0] == 3500
    assert [record.getMessage() for record in caplog.records] == [
        "a client's token is not valid: it is for another user than the connection's"
    ]


@on_loop
async def test_the_application_has_the_last_word() -> None:
    """It sees the token after it was verified, and may refuse or add."""

    def on_client_connect(_connection: Connection, found: str, _data: Any) -> Any:
        return Allow(info="ours", expires_in=30) if found else False

    def on_subscribe(_connection: Connection, channel: str, _data: Any) -> Any:
        return None if channel == "room" else False

    async with service(on_client_connect, on_subscribe, tokens=TOKENS) as client:
        assert (await client()).hello == DENIED
        ann = await client(token=made(sub="ann", exp=int(time.time()) + 60))
        assert ann.hello["connect"]["ttl"] == 30
        for channel, is_allowed in (("room", True), ("other", False)):
            asked = {"channel": channel, "token": made(sub="ann", channel=channel)}
            assert ("subscribe" in await ann.ask(subscribe=asked)) is is_allowed


@on_loop
async def test_names_in_a_connection_token_are_checked() -> None:
    """A provider may allow longer ones; a personal channel comes with its user alone."""
    async with service(tokens=TOKENS) as client:
        for claims in (
            {"sub": "u" * 256},
            {"sub": "ann", "channels": ["c" * 256]},
            {"sub": "ann", "channels": [""]},
            {"sub": "ann", "channels": ["#tom"]},
            {"channels": ["#"]},
        ):
            with pytest.raises(ConnectionClosed) as caught:
                await client(token=made(**claims))
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 3500, claims
        ann = await client(token=made(sub="ann", channels=["#ann", "news"]))
        assert sorted(ann.hello["connect"]["subs"]) == ["#ann", "news"]


@on_loop
async def test_a_token_may_be_valid_for_long() -> None:
    """For a month, and for longer than the protocol can say."""
    async with service(tokens=TOKENS, channels={"room": OPEN}) as client:
        for seconds, most in ((30 * 86_400, 30 * 86_400), (1 << 33, (1 << 32) - 1)):
            end = int(time.time()) + seconds
            ann = await client(token=made(sub="ann", exp=end))
            answers = [
                ann.hello["connect"],
                (await ann.ask(refresh={"token": made(sub="ann", exp=end)}))["refresh"],
                (
                    await ann.ask(
                        subscribe={
                            "channel": "room",
                            "token": made(sub="ann", channel="room", exp=end),
                        }
                    )
                )["subscribe"],
            ]
            for answer in answers:
                assert answer["expires"]
                assert most - 60 < answer["ttl"] <= most
