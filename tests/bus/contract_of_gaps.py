"""
What every bus has to keep when its broker is away, or too much is sent.

Runs as :mod:`.contract` does, with brokers that are killed and started again.
"""

import asyncio
import time
from collections.abc import Awaitable

import pytest

from gateman.bus.base import Cause, Gap
from gateman.bus.subjects import subject
from gateman.errors import BusError

from ..support.loop import eventually, on_loop
from .contract import OTHER, ROOM, Broker, Contract, back, ignore, started


class LossContract(Contract):
    """What is lost, and that it is counted."""

    @on_loop
    async def test_more_than_fits_is_counted(self, broker: Broker) -> None:
        """Who publishes without end does not block and does not fill the memory."""
        here, there = broker.bus(max_pending_size=100_000), broker.bus(max_pending_size=100_000)
        gaps: list[Gap] = []
        arrived: list[bytes] = []
        here.on_gap = there.on_gap = gaps.append
        await here.start()
        await there.start()
        await there.subscribe(ROOM, arrived.append)

        accepted = sum(here.publish(ROOM, bytes(1000)) for _ in range(10_000))
        await eventually(lambda: len(arrived) + there.counts["missed"] == accepted)
        await eventually(lambda: len(gaps) == 1)
        here.publish(ROOM, b"and on")
        await eventually(lambda: arrived[-1] == b"and on")
        await here.stop()
        await there.stop()

        (gap,) = gaps
        assert len(arrived) <= 200
        assert len(arrived) - 1 + gap.unsent + (gap.missed or 0) == 10_000
        assert gap.cause in {Cause.FULL, Cause.SLOW}
        assert gap.uncertain == 0
        assert gap.since <= gap.until
        assert here.counts["unsent"] + there.counts["missed"] == 10_000 - len(arrived) + 1

    @on_loop
    async def test_when_the_broker_is_away_publishing_fails_at_once(self, broker: Broker) -> None:
        """It is refused and counted; when the broker is back, the gap says how much and when."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            gaps: list[Gap] = []
            here.on_gap = gaps.append
            await there.subscribe(ROOM, arrived.append)
            here.publish(ROOM, b"before")
            await eventually(lambda: arrived == [b"before"])
            began_at = time.time()

            broker.kill()
            await eventually(lambda: not here.is_connected and not there.is_connected)
            refused = [here.publish(ROOM, b"lost") for _ in range(5)]
            broker.restart()
            await back(here, there)
            await eventually(lambda: len(gaps) == 1)
            here.publish(ROOM, b"after")
            await eventually(lambda: len(arrived) == 2)

        (gap,) = gaps
        assert refused == [False] * 5
        assert arrived == [b"before", b"after"]
        assert (gap.cause, gap.unsent, gap.missed) == (Cause.DISCONNECTED, 5, None)
        assert gap.uncertain <= 1
        assert began_at - 5 < gap.since <= gap.until <= time.time()
        assert here.counts["unsent"] == 5
        assert here.counts["gaps"] == 1

    @on_loop
    async def test_what_was_subscribed_is_subscribed_again(self, broker: Broker) -> None:
        """After each return, all subjects come again, but those that were left meanwhile."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            for number in range(50):
                there.subscribe(subject("uid", str(number)), arrived.append)
            await there.subscribe(ROOM, arrived.append)
            rounds: list[int] = []
            for left in range(3):
                broker.kill()
                await eventually(lambda: not here.is_connected and not there.is_connected)
                there.unsubscribe(subject("uid", str(left)))
                waiting = there.subscribe(subject("new", str(left)), arrived.append)
                broker.restart()
                await waiting
                await back(here, there)

                arrived.clear()
                for number in range(50):
                    here.publish(subject("uid", str(number)), b"uid")
                here.publish(subject("new", str(left)), b"new")
                here.publish(ROOM, b"last")
                await eventually(lambda: b"last" in arrived and b"new" in arrived)
                rounds.append(len(arrived))

        assert rounds == [51, 50, 49]

    @on_loop
    async def test_what_is_under_way_when_the_broker_dies_is_counted(self, broker: Broker) -> None:
        """Each message arrives once, or is counted as unsent, or is one of the uncertain."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            gaps: list[Gap] = []
            here.on_gap = gaps.append
            await there.subscribe(ROOM, arrived.append)
            accepted: list[bytes] = []
            total = 0
            for turn in range(600):
                for _ in range(20):
                    payload = b"%d" % total
                    total += 1
                    if here.publish(ROOM, payload):
                        accepted.append(payload)
                if turn == 200:
                    broker.kill()
                    await eventually(lambda: not here.is_connected and not there.is_connected)
                if turn == 400:
                    broker.restart()
                    await back(here, there)
                await asyncio.sleep(0)
            await eventually(lambda: accepted[-1] in arrived)
            await eventually(lambda: len(gaps) == 1)

        (gap,) = gaps
        lost = set(accepted) - set(arrived)
        assert len(arrived) == len(set(arrived))
        assert arrived == [payload for payload in accepted if payload not in lost]
        assert len(accepted) + gap.unsent == total
        assert len(lost) <= gap.uncertain <= len(accepted)
        assert 200 * 20 - 40 <= gap.unsent <= 200 * 20

    @on_loop
    async def test_a_failing_on_gap_stops_nothing(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is logged, and the bus goes on."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            await there.subscribe(ROOM, arrived.append)

            def fail(gap: Gap) -> None:
                raise ValueError(gap.cause)

            here.on_gap = fail
            broker.kill()
            await eventually(lambda: not here.is_connected and not there.is_connected)
            broker.restart()
            await back(here, there)
            await eventually(lambda: here.counts["receiver_failed"] == 1)
            here.publish(ROOM, b"on")
            await eventually(lambda: bool(arrived))

        assert arrived == [b"on"]
        assert "on_gap failed" in caplog.messages

    @on_loop
    async def test_stopping_sends_what_waits(self, broker: Broker) -> None:
        """What was published right before the end arrives."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            await there.subscribe(ROOM, arrived.append)

            for number in range(1000):
                here.publish(ROOM, b"%d" % number)
            await here.stop()
            await eventually(lambda: len(arrived) == 1000)

        assert arrived == [b"%d" % number for number in range(1000)]
        assert here.counts["uncertain"] == 0

    @on_loop
    async def test_a_stopped_bus_stays_stopped(self, broker: Broker) -> None:
        """Stopping twice is no error; publishing is refused, and waiting ends with an error."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            await here.subscribe(ROOM, arrived.append)

            await here.stop()
            await here.stop()
            there.publish(ROOM, b"too late")
            await back(there)
            refused = here.publish(ROOM, b"no")
            with pytest.raises(BusError) as waiting:
                await here.subscribe(OTHER, ignore)
            with pytest.raises(BusError) as starting:
                await here.start()

        assert not here.is_connected
        assert (arrived, refused, here.counts["unsent"]) == ([], False, 1)
        assert str(waiting.value) == str(starting.value) == f"the bus {here.url}: it was stopped."

    @on_loop
    async def test_stopping_while_the_broker_is_away(self, broker: Broker) -> None:
        """It ends at once, and fails those who wait for the broker."""
        async with started(broker, 1) as (here,):
            broker.kill()
            await eventually(lambda: not here.is_connected)
            waiting = here.subscribe(ROOM, ignore)
            patient = asyncio.ensure_future(_until_routed(waiting))
            await asyncio.sleep(0)

            await here.stop()
            with pytest.raises(BusError) as caught:
                await patient
            broker.restart()

        assert str(caught.value) == f"the bus {here.url}: it was stopped."

    @on_loop
    async def test_starting_without_a_broker_fails(self, broker: Broker) -> None:
        """The error says what is wrong; when the broker is there, starting succeeds."""
        bus = broker.bus()
        broker.kill()
        with pytest.raises(BusError) as caught:
            await bus.start()
        early = bus.publish(ROOM, b"early")
        arrived: list[bytes] = []
        pending = bus.subscribe(ROOM, arrived.append)
        gaps: list[Gap] = []
        bus.on_gap = gaps.append

        broker.restart()
        async with started(broker, 1) as (other,):
            await bus.start()
            await bus.start()
            await pending
            other.publish(ROOM, b"hello")
            await eventually(lambda: bool(arrived) and bool(gaps))
        await bus.stop()

        assert (caught.value.url, caught.value.problem) == (bus.url, self.TEXT_OF_ABSENCE)
        assert (early, arrived) == (False, [b"hello"])
        assert [(gap.cause, gap.unsent) for gap in gaps] == [(Cause.DISCONNECTED, 1)]

    @on_loop
    async def test_starting_patiently_goes_on_without_a_broker(self, broker: Broker) -> None:
        """It is away then like a bus that was lost, and comes as one that comes back."""
        bus = broker.bus()
        gaps: list[Gap] = []
        bus.on_gap = gaps.append
        arrived: list[bytes] = []
        broker.kill()
        pending = bus.subscribe(ROOM, arrived.append)
        began_at = time.time()
        await bus.start(patience=0.05)
        started_without = bus.is_connected
        refused = [bus.publish(ROOM, b"lost") for _ in range(3)]

        broker.restart()
        async with started(broker, 1) as (other,):
            await pending
            other.publish(ROOM, b"hello")
            await eventually(lambda: bool(arrived) and bool(gaps))
        await bus.stop()

        (gap,) = gaps
        assert (started_without, refused, arrived) == (False, [False] * 3, [b"hello"])
        assert (gap.cause, gap.unsent, gap.uncertain) == (Cause.DISCONNECTED, 3, 0)
        assert began_at - 1 < gap.since <= gap.until <= time.time()

    @on_loop
    async def test_starting_patiently_waits_no_longer_than_it_has_to(self, broker: Broker) -> None:
        """Where the broker is there, it is connected when it returns, without a gap."""
        bus = broker.bus()
        await bus.start(patience=60)
        is_connected = bus.is_connected
        await bus.stop()

        assert (is_connected, bus.counts["gaps"]) == (True, 0)

    @on_loop
    async def test_a_patient_bus_may_be_stopped_before_it_is_there(self, broker: Broker) -> None:
        """It gives up at once."""
        bus = broker.bus()
        broker.kill()
        await bus.start(patience=0.05)
        await bus.stop()
        with pytest.raises(BusError) as caught:
            await bus.start(patience=0.05)
        broker.restart()

        assert str(caught.value) == f"the bus {bus.url}: it was stopped."


async def _until_routed(waiting: Awaitable[None]) -> None:
    await waiting
