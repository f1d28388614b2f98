"""
Exclusive logins: which client of a user is the newest, so that exactly one stays. Pure.

Each has a *stamp*, which is higher than those of all logins that its process has heard of: a hybrid
logical clock, which goes with the wall clock where it can, and ahead of it where another process
is ahead. So the later of two logins has the higher stamp, also if two machines' clocks differ.
Of two logins at the same instant on two machines, one counts as higher, and all agree which.

A process says its logins to all others. Who hears of a newer one closes its own; who hears of an
older one answers with its own, because the two have crossed. Each says with its signs of life how
many logins it has said; who has heard fewer asks for them again (:class:`Heard`), whatever has lost
them: a bus that was away, or a cluster of servers that was split for a moment.
"""

from collections.abc import Iterable
from typing import NamedTuple

from .envelope import BindOnly, Claim
from .names import ClientId, NodeId

# How much longer than something was away logins are said again: it was away before it was noticed,
# and a sign of life says nothing of what is under way.
_MARGIN = 5.0  # seconds

# Processes that are there or were; one that is forgotten is a stranger, to whom all is said.
_MAX_HEARD = 4096


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
        """Tell what another login of a user means."""
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


class Heard:
    """How many logins of each other process have been heard, and since when that may be too few."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[NodeId, tuple[int, float]] = {}

    def __contains__(self, source: object) -> bool:
        return source in self._of

    def begin(self, source: NodeId, count: int, now: float) -> None:
        """Take note of a process that was not known; older logins of it will hear of newer ones."""
        if len(self._of) >= _MAX_HEARD:
            del self._of[next(iter(self._of))]
        self._of[source] = (count, now)

    def told(self, source: NodeId, count: int, now: float) -> float:
        """Compare with what a process says that it has said."""
        heard, complete_at = self._of[source]
        self._of[source] = (max(count, heard), now)
        return now - complete_at if count > heard else 0.0

    def hear(self, source: NodeId, number: int, now: float) -> float:
        """Take note of a login by its number, as :meth:`told`; of a stranger nothing is missed."""
        if source not in self._of:
            return 0.0
        missed = self.told(source, number - 1, now)
        self.told(source, number, now)
        return missed

    def forget(self, source: NodeId) -> None:
        """Forget a process that has ended."""
        self._of.pop(source, None)


def _order(claim: Claim) -> tuple[int, ClientId]:
    return claim.stamp, claim.client
