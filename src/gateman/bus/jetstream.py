"""
The history in JetStream: one stream of a service, with a subject for each channel.

Only the leader of the stream tells where a channel ends, since other servers may lag behind, or
have dropped what the leader has. Any server may give a page of messages, which is used if it begins
with the message up to which all are known: servers drop messages from the front alone, and so have
all behind one that they have. Messages that come one by one are the leader's. What was read is kept
for a while (:mod:`.recent_messages`), for the other clients that come back to the channel.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

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
from .followers import Followers, check_append, history_subject
from .jetstream_wire import (
    JetStreamError,
    LogMessage,
    StreamNames,
    beginning_head,
    epoch_of,
    get_by_number,
    get_last,
    grown,
    is_last_of_page,
    message_head,
    page_request,
    read_answer,
    read_direct,
    read_live,
    read_message,
    removal_head,
    sequence,
)
from .recent_messages import RecentMessages

if TYPE_CHECKING:
    from .broker_bus import BrokerBus
    from .nats_wire import NatsWire
    from .wire import BrokerReply, Wire

# Of this process at a time; each has about one page on the way.
_MAX_READS = 8

# Attempts to write a marker, when others append at the same time.
_MAX_ATTEMPTS = 20

# Messages that are asked for at once; a page ends before, by its size.
_MAX_PAGE = 1000

# Seconds for which the identity of the stream is trusted in recoveries.
_TRUST_TIME = 1.0

# Replicas where the server is in a cluster, unless the option says otherwise.
_REPLICAS = 3

# What the stream is made for, if nothing is known of the limits of channels.
_FIRST_LIMITS = HistoryLimits(size=100, ttl=300)

# Seconds between comparisons of quiet channels with the stream: what a server publishes for
# followers may be lost between servers, which the next message of the channel shows, or this.
_CHECK_INTERVAL = 10.0

# Seconds in which a message that is in the stream should have come.
_TRAVEL_TIME = 2.0


# Seconds in which a message comes that was overtaken by the next one: servers swap messages that
# several clients publish at the same time (seen with 2.9.10).
_PATIENCE = 1.0


class JetStreamHistory:
    """The store of a NATS server or cluster; see :class:`~.history.base.History`."""

    def __init__(self, bus: "BrokerBus", name: str, *, replicas: int, max_bytes: int) -> None:
        self._bus = bus
        self._names = StreamNames(name)
        self._replicas = replicas
        self._max_bytes = max_bytes
        self._followers = Followers(bus, self._top, read_live, patience=_PATIENCE)
        self._reads = asyncio.Semaphore(_MAX_READS)
        self._recent = RecentMessages()
        self._rate_limited = RateLimitedLogger()
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # Appends are written in the order of the calls, also when they wait for the stream.
        self._order = asyncio.Lock()
        self._preparing = asyncio.Lock()
        self._wire: NatsWire | None = None
        self._config: dict[str, Any] = {}
        self._epoch = ""
        self._expected_limits: HistoryLimits | None = None
        self._elections = 0
        self._is_prepared = False
        self._trusted_until = 0.0
        self._must_check = asyncio.Event()
        self._checking: asyncio.Task[None] | None = None
        # What this process has appended and not received: for less than the travel time, and
        # for less than twice that.
        self._expected: dict[str, int] = {}
        self._overdue: dict[str, int] = {}
        self._expecting: asyncio.TimerHandle | None = None
        bus.on_unknown(self._on_message)

    def expect(self, limits: HistoryLimits) -> None:
        # A stream that is made with less, and grows, is cut by servers of NATS 2.9 that start again
        # to what it was made with.
        known = self._expected_limits or limits
        self._expected_limits = HistoryLimits(
            max(known.size, limits.size), max(known.ttl, limits.ttl)
        )

    async def append(
        self, channel: str, payload: bytes, limits: HistoryLimits, *, idempotency_key: str = ""
    ) -> Position:
        check_append(self._bus, payload, idempotency_key)
        log = self._log(channel)
        head = message_head(limits, log, idempotency_key)
        try:
            async with self._order:
                if not self._is_prepared or grown(self._config, limits):
                    await self._prepare(limits)
                epoch = self._epoch
                answer = self._start(log.encode("ascii"), payload, head)
            (reply,) = await answer
            number = sequence(reply.payload)
            self._expect(channel, number)
            return Position(epoch, number)
        except JetStreamError as error:
            if error.is_without_answer:
                self._is_prepared = False
            raise self._refused(error) from None

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
        try:
            async with self._reads:
                await self._check_stream()
                last = await self._last(channel)
                top = Position(self._epoch, 0 if last is None else last.number)
                if last is None or (since is not None and since.epoch not in {"", self._epoch}):
                    return Page((), top)
                # All: how many of them are older than what is kept is known at the end.
                stored = await self._read(channel, 1, last)
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
            await self._check_stream()
            for _ in range(_MAX_ATTEMPTS):
                last = await self._last(channel)
                if last is None or last.is_marker:
                    return
                if await self._mark(channel, removal_head(last.number)):
                    return
        except JetStreamError as error:
            raise self._refused(error) from None
        raise BusError(self._bus.url, "the channel has too many messages at the moment")

    def follow(self, channel: str, receive: Receive, lost: Lost) -> Awaitable[Position]:
        if self._checking is None:
            self._checking = asyncio.get_running_loop().create_task(self._check_always())
        return self._followers.follow(channel, receive, lost)

    def unfollow(self, channel: str) -> None:
        self._followers.unfollow(channel)

    def lose_all(self) -> None:
        self._is_prepared = False
        self._followers.lose_all()

    def refused(self, text: str) -> None:
        # Without advisories, the checks of quiet channels are made at their intervals alone.
        if "$JS.EVENT" not in text and any(mark in text for mark in ("$JS.", "=log", "=replies")):
            ours = f"{self._names.prefix}>"
            self._bus.fail_requests(
                f"it refuses: {text}; the history needs permission to publish to $JS.API.> and"
                f" {ours}, and to subscribe to {ours}"
            )

    def stop(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
        if self._expecting is not None:
            self._expecting.cancel()
            self._expecting = None

    async def _since(self, channel: str, position: Position, limit: int) -> Missed:
        await self._check_stream()
        epoch = self._epoch
        reached = self._followers.reached(channel) or 0
        last = await self._last(channel)
        if last is not None and last.number < reached:
            # It was elected before it had applied everything, and cannot prove anything.
            raise JetStreamError(0, "the leader of the stream lags behind what was received")
        if last is None:
            return Missed((), await self._top(channel), is_complete=False)
        found: list[LogMessage] | None = None
        if position.epoch == epoch and position.offset <= last.number:
            found = await self._missed(channel, position.offset, last, limit)
        if found is None or epoch != self._epoch:
            return Missed((), Position(self._epoch, last.number), is_complete=False)
        # Another recovery may have read more meanwhile.
        last = found[-1] if found else last
        missed = [one for one in found if not one.is_marker]
        oldest = time.time() - last.limits.ttl
        top = Position(epoch, last.number)
        if len(missed) > min(limit, last.limits.size) or any(one.time <= oldest for one in missed):
            return Missed((), top, is_complete=False)
        return Missed(_stored(missed), top, is_complete=True)

    async def _missed(
        self, channel: str, number: int, last: LogMessage, limit: int
    ) -> list[LogMessage] | None:
        """Return all that follows on a number, with markers; ``None`` if that is not complete."""
        if number == last.number:
            return []
        # Clients that come back together wait for the first of them.
        async with self._reading.setdefault(channel, asyncio.Lock()):
            end = self._recent.end(channel, number)
            if end is not None:
                known = self._recent.after(channel, number)
                if end.number >= last.number:
                    return known
                run = await self._read_run(channel, end.number, last, limit + 2)
                if run is not None and run[0].number == end.number:
                    self._recent.put(channel, run)
                    return known + run[1:]
            # The message of this number, and one too many.
            run = await self._read_run(channel, number, last, limit + 2)
            if run is None:
                return None
            self._recent.put(channel, run)
        return [one for one in run if one.number > number]

    async def _read_run(
        self, channel: str, number: int, last: LogMessage, count: int
    ) -> list[LogMessage] | None:
        """Return the messages from a number to the last one; ``None`` if one may be missing."""
        elections = self._elections
        found = await self._read(channel, number, last, count)
        if not found or found[-1].number != last.number or not found[0].proves(number):
            return None
        # As long as the first is there, no message behind it was dropped while it was read.
        first = found[0].number
        there = await self._get(get_by_number(self._log(channel), first))
        if elections != self._elections:
            raise JetStreamError(0, "the stream got another leader while it was read")
        return found if there and there[0].number == first else None

    async def _read(
        self, channel: str, number: int, last: LogMessage, count: int | None = None
    ) -> list[LogMessage]:
        """Return the messages from a number to the last one, or more than a count of them."""
        log = self._log(channel)
        found: list[LogMessage] = []
        more = await self._get(get_by_number(log, number))
        has_pages = True
        while more and more[0].number <= last.number:
            found += [one for one in more if one.number <= last.number]
            known = found[-1].number
            if known == last.number or (count is not None and len(found) >= count):
                break
            more = []
            if has_pages:
                wanted = _MAX_PAGE if count is None else min(count - len(found) + 1, _MAX_PAGE)
                page = await self._page(page_request(log, known, wanted))
                if page and page[0].number == known:
                    more = page[1:]
                    # It lags behind the leader, or is older than 2.11 and gives one message.
                    has_pages = bool(more)
            if not more:
                more = await self._get(get_by_number(log, known + 1))
        return found

    async def _page(self, request: bytes) -> list[LogMessage]:
        """Ask any server for messages: it may lag behind, or have dropped some."""
        replies = await self._bus.request(
            self._writer(self._names.api("DIRECT.GET"), request),
            is_last=lambda one: is_last_of_page(one.payload),
        )
        return [one for reply in replies if (one := read_direct(reply.payload)) is not None]

    async def _last(self, channel: str) -> LogMessage | None:
        found = await self._get(get_last(self._log(channel)))
        return found[0] if found else None

    async def _top(self, channel: str) -> Position:
        """Return the end of a channel; a channel that has none gets a marker."""
        try:
            await self._check_stream()
            for _ in range(_MAX_ATTEMPTS):
                last = await self._last(channel)
                number = (
                    await self._mark(channel, beginning_head()) if last is None else last.number
                )
                if number:
                    return Position(self._epoch, number)
        except JetStreamError as error:
            raise self._refused(error) from None
        raise BusError(self._bus.url, "the channel has too many messages at the moment")

    async def _mark(self, channel: str, head: bytes) -> int:
        """Write a marker; return its number, or 0 if another message came before it."""
        (reply,) = await self._start(self._log(channel).encode("ascii"), b"", head)
        try:
            return sequence(reply.payload)
        except JetStreamError as error:
            if error.is_wrong_last:
                return 0
            raise

    async def _check_stream(self) -> None:
        if not self._is_prepared or asyncio.get_running_loop().time() > self._trusted_until:
            await self._prepare(None)

    async def _prepare(self, limits: HistoryLimits | None) -> None:
        """Get the identity of the stream; make it, or let it keep more, if that is needed."""
        async with self._preparing:
            begun_at = asyncio.get_running_loop().time()
            if limits is None and self._is_prepared and begun_at <= self._trusted_until:
                return
            try:
                info = await self._api("STREAM.INFO")
            except JetStreamError as error:
                if not error.is_missing_stream:
                    raise
                if limits is not None:
                    self.expect(limits)
                info = await self._create(self._expected_limits or _FIRST_LIMITS)
            more = None if limits is None else grown(info["config"], limits)
            if more is not None:
                info = await self._api("STREAM.UPDATE", json.dumps(more).encode())
            if not self._is_prepared and not self._names.is_ours(info["config"]):
                raise JetStreamError(
                    0,
                    f"its stream {self._names.stream} was not made by this version of gateman:"
                    " delete it, or give the bus another name",
                )
            epoch = epoch_of(info)
            if self._epoch and epoch != self._epoch:
                self._followers.lose_all()
                self._recent.clear()
            self._epoch, self._config = epoch, info["config"]
            self._is_prepared = True
            self._trusted_until = begun_at + _TRUST_TIME

    async def _create(self, limits: HistoryLimits) -> dict[str, Any]:
        replicas = self._replicas or (_REPLICAS if self._bus.is_spread else 1)
        config = self._names.config(
            limits, secrets.token_hex(8), replicas=replicas, max_bytes=self._max_bytes
        )
        try:
            return await self._api("STREAM.CREATE", json.dumps(config).encode())
        except JetStreamError as error:
            if error.is_name_in_use:
                return await self._api("STREAM.INFO")
            raise JetStreamError(
                error.code,
                f"{error.text} (it was to make a stream with history_replicas={replicas} and"
                f" history_max_bytes={self._max_bytes})",
            ) from None

    async def _api(self, verb: str, request: bytes = b"") -> dict[str, Any]:
        (reply,) = await self._start(self._names.api(verb), request)
        return read_answer(reply.payload)

    async def _get(self, request: bytes) -> list[LogMessage]:
        """Ask the leader for one message."""
        try:
            return [read_message(await self._api("STREAM.MSG.GET", request))]
        except JetStreamError as error:
            if error.is_missing_message:
                return []
            raise

    def _start(
        self, subject: bytes, payload: bytes, head: bytes | None = None
    ) -> "Awaitable[list[BrokerReply]]":
        return self._bus.request(self._writer(subject, payload, head), len(payload))

    def _writer(
        self, subject: bytes, payload: bytes, head: bytes | None = None
    ) -> "Callable[[Wire, int], bytes]":
        def write(wire: "Wire", number: int) -> bytes:
            wire = cast("NatsWire", wire)
            data = wire.request(subject, number, payload, head)
            if wire is self._wire:
                return data
            self._wire = wire
            return wire.listen(self._names.leader_elected.encode("ascii")) + data

        return write

    def _on_message(self, subject: str, payload: bytes) -> None:
        number = 0 if self._wire is None else self._wire.reply_number(subject)
        if number:
            self._bus.take_reply(number, payload)
        elif self._names.leader_elected.endswith(subject):
            self._elections += 1
            self._must_check.set()

    async def _check_always(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_INTERVAL):
                    await self._must_check.wait()
            self._must_check.clear()
            with contextlib.suppress(BusError, JetStreamError):
                await self._check_channels()

    async def _check_channels(self) -> None:
        """End the following of channels with messages that have not come."""
        # A stream that was made anew ends all.
        self._trusted_until = 0.0
        await self._check_stream()
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
            last = await self._last(channel)
        if last is not None and last.number > reached:
            late[channel] = last.number
        elif last is not None and last.number < reached:
            # The stream has lost messages, or its leader does not have them yet.
            self._followers.lose(channel)

    def _expect(self, channel: str, number: int) -> None:
        """Note a message of this process that is to come back, if it follows the channel."""
        reached = self._followers.reached(channel)
        if reached is not None and reached < number:
            self._expected[channel] = number
            if self._expecting is None:
                loop = asyncio.get_running_loop()
                self._expecting = loop.call_later(_TRAVEL_TIME, self._check_expected)

    def _check_expected(self) -> None:
        self._expecting = None
        self._lose_late(self._overdue)
        self._overdue, self._expected = self._expected, {}
        if self._overdue:
            loop = asyncio.get_running_loop()
            self._expecting = loop.call_later(_TRAVEL_TIME, self._check_expected)

    def _lose_late(self, late: dict[str, int]) -> None:
        for channel, number in late.items():
            reached = self._followers.reached(channel)
            if reached is not None and reached < number:
                self._followers.lose(channel)

    def _refused(self, error: JetStreamError) -> BusError:
        """Make the error of a caller, and tell the operator, who can do something about it."""
        now = asyncio.get_running_loop().time()
        text = f"the history on the bus {self._bus.url} cannot be used: {error.text}"
        self._rate_limited.warning("history", text, now)
        return BusError(self._bus.url, error.text)

    def _log(self, channel: str) -> str:
        return self._names.log(history_subject(channel))


def _stored(messages: list[LogMessage]) -> tuple[StoredMessage, ...]:
    return tuple(StoredMessage(one.number, one.payload) for one in messages)


_: type[FollowingHistory] = JetStreamHistory
