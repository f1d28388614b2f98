"""
The interface of a store of history, and its guarantees. Pure.

The store of a bus is the sequencer of its channels: it gives each message its offset, keeps the
last ones, and sends them to all processes that follow the channel. One suite of tests
(``tests/bus/contract_of_history.py``) runs on all stores.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from msgspec import Struct


class Position(NamedTuple):
    """
    What a client has of a channel: everything up to an offset.

    Offsets of a channel grow, but are not contiguous, and 0 stands for the beginning. Offsets of
    different epochs cannot be compared: a store that may have lost messages begins a new epoch.
    """

    epoch: str
    offset: int

    @property
    def is_possible(self) -> bool:
        """Whether a store can have given it: clients send what they like."""
        return bool(self.epoch) and self.is_readable

    @property
    def is_readable(self) -> bool:
        """The same, or an offset of the present epoch, whichever that is."""
        epoch = self.epoch
        return len(epoch) <= 64 and epoch.isascii() and 0 <= self.offset < 1 << 63


class StoredMessage(NamedTuple):
    offset: int
    payload: bytes


class Missed(NamedTuple):
    """
    What follows on a position.

    Attributes:
        messages: All of them, in order, or none.
        position: The end of the channel.
        is_complete: Whether it is proved that nothing is missing. If not, the client has to be
            told: messages are lost to it, or more have been sent than were asked for.
    """

    messages: tuple[StoredMessage, ...]
    position: Position
    is_complete: bool


class Page(NamedTuple):
    """Some messages of a channel, and its end."""

    messages: tuple[StoredMessage, ...]
    position: Position


class HistoryLimits(Struct, frozen=True):
    """
    How much of a channel is kept.

    Attributes:
        size: The last so many messages; at least 1.
        ttl: Seconds for which each is kept.
    """

    size: int
    ttl: float


Receive = Callable[[StoredMessage], None]
"""Handles one message of a followed channel; must not block."""

Lost = Callable[[], None]
"""Handles the end of following; must not block."""


class History(Protocol):
    """
    The store of a bus. It belongs to the event loop of its bus.

    Guarantees:
        * One order: what is read, what followers receive and the offsets have the same order, in
          all processes, also in the publishing one.
        * Complete or not: :meth:`since` returns everything that was appended after a position, or
          says that it cannot prove that.
        * No silent gap: a follower receives every message after the position that :meth:`follow`
          returned, in order and once, until :data:`Lost` is called.
        * Epochs: if a store may have forgotten what it has confirmed, its epoch changes.
        * Bounded: in messages and seconds of a channel, in channels, and in bytes of all. What does
          not fit is forgotten, the channel without messages for the longest time first.
        * Nothing is called from within a call, and nothing after :meth:`unfollow`.

    All methods raise a BusError if the store is away, refuses, or does not answer in time.
    """

    def expect(self, limits: HistoryLimits) -> None:
        """Be told, before anything else, what the largest channels of this process keep."""

    async def append(
        self, channel: str, payload: bytes, limits: HistoryLimits, *, idempotency_key: str = ""
    ) -> Position:
        """Store a message and send it to all followers; return its position."""
        # After a BusError it is stored and sent, or neither. It is neither if the bus was away
        # before, if the payload is too big, or if the store refuses; if the bus went away, or did
        # not answer in time, nobody knows. With the same key it may be tried again: of several
        # messages with one key, within a few minutes and one epoch, the first is stored, and its
        # position is returned for all of them.
        #
        # The messages that a process appends to a channel are stored in the order of the calls.
        # Followers may receive the message before or after this returns.

    async def since(self, channel: str, position: Position | None, limit: int) -> Missed:
        """Return what follows on a position, or that more than the limit, or too much, is gone."""
        # Without a position: the end of the channel alone, which is complete.

    async def read(
        self, channel: str, *, limit: int, since: Position | None = None, is_reverse: bool = False
    ) -> Page:
        """Return the first messages, after a position, or the last ones before it, latest first."""
        # None for a position of another epoch; the page has the current one, which an empty epoch
        # stands for, too. What is gone is left out without notice: this is for looking back, and
        # `since` for recovery.

    async def remove(self, channel: str) -> None:
        """Forget the messages of a channel; positions at its end stay valid."""

    def follow(self, channel: str, receive: Receive, lost: Lost) -> Awaitable[Position]:
        """Receive each message after the position that this returns once following holds."""
        # One follower for each channel of a process: the latest. The awaitable need not be awaited,
        # and has no deadline of its own while the bus is away. It raises a BusError if the store
        # cannot be used; then, and after `lost`, the channel is not followed any more.
        #
        # `lost` is called once, when continuity can no longer be proved: the bus is away, messages
        # for this process were dropped, or the store began a new epoch. Members of the channel have
        # to be told, and may follow again.

    def unfollow(self, channel: str) -> None:
        """Stop receiving, also what has arrived already; idempotent."""


class FollowingHistory(History, Protocol):
    """A store that its bus tells of losses."""

    def lose_all(self) -> None:
        """End the following of all channels: messages for this process may be lost."""

    def refused(self, text: str) -> None:
        """Note what the broker refuses, which may be a request of this store."""

    def stop(self) -> None:
        """End what runs by itself: the bus is stopped."""
