"""Publishing to channels, reading and removing what is kept: from a service, and outside."""

from typing import Any

import pytest

from gateman import Channel, ConfigError, Connection, HubError, hub
from gateman.history.base import Position
from tests.support.client_talk import service
from tests.support.loop import on_loop

CHANNELS = {"room": Channel(subscribe=True, history_size=10), "news": Channel(subscribe=True)}


def values(found: Any) -> list[Any]:
    return [one.data for one in found.publications]


@on_loop
async def test_a_publication_has_a_position_and_tags() -> None:
    """Where the channel has history; it is published once for each key."""
    async with service(channels=CHANNELS) as client:
        ann = await client()
        for channel in CHANNELS:
            await ann.ask(subscribe={"channel": channel})
        first = await hub.publish("room", {"n": 1}, tags={"kind": "test"})
        second = await hub.publish("room", 2, idempotency_key="a")
        again = await hub.publish("room", 3, idempotency_key="a")
        assert first is not None
        assert second is not None
        assert second.offset > first.offset
        assert again == second
        assert await hub.publish("room", 4, skip_history=True) is None
        assert await hub.publish("news", 5, tags={"a": "b"}) is None

        pushes = [(await ann.push())["pub"] for _ in range(4)]
        assert sorted(pushes, key=lambda one: str(one["data"])) == [
            {"data": 2, "offset": second.offset},
            {"data": 4},
            {"data": 5, "tags": {"a": "b"}},
            {"data": {"n": 1}, "tags": {"kind": "test"}, "offset": first.offset},
        ]


@on_loop
async def test_what_is_kept_is_read_and_removed() -> None:
    """In pages; of a user's own channel, too."""
    async with service(channels=CHANNELS):
        for message in ("text", b"\xff", [1], None):
            await hub.send_to_group("room", message)
        await hub.send_to_uid("ann", 7)
        found = await hub.history("room")
        assert values(found) == ["text", b"\xff", [1], None]
        assert found.position.offset == found.publications[-1].offset
        page = await hub.history("room", limit=2, is_reverse=True)
        assert values(page) == [None, [1]]
        since = found.position._replace(offset=found.publications[1].offset)
        assert values(await hub.history("room", since=since)) == [[1], None]
        assert values(await hub.history("room", limit=0)) == []
        assert values(await hub.history("#ann")) == [7]
        await hub.remove_history("room")
        assert values(await hub.history("room")) == []


@on_loop
async def test_mistakes_are_told_at_once() -> None:
    """And a channel without history says so."""
    async with service(channels=CHANNELS):
        wrong: list[tuple[str, dict[str, Any]]] = [
            ("", {}),
            ("#", {}),
            ("room", {"tags": {"a": 1}}),
            ("room", {"tags": ["a"]}),
            ("room", {"tags": {"a": "\ud800"}}),
            ("room", {"idempotency_key": "k" * 256}),
            ("room", {"idempotency_key": 5}),
            ("room", {"idempotency_key": "\ud800"}),
            ("room", {"skip_history": "no"}),
        ]
        for channel, options in wrong:
            with pytest.raises(ConfigError):
                hub.publish(channel, 1, **options)
        for limit in (-1, 1001, True):
            with pytest.raises(ConfigError):
                await hub.history("room", limit=limit)
        # On the bus, these would be a frame for which a router ends the connection.
        reads: list[dict[str, Any]] = [
            {"is_reverse": 1},
            {"since": 5},
            {"since": ("epoch", 1)},
            {"since": Position("epoch", "1")},  # type: ignore[arg-type]
            {"since": Position(None, 1)},  # type: ignore[arg-type]
        ]
        for read in reads:
            with pytest.raises(ConfigError):
                await hub.history("room", **read)
        with pytest.raises(HubError, match="the channel 'news' has no history"):
            await hub.history("news")
        with pytest.raises(HubError, match="has no history"):
            await hub.remove_history("news")


@on_loop
async def test_one_message_that_python_cannot_read_hides_no_others() -> None:
    """JSON has numbers that Python does not have, and clients may publish them."""
    channels = {"room": Channel(subscribe=True, publish="everyone", history_size=10)}
    async with service(channels=channels) as client:
        ann = await client()
        await ann.write('{"id":7,"publish":{"channel":"room","data":[1e999]}}')
        assert await ann.answer(7) == {"publish": {}}
        await hub.publish("room", 1)
        assert values(await hub.history("room")) == [b"[1e999]", 1]


@on_loop
async def test_a_personal_channel_is_no_group() -> None:
    """Whoever sends to it as a group hears so; otherwise the message would reach nobody."""

    def on_client_connect(connection: Connection, _token: str, _data: Any) -> None:
        connection.bind("ann")

    async with service(on_client_connect, channels=CHANNELS) as client:
        ann = await client()
        with pytest.raises(ConfigError, match="use the uid 'ann' with bind\\(\\) or send_to_uid"):
            hub.send_to_group(["room", "#ann"], "nobody")
        for ask in (hub.presence, hub.presence_stats, hub.clients_of_group, hub.count_group):
            with pytest.raises(ConfigError, match="is a user's personal channel and not a group"):
                await ask("#ann")
        await hub.publish("#ann", "own")

        assert (await ann.push())["pub"]["data"] == "own"
