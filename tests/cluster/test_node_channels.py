"""Programs outside a service: they learn from it which channels have history."""

import asyncio
import secrets
from typing import Any

import pytest

from gateman import Channel, Hub, HubError, SyncHub, hub
from tests.support.client_talk import service
from tests.support.loop import on_loop

CHANNELS = {"room": Channel(subscribe=True, history_size=10)}


def values(found: Any) -> list[Any]:
    return [one.data for one in found.publications]


@on_loop
async def test_a_program_outside_publishes_in_order() -> None:
    """From its first message on: it learns from the service what is kept."""
    url = f"memory://{secrets.token_hex(4)}"
    async with service(channels=CHANNELS, bus=url) as client:
        ann = await client()
        await ann.ask(subscribe={"channel": "room"})
        async with await Hub.connect(url) as outside:
            sending = [outside.send_to_group("room", number) for number in range(3)]
            position = await outside.publish("room", 3)
            assert position is not None
            assert [await one for one in sending] == [1, 1, 1]
            assert [(await ann.push())["pub"]["data"] for _ in range(4)] == [0, 1, 2, 3]
            assert values(await outside.history("room")) == [0, 1, 2, 3]
            await outside.remove_history("room")
            assert values(await hub.history("room")) == []


@on_loop
async def test_a_program_that_ends_at_once_has_published() -> None:
    """Its last message is in the history, though it did not wait for that."""
    url = f"memory://{secrets.token_hex(4)}"
    async with service(channels=CHANNELS, bus=url):
        async with await Hub.connect(url) as outside:
            outside.send_to_group("room", "last words")
        assert values(await hub.history("room")) == ["last words"]


@on_loop
async def test_nobody_tells_a_program_what_is_kept() -> None:
    """Then nothing is, and it does not wait for ever."""
    async with await Hub.connect(f"memory://{secrets.token_hex(4)}") as outside:
        assert await outside.send_to_group("room", 1) == 0
        with pytest.raises(HubError, match="has no history"):
            await outside.history("room")


def test_a_hub_that_blocks_has_the_same_methods() -> None:
    """For Django, Celery and scripts."""
    url = f"memory://{secrets.token_hex(4)}"
    started, ended = asyncio.Event(), asyncio.Event()

    async def serve() -> None:
        async with service(channels=CHANNELS, bus=url):
            started.set()
            await ended.wait()

    def use() -> list[Any]:
        with SyncHub(url) as outside:
            position = outside.publish("room", 1)
            assert position is not None
            outside.send_to_group("room", 2)
            return values(outside.history("room"))

    async def both() -> list[Any]:
        serving = asyncio.ensure_future(serve())
        await started.wait()
        found = await asyncio.to_thread(use)
        ended.set()
        await serving
        return found

    assert asyncio.run(both()) == [1, 2]
