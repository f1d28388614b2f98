"""
What the store of every bus has to keep, as far as its broker is there: one suite for all of them.

Runs as :mod:`.contract` does, with brokers that are killed and started again.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateman.bus.base import Bus
from gateman.errors import BusError
from gateman.history.base import HistoryLimits, Position, StoredMessage

from ..support.loop import eventually, on_loop
from .contract import HOSTILE, Broker, Contract, back, started

HUNDRED = HistoryLimits(size=100, ttl=300)


class Member:
    """A follower of a channel that keeps what it gets."""

    def __init__(self, bus: Bus, channel: str = "room") -> None:
        self.bus = bus
        self.channel = channel
        self.got: list[StoredMessage] = []
        self.lost_count = 0

    async def follow(self) -> Position:
        """Follow; what it gets is after the result."""
        return await self.bus.history.follow(self.channel, self.got.append, self._on_lost)

    @property
    def payloads(self) -> list[bytes]:
        """What it got."""
        return [message.payload for message in self.got]

    def _on_lost(self) -> None:
        self.lost_count += 1


class Client:
    """A client that recovers, as SDKs do, whenever it is told to."""

    def __init__(self, bus: Bus) -> None:
        self.got: list[int] = []
        self._history = bus.history
        self._position: Position | None = None
        # Where in what it got it was told that messages are missing.
        self._gaps: set[int] = set()

    async def run(self) -> None:
        """Follow, recover, and again."""
        while True:
            lost = asyncio.Event()
            early: list[StoredMessage] = []
            receive = [early.append]

            def take(message: StoredMessage, receive: Any = receive) -> None:
                receive[0](message)

            try:
                begun = await self._history.follow("room", take, lost.set)
                self._position = self._position or begun
                missed = await self._history.since("room", self._position, 100)
            except BusError:
                await asyncio.sleep(0.01)
                continue
            if not missed.is_complete:
                self._gaps.add(len(self.got))
                self._position = missed.position
            for message in (*missed.messages, *early):
                self._take(message)
            receive[0] = self._take
            await lost.wait()

    def has_begun(self) -> bool:
        """Whether it has a position from which to recover."""
        return self._position is not None

    def has_reached(self, number: int) -> bool:
        """Whether it has a message, or was told behind all that it has."""
        return self.got[-1:] == [number] or len(self.got) in self._gaps

    def unannounced_gaps(self, confirmed: list[int]) -> list[tuple[int, int]]:
        """Tell between which messages one is missing, without a word."""
        pairs = zip(self.got, self.got[1:], range(1, len(self.got)), strict=False)
        return [
            (before, after)
            for before, after, index in pairs
            if index not in self._gaps and any(before < one < after for one in confirmed)
        ]

    def _take(self, message: StoredMessage) -> None:
        assert self._position is not None
        if message.offset > self._position.offset:
            self.got.append(int(message.payload))
            self._position = Position(self._position.epoch, message.offset)


async def fill(bus: Bus, count: int, *, channel: str = "room", first: int = 0) -> list[Position]:
    """Append numbered messages, one after the other."""
    return [
        await bus.history.append(channel, b"%d" % number, HUNDRED)
        for number in range(first, first + count)
    ]


def numbers(first: int, end: int) -> list[bytes]:
    """Tell the payloads of numbered messages."""
    return [b"%d" % number for number in range(first, end)]


def payloads(messages: tuple[StoredMessage, ...]) -> list[bytes]:
    """Tell what messages contain."""
    return [message.payload for message in messages]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that needs the loop."""
    await eventually(condition)


