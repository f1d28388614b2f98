"""Following a channel: the shell around what finds gaps."""

import asyncio

import pytest

from gateman.bus.followers import Followers, history_subject
from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.bus.requests import ConnectionLost
from gateman.errors import BusError
from gateman.history.base import Position, StoredMessage
from gateman.history.wire import live

from ..support.loop import eventually, on_loop

ROOM = history_subject("room")


class Scene:
    """A publisher and a follower, and the end of the channel as the test says."""

    def __init__(self, patience: float = 0.0) -> None:
        broker = MemoryBroker()
        self.here, self.there = MemoryBus(broker=broker), MemoryBus(broker=broker)
        self.followers = Followers(self.there, self._top, patience=patience)
        self.tops: list[asyncio.Future[Position]] = []
        self.got: list[StoredMessage] = []
        self.lost_count = 0

    async def start(self) -> None:
        """Connect both."""
        await self.here.start()
        await self.there.start()

    async def stop(self) -> None:
        """Disconnect both."""
        await self.here.stop()
        await self.there.stop()

    def follow(self) -> "asyncio.Future[Position]":
        """Follow the channel."""
        return asyncio.ensure_future(self.followers.follow("room", self.got.append, self._on_lost))

    async def asked(self, count: int) -> "asyncio.Future[Position]":
        """Wait until the end was asked for so many times; return what is to be answered."""
        await eventually(lambda: len(self.tops) == count)
        return self.tops[-1]

    async def _top(self, channel: str) -> Position:
        assert channel == "room"
        self.tops.append(asyncio.get_running_loop().create_future())
        return await self.tops[-1]

    def _on_lost(self) -> None:
        self.lost_count += 1


@on_loop
async def test_a_gap_ends_it() -> None:
    """What comes before is delivered, what comes behind is not."""
    scene = Scene()
    await scene.start()
    following = scene.follow()
    (await scene.asked(1)).set_result(Position("e", 5))
    begun = await following
    for previous, offset in ((5, 6), (7, 8), (8, 9)):
        scene.here.publish(ROOM, live(previous, offset, b""))
    await eventually(lambda: scene.lost_count == 1)
    await scene.stop()

    assert begun == Position("e", 5)
    assert [one.offset for one in scene.got] == [6]
    assert scene.there.counts["history_lost"] == 1


@on_loop
async def test_it_begins_again_when_the_connection_ends_in_between() -> None:
    """What came on the old one counts for nothing; nobody is told, as nothing was promised."""
    scene = Scene()
    await scene.start()
    following = scene.follow()
    first = await scene.asked(1)
    scene.here.publish(ROOM, live(5, 6, b""))
    await eventually(lambda: scene.there.counts["received"] == 1)
    scene.followers.lose_all()
    first.set_exception(ConnectionLost("test://", "it ended"))
    (await scene.asked(2)).set_result(Position("e", 9))
    begun = await following
    await scene.stop()

    assert (begun, scene.got, scene.lost_count) == (Position("e", 9), [], 0)


@on_loop
async def test_a_store_that_refuses() -> None:
    """Its sentence is the error, and the channel is not followed."""
    scene = Scene()
    await scene.start()
    following = scene.follow()
    (await scene.asked(1)).set_exception(BusError("test://", "it refuses"))
    with pytest.raises(BusError, match="it refuses"):
        await following
    scene.here.publish(ROOM, live(0, 1, b""))
    await asyncio.sleep(0)
    await scene.stop()

    assert scene.there.counts["received"] == 0


@on_loop
async def test_more_than_can_be_kept_until_it_begins() -> None:
    """It is an error of whoever wants to follow, not of the memory."""
    scene = Scene()
    await scene.start()
    following = scene.follow()
    top = await scene.asked(1)
    for number in range(3):
        scene.here.publish(ROOM, live(number, number + 1, bytes(500_000)))
    await eventually(lambda: scene.there.counts["received"] == 3)
    top.set_result(Position("e", 0))
    with pytest.raises(BusError, match="more arrives than can be followed"):
        await following
    await scene.stop()

    assert (scene.got, scene.lost_count) == ([], 0)


@on_loop
async def test_what_was_overtaken_is_waited_for() -> None:
    """For a while: then it is lost."""
    scene = Scene(patience=0.05)
    await scene.start()
    following = scene.follow()
    (await scene.asked(1)).set_result(Position("e", 5))
    await following
    for previous, offset in ((6, 7), (5, 6), (8, 9)):
        scene.here.publish(ROOM, live(previous, offset, b""))
    await eventually(lambda: scene.lost_count == 1)
    await scene.stop()

    assert [one.offset for one in scene.got] == [6, 7]


@on_loop
async def test_waiting_ends_with_following() -> None:
    """Nobody is told who has unfollowed."""
    scene = Scene(patience=60)
    await scene.start()
    following = scene.follow()
    (await scene.asked(1)).set_result(Position("e", 5))
    await following
    scene.here.publish(ROOM, live(6, 7, b""))
    await eventually(lambda: scene.there.counts["received"] == 1)
    scene.followers.unfollow("room")
    await scene.stop()

    assert (scene.got, scene.lost_count) == ([], 0)
