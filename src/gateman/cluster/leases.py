"""
Which node may do what only one may do at a time. Pure.

A lease has a name. The holder renews it with a message at intervals. If it releases the lease, ends
or is silent for too long, the others send claims, and the smallest node id among those that claim
within a second gets it. A new node asks first, and waits: the holder may be blocked at this moment.
A holder whose renewals cannot be sent, or that was blocked, has lost the lease before another can
get it.

A split bus has one holder on each side; after that, the larger node id gives way. Each message
carries a mark, which the holder moves forward. The next holder continues after it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from enum import Enum
from math import inf

from msgspec import Struct

from .envelope import LeaseKind, LeaseMark, LeaseMessage
from .names import MAX_NAME_SIZE, NodeId
from .peers import HELLO_INTERVAL, TIME_TO_LIVE

# How long a claim waits for others: a round trip to another continent, and a busy process there.
CLAIM_TIME = 1.0  # seconds

# After its last renewal a holder may act for this long. Shorter than what others wait, by the time
# that a message may be under way.
HELD_FOR = TIME_TO_LIVE - HELLO_INTERVAL  # seconds

# After that, others may have got it, and a claim is made again. More than two ticks of two seconds,
# which is how the clock of a test may move.
_CLAIM_LIMIT = 4.5  # seconds

# Ticks come every second. A later one follows a pause, and what has arrived may not be read yet.
_PAUSE = 1.5  # seconds

# Ticks come every second, and may come a little early.
_RENEW_AFTER = HELLO_INTERVAL - 0.1  # seconds

# Of each message, so that it fits every bus: a name has at most 255 bytes.
_BATCH = 64


class LeaseState(Enum):
    FOLLOWING = "following"
    """Another node holds it, or will in a moment."""
    CLAIMING = "claiming"
    """This node gets it, unless another one objects."""
    HOLDING = "holding"
    """This node has it, as long as its renewals are sent."""


# In which state what a node has sent to all counts.
_SENT_WHILE = {
    LeaseKind.ASKED: LeaseState.FOLLOWING,
    LeaseKind.CLAIMED: LeaseState.CLAIMING,
    LeaseKind.HELD: LeaseState.HOLDING,
}


class _Lease:
    __slots__ = ("changed_at", "holder", "mark", "state")

    def __init__(self) -> None:
        self.state = LeaseState.FOLLOWING
        self.holder: NodeId | None = None
        # When the holder was heard, or the question, the claim or the renewal was sent.
        self.changed_at = inf
        # Microseconds since 1970; 0 before a holder has told it.
        self.mark = 0


def lease_name(text: str) -> str:
    """Make a name of a text that is the same in all processes of a service."""
    return (
        text if len(text.encode()) <= MAX_NAME_SIZE else hashlib.sha256(text.encode()).hexdigest()
    )


class LeaseOutput(Struct, frozen=True):
    """A message to one node, or to all."""

    kind: LeaseKind
    marks: list[LeaseMark]
    node: NodeId | None = None


class Leases:
    """The leases that one node wants."""

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self._leases: dict[str, _Lease] = {}
        self._ticked_at = inf
        self._was_paused = False

    def __len__(self) -> int:
        return len(self._leases)

    def want(self, name: str) -> None:
        """Want a lease, from the next `tick` on, until `release`."""
        self._leases.setdefault(name, _Lease())

    def state(self, name: str) -> LeaseState:
        return self._leases[name].state

    def is_held(self, name: str, now: float) -> bool:
        lease = self._leases.get(name)
        if lease is None or lease.state is not LeaseState.HOLDING:
            return False
        return now - lease.changed_at < HELD_FOR

    def mark(self, name: str) -> int:
        """Return the last mark that a holder has set; 0 if none is known."""
        return self._leases[name].mark

    def advance(self, name: str, mark: int) -> LeaseOutput:
        """Move the mark forward, and return what tells it to the others."""
        lease = self._leases[name]
        lease.mark = max(lease.mark, mark)
        return LeaseOutput(LeaseKind.HELD, [LeaseMark(name, lease.mark)])

    def release(self, names: Iterable[str]) -> list[LeaseOutput]:
        """Want leases no more."""
        marks = []
        for name in names:
            lease = self._leases.pop(name, None)
            # Also while it claims: others may have given way to this node, and wait for it.
            if lease is not None and lease.state is not LeaseState.FOLLOWING:
                marks.append(LeaseMark(name, lease.mark))
        return list(_batches(LeaseKind.RELEASED, marks))

    def tick(self, now: float) -> list[LeaseOutput]:
        """Return the questions, claims and renewals that are due; to be called every second."""
        asked: list[LeaseMark] = []
        claimed: list[LeaseMark] = []
        held: list[LeaseMark] = []
        # A pause delays a hold once, and no further one: a clock may always take such steps.
        self._was_paused = now - self._ticked_at > _PAUSE and not self._was_paused
        self._ticked_at = now
        for name, lease in self._leases.items():
            self._expire(lease, now)
            if lease.changed_at == inf:
                unsent = claimed if lease.state is LeaseState.CLAIMING else asked
                unsent.append(LeaseMark(name, lease.mark))
            elif lease.state is LeaseState.HOLDING and now - lease.changed_at >= _RENEW_AFTER:
                held.append(LeaseMark(name, lease.mark))
        return [
            *_batches(LeaseKind.ASKED, asked),
            *_batches(LeaseKind.CLAIMED, claimed),
            *_batches(LeaseKind.HELD, held),
        ]

    def _expire(self, lease: _Lease, now: float) -> None:
        age = now - lease.changed_at
        match lease.state:
            case LeaseState.FOLLOWING if age >= TIME_TO_LIVE:
                _claim(lease)
            case LeaseState.CLAIMING if age >= _CLAIM_LIMIT:
                _claim(lease)
            case LeaseState.CLAIMING if age >= CLAIM_TIME and not self._was_paused:
                # Held from its first renewal on, which is due at once. If that cannot be sent, the
                # next tick claims it anew.
                lease.state, lease.changed_at = LeaseState.HOLDING, -inf
                lease.holder = self._node
            case LeaseState.HOLDING if age >= HELD_FOR:
                _claim(lease)
            case _:
                pass

    def sent(self, output: LeaseOutput, now: float) -> None:
        """Note that the bus has taken a message to all."""
        for mark in output.marks:
            lease = self._leases.get(mark.name)
            if lease is not None and lease.state is _SENT_WHILE.get(output.kind):
                lease.changed_at = now

    def on_gone(self, node: NodeId) -> None:
        """Claim the leases of a node that has ended, from the next `tick` on."""
        for lease in self._leases.values():
            if lease.state is LeaseState.FOLLOWING and lease.holder == node:
                _claim(lease)

    def on_message(self, message: LeaseMessage, now: float) -> list[LeaseOutput]:
        """Handle a message of another node; return the answers."""
        answers: dict[LeaseKind, list[LeaseMark]] = {}
        for mark in message.marks:
            lease = self._leases.get(mark.name)
            if lease is None:
                continue
            if lease.state is LeaseState.HOLDING and HELD_FOR <= now - lease.changed_at < inf:
                # After a pause it has to believe who got the lease meanwhile.
                _claim(lease)
            # What this node knows, before it learns more: a claim without a mark is to learn it.
            kind = self._answer(lease, message, mark, now)
            lease.mark = max(lease.mark, mark.mark)
            if kind is not None:
                answers.setdefault(kind, []).append(LeaseMark(mark.name, lease.mark))
        return [LeaseOutput(kind, marks, message.source) for kind, marks in answers.items()]

    def _answer(
        self, lease: _Lease, message: LeaseMessage, mark: LeaseMark, now: float
    ) -> LeaseKind | None:
        source, state = message.source, lease.state
        match message.kind:
            case LeaseKind.HELD:
                if state is LeaseState.HOLDING and self._node < source:
                    return LeaseKind.HELD
                _follow(lease, source, now)
            case LeaseKind.RELEASED:
                if state is LeaseState.FOLLOWING and lease.holder == source:
                    _claim(lease)
            case LeaseKind.ASKED | LeaseKind.CLAIMED as kind:
                if state is LeaseState.HOLDING:
                    return LeaseKind.HELD
                if state is LeaseState.CLAIMING:
                    if kind is LeaseKind.ASKED or self._node < source:
                        return LeaseKind.CLAIMED
                    _follow(lease, source, now)
                elif kind is LeaseKind.CLAIMED and lease.holder is None:
                    # As good as the holder: if it gives up, this node need not wait either.
                    lease.holder = source
                if lease.mark > mark.mark:
                    return LeaseKind.TOLD
            case LeaseKind.TOLD:
                pass
        return None


def _claim(lease: _Lease) -> None:
    lease.state, lease.changed_at, lease.holder = LeaseState.CLAIMING, inf, None


def _follow(lease: _Lease, holder: NodeId, now: float) -> None:
    lease.state, lease.changed_at, lease.holder = LeaseState.FOLLOWING, now, holder


def _batches(kind: LeaseKind, marks: list[LeaseMark]) -> Iterator[LeaseOutput]:
    for start in range(0, len(marks), _BATCH):
        yield LeaseOutput(kind, marks[start : start + _BATCH])
