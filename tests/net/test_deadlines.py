"""Deadlines of many connections, with one timer."""

import asyncio

from gateman.net.deadlines import Deadlines
from tests.support.loop import eventually, on_loop


class Item:
    """Records when it expires."""

    def __init__(
        self, expired: list["Item"], deadlines: Deadlines, also: "Item | None" = None
    ) -> None:
        self._expired = expired
        self._deadlines = deadlines
        self._also = also

    def expired(self) -> None:
        self._expired.append(self)
        if self._also is not None:
            self._deadlines.discard(self._also)


@on_loop
async def test_each_expires_once_and_in_time() -> None:
    """A deadline that is added later may come first."""
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    expired: list[Item] = []
    late, early = Item(expired, deadlines), Item(expired, deadlines)
    begun_at = loop.time()
    deadlines.add(late, begun_at + 0.2)
    deadlines.add(early, begun_at + 0.01)
    await eventually(lambda: expired == [early])
    assert begun_at + 0.01 <= loop.time()

    await eventually(lambda: expired == [early, late])
    assert begun_at + 0.2 <= loop.time()
    assert len(deadlines) == 0


@on_loop
async def test_what_is_done_or_has_more_time_does_not_expire() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    expired: list[Item] = []
    done, extended, last = (Item(expired, deadlines) for _ in range(3))
    now = loop.time()
    for item in (done, extended, last):
        deadlines.add(item, now + 0.01)
    deadlines.discard(done)
    deadlines.discard(done)
    deadlines.add(extended, now + 60)
    await eventually(lambda: expired == [last])

    assert len(deadlines) == 1
    deadlines.stop()
    deadlines.stop()


@on_loop
async def test_one_that_expires_may_end_another() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    expired: list[Item] = []
    other = Item(expired, deadlines)
    first = Item(expired, deadlines, also=other)
    for item in (first, other):
        deadlines.add(item, 0)
    await eventually(lambda: expired == [first])

    assert len(deadlines) == 0
