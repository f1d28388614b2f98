"""
The history in JetStream: one stream of a service, with a subject for each channel.

:mod:`.jetstream_stream` makes the stream and speaks with it, :mod:`.jetstream_reader` reads what a
client has missed, and :mod:`.jetstream_checks` looks for messages that have not come.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING

from ..errors import BusError
from ..history.base import (
    FollowingHistory,
    HistoryLimits,
    Lost,
    Missed,
    Page,
    Position,
    Receive,
    StoredMessage,
)
from ..log import RateLimitedLogger
from .bus_history import BusHistory
from .followers import check_append
from .jetstream_checks import ArrivalChecks
from .jetstream_reader import StreamReader
from .jetstream_stream import Stream
from .jetstream_wire import (
    JetStreamError,
    LogMessage,
    beginning_head,
    message_head,
    read_live,
    removal_head,
    sequence,
)

if TYPE_CHECKING:
    from .broker_bus import BrokerBus

# Of this process at a time; each has about one page on the way.
_MAX_READS = 8

# Attempts to write a marker, when others append at the same time.
_MAX_ATTEMPTS = 20

# Seconds in which a message comes that was overtaken by the next one: servers swap messages that
# several clients publish at the same time (seen with 2.9.10).
_PATIENCE = 1.0


class JetStreamHistory(BusHistory):
    """The store of a NATS server or cluster; see :class:`~.history.base.History`."""

    def __init__(self, bus: "BrokerBus", name: str, *, replicas: int, max_bytes: int) -> None:
        super().__init__(bus, self._top, read_live, patience=_PATIENCE)
        self._bus = bus
        self._stream = Stream(
            bus,
            name,
            replicas=replicas,
            max_bytes=max_bytes,
            on_anew=self._on_anew,
            on_elected=self._on_elected,
        )
        self._reader = StreamReader(self._stream)
        self._reads = asyncio.Semaphore(_MAX_READS)
        self._checks = ArrivalChecks(self._stream, self._followers, self._reads)
        # Appends are written in the order of the calls, also when they wait for the stream.
        self._order = asyncio.Lock()
        self._rate_limited = RateLimitedLogger()

    def expect(self, limits: HistoryLimits) -> None:
        self._stream.expect(limits)

    async def append(
        self, channel: str, payload: bytes, limits: HistoryLimits, *, idempotency_key: str = ""
    ) -> Position:
        check_append(self._bus, payload, idempotency_key)
        head = message_head(limits, self._stream.log(channel), idempotency_key)
        try:
            async with self._order:
                await self._stream.ensure(limits)
                epoch = self._stream.epoch
                answer = self._stream.publish(channel, payload, head)
            (reply,) = await answer
            number = sequence(reply.payload)
        except JetStreamError as error:
            if error.is_without_answer:
                self._stream.forget()
            raise self._refused(error) from None
        self._checks.expect(channel, number)
        return Position(epoch, number)

    async def since(self, channel: str, position: Position | None, limit: int) -> Missed:
        if position is None or not position.is_possible:
            return Missed((), await self._top(channel), is_complete=position is None)
        try:
            async with self._reads:
                return await self._since(channel, position, limit)
        except JetStreamError as error:
            raise self._refused(error) from None

    async def read(
        self, channel: str, *, limit: int, since: Position | None = None, is_reverse: bool = False
    ) -> Page:
        stream = self._stream
        try:
            async with self._reads:
                await stream.check()
                last = await stream.last(channel)
                top = Position(stream.epoch, 0 if last is None else last.number)
                if last is None or (since is not None and since.epoch not in {"", stream.epoch}):
                    return Page((), top)
                # All: how many of them are older than what is kept is known at the end.
                stored = await self._reader.read(channel, 1, last)
        except JetStreamError as error:
            raise self._refused(error) from None
        oldest = time.time() - last.limits.ttl
        kept = [one for one in stored if not one.is_marker][-last.limits.size :]
        kept = [one for one in kept if one.time > oldest]
        if is_reverse:
            kept = [one for one in reversed(kept) if since is None or one.number < since.offset]
        elif since is not None:
            kept = [one for one in kept if one.number > since.offset]
        return Page(_stored(kept[:limit]), top)

    async def remove(self, channel: str) -> None:
        try:
            await self._stream.check()
            for _ in range(_MAX_ATTEMPTS):
                last = await self._stream.last(channel)
                if last is None or last.is_marker:
                    return
                if await self._stream.mark(channel, removal_head(last.number)):
                    return
        except JetStreamError as error:
            raise self._refused(error) from None
        raise BusError(self._bus.url, "the channel has too many messages at the moment")

    def follow(self, channel: str, receive: Receive, lost: Lost) -> Awaitable[Position]:
        self._checks.start()
        return super().follow(channel, receive, lost)

    def lose_all(self) -> None:
        self._stream.forget()
        super().lose_all()

    def refused(self, text: str) -> None:
        # Without advisories, the checks of quiet channels are made at their intervals alone.
        if "$JS.EVENT" not in text and any(mark in text for mark in ("$JS.", "=log", "=replies")):
            ours = f"{self._stream.names.prefix}>"
            self._bus.fail_requests(
                f"it refuses: {text}; the history needs permission to publish to $JS.API.> and"
                f" {ours}, and to subscribe to {ours}"
            )

    def stop(self) -> None:
        self._checks.stop()

    async def _since(self, channel: str, position: Position, limit: int) -> Missed:
        stream = self._stream
        await stream.check()
        epoch = stream.epoch
        reached = self._followers.reached(channel) or 0
        last = await stream.last(channel)
        if last is not None and last.number < reached:
            # It was elected before it had applied everything, and cannot prove anything.
            raise JetStreamError(0, "the leader of the stream lags behind what was received")
        if last is None:
            return Missed((), await self._top(channel), is_complete=False)
        found: list[LogMessage] | None = None
        if position.epoch == epoch and position.offset <= last.number:
            found = await self._reader.missed(channel, position.offset, last, limit)
        if found is None or epoch != stream.epoch:
            return Missed((), Position(stream.epoch, last.number), is_complete=False)
        # Another recovery may have read more meanwhile.
        last = found[-1] if found else last
        missed = [one for one in found if not one.is_marker]
        oldest = time.time() - last.limits.ttl
        top = Position(epoch, last.number)
        if len(missed) > min(limit, last.limits.size) or any(one.time <= oldest for one in missed):
            return Missed((), top, is_complete=False)
        return Missed(_stored(missed), top, is_complete=True)

    async def _top(self, channel: str) -> Position:
        """Return the end of a channel; a channel that has none gets a marker."""
        stream = self._stream
        try:
            await stream.check()
            for _ in range(_MAX_ATTEMPTS):
                last = await stream.last(channel)
                number = (
                    await stream.mark(channel, beginning_head()) if last is None else last.number
                )
                if number:
                    return Position(stream.epoch, number)
        except JetStreamError as error:
            raise self._refused(error) from None
        raise BusError(self._bus.url, "the channel has too many messages at the moment")

    def _on_anew(self) -> None:
        self._followers.lose_all()
        self._reader.recent.clear()

    def _on_elected(self) -> None:
        self._checks.check_soon()

    def _refused(self, error: JetStreamError) -> BusError:
        """Make the error of a caller, and tell the operator, who can do something about it."""
        now = asyncio.get_running_loop().time()
        text = f"the history on the bus {self._bus.url} cannot be used: {error.text}"
        self._rate_limited.warning("history", text, now)
        return BusError(self._bus.url, error.text)


def _stored(messages: Iterable[LogMessage]) -> tuple[StoredMessage, ...]:
    return tuple(StoredMessage(one.number, one.payload) for one in messages)


_: type[FollowingHistory] = JetStreamHistory
