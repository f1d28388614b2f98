"""What the stores of all brokers have in common: how channels are followed."""

from collections.abc import Awaitable, Callable

from ..history.base import HistoryLimits, Lost, Position, Receive
from ..history.wire import Live, read_live
from .base import Bus
from .followers import Followers


class BusHistory:
    """The part of a :class:`~.history.base.FollowingHistory` that no broker has for itself."""

    def __init__(
        self,
        bus: Bus,
        top: Callable[[str], Awaitable[Position]],
        read: Callable[[bytes], Live] = read_live,
        *,
        patience: float = 0.0,
    ) -> None:
        self._followers = Followers(bus, top, read, patience=patience)

    def expect(self, limits: HistoryLimits) -> None:
        """Nothing is made for it."""

    def follow(self, channel: str, receive: Receive, lost: Lost) -> Awaitable[Position]:
        return self._followers.follow(channel, receive, lost)

    def unfollow(self, channel: str) -> None:
        self._followers.unfollow(channel)

    def lose_all(self) -> None:
        self._followers.lose_all()

    def refused(self, text: str) -> None:
        """Do nothing: most brokers refuse no request of ours."""

    def stop(self) -> None:
        """Do nothing: nothing runs by itself."""
