"""
The channels with history of a node: publishing to them, following them, and recovery.

A message for such a channel goes to the store of the bus, and members here get it only when it
comes back from there, in the order of offsets: so what they get, what is kept and what another
process sends are in one order.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Self

from ..bus.base import Bus
from ..errors import BusError, EnvelopeError
from ..history.base import History, HistoryLimits, Position, StoredMessage
from .envelope import Target
from .local_clients import LocalClients
from .names import ClientId
from .publication import PackedPublication, Publication, pack, personal_channel, unpack

# Seconds that a subscription waits for the store; then the client tries again.
_STORE_TIMEOUT = 5.0

# Seconds until a channel whose store could not be used is followed again.
_RETRY_DELAY = 2.0

LimitsOf = Callable[[str], HistoryLimits | None]
"""What of a channel is kept; ``None`` for a channel without history."""

OnLost = Callable[[Target, str], None]
"""Is told that members of a channel here may have missed messages."""


class Recovery(NamedTuple):
    """
    What a client gets that subscribes.

    Attributes:
        position: From which messages come live.
        messages: What the client has missed, in order.
        is_complete: Whether nothing else is missing; true if the client knew no position.
    """

    position: Position
    messages: tuple[StoredMessage, ...]
    is_complete: bool


class FollowedChannel:
    """A channel that has members here, or is about to have them."""

    __slots__ = ("_reached", "buffers", "epoch", "holds", "is_lost", "last", "ready")

    def __init__(self, ready: "asyncio.Future[Position]") -> None:
        self.ready = ready
        self.epoch = ""
        # The offset up to which members here have received everything.
        self.last = 0
        self.is_lost = False
        # The subscriptions that are on their way.
        self.holds = 0
        # Of the recoveries that wait for the store: what came since.
        self.buffers: list[list[StoredMessage]] = []
        self._reached: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.last)

    def note(self, message: StoredMessage) -> None:
        self.last = message.offset
        for buffer in self.buffers:
            buffer.append(message)
        for one in [one for one in self._reached if one[0] <= message.offset]:
            self._reached.remove(one)
            if not one[1].done():
                one[1].set_result(None)

    async def reached(self, offset: int) -> None:
        """Wait until a message has come that is on its way."""
        if self.last < offset and not self.is_lost:
            waiting = asyncio.get_running_loop().create_future()
            self._reached.append((offset, waiting))
            await waiting

    def lose(self) -> None:
        self.is_lost = True
        for _, waiting in self._reached:
            if not waiting.done():
                waiting.set_result(None)
        self._reached.clear()


class HistoryChannels:
    """The channels with history of one node."""

    def __init__(
        self, bus: Bus, limits_of: LimitsOf, local_clients: LocalClients, counts: Counter[str]
    ) -> None:
        self.limits_of = limits_of
        self.on_lost: list[OnLost] = []
        self.url = bus.url
        self.store: History = bus.history
        self._local_clients = local_clients
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._followed: dict[tuple[Target, str], FollowedChannel] = {}
        self._tasks: set[asyncio.Task[Position | None]] = set()
        self._is_stopped = False

    def stop(self) -> None:
        self._is_stopped = True
        for target, name in list(self._followed):
            self.store.unfollow(_channel(target, name))
        self._followed.clear()
        for task in self._tasks:
            task.cancel()

    def count(self, what: str) -> None:
        self._counts[what] += 1

    async def settle(self) -> None:
        """Wait until what was published is in the store, or refused."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STORE_TIMEOUT)

    # Publishing.

    def limits(self, target: Target, name: str) -> HistoryLimits | None:
        """Get what is kept of a channel, or of a user's personal channel."""
        return self.limits_of(_channel(target, name))

    def publish(
        self,
        target: Target,
        name: str,
        packed: PackedPublication,
        limits: HistoryLimits,
        key: str = "",
    ) -> "asyncio.Task[Position | None]":
        """Append a message to the history, which sends it; in the order of the calls."""
        task: asyncio.Task[Position | None] = self._loop.create_task(
            self._append(_channel(target, name), pack(packed), limits, key)
        )
        self._tasks.add(task)
        task.add_done_callback(self._published)
        return task

    async def _append(
        self, channel: str, payload: bytes, limits: HistoryLimits, key: str
    ) -> Position:
        return await self.store.append(channel, payload, limits, idempotency_key=key)

    def _published(self, task: "asyncio.Task[Position | None]") -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is not None:
            self._counts["unsent"] += 1
        else:
            self._counts["published"] += 1

    # Following.

    def gained(self, target: Target, name: str) -> None:
        """Follow a channel that has its first member here."""
        if self.limits(target, name) is not None:
            self._follow(target, name)

    def left(self, target: Target, name: str) -> None:
        """Stop following a channel whose last member here has left."""
        followed = self._followed.get((target, name))
        if followed is not None and not followed.holds:
            self._unfollow(target, name)

    def catch_up(
        self, target: Target, name: str, position: Position | None, limit: int
    ) -> "CatchUp":
        """Follow a channel for a client that is about to become a member, from a position on."""
        return CatchUp(self, target, name, position, limit)

    def hold(self, target: Target, name: str) -> FollowedChannel:
        followed = self._follow(target, name)
        followed.holds += 1
        return followed

    def release(self, target: Target, name: str, followed: FollowedChannel) -> None:
        followed.holds -= 1
        if (
            not followed.holds
            and self._followed.get((target, name)) is followed
            and not self._has_members(target, name)
        ):
            self._unfollow(target, name)

    def _has_members(self, target: Target, name: str) -> bool:
        registry = self._local_clients.registry
        return name in (registry.uids() if target is Target.UIDS else registry.groups())

    def _follow(self, target: Target, name: str) -> FollowedChannel:
        followed = self._followed.get((target, name))
        if followed is None:
            ready: asyncio.Future[Position] = self._loop.create_future()
            followed = self._followed[target, name] = FollowedChannel(ready)
            following = followed
            begun = self.store.follow(
                _channel(target, name),
                lambda message: self._receive(target, name, following, message),
                lambda: self._lost(target, name, following),
            )
            asyncio.ensure_future(begun, loop=self._loop).add_done_callback(
                lambda done: self._begun(target, name, following, done)
            )
        return followed

    def _unfollow(self, target: Target, name: str) -> None:
        followed = self._followed.pop((target, name), None)
        if followed is not None:
            followed.lose()
            if not followed.ready.done():
                followed.ready.cancel()
            self.store.unfollow(_channel(target, name))

    def _begun(
        self,
        target: Target,
        name: str,
        followed: FollowedChannel,
        done: "asyncio.Future[Position]",
    ) -> None:
        if done.cancelled():
            error: BaseException | None = BusError(self.url, "a channel cannot be followed")
        else:
            error = done.exception()
        if error is None:
            position = done.result()
            followed.epoch, followed.last = position.epoch, max(followed.last, position.offset)
            if not followed.ready.done():
                followed.ready.set_result(position)
            return
        if not followed.ready.done():
            followed.ready.set_exception(error)
            # It may be that nobody waits for it.
            followed.ready.exception()
        if self._followed.get((target, name)) is followed:
            del self._followed[target, name]
            followed.lose()
            self._loop.call_later(_RETRY_DELAY, self._follow_again, target, name)

    def _follow_again(self, target: Target, name: str) -> None:
        if not self._is_stopped and self._has_members(target, name):
            self._follow(target, name)

    def _receive(
        self, target: Target, name: str, followed: FollowedChannel, message: StoredMessage
    ) -> None:
        followed.note(message)
        try:
            packed = unpack(message.payload)
        except EnvelopeError:
            self._counts["bad_envelope"] += 1
            return
        publication = Publication.of_packed(packed, _channel(target, name), message.offset)
        exclude = [ClientId(one) for one in packed.exclude]
        self._local_clients.publish(target, name, publication, exclude)

    def _lost(self, target: Target, name: str, followed: FollowedChannel) -> None:
        if self._followed.get((target, name)) is not followed:
            return
        del self._followed[target, name]
        followed.lose()
        if not followed.ready.done():
            followed.ready.set_exception(BusError(self.url, "messages were lost"))
            followed.ready.exception()
        self._counts["lost_channels"] += 1
        # Members with an SDK leave, and come back to recover.
        for tell in self.on_lost:
            tell(target, name)
        self._follow_again(target, name)


