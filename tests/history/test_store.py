"""
The messages of all channels: complete or not, and bounded.

The model knows everything that was ever appended. Whatever the store has dropped meanwhile, what it
calls complete is what the model says.
"""

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.history.base import HistoryLimits, Missed, Position
from gateman.history.channel_log import MESSAGE_OVERHEAD
from gateman.history.store import HistoryStore, StoreLimits

HUNDRED = HistoryLimits(size=100, ttl=300)


def store(**limits: int) -> HistoryStore:
    """Make one with some limits."""
    return HistoryStore("epoch", StoreLimits(**limits))


def put(target: HistoryStore, channel: str, size: int = 1, now: float = 0) -> int:
    """Append a message, and tell its offset."""
    return target.append(channel, bytes(size), HUNDRED, now).offset


def at(offset: int) -> Position:
    """Make a position of the store's epoch."""
    return Position("epoch", offset)


def test_one_sequence_numbers_all_channels() -> None:
    """Each message tells which offset was before it in its channel."""
    one = store()
    added = [one.append(channel, b"", HUNDRED, 0) for channel in "aabab"]

    assert [(each.offset, each.previous) for each in added] == [
        (1, 0),
        (2, 1),
        (3, 0),
        (4, 2),
        (5, 3),
    ]


def test_a_channel_without_messages_needs_nothing() -> None:
    """Asking for it keeps nothing, and its position is good when it has messages."""
    one = store()
    put(one, "other")
    tops = [one.since(f"channel {number}", None, 0, 0).position for number in range(1000)]
    offset = put(one, "channel 1")
    missed = one.since("channel 1", tops[1], 10, 0)

    assert one.channel_count == 2
    assert (missed.is_complete, missed.position) == (True, at(offset))


def test_a_forgotten_channel_is_not_complete_for_who_was_behind() -> None:
    """Who was at its end is; others, and those of the channel anew, are told."""
    one = store(max_channels=2)
    first, last = put(one, "a"), put(one, "a")
    put(one, "b")
    put(one, "c")

    assert one.channel_count == 2
    assert one.since("a", at(first), 10, 0) == Missed((), at(last), is_complete=False)
    assert one.since("a", at(last), 10, 0) == Missed((), at(last), is_complete=True)

    put(one, "a")

    assert [one.since("a", at(n), 10, 0).is_complete for n in (first, last)] == [False, True]
    assert one.counts["forgotten"] == 2


def test_channels_without_messages_are_forgotten_first() -> None:
    """They lose nothing by it, but the proof for old positions."""
    one = store(max_channels=2)
    put(one, "a")
    put(one, "b")
    one.remove("b")
    put(one, "c")

    assert [
        len(one.read(name, limit=9, since=None, is_reverse=False, now=0).messages) for name in "abc"
    ] == [1, 0, 1]


def test_its_bytes_are_bounded() -> None:
    """The channel without messages for the longest time loses its own, and says so."""
    one = store(max_size=3 * (100 + MESSAGE_OVERHEAD))
    offsets = [put(one, channel, 100) for channel in "abac"]
    assert one.size == 3 * (100 + MESSAGE_OVERHEAD)

    found = [one.since(channel, at(0), 10, 0) for channel in "abc"]

    assert [missed.is_complete for missed in found] == [True, False, True]
    assert [missed.position.offset for missed in found] == [offsets[2], offsets[1], offsets[3]]
    assert one.counts["dropped"] == 1


def test_one_channel_does_not_drive_out_the_others() -> None:
    """It has a bound of its own, and drops its own oldest messages."""
    one = store(max_channel_size=2 * (100 + MESSAGE_OVERHEAD))
    put(one, "quiet")
    offsets = [put(one, "loud", 100) for _ in range(1000)]

    assert one.since("quiet", at(0), 10, 0).is_complete
    assert [one.since("loud", at(n), 10, 0).is_complete for n in offsets[-4:]] == [
        False,
        True,
        True,
        True,
    ]
    assert one.size == 2 * (100 + MESSAGE_OVERHEAD) + 1 + MESSAGE_OVERHEAD


def test_a_message_that_fits_nowhere_is_passed_on() -> None:
    """It has its offset, and who missed it is told."""
    one = store(max_size=1000, max_channel_size=1000)
    offset = put(one, "a", 2000)

    assert (one.size, one.channel_count) == (0, 1)
    assert one.since("a", at(0), 10, 0) == Missed((), at(offset), is_complete=False)
    assert one.since("a", at(offset), 10, 0).is_complete


