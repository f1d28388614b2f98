"""
Finds followed channels of which JetStream has messages that have not come.

What a server publishes for followers may be lost between servers. The next message of the channel
shows that; these checks do if there is none.
"""

import asyncio
import contextlib
from collections.abc import Mapping

from ..errors import BusError
from .followers import Followers
from .jetstream_stream import Stream
from .jetstream_wire import JetStreamError

# Seconds between comparisons of quiet channels with the stream.
_CHECK_INTERVAL = 10.0

# Seconds in which a message that is in the stream should have come.
_TRAVEL_TIME = 2.0


class ArrivalChecks:
    """Ends the following of channels with messages that have not come."""

    def __init__(self, stream: Stream, followers: Followers, reads: asyncio.Semaphore) -> None:
        self._stream = stream
        self._followers = followers
        self._reads = reads
        self._must_check = asyncio.Event()
        self._checking: asyncio.Task[None] | None = None
        # What this process has appended and not received: for less than the travel time, and
        # for less than twice that.
        self._expected: dict[str, int] = {}
        self._overdue: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Compare all channels with the stream at intervals; idempotent."""
        if self._checking is None:
            self._checking = asyncio.get_running_loop().create_task(self._check_always())

    def stop(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check_soon(self) -> None:
        """Compare now: the stream has another leader."""
        self._must_check.set()

    def expect(self, channel: str, number: int) -> None:
        """Note a message of this process that is to come back, if it follows the channel."""
        reached = self._followers.reached(channel)
        if reached is not None and reached < number:
            self._expected[channel] = number
            if self._timer is None:
                self._start_timer()

    def _start_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_TRAVEL_TIME, self._check_expected)

    def _check_expected(self) -> None:
        self._timer = None
        self._lose_late(self._overdue)
        self._overdue, self._expected = self._expected, {}
        if self._overdue:
            self._start_timer()

    async def _check_always(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_INTERVAL):
                    await self._must_check.wait()
            self._must_check.clear()
            with contextlib.suppress(BusError, JetStreamError):
                await self._check_channels()

    async def _check_channels(self) -> None:
        # A stream that was made anew ends all.
        await self._stream.check(is_now=True)
        late: dict[str, int] = {}
        try:
            for channel in self._followers.channels:
                await self._check_channel(channel, late)
        finally:
            # Also if the stream went away meanwhile.
            if late:
                await asyncio.sleep(_TRAVEL_TIME)
            self._lose_late(late)

    async def _check_channel(self, channel: str, late: dict[str, int]) -> None:
        reached = self._followers.reached(channel)
        if reached is None:
            return
        async with self._reads:
            last = await self._stream.last(channel)
        if last is not None and last.number > reached:
            late[channel] = last.number
        elif last is not None and last.number < reached:
            # The stream has lost messages, or its leader does not have them yet.
            self._followers.lose(channel)

    def _lose_late(self, late: Mapping[str, int]) -> None:
        for channel, number in late.items():
            reached = self._followers.reached(channel)
            if reached is not None and reached < number:
                self._followers.lose(channel)
