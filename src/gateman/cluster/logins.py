"""
Exclusive logins: which client of a user is the newest, so that exactly one stays. Pure.

Each has a *stamp*, which is higher than those of all logins that its process has heard of: a hybrid
logical clock, which goes with the wall clock where it can, and ahead of it where another process
is ahead. So the later of two logins has the higher stamp, also if two machines' clocks differ.
Of two logins at the same instant on two machines, one counts as higher, and all agree which.

A process says its logins to all others. Who hears of a newer one closes its own; who hears of an
older one answers with its own, because the two have crossed. What could not be heard, because the
bus was away, is said again when it is back (:meth:`Logins.since`).
"""

from collections.abc import Iterable
from typing import NamedTuple

from .envelope import BindOnly, Claim
from .names import ClientId

# How much longer than the bus was away logins are said again: it was away before it was noticed.
_MARGIN = 5.0  # seconds


class Verdict(NamedTuple):
    """
    What a login of another process means for the clients of this one.

    Attributes:
        losers: Those of the same user that have to go.
        answer: The login of this process that is newer; ``None`` if there is none.
    """

    losers: list[ClientId]
    answer: Claim | None


class Logins:
    """The exclusive logins of this process's clients."""

    __slots__ = ("_claims", "clock")

    def __init__(self) -> None:
        self.clock = 0
        # The newest last, with the instant of each.
        self._claims: dict[ClientId, tuple[Claim, float]] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def claim(self, login: BindOnly, *, wall_time: float, now: float) -> Claim:
        """Take note of a login: seconds since 1970 for its stamp, monotonic ones for its age."""
        self.clock = max(self.clock + 1, int(wall_time * 1e6))
        made = Claim(login.client, login.uid, self.clock, login.code, login.reason)
        self._claims.pop(login.client, None)
        self._claims[login.client] = (made, now)
        return made

    def observe(self, stamp: int) -> None:
        """Take note of how far another process's clock is."""
        self.clock = max(self.clock, stamp)

    def forget(self, client: ClientId) -> None:
        """End a login: its client is gone, or is somebody else now."""
        self._claims.pop(client, None)

    def judge(self, claim: Claim, clients: Iterable[ClientId]) -> Verdict:
        """
        Tell what another login of a user means.

        Args:
            claim: It.
            clients: All clients of that user in this process.

        Returns:
            Clients that are bound without ``only`` are older than any login.
        """
        losers: list[ClientId] = []
        newest: Claim | None = None
        for client in clients:
            own, _ = self._claims.get(client, (None, 0.0))
            if client == claim.client:
                continue
            if own is None or _order(own) < _order(claim):
                losers.append(client)
            elif newest is None or _order(newest) < _order(own):
                newest = own
        return Verdict(losers, newest)

    def since(self, instant: float) -> list[Claim]:
        """Give the logins that somebody may not have heard who was away since then."""
        found: list[Claim] = []
        for claim, made_at in reversed(self._claims.values()):
            if made_at < instant - _MARGIN:
                break
            found.append(claim)
        return found


def _order(claim: Claim) -> tuple[int, ClientId]:
    return claim.stamp, claim.client
