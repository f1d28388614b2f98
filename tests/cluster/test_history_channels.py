"""Channels with history of two nodes: what their members get, and what is caught up."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.cluster.envelope import Target
from gateman.cluster.fanout import Fanout
from gateman.cluster.history_channels import HistoryChannels, Recovery
from gateman.cluster.local_clients import LocalClients
from gateman.cluster.names import NodeId
from gateman.cluster.publication import TEXT, PackedPublication, unpack
from gateman.errors import BusError
from gateman.history.base import HistoryLimits, Position
from tests.support.loop import on_loop

ROOM = (Target.GROUPS, "room")
LIMITS = HistoryLimits(3, 60.0)
LIMIT = 10
BYTES = 1000


class Side:
    """One node's channels, and what they counted."""

    def __init__(self, bus: MemoryBus) -> None:
        self.counts: Counter[str] = Counter()
        clients = LocalClients(Fanout(asyncio.get_running_loop().call_soon), NodeId("0a1b2c3d4e5f"))
        self.channels = HistoryChannels(
            bus, lambda name: LIMITS if name == "room" else None, clients, self.counts
        )

    async def publish(self, *texts: str) -> list[Position]:
        tasks = [
            self.channels.publish(*ROOM, PackedPublication(TEXT, text.encode()), LIMITS)
            for text in texts
        ]
        return [position for one in tasks if (position := await one) is not None]

    async def catch_up(self, position: Position | None) -> Recovery:
        with self.channels.catch_up(*ROOM, position, LIMIT) as catch_up:
            await catch_up.fetch()
            return catch_up.finish(BYTES)


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Side, Side, MemoryBroker]]:
    broker = MemoryBroker()
    buses = [MemoryBus(broker=broker) for _ in range(2)]
    for bus in buses:
        await bus.start()
    sides = [Side(bus) for bus in buses]
    try:
        yield sides[0], sides[1], broker
    finally:
        for side in sides:
            side.channels.stop()
        for bus in buses:
            await bus.stop()


def texts(recovery: Recovery) -> list[str]:
    return [unpack(one.payload).data.decode() for one in recovery.messages]


@on_loop
async def test_who_knows_no_position_gets_the_end() -> None:
    """And nothing that was sent before."""
    async with two() as (one, other, _):
        [first] = await one.publish("a")

        assert await other.catch_up(None) == Recovery(first, (), is_complete=True)


@on_loop
async def test_what_was_missed_is_complete_or_is_said_not_to_be() -> None:
    """At the edge of what is kept, and in another epoch."""
    async with two() as (one, other, _):
        start = (await other.catch_up(None)).position
        places = await one.publish("a", "b", "c")
        found = await other.catch_up(start)
        assert (texts(found), found.is_complete) == (["a", "b", "c"], True)
        assert texts(await one.catch_up(places[1])) == ["c"]
        nothing = await one.catch_up(places[2])
        assert nothing == Recovery(places[2], (), is_complete=True)
        [last] = await other.publish("d")
        assert texts(await one.catch_up(places[0])) == ["b", "c", "d"]
        lost = await one.catch_up(start)
        assert lost == Recovery(last, (), is_complete=False)
        elsewhere = await one.catch_up(Position("another", places[0].offset))
        assert elsewhere == Recovery(last, (), is_complete=False)


@on_loop
async def test_what_comes_while_it_is_fetched_is_missed_once() -> None:
    """It is in the answer of the store, or live; never both, and never neither."""
    async with two() as (one, other, _):
        [first] = await one.publish("a")
        with other.channels.catch_up(*ROOM, first, LIMIT) as catch_up:
            publishing = asyncio.ensure_future(one.publish("b", "c"))
            await catch_up.fetch()
            await publishing
            # Until a message has come that was sent behind them, they have come too.
            [last] = await other.publish("d")
            with other.channels.catch_up(*ROOM, None, LIMIT) as later:
                await later.fetch()
                followed = other.channels.hold(*ROOM)
                await followed.reached(last.offset)
                other.channels.release(*ROOM, followed)
            found = catch_up.finish(BYTES)

        assert (texts(found), found.position) == (["b", "c", "d"], last)


@on_loop
async def test_what_has_too_many_bytes_is_not_given() -> None:
    """Then it is not complete, and nothing of it is given."""
    async with two() as (one, other, _):
        first, *_, last = await one.publish("a", "b" * 90, "c")
        for room, is_complete in ((0, False), (90, False), (BYTES, True)):
            with other.channels.catch_up(*ROOM, first, LIMIT) as catch_up:
                await catch_up.fetch()
                found = catch_up.finish(room)
            assert (found.is_complete, bool(found.messages)) == (is_complete, is_complete)
        with other.channels.catch_up(*ROOM, last, LIMIT) as catch_up:
            await catch_up.fetch()
            assert catch_up.finish(0).is_complete


@on_loop
async def test_a_gap_is_told_and_ends_what_is_under_way() -> None:
    """After it, the channel is followed anew for those who come back."""
    async with two() as (one, _, broker):
        told: list[tuple[Target, str]] = []
        one.channels.on_lost.append(lambda target, name: told.append((target, name)))
        [first] = await one.publish("a")
        with one.channels.catch_up(*ROOM, first, LIMIT) as catch_up:
            await catch_up.fetch()
            broker.go_down()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(BusError):
                catch_up.finish(BYTES)
        assert told == [ROOM]
        assert one.counts["lost_channels"] == 1
        broker.come_up()
        assert (await one.catch_up(first)).is_complete


@on_loop
async def test_what_the_store_does_not_take_is_counted() -> None:
    """Whoever waits for it gets the error."""
    async with two() as (one, _, broker):
        broker.go_down()
        with pytest.raises(BusError):
            await one.publish("a")
        await one.channels.settle()

        assert one.counts == {"unsent": 1}