def test_what_is_too_old_is_dropped_by_itself() -> None:
    """The memory is given back though nobody asks; each channel at its time."""
    one = store()
    for channel, ttl in (("a", 10), ("b", 5), ("c", 20)):
        one.append(channel, b"", HistoryLimits(size=9, ttl=ttl), 0)
    one.append("b", b"", HistoryLimits(size=9, ttl=5), 4)
    sizes = []
    for now in (4.9, 5, 9, 10, 20):
        one.expire(now)
        sizes.append(one.size // MESSAGE_OVERHEAD)

    assert sizes == [4, 3, 2, 1, 0]
    assert one.channel_count == 3


def test_churn_of_channels_leaves_nothing() -> None:
    """Not even in the list of what expires, if that is in a year."""
    one = store(max_channels=10)
    year = HistoryLimits(size=1, ttl=365 * 86400)
    for number in range(20_000):
        one.append(str(number), b"", year, 0)

    assert one.channel_count == 10
    assert len(vars(one)["_due"]) < 1100


def test_a_message_expires_at_the_moment_that_was_told() -> None:
    """Also where the sum of two times rounds another way than their difference."""
    kept_at, ttl = 0.9431865638505517, 10.898041088097814
    assert kept_at > (kept_at + ttl) - ttl
    one = store()
    one.append("a", b"x", HistoryLimits(size=1, ttl=ttl), kept_at)
    one.expire(kept_at + ttl)

    assert one.size == 0


def test_a_key_is_known_for_a_while() -> None:
    """In its channel, for five minutes, and for the last ten thousand."""
    one = store()
    first = one.append("a", b"", HUNDRED, 0, "key")
    again = one.append("a", b"", HUNDRED, 299, "key")
    other = one.append("b", b"", HUNDRED, 299, "key")
    later = one.append("a", b"", HUNDRED, 300, "key")

    assert [(each.offset, each.is_new) for each in (first, again, other, later)] == [
        (1, True),
        (1, False),
        (2, True),
        (3, True),
    ]

    for number in range(20_000):
        one.append("a", b"", HUNDRED, 300, str(number))
    assert len(vars(one)["_keys"]) <= 10_001


def test_removing_what_is_not_there() -> None:
    """Nothing happens."""
    one = store()
    one.remove("a")

    assert one.channel_count == 0


CHANNELS = "abcd"

Action = tuple[str, str, int, float]

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["append"] * 6 + ["remove", "expire"]),
        st.sampled_from(CHANNELS),
        st.integers(0, 300),
        st.floats(0, 2),
    ),
    max_size=60,
)


def check(actions: list[Action], limits: HistoryLimits, **bounds: int) -> int:
    """Act, ask from every position after each, and count what was complete."""
    one = store(**bounds)
    known: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
    positions: dict[str, set[int]] = {channel: {0} for channel in CHANNELS}
    now = 0.0
    complete = 0
    for verb, channel, size, passed in actions:
        now += passed
        if verb == "append":
            payload = bytes([size % 256]) * size
            added = one.append(channel, payload, limits, now)
            known[channel].append((added.offset, payload))
        elif verb == "remove":
            one.remove(channel)
        else:
            one.expire(now)
        for name in CHANNELS:
            top = one.since(name, None, 0, now).position.offset
            assert top >= max((offset for offset, _ in known[name]), default=0)
            positions[name].add(top)
            for offset in positions[name]:
                missed = one.since(name, at(offset), 50, now)
                later = [each for each in known[name] if each[0] > offset]
                if missed.is_complete:
                    assert [tuple(each) for each in missed.messages] == later
                    complete += 1
                else:
                    assert missed.messages == ()
        bound = bounds.get("max_size", 1 << 30)
        assert one.size <= bound
        assert one.channel_count <= bounds.get("max_channels", 99)
    return complete


@given(ACTIONS, st.integers(1, 5), st.floats(0.5, 20))
def test_what_is_complete_is_complete(actions: list[Action], size: int, ttl: float) -> None:
    """From each position that a client can have, at each moment, under every pressure."""
    limits = HistoryLimits(size=size, ttl=ttl)
    check(actions, limits, max_channels=2, max_size=1500, max_channel_size=900)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_kept_is_found(seed: int) -> None:
    """Without pressure, every position leads to what follows: nothing is called lost in vain."""
    dice = random.Random(seed)  # noqa: S311 - a test, not a secret
    actions = [("append", dice.choice(CHANNELS), dice.randrange(50), 0.01) for _ in range(40)]
    complete = check(actions, HUNDRED)
    asked = sum(
        1
        + len({offset for offset, (_, name, _, _) in enumerate(actions[:n], 1) if name == channel})
        for n in range(1, len(actions) + 1)
        for channel in CHANNELS
    )

    assert complete == asked
