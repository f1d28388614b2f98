"""
Exclusive logins: which client of a user logged in last, so that only that one stays. Pure.

Each login has a *stamp*, higher than those of all logins that its node knows of: a hybrid logical
clock, which follows the wall clock where it can, and runs ahead of it where another node is ahead.
So the later of two logins has the higher stamp, even if the clocks of two machines differ. Of two
logins at the same instant on two machines, all nodes choose the same one.

A node announces its logins to all others. A node that receives a newer login closes its own client;
a node that receives an older one answers with its own, because the two have crossed. Each hello
says how many logins its node has announced; a node that has received fewer requests them again
(:class:`ReceivedLogins`), whatever caused the loss: a bus that was away, or a cluster of servers
that was partitioned.
"""

from collections.abc import Iterable
from typing import NamedTuple

from .envelope import BindOnly, Claim
from .names import ClientId, NodeId

# Logins are published again for longer than an outage lasted: it began before it was noticed,
# and a hello does not cover what is in transit.
_MARGIN = 5.0  # seconds

# Nodes, including ended ones; a node that was dropped counts as new, and gets all logins.
_MAX_HEARD = 4096


class LoginConflict(NamedTuple):
    """The local clients that a login elsewhere closes, and a newer local login if there is one."""

    losers: list[ClientId]
    answer: Claim | None


class Logins:
    """The exclusive logins of this node's clients."""

    __slots__ = ("_claims", "clock")

    def __init__(self) -> None:
        self.clock = 0
        # Newest last, each with its monotonic time.
        self._claims: dict[ClientId, tuple[Claim, float]] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def claim(self, login: BindOnly, *, wall_time: float, now: float) -> Claim:
        """Register a login; ``wall_time`` is seconds since 1970, ``now`` is monotonic seconds."""
        self.clock = max(self.clock + 1, int(wall_time * 1e6))
        made = Claim(login.client, login.uid, self.clock, login.code, login.reason)
        self._claims.pop(login.client, None)
        self._claims[login.client] = (made, now)
        return made

    def observe(self, stamp: int) -> None:
        """Advance the clock to that of another node."""
        self.clock = max(self.clock, stamp)

    def forget(self, client: ClientId) -> None:
        """End a login: its client has disconnected, or was bound to another uid."""
        self._claims.pop(client, None)

    def resolve(self, claim: Claim, clients: Iterable[ClientId]) -> LoginConflict:
        """Compare a login with the logins of clients of the same user."""
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
        return LoginConflict(losers, newest)

    def since(self, instant: float) -> list[Claim]:
        """List the logins that a node may have missed that was away since an instant."""
        found: list[Claim] = []
        for claim, made_at in reversed(self._claims.values()):
            if made_at < instant - _MARGIN:
                break
            found.append(claim)
        return found


class ReceivedLogins:
    """How many logins of each other node were received, and since when some may be missing."""

    __slots__ = ("_by_node",)

    def __init__(self) -> None:
        self._by_node: dict[NodeId, tuple[int, float]] = {}

    def __contains__(self, source: object) -> bool:
        return source in self._by_node

    def begin(self, source: NodeId, count: int, now: float) -> None:
        """Register a new node; its older logins matter only when they conflict with newer ones."""
        if len(self._by_node) >= _MAX_HEARD:
            del self._by_node[next(iter(self._by_node))]
        self._by_node[source] = (count, now)

    def reported(self, source: NodeId, count: int, now: float) -> float:
        """Compare with the announced count; return for how many seconds logins may be missing."""
        heard, complete_at = self._by_node[source]
        self._by_node[source] = (max(count, heard), now)
        return now - complete_at if count > heard else 0.0

    def received(self, source: NodeId, number: int, now: float) -> float:
        """Note a login by its number, as :meth:`reported`; 0 for an unknown node."""
        if source not in self._by_node:
            return 0.0
        missed = self.reported(source, number - 1, now)
        self.reported(source, number, now)
        return missed

    def forget(self, source: NodeId) -> None:
        """Forget a node that has ended."""
        self._by_node.pop(source, None)


def _order(claim: Claim) -> tuple[int, ClientId]:
    return claim.stamp, claim.client
