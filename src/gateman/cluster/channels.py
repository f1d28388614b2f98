"""
Channels: the bus subject of each message, and sequence numbers that reveal lost messages. Pure.

Messages are numbered per channel: that of all nodes, of one node, of a uid or of a group. A sender
numbers what it sends on each channel; a receiver that finds a higher number than expected knows how
many messages it has missed. After a gap, senders publish their current numbers (a *mark*), so that
messages lost at the end are noticed too.
"""

from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain, islice
from typing import NamedTuple

from ..bus.subjects import Subject, subject
from .envelope import DirectMessages, Messages, SequenceMark, Target
from .names import NodeId

# Channels that a sender remembers, at least half of it: numbers of the least recently used ones
# are dropped, and start again.
MAX_SENT = 65536
# Pairs of channel and sender; a receiver drops the least recently used channel.
MAX_SEEN = 65536


class Channel(NamedTuple):
    """What messages are numbered on; its name is that of a node, uid, group or topic."""

    target: Target
    name: str


EVERYBODY = Channel(Target.ALL, "")

_KINDS = {
    Target.CLIENTS: "node",
    Target.UIDS: "uid",
    Target.GROUPS: "group",
    Target.EVENTS: "event",
}


# Names recur, and escaping one costs more than the rest of a publish.
@lru_cache(maxsize=4096)
def subject_of(channel: Channel) -> Subject:
    if channel.target is Target.ALL:
        return subject("all")
    return subject(_KINDS[channel.target], channel.name)


@lru_cache(maxsize=4096)
def node_channel(node: NodeId) -> Channel:
    """Get the channel of one node."""
    return Channel(Target.CLIENTS, node)


def channel_of(target: Target, names: tuple[str, ...], node: NodeId) -> Channel:
    """Get the channel that carries messages to a target."""
    if target is Target.CLIENTS:
        return node_channel(node)
    if target is Target.ALL or len(names) != 1:
        return EVERYBODY
    return Channel(target, names[0])


class SentSequences:
    """How many messages this process has sent on each channel; at most 8 MB, 110 bytes an entry."""

    __slots__ = ("_older", "_younger")

    # Two generations: entries that are used move to the younger one; when that is full, the older
    # one is dropped.
    def __init__(self) -> None:
        # Keyed by the target's letter and the name as one string: half the memory of a Channel.
        self._younger: dict[str, int] = {}
        self._older: dict[str, int] = {}

    def number(self, channel: Channel) -> int:
        """Get how many messages were sent on a channel."""
        key = _key(channel)
        return self._younger.get(key) or self._older.get(key, 0)

    def add(self, channel: Channel, count: int) -> None:
        """Count messages that the bus has accepted."""
        key = _key(channel)
        number = self._younger.pop(key, 0) or self._older.pop(key, 0)
        self._younger[key] = number + count
        if len(self._younger) > MAX_SENT // 2:
            self._older, self._younger = self._younger, {}

    def latest(self, count: int) -> list[tuple[Channel, int]]:
        """Get the numbers of the channels that were used last."""
        newest_first = chain(reversed(self._younger.items()), reversed(self._older.items()))
        return [
            (Channel(Target(key[0]), key[1:]), number)
            for key, number in islice(newest_first, count)
        ]


def _key(channel: Channel) -> str:
    return channel.target.value + channel.name


class ReceivedSequences:
    """The last sequence number received from each sender on each channel."""

    __slots__ = ("_channels", "_count", "_numbers")

    def __init__(self) -> None:
        self._numbers: dict[NodeId, dict[Channel, int]] = {}
        # The senders on each channel: most have one, and a set takes 216 bytes. Ordered by last
        # use.
        self._channels: OrderedDict[Channel, NodeId | set[NodeId]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def senders(self) -> tuple[NodeId, ...]:
        return tuple(self._numbers)

    def messages(self, channel: Channel, messages: Messages | DirectMessages) -> int:
        """Note messages; return how many before them were missed."""
        return self._note(messages.source, channel, messages.number, len(messages.items))

    def mark(self, channel: Channel, mark: SequenceMark) -> int:
        """Note a sequence mark; return how many messages before it were missed."""
        return self._note(mark.source, channel, mark.number, 0)

    def forget_channel(self, channel: Channel) -> None:
        """Forget a channel that this process no longer subscribes to."""
        for source in _each(self._channels.pop(channel, None)):
            numbers = self._numbers[source]
            del numbers[channel]
            self._count -= 1
            if not numbers:
                del self._numbers[source]

    def forget_source(self, source: NodeId) -> None:
        """Forget a node that has ended."""
        numbers = self._numbers.pop(source, {})
        self._count -= len(numbers)
        for channel in numbers:
            received = self._channels[channel]
            if isinstance(received, set) and len(received) > 1:
                received.remove(source)
            else:
                del self._channels[channel]

    def _note(self, source: NodeId, channel: Channel, number: int, count: int) -> int:
        numbers = self._numbers.get(source)
        if numbers is None:
            numbers = self._numbers[source] = {}
        expected = numbers.get(channel)
        numbers[channel] = number + count
        if expected is None:
            self._add(source, channel)
            return 0
        self._channels.move_to_end(channel)
        # A lower number: the sender had dropped the channel, and starts again.
        return max(0, number - expected)

    def _add(self, source: NodeId, channel: Channel) -> None:
        received = self._channels.get(channel)
        if received is None:
            self._channels[channel] = source
        else:
            if isinstance(received, set):
                received.add(source)
            else:
                self._channels[channel] = {received, source}
            self._channels.move_to_end(channel)
        self._count += 1
        if self._count > MAX_SEEN:
            self.forget_channel(next(iter(self._channels)))


def _each(received: NodeId | set[NodeId] | None) -> Iterable[NodeId]:
    if received is None:
        return ()
    return received if isinstance(received, set) else (received,)
