"""
On which subject of the bus a message goes, and how it is told that some have not arrived. Pure.

A channel is what messages are numbered on: everybody's, a process's, a uid's or a group's. A
sender numbers what it sends on each; a receiver that finds a number higher than it expected
knows how many it has missed. After a gap, senders tell how far they have come (a *mark*), so
that what was lost at the end is known too.
"""

from collections import Counter, OrderedDict
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from ..bus.subjects import Subject, subject
from .envelope import Letters, Mark, Messages, Scope
from .names import NodeId

# Channels; a sender forgets the one that it has not used for longest, and begins anew there.
MAX_SENT = 65536
# Channels and senders; a receiver forgets the one of which it has heard nothing for longest.
MAX_SEEN = 65536


class Channel(NamedTuple):
    """
    What messages are numbered on.

    Attributes:
        scope: Of what kind it is; that of clients is their process's.
        name: Which of those; empty for everybody's.
    """

    scope: Scope
    name: str


EVERYBODY = Channel(Scope.ALL, "")

_KINDS = {Scope.CLIENTS: "node", Scope.UIDS: "uid", Scope.GROUPS: "group"}


# Names come again and again, and an escape costs more than the rest of a publish.
@lru_cache(maxsize=4096)
def subject_of(channel: Channel) -> Subject:
    """
    Name a channel's subject.

    Args:
        channel: It.

    Returns:
        The subject.
    """
    if channel.scope is Scope.ALL:
        return subject("all")
    return subject(_KINDS[channel.scope], channel.name)


@lru_cache(maxsize=4096)
def node_channel(node: NodeId) -> Channel:
    """
    Name the channel of one process.

    Args:
        node: It.

    Returns:
        Its channel.
    """
    return Channel(Scope.CLIENTS, node)


def channel_of(scope: Scope, names: tuple[str, ...], node: NodeId) -> Channel:
    """
    Tell on which channel messages travel.

    Args:
        scope: Whom they are for.
        names: Which of those. Messages for several go to everybody, who choose: whoever is in
            two of them gets them once.
        node: The process that the clients are of, where they are for clients.

    Returns:
        The channel.
    """
    if scope is Scope.CLIENTS:
        return node_channel(node)
    if scope is Scope.ALL or len(names) != 1:
        return EVERYBODY
    return Channel(scope, names[0])


class Sent:
    """How many messages this process has sent on each channel."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        """Begin with none."""
        self._numbers: OrderedDict[Channel, int] = OrderedDict()

    def number(self, channel: Channel) -> int:
        """
        Tell how many there were.

        Args:
            channel: Where.

        Returns:
            The number of the next message.
        """
        return self._numbers.get(channel, 0)

    def add(self, channel: Channel, count: int) -> None:
        """
        Count messages that the bus has taken.

        Args:
            channel: Where.
            count: How many.
        """
        self._numbers[channel] = self._numbers.pop(channel, 0) + count
        if len(self._numbers) > MAX_SENT:
            self._numbers.popitem(last=False)

    def latest(self, count: int) -> list[tuple[Channel, int]]:
        """
        Tell how far this process has come on the channels that it has used last.

        Args:
            count: How many channels.

        Returns:
            Channels and numbers.
        """
        return list(islice(reversed(self._numbers.items()), count))


class Seen:
    """How far every sender has come on each channel, as far as this process knows."""

    __slots__ = ("_expected", "_sources")

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._expected: OrderedDict[tuple[NodeId, Channel], int] = OrderedDict()
        # On how many channels each has been seen: few processes, and many channels.
        self._sources: Counter[NodeId] = Counter()

    def __len__(self) -> int:
        return len(self._expected)

    def messages(self, channel: Channel, messages: Messages | Letters) -> int:
        """
        Take note of messages.

        Args:
            channel: Where they came.
            messages: They.

        Returns:
            How many before them have not come.
        """
        return self._note(messages.source, channel, messages.number, len(messages.items))

    def mark(self, channel: Channel, mark: Mark) -> int:
        """
        Take note of how far a sender says that it has come.

        Args:
            channel: Where.
            mark: What it says.

        Returns:
            How many of its messages have not come.
        """
        return self._note(mark.source, channel, mark.number, 0)

    def forget_channel(self, channel: Channel) -> None:
        """
        Expect nothing on a channel that nothing more comes from.

        Args:
            channel: Which.
        """
        for source in tuple(self._sources):
            self._forget((source, channel))

    def forget_source(self, source: NodeId) -> None:
        """
        Expect nothing of a process that has ended.

        Args:
            source: Which.
        """
        if source in self._sources:
            for key in [key for key in self._expected if key[0] == source]:
                self._forget(key)

    def _note(self, source: NodeId, channel: Channel, number: int, count: int) -> int:
        key = (source, channel)
        expected = self._expected.pop(key, None)
        self._expected[key] = number + count
        if expected is None:
            self._sources[source] += 1
            if len(self._expected) > MAX_SEEN:
                self._forget(next(iter(self._expected)))
            return 0
        # A lower number: the sender had forgotten the channel, and begins anew.
        return max(0, number - expected)

    def _forget(self, key: tuple[NodeId, Channel]) -> None:
        if self._expected.pop(key, None) is not None:
            self._sources[key[0]] -= 1
            if not self._sources[key[0]]:
                del self._sources[key[0]]
