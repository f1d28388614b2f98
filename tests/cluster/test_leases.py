"""Leases: who holds one, in a time that only goes where a test wants it."""

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest

from gateman.cluster.envelope import LeaseKind, LeaseMark, LeaseMessage
from gateman.cluster.leases import (
    CLAIM_TIME,
    HELD_FOR,
    LeaseOutput,
    Leases,
    LeaseState,
    lease_name,
)
from gateman.cluster.names import NodeId
from gateman.cluster.peers import TIME_TO_LIVE

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
NAME = "report"

# Until a node holds a lease: silence, a claim, ticks, what is under way, and a pause before it.
TAKE_OVER = TIME_TO_LIVE + CLAIM_TIME + 6


def message(source: NodeId, kind: LeaseKind, mark: int = 0) -> LeaseMessage:
    return LeaseMessage(source, kind, [LeaseMark(NAME, mark)])


def output(kind: LeaseKind, mark: int = 0, node: NodeId | None = None) -> LeaseOutput:
    return LeaseOutput(kind, [LeaseMark(NAME, mark)], node)


def ticked(leases: Leases, now: float) -> list[LeaseOutput]:
    """Tick, and send what that returns at once."""
    outputs = leases.tick(now)
    for one in outputs:
        leases.sent(one, now)
    return outputs


def holding(node: NodeId = B, at: float = 0.0) -> Leases:
    """Make a node that holds the lease from that time on."""
    leases = claiming(node, at - CLAIM_TIME)
    ticked(leases, at)
    return leases


def claiming(node: NodeId = B, at: float = 0.0) -> Leases:
    """Make a node that has sent a claim at that time."""
    leases = Leases(node)
    leases.want(NAME)
    ticked(leases, at - TIME_TO_LIVE)
    ticked(leases, at)
    return leases


def following(holder: NodeId, at: float = 0.0, mark: int = 0) -> Leases:
    leases = Leases(B)
    leases.want(NAME)
    leases.on_message(message(holder, LeaseKind.HELD, mark), at)
    return leases


def test_a_new_node_asks_waits_for_a_holder_that_is_blocked_claims_and_holds() -> None:
    leases = Leases(B)
    leases.want(NAME)
    assert ticked(leases, 0) == [output(LeaseKind.ASKED)]
    assert ticked(leases, TIME_TO_LIVE - 0.1) == []
    assert ticked(leases, TIME_TO_LIVE) == [output(LeaseKind.CLAIMED)]
    assert ticked(leases, TIME_TO_LIVE + 0.5) == []
    assert not leases.is_held(NAME, TIME_TO_LIVE + 0.9)
    assert ticked(leases, TIME_TO_LIVE + 1) == [output(LeaseKind.HELD)]
    assert leases.is_held(NAME, TIME_TO_LIVE + 1)


def test_what_was_not_sent_is_sent_again_and_gets_nothing() -> None:
    leases = Leases(B)
    leases.want(NAME)
    leases.tick(0)
    assert ticked(leases, 20) == [output(LeaseKind.ASKED)]
    leases.tick(30)
    assert leases.tick(40) == [output(LeaseKind.CLAIMED)]


def test_a_claim_is_made_again_after_a_long_pause() -> None:
    """Another node may have got the lease meanwhile, and its messages are not read yet."""
    assert claiming(B).tick(4.5) == [output(LeaseKind.CLAIMED)]


def test_a_claim_becomes_no_hold_before_what_came_in_a_pause_is_read() -> None:
    leases = claiming(B)
    leases.tick(0.5)
    assert ticked(leases, 2.2) == []
    assert ticked(leases, 2.9) == [output(LeaseKind.HELD)]


def test_of_two_claims_the_smaller_node_gets_the_lease() -> None:
    smaller, larger = claiming(A), claiming(B)
    assert larger.on_message(message(A, LeaseKind.CLAIMED), 0.5) == []
    assert smaller.on_message(message(B, LeaseKind.CLAIMED), 0.5) == [
        output(LeaseKind.CLAIMED, node=B)
    ]
    assert ticked(larger, 1) == []
    assert ticked(smaller, 1) == [output(LeaseKind.HELD)]


def test_a_holder_answers_a_claim_and_keeps_the_lease() -> None:
    leases = holding(B)
    for kind in (LeaseKind.CLAIMED, LeaseKind.ASKED):
        assert leases.on_message(message(A, kind), 1) == [output(LeaseKind.HELD, node=A)]
    assert leases.is_held(NAME, 1)


def test_a_claim_stands_against_a_question() -> None:
    leases = claiming(B)
    leases.on_message(message(A, LeaseKind.ASKED), 0.5)
    assert ticked(leases, 1) == [output(LeaseKind.HELD)]


def test_a_renewal_is_due_every_two_seconds_and_keeps_the_lease() -> None:
    leases = holding(B)
    assert ticked(leases, 1) == []
    assert ticked(leases, 2) == [output(LeaseKind.HELD)]
    assert leases.is_held(NAME, 2 + HELD_FOR - 0.1)


