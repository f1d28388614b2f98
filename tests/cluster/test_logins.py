"""Which login is the newest, in a time that only goes where a test wants it."""

import random
from collections import deque

import pytest

from gateman.cluster.envelope import BindOnly, Claim
from gateman.cluster.logins import LoginConflict, Logins, ReceivedLogins
from gateman.cluster.names import ClientId, NodeId, Uid, client_id

UID = Uid("42")
ANN, BOB, EVE = ClientId("a-1"), ClientId("b-1"), ClientId("e-1")


def login(client: ClientId, uid: Uid = UID) -> BindOnly:
    """Make a login."""
    return BindOnly(client, uid, 4409, "elsewhere")


def claim(logins: Logins, client: ClientId, at: float = 0.0) -> Claim:
    """Log a client in, at that instant by both clocks."""
    return logins.claim(login(client), wall_time=at, now=at)


def test_a_later_login_has_the_higher_stamp() -> None:
    """Whether the clock goes on, stands still, goes back, or is behind another machine's."""
    logins = Logins()
    stamps = [claim(logins, ANN, at).stamp for at in (10.0, 10.0, 9.0, 11.0)]
    logins.observe(20_000_000)
    stamps.append(claim(logins, ANN, 12.0).stamp)
    logins.observe(5)

    assert stamps == [10_000_000, 10_000_001, 10_000_002, 11_000_000, 20_000_001]
    assert logins.clock == 20_000_001


def test_of_two_logins_the_newer_one_stays() -> None:
    """Who hears of a newer one closes its own, who hears of an older one answers."""
    here, there = Logins(), Logins()
    older, newer = claim(here, ANN, 1.0), claim(there, BOB, 2.0)

    assert here.resolve(newer, [ANN]) == LoginConflict([ANN], None)
    assert there.resolve(older, [BOB]) == LoginConflict([], newer)
    assert here.resolve(newer, []) == LoginConflict([], None)


def test_of_two_at_once_all_agree_which_stays() -> None:
    """The client id decides."""
    here, there = Logins(), Logins()
    one, other = claim(here, ANN), claim(there, BOB)

    assert one.stamp == other.stamp
    assert here.resolve(other, [ANN]) == LoginConflict([ANN], None)
    assert there.resolve(one, [BOB]) == LoginConflict([], other)


def test_a_client_without_exclusive_login_is_older_than_any_login() -> None:
    """A client that was bound without ``only``, or is somebody else's by now."""
    logins = Logins()
    claim(logins, ANN, 9.0)
    logins.forget(ANN)
    newest = claim(logins, EVE, 10.0)

    assert logins.resolve(newest, [ANN, BOB, EVE]) == LoginConflict([ANN, BOB], None)
    assert logins.resolve(Claim(ClientId("x-1"), UID, 5, 4409, ""), [ANN, EVE]) == LoginConflict(
        [ANN], newest
    )


def test_logins_that_may_have_been_missed_are_returned_again() -> None:
    """With some seconds more, as a break is noticed late; the newest first."""
    logins = Logins()
    made = [claim(logins, client, at) for client, at in ((ANN, 0.0), (BOB, 10.0), (EVE, 20.0))]
    claim(logins, ANN, 0.0)
    logins.forget(ANN)
    logins.forget(ANN)

    assert logins.since(15.0) == [made[2], made[1]]
    assert logins.since(15.1) == [made[2]]
    assert logins.since(float("-inf")) == [made[2], made[1]]
    assert len(logins) == 2


def test_logins_that_were_not_heard_are_missed() -> None:
    """By the next one, or by the next sign of life; and asked for once."""
    heard, node = ReceivedLogins(), NodeId("n")
    strange = [heard.received(node, 3, 0.0), node in heard]
    heard.begin(node, 3, 0.0)

    assert strange == [0.0, False]
    assert [heard.received(node, 4, 10.0), heard.reported(node, 4, 11.0)] == [0.0, 0.0]
    assert heard.received(node, 6, 15.0) == 4.0
    assert heard.reported(node, 6, 16.0) == 0.0
    assert heard.reported(node, 8, 18.0) == 2.0
    assert heard.reported(node, 8, 19.0) == heard.received(node, 9, 20.0) == 0.0
    heard.forget(node)
    heard.forget(node)
    assert node not in heard


def test_received_logins_are_bounded() -> None:
    """The one that came first is a stranger then."""
    heard = ReceivedLogins()
    for number in range(5000):
        heard.begin(NodeId(f"n{number}"), 0, 0.0)

    assert sum(NodeId(f"n{number}") in heard for number in range(5000)) == 4096
    assert NodeId("n4999") in heard


@pytest.mark.parametrize("seed", range(50))
def test_exactly_one_client_stays_in_any_order_of_messages(seed: int) -> None:
    """Processes with clocks that differ, and messages that take any time, in order by pairs."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    nodes = [NodeId(f"n{number}") for number in range(5)]
    logins = {node: Logins() for node in nodes}
    skews = {node: dice.uniform(-60, 60) for node in nodes}
    there: dict[NodeId, list[ClientId]] = {node: [] for node in nodes}
    ways: dict[tuple[NodeId, NodeId], deque[Claim]] = {
        (one, other): deque() for one in nodes for other in nodes if one != other
    }
    coming = [(dice.choice(nodes), number) for number in range(15)]

    def judge(node: NodeId, one: Claim) -> Claim | None:
        verdict = logins[node].resolve(one, there[node])
        for loser in verdict.losers:
            there[node].remove(loser)
            logins[node].forget(loser)
        return verdict.answer

    while coming or any(ways.values()):
        way = dice.choice([pair for pair, waiting in ways.items() if waiting] or [None])
        if coming and (way is None or dice.random() < 0.5):
            node, number = coming.pop()
            client = client_id(node, number)
            there[node].append(client)
            made = logins[node].claim(login(client), wall_time=skews[node], now=0.0)
            judge(node, made)
            for other in nodes:
                if other != node:
                    ways[node, other].append(made)
        elif way is not None:
            source, target = way
            heard = ways[way].popleft()
            logins[target].observe(heard.stamp)
            answer = judge(target, heard)
            if answer is not None:
                ways[target, source].append(answer)

    assert sum(map(len, there.values())) == 1
