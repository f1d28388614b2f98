"""Who takes what comes: one for each subject, and none harms another."""

from collections import Counter

import pytest

from gateman.bus.base import Cause, Gap
from gateman.bus.receivers import Receivers
from gateman.bus.subjects import subject

from .contract import ignore

ROOM = subject("room")
OTHER = subject("other")
GAP = Gap(cause=Cause.FULL, since=1.0, until=2.0, unsent=3, uncertain=0, missed=0)


def test_a_subject_has_one_receiver() -> None:
    """The last one; it is new only if there was none."""
    receivers = Receivers(Counter())
    first: list[bytes] = []
    second: list[bytes] = []

    added = [receivers.add(ROOM, first.append), receivers.add(ROOM, second.append)]
    receivers.deliver(ROOM, b"hello", 0.0)

    assert added == [True, False]
    assert (first, second) == ([], [b"hello"])
    assert list(receivers) == [ROOM]


def test_who_has_left_is_not_called() -> None:
    """What comes for nobody is no fault, and not counted as received."""
    counts: Counter[str] = Counter()
    receivers = Receivers(counts)
    arrived: list[bytes] = []
    receivers.add(ROOM, arrived.append)

    removed = [receivers.remove(ROOM), receivers.remove(ROOM)]
    receivers.deliver(ROOM, b"hello", 0.0)

    assert removed == [True, False]
    assert (arrived, counts) == ([], {})


def test_a_failure_is_counted_and_sampled(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that always fails writes a line now and then, without payloads."""
    counts: Counter[str] = Counter()
    receivers = Receivers(counts)

    def fail(payload: bytes) -> None:
        raise ValueError(len(payload))

    receivers.add(ROOM, fail)
    for number in range(100):
        receivers.deliver(ROOM, b"secret", number / 10)

    assert counts == {"received": 100, "receiver_failed": 100}
    assert caplog.messages == ["a receiver of the bus failed"]
    assert "secret" not in caplog.text


def test_gaps_are_told_to_who_wants_to_know(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody may be listening, and who fails is counted."""
    counts: Counter[str] = Counter()
    receivers = Receivers(counts)
    gaps: list[Gap] = []

    def fail(gap: Gap) -> None:
        raise ValueError(gap)

    receivers.report(GAP, None)
    receivers.report(GAP, gaps.append)
    receivers.report(GAP, fail)

    assert gaps == [GAP]
    assert counts == {"receiver_failed": 1}
    assert caplog.messages == ["on_gap failed"]


def test_what_is_subscribed_can_change_while_it_is_listed() -> None:
    """Receivers may subscribe and unsubscribe while everything is subscribed again."""
    receivers = Receivers(Counter())
    receivers.add(ROOM, ignore)
    receivers.add(OTHER, ignore)

    for one in receivers:
        receivers.remove(one)

    assert list(receivers) == []
