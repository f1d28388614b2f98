"""Whether one follower of a channel has received everything. Pure."""

from collections.abc import Callable

from .base import StoredMessage
from .wire import Live, read_live

# bytes; of what arrives before the position from which a follower receives is known.
_MAX_EARLY_SIZE = 1024 * 1024


class Gap(Exception):
    """A message is missing, or what arrived cannot be read."""


class Follower:
    """Puts the messages of a channel in order, and finds gaps between them."""

    __slots__ = ("_early", "_early_size", "_is_broken", "_last", "_read")

    def __init__(self, read: Callable[[bytes], Live] = read_live) -> None:
        self._read = read
        self._last: int | None = None
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

    def begin(self, offset: int) -> list[StoredMessage]:
        """Set the position after which messages are due; return those that came; raises Gap."""
        if self._is_broken:
            raise Gap
        self._last = offset
        early, self._early = self._early, []
        return [message for one in early for message in self._next(one)]

    def take(self, data: bytes) -> list[StoredMessage]:
        """Return the messages that are to be delivered now, at most one; raises Gap."""
        if self._last is None:
            self._keep(data)
            return []
        try:
            return self._next(self._read(data))
        except ValueError:
            raise Gap from None

    def _keep(self, data: bytes) -> None:
        self._early_size += len(data)
        try:
            self._early.append(self._read(data))
        except ValueError:
            self._is_broken = True
        if self._early_size > _MAX_EARLY_SIZE:
            self._is_broken = True
            self._early.clear()

    def _next(self, one: Live) -> list[StoredMessage]:
        assert self._last is not None
        if one.offset <= self._last:
            return []
        # The message before it in its channel is not after what was received.
        if one.previous > self._last:
            raise Gap
        self._last = one.offset
        return [] if one.is_marker else [StoredMessage(one.offset, one.payload)]
