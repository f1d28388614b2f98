"""Whether one follower of a channel has received everything. Pure."""

from bisect import insort
from collections.abc import Callable

from .base import StoredMessage
from .wire import Live, read_live

# bytes; of what arrives before the position from which a follower receives is known.
_MAX_EARLY_SIZE = 1024 * 1024


class Gap(Exception):
    """A message is missing, or what arrived cannot be read."""


class Follower:
    """
    Puts the messages of a channel in order, and finds gaps between them.

    Some brokers swap messages that are published at the same time. With `is_patient` a message
    that came too early is held until the one before it comes; the caller decides for how long.
    """

    __slots__ = (
        "_beginning", "_early", "_early_size", "_is_broken", "_is_patient", "_last", "_read",
    )  # fmt: skip

    def __init__(
        self, read: Callable[[bytes], Live] = read_live, *, is_patient: bool = False
    ) -> None:
        self._read = read
        self._is_patient = is_patient
        self._beginning = 0
        self._last: int | None = None
        # In the order of offsets: what came before the beginning, or before its turn.
        self._early: list[Live] = []
        self._early_size = 0
        self._is_broken = False

    @property
    def last(self) -> int | None:
        """The offset up to which everything has come; ``None`` before the beginning."""
        return self._last

    @property
    def has_begun(self) -> bool:
        return self._last is not None

    @property
    def is_waiting(self) -> bool:
        """Whether a message is held because the one before it has not come."""
        return self.has_begun and bool(self._early)

    def begin(self, offset: int) -> list[StoredMessage]:
        """Set the position after which messages are due; return those that came; raises Gap."""
        if self._is_broken:
            raise Gap
        self._beginning = self._last = offset
        return self._due()

    def take(self, data: bytes) -> list[StoredMessage]:
        """Return the messages that are to be delivered now; raises Gap."""
        try:
            one = self._read(data)
        except ValueError:
            return self._broken()
        if self._last is not None and not self._early and one.previous <= self._last:
            return self._deliver(one)
        self._early_size += len(data)
        if self._early_size > _MAX_EARLY_SIZE:
            return self._broken()
        insort(self._early, one, key=_offset)
        return [] if self._last is None else self._due()

    def _due(self) -> list[StoredMessage]:
        """Return what was held, as far as nothing is missing before it."""
        assert self._last is not None
        messages: list[StoredMessage] = []
        count = 0
        for one in self._early:
            if one.previous > self._last and one.offset > self._last:
                break
            messages += self._deliver(one)
            count += 1
        del self._early[:count]
        if not self._early:
            self._early_size = 0
        elif not self._is_patient:
            raise Gap
        return messages

    def _deliver(self, one: Live) -> list[StoredMessage]:
        assert self._last is not None
        if one.offset <= self._last:
            if one.offset > self._beginning:
                # Its place was taken by another message, or it came twice.
                raise Gap
            return []
        self._last = one.offset
        return [] if one.is_marker else [StoredMessage(one.offset, one.payload)]

    def _broken(self) -> list[StoredMessage]:
        self._early.clear()
        self._is_broken = True
        if self.has_begun:
            raise Gap
        return []


def _offset(one: Live) -> int:
    return one.offset
