"""What a follower receives is in order and without gaps, or it knows."""

import random

import pytest

from gateman.history.base import StoredMessage
from gateman.history.follower import Follower, Gap
from gateman.history.wire import live


def chain(*offsets: int) -> list[bytes]:
    """Write messages of a channel, each after the one before."""
    return [
        live(previous, offset, b"%d" % offset)
        for previous, offset in zip((0, *offsets), offsets, strict=False)
    ]


def taken(follower: Follower, *messages: bytes) -> list[int]:
    """Take some, and tell the offsets of what is delivered."""
    return [one.offset for message in messages for one in follower.take(message)]


def test_messages_after_the_position_are_delivered() -> None:
    """Those up to it were read from the store."""
    follower = Follower()
    follower.begin(5)

    assert taken(follower, *chain(3, 5, 9, 12)) == [9, 12]
    assert follower.take(live(12, 13, b"hello")) == [StoredMessage(13, b"hello")]


def test_what_comes_early_waits_for_the_position() -> None:
    """It is delivered when that is known."""
    follower = Follower()
    early = taken(follower, *chain(3, 5, 9, 12))
    begun = follower.begin(5)

    assert (early, [one.offset for one in begun]) == ([], [9, 12])
    assert taken(follower, live(12, 20, b"")) == [20]


def test_a_message_that_is_missing_is_noticed() -> None:
    """At the next one, also among those that came early."""
    follower = Follower()
    follower.begin(5)
    with pytest.raises(Gap):
        follower.take(live(7, 9, b""))
    early = Follower()
    early.take(live(7, 9, b""))
    with pytest.raises(Gap):
        early.begin(5)


def test_a_patient_one_waits_for_what_was_overtaken() -> None:
    """It holds what came too early, also from before the beginning, and says that it waits."""
    first, second, third, fourth = chain(3, 5, 9, 12)
    follower = Follower(is_patient=True)
    follower.begin(0)
    got = [taken(follower, one) for one in (first, third, fourth)]
    was_waiting = follower.is_waiting
    got.append(taken(follower, second))
    early = Follower(is_patient=True)
    taken(early, third, first)
    begun = [one.offset for one in early.begin(0)]

    assert got == [[3], [], [], [5, 9, 12]]
    assert (was_waiting, follower.is_waiting) == (True, False)
    assert (begun, early.is_waiting, taken(early, second)) == ([3], True, [5, 9])


def test_what_is_held_is_bounded() -> None:
    """Then it is a gap."""
    follower = Follower(is_patient=True)
    follower.begin(0)
    with pytest.raises(Gap):
        taken(follower, *(live(n, n + 1, bytes(100_000)) for n in range(5, 20)))


def test_what_the_beginning_includes_is_not_delivered() -> None:
    """However late it comes."""
    follower = Follower()
    follower.begin(5)
    first, second, third = chain(3, 5, 7)

    assert taken(follower, first, third, second) == [7]


def test_an_offset_that_comes_again_is_a_gap() -> None:
    """Its message may be another one: a broker that lost messages gives their numbers again."""
    follower = Follower()
    follower.begin(0)
    first, second = chain(3, 5)

    assert taken(follower, first, second) == [3, 5]
    with pytest.raises(Gap):
        follower.take(second)


def test_a_marker_is_not_delivered() -> None:
    """But it is part of the chain."""
    follower = Follower()
    follower.begin(0)

    assert taken(follower, live(0, 3, b"", is_marker=True), live(3, 4, b"")) == [4]


def test_what_cannot_be_read_is_a_gap() -> None:
    """Whenever it comes."""
    follower = Follower()
    follower.begin(0)
    early = Follower()
    early.take(b"short")
    with pytest.raises(Gap):
        follower.take(b"short")
    with pytest.raises(Gap):
        early.begin(0)


def test_what_comes_early_is_bounded() -> None:
    """It is given up then, not filled with more."""
    follower = Follower()
    for number in range(20):
        follower.take(live(number, number + 1, bytes(100_000)))
    assert not vars(type(follower))["_early"].__get__(follower)
    with pytest.raises(Gap):
        follower.begin(0)


@pytest.mark.parametrize("is_patient", [False, True])
@pytest.mark.parametrize("seed", range(50))
def test_everything_or_a_gap(seed: int, *, is_patient: bool) -> None:
    """Whatever is lost or repeated on the way, what is delivered has no hole."""
    dice = random.Random(seed)  # noqa: S311 - a test, not a secret
    offsets = sorted(dice.sample(range(1, 1000), 50))
    sent = chain(*offsets)
    arriving = [one for one in sent if dice.random() > 0.02]
    if dice.random() < 0.5:
        arriving.insert(dice.randrange(len(arriving)), dice.choice(sent[:20]))
    if is_patient:
        index = dice.randrange(len(arriving) - 1)
        arriving[index : index + 2] = arriving[index : index + 2][::-1]
    start = dice.choice([0, *offsets[:10]])
    known_at = dice.randrange(10)
    follower = Follower(is_patient=is_patient)
    got: list[int] = []
    try:
        for index, message in enumerate(arriving):
            if index == known_at:
                got += [one.offset for one in follower.begin(start)]
            got += taken(follower, message)
    except Gap:
        pass

    due = [offset for offset in offsets if offset > start]
    assert got == due[: len(got)]
