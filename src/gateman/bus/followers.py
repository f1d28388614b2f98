"""The channels that this process follows: live messages of their history, in order."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from ..errors import BusError
from ..history.base import Lost, Position, Receive, StoredMessage
from ..history.follower import Follower, Gap
from ..history.wire import MAX_KEY_LENGTH, OVERHEAD, Live, read_live
from ..log import RateLimitedLogger
from .base import Bus
from .requests import ConnectionLost
from .subjects import Subject, subject


def history_subject(channel: str) -> Subject:
    """Make the subject to which a store sends the messages of a channel."""
    return subject("history", channel)


def check_append(bus: Bus, payload: bytes, idempotency_key: str) -> None:
    """Raise BusError for what no store takes."""
    max_size = bus.max_payload_size - OVERHEAD
    if len(payload) > max_size:
        raise BusError.too_big(bus.url, len(payload), max_size)
    if len(idempotency_key) > MAX_KEY_LENGTH:
        raise BusError(bus.url, f"an idempotency key has more than {MAX_KEY_LENGTH} characters")
    if any("\ud800" <= char <= "\udfff" for char in idempotency_key):
        raise BusError(bus.url, "an idempotency key is not a text")


class _Followed:
    """A channel that is followed, or about to be."""

    __slots__ = ("beginning", "begun", "follower", "lost", "receive", "waiting")

    def __init__(self, receive: Receive, lost: Lost, follower: Follower) -> None:
        self.follower = follower
        self.receive = receive
        self.lost = lost
        self.begun: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self.beginning: asyncio.Task[None] | None = None
        self.waiting: asyncio.TimerHandle | None = None


class Followers:
    """What :meth:`.history.base.History.follow` does, for a bus and the end of a channel there."""

    def __init__(
        self,
        bus: Bus,
        top: Callable[[str], Awaitable[Position]],
        read: Callable[[bytes], Live] = read_live,
        *,
        patience: float = 0.0,
    ) -> None:
        self._bus = bus
        self._top = top
        self._read = read
        # Seconds for a message that was overtaken; 0 if the broker keeps their order.
        self._patience = patience
        self._by_channel: dict[str, _Followed] = {}
        self._rate_limited = RateLimitedLogger()

    def follow(self, channel: str, receive: Receive, lost: Lost) -> Awaitable[Position]:
        self.unfollow(channel)
        followed = self._by_channel[channel] = _Followed(receive, lost, self._follower())
        followed.begun.add_done_callback(partial(self._on_begun, channel, followed))
        loop = asyncio.get_running_loop()
        followed.beginning = loop.create_task(self._begin(channel, followed))
        return followed.begun

    def unfollow(self, channel: str) -> None:
        followed = self._by_channel.pop(channel, None)
        if followed is not None:
            self._end(channel, followed, BusError(self._bus.url, "the channel was unfollowed"))

    def lose_all(self) -> None:
        """End the following of all channels, because messages for this process may be lost."""
        for channel in self.channels:
            # Those that have not begun do so when the bus is back.
            self.lose(channel)

    @property
    def channels(self) -> list[str]:
        """All channels, also those that are about to be followed."""
        return list(self._by_channel)

    def reached(self, channel: str) -> int | None:
        """Return up to which offset a channel was received; ``None`` if it is not followed."""
        followed = self._by_channel.get(channel)
        return None if followed is None else followed.follower.last

    def lose(self, channel: str) -> None:
        """End the following of a channel, because a message is missing."""
        followed = self._by_channel.get(channel)
        if followed is not None and followed.follower.has_begun:
            self._lose(channel, followed)

    def _end(self, channel: str, followed: _Followed, error: BusError) -> None:
        self._bus.unsubscribe(history_subject(channel))
        if followed.beginning is not None:
            followed.beginning.cancel()
        if followed.waiting is not None:
            followed.waiting.cancel()
        if not followed.begun.done():
            followed.begun.set_exception(error)

    def _on_begun(
        self, channel: str, followed: _Followed, begun: "asyncio.Future[Position]"
    ) -> None:
        # It need not be awaited: its error is not reported then.
        if begun.cancelled() or begun.exception() is not None:
            self._remove(channel, followed)

    def _remove(self, channel: str, followed: _Followed) -> bool:
        """Unfollow, unless it is unfollowed or followed anew; return whether it was."""
        if self._by_channel.get(channel) is not followed:
            return False
        self.unfollow(channel)
        return True

    async def _begin(self, channel: str, followed: _Followed) -> None:
        try:
            top = await self._confirm(channel, followed)
            early = followed.follower.begin(top.offset)
        except (BusError, Gap) as error:
            if isinstance(error, Gap):
                error = BusError(self._bus.url, "more arrives than can be followed")
            if not followed.begun.done():
                followed.begun.set_exception(error)
            return
        finally:
            followed.beginning = None
        if not followed.begun.done():
            followed.begun.set_result(top)
        self._deliver(channel, followed, early)

    async def _confirm(self, channel: str, followed: _Followed) -> Position:
        """Subscribe, and get the end of the channel; again if the connection ends in between."""
        receive = partial(self._take, channel, followed)
        while True:
            await self._bus.subscribe(history_subject(channel), receive)
            try:
                return await self._top(channel)
            except ConnectionLost:
                followed.follower = self._follower()

    def _follower(self) -> Follower:
        return Follower(self._read, is_patient=self._patience > 0)

    def _take(self, channel: str, followed: _Followed, data: bytes) -> None:
        try:
            messages = followed.follower.take(data)
        except Gap:
            self._lose(channel, followed)
        else:
            self._deliver(channel, followed, messages)

    def _deliver(self, channel: str, followed: _Followed, messages: list[StoredMessage]) -> None:
        if followed.follower.is_waiting and followed.waiting is None:
            self._wait(channel, followed)
        for message in messages:
            # The receiver may have unfollowed.
            if self._by_channel.get(channel) is followed:
                self._call(partial(followed.receive, message))

    def _wait(self, channel: str, followed: _Followed) -> None:
        """End following if the message before one that is held does not come."""
        loop = asyncio.get_running_loop()
        last = followed.follower.last
        followed.waiting = loop.call_later(self._patience, self._waited, channel, followed, last)

    def _waited(self, channel: str, followed: _Followed, last: int | None) -> None:
        followed.waiting = None
        if not followed.follower.is_waiting:
            return
        if followed.follower.last == last:
            self._lose(channel, followed)
        else:
            self._wait(channel, followed)

    def _lose(self, channel: str, followed: _Followed) -> None:
        if self._remove(channel, followed):
            self._bus.counts["history_lost"] += 1
            self._call(followed.lost)

    def _call(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception as error:  # noqa: BLE001 - the receiver's fault must not end the connection
            self._bus.counts["receiver_failed"] += 1
            now = asyncio.get_running_loop().time()
            self._rate_limited.error("a receiver of the history failed", error, now)
