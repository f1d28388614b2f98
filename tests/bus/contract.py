"""
What every bus has to keep while its broker is there: one suite, which runs on each of them.

``test_memory.py``, ``test_local.py`` and ``test_nats.py`` run it with a broker of their
kind.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Protocol

import pytest

from gateman.bus.base import Bus, Receive
from gateman.bus.subjects import subject
from gateman.errors import BusError

from ..support.loop import eventually, on_loop

ROOM = subject("group", "room")
OTHER = subject("group", "other")

# Names that would mean something to NATS, or to another name, if they were not escaped.
HOSTILE = (
    *(
        "a.b",
        "a",
        "b",
        "*",
        ">",
        "a.*",
        "a.>",
        "",
        " ",
        "a b",
        "\t",
        "\r\n",
        "x\r\nPUB y 0\r\n\r\n",
    ),
    *("$SYS", "=", "=h", "=41", "A", "é", "e\N{COMBINING ACUTE ACCENT}", "房间", "\0", "x" * 5000),
)


class Broker(Protocol):
    """What buses meet at."""

    def bus(self, *, max_pending_size: int | None = None) -> Bus:
        """Make a bus, not started."""

    def kill(self) -> None:
        """Take the broker away, without warning."""

    def restart(self) -> None:
        """Bring it back."""


@asynccontextmanager
async def started(broker: Broker, count: int = 2) -> AsyncIterator[list[Bus]]:
    """Start some buses, and stop them behind the block."""
    buses = [broker.bus() for _ in range(count)]
    try:
        for bus in buses:
            await bus.start()
        yield buses
    finally:
        for bus in buses:
            await bus.stop()


async def back(*buses: Bus) -> None:
    """Wait until buses are connected again, and the broker routes to all of them."""
    for bus in buses:
        await bus.subscribe(subject("back", str(id(bus))), ignore)


def labelled(arrived: list[tuple[str, bytes]], label: str) -> Receive:
    """Make a receiver that notes what it is called with under a label."""
    return lambda payload: arrived.append((label, payload))


def ignore(payload: bytes) -> None:
    """Receive nothing."""


class Contract(ABC):
    """What a suite needs; a class that inherits defines the broker."""

    TEXT_OF_ABSENCE: str
    """What is said when there is no broker."""

    @pytest.fixture
    @abstractmethod
    def broker(self) -> Iterator[Broker]:
        """Run a broker."""


class DeliveryContract(Contract):
    """What arrives, where, and in which order."""

    @on_loop
    async def test_what_is_published_arrives(self, broker: Broker) -> None:
        """Any bytes arrive as they are: none, all values, line ends, and as many as allowed."""
        async with started(broker) as (here, there):
            payloads = [
                b"",
                bytes(range(256)),
                b"\r\nPING\r\n",
                bytes(here.max_payload_size),
                b"the last",
            ]
            arrived: list[bytes] = []
            await there.subscribe(ROOM, arrived.append)

            accepted = [here.publish(ROOM, payload) for payload in payloads]
            await eventually(lambda: len(arrived) == len(payloads))

        assert accepted == [True] * len(payloads)
        assert arrived == payloads

    @on_loop
    async def test_it_arrives_in_order(self, broker: Broker) -> None:
        """What one bus publishes to one subject comes in that order, also in great numbers."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            await there.subscribe(ROOM, arrived.append)
            payloads = [b"%d" % number for number in range(20_000)]

            for number, payload in enumerate(payloads):
                here.publish(ROOM, payload)
                if number % 700 == 0:
                    await asyncio.sleep(0)
            await eventually(lambda: len(arrived) == len(payloads))

        assert arrived == payloads

    @on_loop
    async def test_it_arrives_in_order_whatever_the_subjects(self, broker: Broker) -> None:
        """Who is in several groups gets what one bus publishes in the order of publishing."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            rooms = [subject("group", str(number)) for number in range(7)]
            for room in rooms:
                await there.subscribe(room, arrived.append)
            payloads = [b"%d" % number for number in range(5_000)]

            for number, payload in enumerate(payloads):
                here.publish(rooms[number * number % 7], payload)
                if number % 300 == 0:
                    await asyncio.sleep(0)
            await eventually(lambda: len(arrived) == len(payloads))

        assert arrived == payloads

    @on_loop
    async def test_everybody_interested_gets_it_once(self, broker: Broker) -> None:
        """All others that subscribed get a message once; its publisher does not get it."""
        async with started(broker, 4) as buses:
            arrived: list[list[bytes]] = [[] for _ in buses]
            for bus, mine in zip(buses, arrived, strict=True):
                await bus.subscribe(ROOM, mine.append)

            for number, bus in enumerate(buses):
                bus.publish(ROOM, b"%d" % number)
            await eventually(lambda: sum(map(len, arrived)) >= 12)
            await back(*buses)

        assert [sorted(mine) for mine in arrived] == [
            [b"1", b"2", b"3"],
            [b"0", b"2", b"3"],
            [b"0", b"1", b"3"],
            [b"0", b"1", b"2"],
        ]

    @on_loop
    async def test_other_subscribers_do_not_get_it(self, broker: Broker) -> None:
        """A process that did not subscribe to a subject has no work with it."""
        async with started(broker, 3) as (here, there, elsewhere):
            arrived: list[bytes] = []
            await there.subscribe(ROOM, arrived.append)
            await elsewhere.subscribe(OTHER, ignore)

            for _ in range(10):
                here.publish(ROOM, b"hello")
            await eventually(lambda: len(arrived) == 10)
            await back(here, there, elsewhere)

        assert [there.counts["received"], elsewhere.counts["received"]] == [10, 0]

    @on_loop
    async def test_no_name_is_taken_for_another(self, broker: Broker) -> None:
        """Whatever names clients choose, each gets what is for it and nothing else."""
        async with started(broker) as (here, there):
            arrived: list[tuple[str, bytes]] = []
            for name in HOSTILE:
                await there.subscribe(subject("group", name), labelled(arrived, name))

            sent = [(name, name.encode()) for name in HOSTILE]
            for name, payload in sent:
                here.publish(subject("group", name), payload)
            await eventually(lambda: len(arrived) >= len(sent))
            await back(here, there)

        assert arrived == sent

    @on_loop
    async def test_an_awaited_subscription_is_effective(self, broker: Broker) -> None:
        """A message that is published after a subscription was awaited arrives, every time."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            for number in range(300):
                await there.subscribe(subject("uid", str(number)), arrived.append)
                here.publish(subject("uid", str(number)), b"%d" % number)
            await eventually(lambda: len(arrived) == 300)

        assert arrived == [b"%d" % number for number in range(300)]

    @on_loop
    async def test_a_subscription_need_not_be_awaited(self, broker: Broker) -> None:
        """It becomes effective by itself, and what is awaited later stands for what was before."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            there.subscribe(ROOM, arrived.append)
            await there.subscribe(OTHER, arrived.append)

            here.publish(ROOM, b"hello")
            await eventually(lambda: arrived == [b"hello"])

        assert arrived == [b"hello"]

    @on_loop
    async def test_subscribing_twice_replaces_the_receiver(self, broker: Broker) -> None:
        """A subject has one receiver: the last."""
        async with started(broker) as (here, there):
            first: list[bytes] = []
            second: list[bytes] = []
            await there.subscribe(ROOM, first.append)
            await there.subscribe(ROOM, second.append)

            here.publish(ROOM, b"hello")
            await eventually(lambda: bool(second))
            await back(here, there)

        assert (first, second) == ([], [b"hello"])

    @on_loop
    async def test_unsubscribing_ends_it_at_once(self, broker: Broker) -> None:
        """A receiver is not called any more, not even for what is on its way."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []

            def receive(payload: bytes) -> None:
                arrived.append(payload)
                there.unsubscribe(ROOM)

            await there.subscribe(ROOM, receive)
            for _ in range(100):
                here.publish(ROOM, b"hello")
            await eventually(lambda: bool(arrived))
            there.unsubscribe(ROOM)
            there.unsubscribe(OTHER)
            await back(here, there)
            here.publish(ROOM, b"too late")
            await back(here, there)

            again: list[bytes] = []
            await there.subscribe(ROOM, again.append)
            here.publish(ROOM, b"again")
            await eventually(lambda: bool(again))

        assert (arrived, again) == ([b"hello"], [b"again"])

    @on_loop
    async def test_receivers_are_not_called_from_within(self, broker: Broker) -> None:
        """Publishing and subscribing call nobody: what they cause comes in a later turn."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            await there.subscribe(ROOM, arrived.append)

            here.publish(ROOM, b"hello")
            within = list(arrived)
            await eventually(lambda: bool(arrived))

        assert within == []

    @on_loop
    async def test_a_payload_that_is_too_big_is_refused_here(self, broker: Broker) -> None:
        """It is an error of one sentence, nothing is sent, and the connection stays."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []
            await there.subscribe(ROOM, arrived.append)
            limit = here.max_payload_size

            with pytest.raises(BusError) as caught:
                here.publish(ROOM, bytes(limit + 1))
            here.publish(ROOM, b"fits")
            await eventually(lambda: bool(arrived))

        assert str(caught.value) == (
            f"the bus {here.url}: a payload of {limit + 1} bytes is more than its limit of"
            f" {limit} bytes."
        )
        assert arrived == [b"fits"]
        assert [here.counts["published"], here.counts["gaps"]] == [1, 0]

    @on_loop
    async def test_a_failing_receiver_is_its_own_problem(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The failure is logged and counted, and the next message comes, also to others."""
        async with started(broker) as (here, there):
            arrived: list[bytes] = []

            def fail(payload: bytes) -> None:
                raise ValueError(payload)

            await there.subscribe(ROOM, fail)
            await there.subscribe(OTHER, arrived.append)
            for _ in range(3):
                here.publish(ROOM, b"secret")
                here.publish(OTHER, b"hello")
            await eventually(lambda: len(arrived) == 3 and there.counts["receiver_failed"] == 3)

        assert arrived == [b"hello"] * 3
        assert [record.message for record in caplog.records] == ["a receiver of the bus failed"]

    @on_loop
    async def test_many_subjects_cost_little(self, broker: Broker) -> None:
        """A hundred thousand subscriptions take seconds and some megabytes, and all work."""
        async with started(broker) as (here, there):
            subjects = [subject("uid", str(number)) for number in range(100_000)]
            arrived: list[bytes] = []
            before = _resident_size()

            for start in range(0, len(subjects), 1000):
                for one in subjects[start : start + 1000]:
                    pending = there.subscribe(one, arrived.append)
                await pending
            size = (_resident_size() - before) / len(subjects)
            for one in subjects[::1000]:
                here.publish(one, b"hello")
            await eventually(lambda: len(arrived) == 100)
            for one in subjects:
                there.unsubscribe(one)
            here.publish(subjects[0], b"too late")
            await back(here, there)

        assert len(arrived) == 100
        assert size < 400

    def test_its_name_is_its_url(self, broker: Broker) -> None:
        """A bus is recognised in a log."""
        bus = broker.bus()

        assert bus.url in repr(bus)

    @on_loop
    async def test_one_broker_is_not_spread(self, broker: Broker) -> None:
        """Who subscribes to something there, is known there."""
        async with started(broker, 1) as (bus,):
            is_spread = bus.is_spread

        assert not is_spread


def _resident_size() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - no path to build
        return int(file.read().split()[1]) * 4096