class CatchUp:
    """
    What a client has missed of a channel, until the moment in which it becomes a member.

        with history_channels.catch_up(target, name, position, limit) as catch_up:
            await catch_up.fetch()
            recovery = catch_up.finish(room=1 << 20)
            ...  # make it a member, without waiting for anything

    Several may be fetched at once, and then finished together.
    """

    __slots__ = (
        "_buffer", "_channels", "_followed", "_is_complete", "_limit", "_missed", "_name",
        "_position", "_target", "_top",
    )  # fmt: skip

    def __init__(
        self,
        channels: HistoryChannels,
        target: Target,
        name: str,
        position: Position | None,
        limit: int,
    ) -> None:
        self._channels = channels
        self._target = target
        self._name = name
        self._position = position
        self._limit = limit
        self._followed: FollowedChannel | None = None
        self._buffer: list[StoredMessage] = []
        self._missed: tuple[StoredMessage, ...] = ()
        self._top = 0
        self._is_complete = True

    def __enter__(self) -> Self:
        self._followed = self._channels.hold(self._target, self._name)
        return self

    def __exit__(self, *_: object) -> None:
        followed, self._followed = self._followed, None
        if followed is not None:
            followed.buffers = [one for one in followed.buffers if one is not self._buffer]
            self._channels.release(self._target, self._name, followed)

    def is_at_hand(self) -> bool:
        """Tell whether nothing has to be fetched: the client knows the end, or no position."""
        followed, position = self._followed, self._position
        assert followed is not None
        if (
            followed.is_lost
            or not followed.epoch
            or (position is not None and position != followed.position)
        ):
            return False
        self._top = followed.last
        followed.buffers.append(self._buffer)
        return True

    async def fetch(self) -> None:
        """Wait for what was missed; raises BusError."""
        followed, position = self._followed, self._position
        assert followed is not None
        try:
            async with asyncio.timeout(_STORE_TIMEOUT):
                await asyncio.shield(followed.ready)
                if self.is_at_hand():
                    return
                if position is None or position.epoch != followed.epoch:
                    self._is_complete = False
                else:
                    await self._ask(followed, position)
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not followed.is_lost:
                raise
            raise self._lost() from None

    async def _ask(self, followed: FollowedChannel, position: Position) -> None:
        followed.buffers.append(self._buffer)
        # The client may have got elsewhere what has not come here yet.
        begin = Position(position.epoch, min(position.offset, followed.last))
        missed = await self._channels.store.since(
            _channel(self._target, self._name), begin, self._limit
        )
        on_the_way = [one for one in missed.messages if one.offset <= position.offset]
        if on_the_way:
            await followed.reached(on_the_way[-1].offset)
        # A store that has not got that far, or not any more, cannot tell what comes next.
        self._is_complete = (
            missed.is_complete
            and missed.position.epoch == followed.epoch
            and missed.position.offset >= position.offset
        )
        self._missed, self._top = missed.messages, missed.position.offset

    def finish(self, room: int) -> Recovery:
        """Return what was missed until now, if it has at most ``room`` bytes; raises BusError."""
        followed, position = self._followed, self._position
        assert followed is not None
        if followed.is_lost:
            raise self._lost()
        if position is None:
            return Recovery(followed.position, (), is_complete=True)
        last, top = followed.last, self._top
        messages = [one for one in self._missed if position.offset < one.offset <= last]
        messages += [one for one in self._buffer if one.offset > max(top, position.offset)]
        is_too_much = (
            len(messages) > self._limit or sum(len(one.payload) for one in messages) > room
        )
        if not self._is_complete or is_too_much:
            self._channels.count("not_recovered")
            return Recovery(followed.position, (), is_complete=False)
        self._channels.count("recovered")
        if not self._missed or self._missed[-1].offset <= last:
            # Nothing is on its way: the end of the channel may be above its last message.
            last = max(last, top, position.offset)
        return Recovery(Position(followed.epoch, last), tuple(messages), is_complete=True)

    def _lost(self) -> BusError:
        return BusError(self._channels.url, "the history of a channel cannot be followed")


def _channel(target: Target, name: str) -> str:
    return personal_channel(name) if target is Target.UIDS else name