@pytest.mark.parametrize("ticks", [0, int(HELD_FOR)], ids=["blocked", "the bus away"])
def test_a_holder_that_cannot_renew_loses_the_lease_before_another_gets_it(ticks: int) -> None:
    leases = holding(B)
    for second in range(1, ticks + 1):
        leases.tick(second)
    assert not leases.is_held(NAME, HELD_FOR)
    assert leases.tick(HELD_FOR + 1) == [output(LeaseKind.CLAIMED)]
    assert HELD_FOR < TIME_TO_LIVE


def test_a_first_renewal_that_is_not_sent_leads_to_a_new_claim() -> None:
    leases = claiming(B)
    leases.tick(1)
    assert not leases.is_held(NAME, 1)
    assert leases.tick(2) == [output(LeaseKind.CLAIMED)]


def test_a_silent_holder_is_replaced() -> None:
    leases = following(A)
    assert ticked(leases, TIME_TO_LIVE - 0.1) == []
    assert ticked(leases, TIME_TO_LIVE) == [output(LeaseKind.CLAIMED)]


def test_a_holder_that_releases_or_ends_is_replaced_at_once() -> None:
    for is_orderly in (True, False):
        leases = following(A, mark=7)
        if is_orderly:
            leases.on_message(message(A, LeaseKind.RELEASED, 7), 1)
        else:
            leases.on_gone(A)
        assert ticked(leases, 1) == [output(LeaseKind.CLAIMED, 7)]


def test_a_claim_that_is_given_up_is_told_to_those_that_gave_way() -> None:
    """In a reload, a process that drains may be the first to claim what another one released."""
    larger, smaller = claiming(B), claiming(A)
    larger.on_message(message(A, LeaseKind.CLAIMED), 0.5)
    assert larger.state(NAME) is LeaseState.FOLLOWING

    assert smaller.release([NAME]) == [output(LeaseKind.RELEASED)]
    larger.on_message(message(A, LeaseKind.RELEASED), 0.6)
    assert larger.state(NAME) is LeaseState.CLAIMING


def test_a_new_node_learns_of_a_claim_and_of_its_end() -> None:
    """Else it would wait for a holder, although the one that is about to hold has ended."""
    new, other = Leases(B), claiming(A)
    new.want(NAME)
    [asked] = new.tick(0.5)
    new.sent(asked, 0.5)
    [answer] = other.on_message(message(B, asked.kind), 0.5)
    assert answer == output(LeaseKind.CLAIMED, node=B)

    new.on_message(message(A, LeaseKind.CLAIMED), 0.5)
    assert ticked(new, 1) == []
    new.on_message(message(A, LeaseKind.RELEASED), 1.2)
    assert ticked(new, 1.5) == [output(LeaseKind.CLAIMED)]


def test_a_holder_that_was_blocked_follows_who_got_the_lease_meanwhile() -> None:
    """It reads that before its next tick, and the other one may be blocked by now."""
    leases = holding(A)
    assert leases.on_message(message(B, LeaseKind.HELD), 20) == []
    assert leases.state(NAME) is LeaseState.FOLLOWING
    assert ticked(leases, 20 + TIME_TO_LIVE - 0.1) == []


def test_others_that_end_change_nothing() -> None:
    leases = following(A)
    leases.on_gone(C)
    leases.on_message(message(C, LeaseKind.RELEASED), 1)
    assert ticked(leases, 1) == []


def test_of_two_holders_the_larger_node_gives_way() -> None:
    smaller, larger = holding(A), holding(B)
    [answer] = smaller.on_message(message(B, LeaseKind.HELD), 1)
    assert answer == output(LeaseKind.HELD, node=B)
    assert larger.on_message(message(A, LeaseKind.HELD), 1) == []
    assert (smaller.is_held(NAME, 1), larger.is_held(NAME, 1)) == (True, False)


def test_a_released_lease_is_told_to_all_and_not_wanted_any_more() -> None:
    leases = holding(B)
    leases.advance(NAME, 9)
    assert leases.release([NAME, "unknown"]) == [output(LeaseKind.RELEASED, 9)]
    assert (len(leases), ticked(leases, 10)) == (0, [])
    assert following(A).release([NAME]) == []


def test_the_mark_only_moves_forward() -> None:
    leases = holding(B)
    assert leases.advance(NAME, 9) == output(LeaseKind.HELD, 9)
    assert leases.advance(NAME, 5) == output(LeaseKind.HELD, 9)
    other = following(A, mark=9)
    other.on_message(message(A, LeaseKind.HELD, 5), 1)
    assert other.mark(NAME) == 9


def test_a_new_node_learns_the_mark_from_those_that_know_it() -> None:
    for kind in (LeaseKind.CLAIMED, LeaseKind.ASKED):
        assert following(A, mark=9).on_message(message(C, kind), 1) == [
            output(LeaseKind.TOLD, 9, C)
        ]
    new = Leases(C)
    new.want(NAME)
    new.on_message(message(B, LeaseKind.TOLD, 9), 1)
    assert (new.mark(NAME), new.state(NAME)) == (9, LeaseState.FOLLOWING)


