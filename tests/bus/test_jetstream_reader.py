"""What a client has missed is complete, or is said not to be."""

import asyncio
from functools import partial
from pathlib import Path

import nats
import nats.errors
import pytest

from gateman.bus.nats import nats_bus
from gateman.errors import BusError
from gateman.history.base import HistoryLimits

from ..support.jetstream import LOG, ask, leader_of, operator, patiently, served
from ..support.loop import on_loop
from ..support.nats import nats_cluster
from .contract_of_history import fill, numbers, payloads


@on_loop
async def test_what_was_dropped_is_not_complete(tmp_path: Path) -> None:
    """Whoever dropped it: the age of the stream, its size, an operator."""
    async with served(tmp_path, 1) as (bus,):
        positions = await fill(bus, 5)
        client = await operator(bus)
        await ask(client, "STREAM.PURGE.gateman-test", filter=LOG, keep=2)
        kept = [await bus.history.since("room", one, 100) for one in positions]
        await ask(client, "STREAM.PURGE.gateman-test", filter=LOG)
        none = [await bus.history.since("room", one, 100) for one in positions]
        (after,) = await fill(bus, 1, first=5)
        later = [await bus.history.since("room", one, 100) for one in (*positions, after)]
        fresh = await bus.history.since("room", none[0].position, 100)
        await client.close()

    # The fourth message is the oldest one that is left.
    assert [one.is_complete for one in kept] == [False, False, False, True, True]
    assert payloads(kept[3].messages) == numbers(4, 5)
    assert [one.is_complete for one in none] == [False] * 5
    assert [one.is_complete for one in later] == [False] * 5 + [True]
    assert (fresh.is_complete, payloads(fresh.messages)) == (True, [b"5"])


@on_loop
async def test_a_server_that_has_dropped_messages_makes_no_hole(tmp_path: Path) -> None:
    """
    A recovery has everything, or says that it has not, whichever servers answer.

    A server of NATS 2.9 that starts again drops what the stream was not made for, although it is to
    keep more since.
    """
    with nats_cluster(tmp_path, has_jetstream=True) as servers:
        places = [one.place for one in servers]
        bus = nats_bus(f"nats://{','.join(places)}?name=test")
        await bus.start()
        client = await nats.connect(places)
        small = HistoryLimits(size=2, ttl=300)
        positions = [await patiently(lambda: bus.history.append("room", b"0", small))]
        positions += await fill(bus, 60, first=1)
        leader = await leader_of(client)
        for server in servers:
            if server.name != leader:
                server.kill()
                positions += await patiently(partial(fill, bus, 1, first=len(positions)))
                server.start()
                await leader_of(client)
        # From the last one on, so that nothing of the recoveries before is of use.
        found = [
            await patiently(partial(bus.history.since, "room", position, 100))
            for position in reversed(positions)
        ]
        await client.close()
        await bus.stop()

    end = len(positions)
    wrong = [
        (end - number, payloads(missed.messages))
        for number, missed in enumerate(found)
        if missed.is_complete and payloads(missed.messages) != numbers(end - number, end)
    ]
    assert wrong == []
    assert any(missed.is_complete for missed in found)


@on_loop
async def test_an_election_interrupts_a_recovery(tmp_path: Path) -> None:
    """What one leader has says nothing of what the next one has; the client tries again."""
    async with served(tmp_path, 1) as (bus,):
        (first, *_) = await fill(bus, 90)
        client = await operator(bus)
        recovering = asyncio.ensure_future(bus.history.since("room", first, 100))
        while not recovering.done():
            await client.publish("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.gateman-test", b"{}")
            await client.flush()
        found = await bus.history.since("room", first, 100)
        await client.close()

    with pytest.raises(BusError, match="got another leader"):
        recovering.result()
    assert payloads(found.messages) == numbers(1, 90)
