"""The history of a router: what is particular to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from gateman.bus import unix_socket
from gateman.bus.base import Bus
from gateman.bus.local import local_bus
from gateman.bus.router import route
from gateman.bus.router_store import RouterStore
from gateman.bus.router_wire import FrameKind, frame
from gateman.history.base import HistoryLimits

from ..support.loop import eventually, on_loop
from ..support.router import router
from .contract import back
from .contract_of_history import HUNDRED, Member, fill, numbers, payloads


@asynccontextmanager
async def routed(folder: Path, count: int, max_pending_size: int) -> AsyncIterator[list[Bus]]:
    """Run a router on this loop, and buses on it."""
    path = folder / "bus.sock"
    serving = asyncio.ensure_future(
        route(unix_socket.listen(path), max_pending_size=max_pending_size)
    )
    buses: list[Bus] = [local_bus(str(path)) for _ in range(count)]
    for bus in buses:
        await bus.start()
    try:
        yield buses
    finally:
        for bus in buses:
            await bus.stop()
        serving.cancel()
        await asyncio.wait([serving])


@on_loop
async def test_a_slow_follower_is_told(tmp_path: Path) -> None:
    """The router drops its messages; it follows again, and recovers all of them."""
    async with routed(tmp_path, 2, 50_000) as (here, there):
        member = Member(there)
        position = await member.follow()
        await asyncio.gather(
            *(here.history.append("room", bytes(1000), HUNDRED) for _ in range(90))
        )
        await eventually(lambda: member.lost_count == 1)
        await member.follow()
        missed = await there.history.since("room", position, 100)

    assert missed.is_complete
    assert len(missed.messages) == 90
    assert len(member.got) < 90


@on_loop
async def test_a_killed_router_begins_a_new_epoch(tmp_path: Path) -> None:
    """Nothing is complete across it, not even with an empty history."""
    with router(tmp_path) as process:
        bus = local_bus(str(process.path))
        await bus.start()
        empty = (await bus.history.since("empty", None, 0)).position
        positions = await fill(bus, 3)
        process.kill()
        process.start()
        await eventually(lambda: bus.counts["gaps"] == 1)
        again = await fill(bus, 3)
        found = [
            await bus.history.since(channel, position, 100)
            for channel, position in (
                ("room", positions[0]),
                ("room", positions[2]),
                ("empty", empty),
            )
        ]
        await bus.stop()

    assert [one.is_complete for one in found] == [False, False, False]
    assert again[0].epoch != positions[0].epoch


@on_loop
async def test_reads_at_once_are_paged_in_turn(tmp_path: Path) -> None:
    """Many clients that come back together do not fill the router's buffer."""
    async with routed(tmp_path, 2, 4_000_000) as (here, there):
        start = (await there.history.since("room", None, 0)).position
        for number in range(5):
            await here.history.append("room", bytes([number]) * 500_000, HUNDRED)
        found = await asyncio.gather(*(there.history.since("room", start, 100) for _ in range(50)))

    assert {one.is_complete for one in found} == {True}
    assert {sum(map(len, payloads(one.messages))) for one in found} == {2_500_000}


@on_loop
async def test_an_invalid_request_ends_the_connection(tmp_path: Path) -> None:
    """No process of this version sends one; the others go on."""
    async with routed(tmp_path, 1, 1_000_000) as (bus,):
        for payload in (b"", bytes(7), bytes(8), bytes(8) + b"\xc1"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "bus.sock")
            writer.write(frame(FrameKind.HISTORY, b"history.room", payload))
            writer.write(frame(FrameKind.HISTORY, b"\xff", payload))
            with suppress(ConnectionResetError):
                await reader.read(-1)
            writer.close()
        await fill(bus, 1)
        page = await bus.history.read("room", limit=9)

    assert payloads(page.messages) == numbers(0, 1)


@on_loop
async def test_more_than_can_wait_is_refused(tmp_path: Path) -> None:
    """Appending without end neither blocks nor fills the memory."""
    async with routed(tmp_path, 1, 8_000_000) as (bus,):
        results = await asyncio.gather(
            *(bus.history.append("room", bytes(1_000_000), HUNDRED) for _ in range(20)),
            return_exceptions=True,
        )
        await back(bus)

    refused = [str(one) for one in results if isinstance(one, Exception)]
    assert 0 < len(refused) < 20
    assert {one.rpartition(": ")[2] for one in refused} == {"too much is waiting to be sent."}


@on_loop
async def test_the_store_of_a_router_ends_with_it() -> None:
    """Its timer, which drops what is too old, does not outlive it."""
    store = RouterStore()
    with pytest.raises(ValueError, match="truncated"):
        store.answer("history.room", b"")
    store.close()


@on_loop
async def test_what_is_not_awaited_is_followed(tmp_path: Path) -> None:
    """The awaitable of `follow` may be ignored, or given up, which unfollows."""
    async with routed(tmp_path, 2, 1_000_000) as (here, there):
        member = Member(there)
        there.history.follow("room", member.got.append, lambda: None)
        given_up = Member(there, "other")
        waiting = asyncio.ensure_future(given_up.follow())
        await asyncio.sleep(0)
        waiting.cancel()
        await back(there)
        await fill(here, 2)
        await fill(here, 2, channel="other")
        await eventually(lambda: len(member.got) == 2)
        await back(here, there)

    assert given_up.got == []


@on_loop
async def test_age_and_size_come_with_each_message(tmp_path: Path) -> None:
    """New options of a channel are in force with the next message."""
    async with routed(tmp_path, 1, 1_000_000) as (bus,):
        await fill(bus, 10)
        await bus.history.append("room", b"10", HistoryLimits(size=3, ttl=300))
        page = await bus.history.read("room", limit=100)

    assert payloads(page.messages) == numbers(8, 11)