def test_many_leases_share_messages_of_bounded_size() -> None:
    leases = Leases(B)
    for number in range(130):
        leases.want(str(number))
    assert [len(one.marks) for one in leases.tick(0)] == [64, 64, 2]


def test_a_name_is_never_longer_than_the_bus_takes() -> None:
    assert lease_name("chat: report") == "chat: report"
    assert len(lease_name("chat" * 100)) == 64


def test_leases_that_this_node_does_not_want_are_no_concern_of_it() -> None:
    leases = Leases(B)
    for kind in LeaseKind:
        assert leases.on_message(message(A, kind, 9), 1) == []


@dataclass
class Simulated:
    """A node; what reaches it while it is blocked waits."""

    leases: Leases
    started_at: float
    is_blocked: bool = False
    waiting: list[LeaseMessage] = field(default_factory=list)


class Simulation:
    """Nodes on a bus that takes up to half a second, and loses nothing."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable
        self.now = 0.0
        self.nodes: dict[NodeId, Simulated] = {}
        self._names = count()
        self._numbers = count()
        self._due: list[tuple[float, int, NodeId, LeaseMessage | None]] = []
        # In order from each node to each other.
        self._last_at: dict[tuple[NodeId, NodeId], float] = {}
        # A job of every second: the times that were run.
        self.done: set[int] = set()

    def add(self) -> NodeId:
        node = NodeId(f"{self.random.random():.6f}-{next(self._names)}")
        leases = Leases(node)
        leases.want(NAME)
        self.nodes[node] = Simulated(leases, self.now)
        self._push(self.now + self.random.random(), node, None)
        return node

    def _push(self, at: float, node: NodeId, what: LeaseMessage | None) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), node, what))

    def send(self, source: NodeId, one: LeaseOutput) -> None:
        for target in [one.node] if one.node else list(self.nodes):
            if target == source or target not in self.nodes:
                continue
            at = self.now + self.random.random() / 2
            at = self._last_at[source, target] = max(at, self._last_at.get((source, target), 0))
            self._push(at, target, LeaseMessage(source, one.kind, one.marks))
        if one.node is None and source in self.nodes:
            self.nodes[source].leases.sent(one, self.now)

    def holders(self) -> Iterator[Simulated]:
        return (one for one in self.nodes.values() if one.leases.is_held(NAME, self.now))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._due and self._due[0][0] <= until:
            self.now, _, node, what = heapq.heappop(self._due)
            simulated = self.nodes.get(node)
            if simulated is None:
                continue
            if what is None:
                self._push(self.now + 1, node, None)
                if not simulated.is_blocked:
                    self._tick(node, simulated)
            else:
                simulated.waiting.append(what)
                if not simulated.is_blocked:
                    self._read(node, simulated)
            self.check()
        self.now = until

    def _read(self, node: NodeId, simulated: Simulated) -> None:
        waiting, simulated.waiting = simulated.waiting, []
        for one in waiting:
            for answer in simulated.leases.on_message(one, self.now):
                self.send(node, answer)

    def _tick(self, node: NodeId, simulated: Simulated) -> None:
        # After a pause, timers run before what has arrived is read.
        for one in simulated.leases.tick(self.now):
            self.send(node, one)
        if simulated.leases.is_held(NAME, self.now):
            planned = int(self.now)
            if planned > max(simulated.leases.mark(NAME), simulated.started_at):
                assert planned not in self.done, "one time was run twice"
                self.done.add(planned)
                self.send(node, simulated.leases.advance(NAME, planned))
        self._read(node, simulated)

    def check(self) -> None:
        assert len(list(self.holders())) <= 1, "two nodes hold one lease"

    def end(self, node: NodeId, *, is_orderly: bool) -> None:
        ended = self.nodes[node]
        if is_orderly and not ended.is_blocked:
            for one in ended.leases.release([NAME]):
                self.send(node, one)
        del self.nodes[node]


@pytest.mark.parametrize("seed", range(60))
def test_never_two_hold_it_and_soon_one_does(seed: int) -> None:
    """Nodes start, release, die and are blocked, the holder more often than others."""
    simulation = Simulation(seed)
    chance = simulation.random
    for _ in range(chance.randint(1, 4)):
        simulation.add()
    for _ in range(15):
        simulation.run(chance.choice((0.1, 1, 3, 9, TAKE_OVER)))
        node = chance.choice(list(simulation.nodes))
        for held in simulation.holders():
            if chance.random() < 0.7:
                node = next(key for key, one in simulation.nodes.items() if one is held)
        match chance.choice(("add", "release", "die", "block")):
            case "release" | "die" as how if len(simulation.nodes) > 1:
                simulation.end(node, is_orderly=how == "release")
            case "block":
                simulation.nodes[node].is_blocked = not simulation.nodes[node].is_blocked
            case _:
                simulation.add()
    for simulated in simulation.nodes.values():
        simulated.is_blocked = False
    simulation.run(TAKE_OVER)
    assert len(list(simulation.holders())) == 1
    assert int(simulation.now) - 1 in simulation.done