class HistoryContract(Contract):
    """Order, completeness, bounds."""

    @on_loop
    async def test_each_position_leads_to_what_follows(self, broker: Broker) -> None:
        """From the beginning, from each message, and from the last: exactly the later ones."""
        async with started(broker) as (here, there):
            start = (await there.history.since("room", None, 0)).position
            positions = [start, *await fill(here, 10)]
            found = [await there.history.since("room", one, 100) for one in positions]

        assert [payloads(one.messages) for one in found] == [numbers(n, 10) for n in range(11)]
        assert {one.is_complete for one in found} == {True}
        assert {one.position for one in found} == {positions[-1]}
        assert [one.offset for one in found[0].messages] == [one.offset for one in positions[1:]]

    @on_loop
    async def test_all_followers_get_the_same_in_the_order_of_history(self, broker: Broker) -> None:
        """Also those in the processes that publish, while several publish at once."""
        async with started(broker, 3) as buses:
            members = [Member(bus) for bus in buses]
            starts = [await member.follow() for member in members]

            for round_ in range(10):
                await asyncio.gather(
                    *(
                        bus.history.append("room", b"%d %d" % (round_, index), HUNDRED)
                        for index, bus in enumerate(buses)
                        for _ in range(3)
                    )
                )
            await until(lambda: all(len(member.got) == 90 for member in members))
            stored = await buses[0].history.since("room", starts[0], 100)

        assert [tuple(member.got) for member in members] == [stored.messages] * 3
        assert [member.lost_count for member in members] == [0, 0, 0]

    @on_loop
    async def test_appends_of_a_process_keep_their_order(self, broker: Broker) -> None:
        """They need not be awaited one by one."""
        async with started(broker) as (here, there):
            member = Member(there)
            await member.follow()

            appended = await asyncio.gather(
                *(here.history.append("room", one, HUNDRED) for one in numbers(0, 90))
            )
            await until(lambda: len(member.got) == 90)

        assert member.payloads == numbers(0, 90)
        assert [one.offset for one in appended] == [one.offset for one in member.got]

    @on_loop
    async def test_a_recovery_meets_what_is_live(self, broker: Broker) -> None:
        """Following, then asking, leaves nothing out and repeats nothing above its offset."""
        async with started(broker) as (here, there):
            position = (await fill(here, 5))[2]
            publishing = asyncio.ensure_future(fill(here, 80, first=5))
            member = Member(there)
            await member.follow()
            missed = await there.history.since("room", position, 100)
            await publishing
            everything = payloads(missed.messages)
            await until(
                lambda: member.payloads[-1:] == [b"84"] or missed.messages[-1].payload == b"84"
            )
            reached = missed.position.offset
            everything += [one.payload for one in member.got if one.offset > reached]

        assert missed.is_complete
        assert everything == numbers(3, 85)

    @on_loop
    async def test_many_recover_at_once(self, broker: Broker) -> None:
        """Each from where it was, while more is appended; also a second time, and after removal."""
        async with started(broker) as (here, there):
            positions = await fill(here, 30)
            ends = {one: number for number, one in enumerate(positions)}
            for first in (30, 35):
                publishing = asyncio.ensure_future(fill(here, 5, first=first))
                found = await asyncio.gather(
                    *(there.history.since("room", one, 100) for one in positions * 2)
                )
                for number, one in enumerate(await publishing):
                    ends[one] = first + number
                assert {one.is_complete for one in found} == {True}
                assert [payloads(one.messages) for one in found] == [
                    numbers(number + 1, ends[one.position] + 1)
                    for number, one in zip([*range(30)] * 2, found, strict=True)
                ]
            await here.history.remove("room")
            removed = [await there.history.since("room", one, 100) for one in positions]
            (last,) = (one for one, number in ends.items() if number == 39)
            level = await there.history.since("room", last, 100)

        assert {one.is_complete for one in removed} == {False}
        assert (level.is_complete, level.messages) == (True, ())

    @on_loop
    async def test_an_empty_history_recovers(self, broker: Broker) -> None:
        """A client that saw no message, or whose messages are removed, is not told of a loss."""
        async with started(broker) as (here, there):
            start = (await there.history.since("new", None, 0)).position
            unchanged = await there.history.since("new", start, 10)
            await fill(here, 3, channel="other")
            await fill(here, 1, channel="new")
            first = await there.history.since("new", start, 10)
            await here.history.remove("new")
            after = await there.history.since("new", first.position, 10)
            before = await there.history.since("new", start, 10)
            page = await there.history.read("new", limit=10)
            await fill(here, 1, channel="new", first=1)
            then = await there.history.since("new", first.position, 10)

        assert (unchanged.is_complete, unchanged.messages) == (True, ())
        assert (first.is_complete, payloads(first.messages)) == (True, [b"0"])
        assert (after.is_complete, after.messages) == (True, ())
        assert (before.is_complete, before.messages) == (False, ())
        assert page.messages == ()
        assert (then.is_complete, payloads(then.messages)) == (True, [b"1"])

    @on_loop
    async def test_the_edge_of_size(self, broker: Broker) -> None:
        """What is behind the last messages is complete or not, by one."""
        limits = HistoryLimits(size=5, ttl=300)
        async with started(broker) as (here, there):
            positions = [await here.history.append("room", one, limits) for one in numbers(0, 9)]
            found = [await there.history.since("room", one, 100) for one in positions[2:5]]
            page = await there.history.read("room", limit=100)

        assert [one.is_complete for one in found] == [False, True, True]
        assert [payloads(one.messages) for one in found] == [[], numbers(4, 9), numbers(5, 9)]
        assert payloads(page.messages) == numbers(4, 9)

    @on_loop
    async def test_the_edge_of_age(self, broker: Broker) -> None:
        """What is too old is gone; who had it is complete, who did not is told."""
        brief = HistoryLimits(size=100, ttl=0.05)
        async with started(broker) as (here, there):
            start = (await there.history.since("room", None, 0)).position
            last = [await here.history.append("room", one, brief) for one in numbers(0, 3)][-1]
            # A query takes time, and that is all that passes.
            while (await there.history.read("room", limit=1)).messages:
                await back(here)
            behind = await there.history.since("room", start, 100)
            level = await there.history.since("room", last, 100)
            await fill(here, 1, first=3)
            after = await there.history.since("room", last, 100)

        assert (behind.is_complete, behind.messages) == (False, ())
        assert (level.is_complete, level.messages, level.position) == (True, (), last)
        assert (after.is_complete, payloads(after.messages)) == (True, [b"3"])

    @on_loop
    async def test_more_than_asked_for_is_not_complete(self, broker: Broker) -> None:
        """Nobody gets the first part of what was missed."""
        async with started(broker) as (here, there):
            positions = await fill(here, 10)
            enough = await there.history.since("room", positions[4], 5)
            too_many = await there.history.since("room", positions[3], 5)
            none = await there.history.since("room", positions[9], 0)

        assert (enough.is_complete, payloads(enough.messages)) == (True, numbers(5, 10))
        assert (too_many.is_complete, too_many.messages) == (False, ())
        assert (none.is_complete, none.messages) == (True, ())

    @on_loop
    async def test_positions_that_never_were(self, broker: Broker) -> None:
        """Of another epoch, of none, and beyond the end: not complete."""
        async with started(broker) as (here, there):
            (position,) = await fill(here, 1)
            found = [
                await there.history.since("room", one, 10)
                for one in (
                    Position("another", position.offset),
                    Position("", 0),
                    Position("\ud800", 0),
                    Position(position.epoch, -1),
                    Position(position.epoch, 1 << 70),
                    Position(position.epoch, position.offset + 1),
                    Position(position.epoch, 1 << 60),
                )
            ]

        assert [(one.is_complete, one.messages) for one in found] == [(False, ())] * 7
        assert {one.position for one in found} == {position}

    @on_loop
    async def test_looking_back(self, broker: Broker) -> None:
        """From either end, and from a position in either direction."""
        async with started(broker) as (here, there):
            positions = await fill(here, 6)
            top = positions[-1]
            read = there.history.read
            pages = [
                await read("room", limit=2),
                await read("room", limit=2, since=positions[1]),
                await read("room", limit=2, is_reverse=True),
                await read("room", limit=2, since=positions[3], is_reverse=True),
                await read("room", limit=0),
                await read("room", limit=100, since=Position("another", 0)),
                await read("room", limit=2, since=Position("", positions[1].offset)),
                await read("nothing", limit=100),
            ]

        assert [payloads(page.messages) for page in pages] == [
            [b"0", b"1"],
            [b"2", b"3"],
            [b"5", b"4"],
            [b"2", b"1"],
            [],
            [],
            [b"2", b"3"],
            [],
        ]
        assert [page.position for page in pages[:7]] == [top] * 7

    @on_loop
    async def test_more_than_fits_one_answer(self, broker: Broker) -> None:
        """Big messages are read in pages, forwards and backwards, and are complete."""
        async with started(broker) as (here, there):
            start = (await there.history.since("big", None, 0)).position
            sent = [bytes([number]) * 400_000 for number in range(8)]
            for one in sent:
                await here.history.append("big", one, HUNDRED)
            missed = await there.history.since("big", start, 8)
            too_many = await there.history.since("big", start, 7)
            page = await there.history.read("big", limit=7, is_reverse=True)

        assert (missed.is_complete, payloads(missed.messages)) == (True, sent)
        assert (too_many.is_complete, too_many.messages) == (False, ())
        assert payloads(page.messages) == sent[:0:-1]

    @on_loop
    async def test_no_channel_is_taken_for_another(self, broker: Broker) -> None:
        """Whatever clients call them."""
        async with started(broker) as (here, there):
            members = [Member(there, name) for name in HOSTILE]
            await asyncio.gather(*(member.follow() for member in members))
            for name in HOSTILE:
                await here.history.append(name, name.encode(), HUNDRED)
            await until(lambda: all(member.got for member in members))
            pages = [await there.history.read(name, limit=10) for name in HOSTILE]

        assert [member.payloads for member in members] == [[name.encode()] for name in HOSTILE]
        assert [payloads(page.messages) for page in pages] == [[name.encode()] for name in HOSTILE]

    @on_loop
    async def test_a_key_stores_a_message_once(self, broker: Broker) -> None:
        """An append that is tried again has the position of the first; keys are of one channel."""
        async with started(broker) as (here, there):
            member = Member(there)
            await member.follow()
            append = here.history.append
            first = await append("room", b"once", HUNDRED, idempotency_key="a key\r\n.*")
            again = await there.history.append(
                "room", b"twice", HUNDRED, idempotency_key="a key\r\n.*"
            )
            other = await append("other", b"here too", HUNDRED, idempotency_key="a key\r\n.*")
            await append("room", b"last", HUNDRED)
            await until(lambda: member.payloads[-1:] == [b"last"])

        assert first == again
        assert other != first
        assert member.payloads == [b"once", b"last"]

    @on_loop
    async def test_what_no_store_takes(self, broker: Broker) -> None:
        """It is refused here, in one sentence; the rest goes on."""
        async with started(broker) as (here, there):
            limit = here.max_payload_size - 1024
            with pytest.raises(BusError) as too_big:
                await here.history.append("room", bytes(limit + 1), HUNDRED)
            with pytest.raises(BusError) as no_text:
                await here.history.append("room", b"", HUNDRED, idempotency_key="\ud800")
            with pytest.raises(BusError) as too_long:
                await here.history.append("room", b"", HUNDRED, idempotency_key="x" * 257)
            await here.history.append("room", bytes(limit), HUNDRED)
            page = await there.history.read("room", limit=10)

        assert too_big.value.problem == (
            f"a payload of {limit + 1} bytes is more than its limit of {limit} bytes"
        )
        assert no_text.value.problem == "an idempotency key is not a text"
        assert too_long.value.problem == "an idempotency key has more than 256 characters"
        assert payloads(page.messages) == [bytes(limit)]

    @on_loop
    async def test_unfollowing_ends_it_at_once(self, broker: Broker) -> None:
        """From within the receiver too; following again begins at the end."""
        async with started(broker) as (here, there):
            got: list[bytes] = []

            def receive(message: StoredMessage) -> None:
                got.append(message.payload)
                there.history.unfollow("room")

            await there.history.follow("room", receive, lambda: got.append(b"lost"))
            await fill(here, 5)
            await until(lambda: bool(got))
            there.history.unfollow("room")
            there.history.unfollow("never followed")
            await back(here, there)
            member = Member(there)
            await member.follow()
            await fill(here, 1, first=5)
            await until(lambda: bool(member.got))

        assert (got, member.payloads) == ([b"0"], [b"5"])

    @on_loop
    async def test_the_last_follower_of_a_channel_counts(self, broker: Broker) -> None:
        """Following twice replaces the receiver; the first one hears nothing more."""
        async with started(broker) as (here, there):
            got: list[StoredMessage] = []
            pending = there.history.follow("room", got.append, lambda: None)
            member = Member(there)
            await member.follow()
            await fill(here, 2)
            await until(lambda: len(member.got) == 2)
            with pytest.raises(BusError) as caught:
                await pending

        assert (got, caught.value.problem) == ([], "the channel was unfollowed")

    @on_loop
    async def test_a_failing_receiver_is_its_own_problem(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The failure is logged and counted, and the next message comes."""
        async with started(broker) as (here, there):
            got: list[StoredMessage] = []

            def fail(message: StoredMessage) -> None:
                got.append(message)
                raise ValueError(message)

            await there.history.follow("room", fail, lambda: None)
            await fill(here, 3)
            await until(lambda: len(got) == 3)

        assert there.counts["receiver_failed"] == 3
        assert [record.message for record in caplog.records] == ["a receiver of the history failed"]

    @on_loop
    async def test_an_outage_is_told(self, broker: Broker) -> None:
        """To each follower once; nothing is stored meanwhile; then it goes on."""
        async with started(broker) as (here, there):
            member, quiet = Member(there), Member(there, "quiet")
            await member.follow()
            await quiet.follow()
            position = (await fill(here, 3))[-1]
            await until(lambda: len(member.got) == 3)
            broker.kill()
            await until(lambda: member.lost_count == quiet.lost_count == 1)
            await until(lambda: not here.is_connected)
            with pytest.raises(BusError) as caught:
                await here.history.append("room", b"lost", HUNDRED)
            following = asyncio.ensure_future(member.follow())
            broker.restart()
            await back(here, there)
            begun = await following
            missed = await there.history.since("room", position, 100)
            await fill(here, 1, first=3)
            await until(lambda: len(member.got) == 4)

        assert caught.value.problem == "it is away"
        assert (member.payloads, member.lost_count, quiet.lost_count) == (numbers(0, 4), 1, 1)
        # A store that has forgotten says so.
        assert missed.is_complete == (begun == position)
        assert missed.is_complete or begun.epoch != position.epoch

    @on_loop
    async def test_nothing_is_lost_silently(self, broker: Broker) -> None:
        """A client gets each message once and in order, or is told, while the broker is killed."""
        confirmed: list[int] = []
        async with started(broker) as (here, there):
            client = Client(there)
            running = asyncio.ensure_future(client.run())
            await until(client.has_begun)
            for number in range(300):
                # Others have their turn: a store in this process makes nobody wait.
                await asyncio.sleep(0)
                if number in {100, 200}:
                    broker.kill()
                    await until(lambda: not here.is_connected)
                    broker.restart()
                try:
                    await here.history.append("room", b"%d" % number, HUNDRED)
                except BusError:
                    await back(here)
                else:
                    confirmed.append(number)
            await until(lambda: client.has_reached(confirmed[-1]))
            running.cancel()
            await asyncio.wait([running])

        assert client.unannounced_gaps(confirmed) == []
        assert client.got == sorted(set(client.got))
        assert len(confirmed) >= 250

    @on_loop
    async def test_a_bus_that_is_stopped(self, broker: Broker) -> None:
        """Who still waits to follow is told, and nobody hears anything more."""
        here = broker.bus()
        waiting = asyncio.ensure_future(Member(here).follow())
        await asyncio.sleep(0)
        await here.stop()
        with pytest.raises(BusError):
            await waiting
        with pytest.raises(BusError):
            await here.history.append("room", b"late", HUNDRED)
