"""
The messages of all channels, in memory. Pure.

One sequence numbers the messages of all channels, so no offset is ever used twice in an epoch. A
channel that was forgotten is known to have had nothing above the highest offset that was forgotten:
that suffices to tell a complete recovery, without keeping anything of a channel without messages.
"""

from collections import Counter, OrderedDict
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from msgspec import Struct

from .base import HistoryLimits, Missed, Page, Position, StoredMessage
from .channel_log import ChannelLog

# Each takes about 600 bytes beside its messages: 60 MB for all.
MAX_CHANNELS = 100_000

# bytes, of the messages of all channels.
MAX_SIZE = 64 * 1024 * 1024

# bytes, of the messages of one channel: its publishers alone cannot drive out all others.
MAX_CHANNEL_SIZE = 8 * 1024 * 1024

# Seconds, and entries; Centrifugo keeps the results of idempotent publishing as long.
_KEY_TIME = 300.0
_MAX_KEYS = 10_000

# Entries of the heap that belong to channels which are gone.
_MAX_STALE = 1_000


class StoreLimits(Struct, frozen=True):
    """How much a store keeps."""

    max_channels: int = MAX_CHANNELS
    max_size: int = MAX_SIZE
    max_channel_size: int = MAX_CHANNEL_SIZE

    @classmethod
    def of_memory(cls, max_size: int) -> "StoreLimits":
        """Make those of so many bytes; one channel may have an eighth of them."""
        return cls(max_size=max_size, max_channel_size=max(max_size // 8, 1))


class Appended(NamedTuple):
    """
    The result of an append.

    Attributes:
        offset: That of the message.
        previous: The offset before it in its channel.
        is_new: Whether it was stored, and not an earlier one with the same key.
    """

    offset: int
    previous: int
    is_new: bool


class ChannelRow(NamedTuple):
    """A channel, as it is saved."""

    name: str
    floor: int
    last: int
    size: int
    ttl: float


class MessageRow(NamedTuple):
    """A message, as it is saved."""

    channel: str
    offset: int
    time: float
    payload: bytes


class Saved(NamedTuple):
    """A store that was saved, in order of offsets; not clean if changes after it may be lost."""

    epoch: str
    last: int
    forgotten: int
    is_clean: bool
    channels: list[ChannelRow]
    messages: list[MessageRow]


class Changes(NamedTuple):
    """What has changed since the last changes; or everything there is."""

    epoch: str
    last: int
    forgotten: int
    channels: list[ChannelRow]
    messages: list[MessageRow]
    gone: list[str]
    is_everything: bool


class HistoryStore:
    """The logs of all channels, and their bounds."""

    def __init__(self, epoch: str, limits: StoreLimits | None = None, *, last: int = 0) -> None:
        self.epoch = epoch
        self.last = last
        self.size = 0
        self.counts: Counter[str] = Counter()
        self._limits = limits or StoreLimits()
        # The highest offset in a channel that was forgotten.
        self._forgotten = last
        # In the order of their last messages; those without messages apart.
        self._filled: OrderedDict[str, ChannelLog] = OrderedDict()
        self._empty: OrderedDict[str, ChannelLog] = OrderedDict()
        # When each filled one has to be looked at; entries may be stale.
        self._due: list[tuple[float, str]] = []
        self._keys: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        # Channels that have changed since that was last asked for; None if nobody asks.
        self._changed: set[str] | None = None

    @classmethod
    def restored(
        cls, saved: Saved, new_epoch: str, limits: StoreLimits | None = None
    ) -> "HistoryStore":
        """Make a store of what was saved; in a new epoch if that may not be everything."""
        store = cls(saved.epoch if saved.is_clean else new_epoch, limits, last=saved.last)
        store._forgotten = saved.forgotten
        logs: dict[str, ChannelLog] = {}
        for row in saved.channels:
            logs[row.name] = ChannelLog(row.floor)
            logs[row.name].last = row.last
            logs[row.name].limits = HistoryLimits(row.size, row.ttl)
        for message in saved.messages:
            log = logs.setdefault(message.channel, ChannelLog(message.offset - 1))
            stored = StoredMessage(message.offset, message.payload)
            log.append(stored, log.limits, message.time)
            log.saved = message.offset
        for name, log in logs.items():
            store.size += log.size
            if len(log):
                store._filled[name] = log
                store._schedule(log.expires_at, name)
            else:
                store._empty[name] = log
        store._bound()
        return store

    def changes(self, *, is_everything: bool = False) -> Changes:
        """Return what has changed since the last call, or everything; then watch for changes."""
        everything = self._filled.keys() | self._empty.keys()
        names = everything if is_everything or self._changed is None else self._changed
        self._changed = set()
        channels: list[ChannelRow] = []
        messages: list[MessageRow] = []
        gone: list[str] = []
        for name in names:
            log = self._filled.get(name)
            if log is None:
                log = self._empty.get(name)
            if log is None:
                gone.append(name)
                continue
            channels.append(ChannelRow(name, log.floor, log.last, log.limits.size, log.limits.ttl))
            start = 0 if is_everything else log.saved
            messages += [
                MessageRow(name, message.offset, time, message.payload)
                for time, message in log.with_times(start)
            ]
            log.saved = log.last
        return Changes(
            self.epoch, self.last, self._forgotten, channels, messages, gone, is_everything
        )

    @property
    def channel_count(self) -> int:
        return len(self._filled) + len(self._empty)

    def append(
        self, channel: str, payload: bytes, limits: HistoryLimits, now: float, key: str = ""
    ) -> Appended:
        if key and (earlier := self._known(channel, key, now)):
            return Appended(earlier, earlier, is_new=False)
        log = self._writable(channel)
        previous = log.last
        before = log.size
        self.last += 1
        is_first = not len(log)
        log.append(StoredMessage(self.last, payload), limits, now)
        log.expire(now)
        if log.size > self._limits.max_channel_size:
            log.shrink(self._limits.max_channel_size)
        if self._changed is not None:
            self._changed.add(channel)
        self._resized(channel, log, before)
        if is_first and len(log):
            self._schedule(log.expires_at, channel)
        if key:
            self._keys[channel, key] = now, self.last
        self._bound()
        self.counts["appended"] += 1
        return Appended(self.last, previous, is_new=True)

    def since(self, channel: str, position: Position | None, limit: int, now: float) -> Missed:
        log = self._log(channel, now)
        floor, last = (self._forgotten,) * 2 if log is None else (log.floor, log.last)
        top = Position(self.epoch, last)
        if position is None:
            return Missed((), top, is_complete=True)
        messages: list[StoredMessage] = []
        is_complete = position.epoch == self.epoch and floor <= position.offset <= last
        if is_complete and log is not None:
            messages = log.after(position.offset, limit + 1)
            is_complete = len(messages) <= limit
        self.counts["complete" if is_complete else "incomplete"] += 1
        return Missed(tuple(messages) if is_complete else (), top, is_complete)

    def read(
        self,
        channel: str,
        *,
        limit: int,
        since: Position | None,
        is_reverse: bool,
        now: float,
    ) -> Page:
        log = self._log(channel, now)
        if log is None or (since is not None and since.epoch not in {"", self.epoch}):
            last = self._forgotten if log is None else log.last
            return Page((), Position(self.epoch, last))
        if is_reverse:
            messages = log.before(log.last + 1 if since is None else since.offset, limit)
        else:
            messages = log.after(0 if since is None else since.offset, limit)
        return Page(tuple(messages), Position(self.epoch, log.last))

    def remove(self, channel: str) -> None:
        log = self._filled.get(channel)
        if log is not None:
            self._clear(channel, log)

    def expire(self, now: float) -> None:
        """Drop what is too old, also of channels that nobody asks for."""
        while self._due and self._due[0][0] <= now:
            _, channel = heappop(self._due)
            log = self._filled.get(channel)
            if log is not None:
                before = log.size
                log.expire(now)
                self._resized(channel, log, before)
                if len(log):
                    self._schedule(log.expires_at, channel)
        self._forget_keys(now)

    def _log(self, channel: str, now: float) -> ChannelLog | None:
        log = self._filled.get(channel)
        if log is None:
            return self._empty.get(channel)
        before = log.size
        log.expire(now)
        self._resized(channel, log, before)
        return log

    def _writable(self, channel: str) -> ChannelLog:
        log = self._filled.get(channel)
        if log is not None:
            self._filled.move_to_end(channel)
            return log
        log = self._empty.pop(channel, None)
        if log is None:
            log = ChannelLog(self._forgotten)
        self._filled[channel] = log
        return log

    def _resized(self, channel: str, log: ChannelLog, before: int) -> None:
        self.size += log.size - before
        if log.size != before and self._changed is not None:
            self._changed.add(channel)
        if not len(log):
            self._empty[channel] = self._filled.pop(channel)

    def _clear(self, channel: str, log: ChannelLog) -> None:
        before = log.size
        log.clear()
        self._resized(channel, log, before)

    def _bound(self) -> None:
        while self.size > self._limits.max_size:
            channel, log = next(iter(self._filled.items()))
            self.counts["dropped"] += len(log)
            self._clear(channel, log)
        while self.channel_count > self._limits.max_channels:
            channel, log = (self._empty or self._filled).popitem(last=False)
            if self._changed is not None:
                self._changed.add(channel)
            self.size -= log.size
            self.counts["dropped"] += len(log)
            self.counts["forgotten"] += 1
            self._forgotten = max(self._forgotten, log.last)

    def _schedule(self, due_at: float, channel: str) -> None:
        heappush(self._due, (due_at, channel))
        if len(self._due) > 2 * len(self._filled) + _MAX_STALE:
            self._due = [(log.expires_at, channel) for channel, log in self._filled.items()]
            heapify(self._due)

    def _known(self, channel: str, key: str, now: float) -> int:
        """Return the offset of the message with a key, or 0."""
        self._forget_keys(now)
        _, offset = self._keys.get((channel, key), (0.0, 0))
        return offset

    def _forget_keys(self, now: float) -> None:
        while self._keys:
            first = next(iter(self._keys))
            if self._keys[first][0] > now - _KEY_TIME and len(self._keys) <= _MAX_KEYS:
                return
            del self._keys[first]
