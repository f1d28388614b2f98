"""Who takes what comes: one for each subject, and none harms another."""

from collections import Counter

import pytest

from gateman.bus.base import Cause, Gap
from gateman.bus.handlers import MessageHandlers
from gateman.bus.subjects import subject

from .contract import ignore

ROOM = subject("room")
OTHER = subject("other")
GAP = Gap(cause=Cause.FULL, since=1.0, until=2.0, unsent=3, uncertain=0, missed=0)


def test_a_subject_has_one_receiver() -> None:
    """The last one; it is new only if there was none."""
    handlers = MessageHandlers(Counter())
    first: list[bytes] = []
    second: list[bytes] = []

    added = [handlers.add(ROOM, first.append), handlers.add(ROOM, second.append)]
    handlers.deliver(ROOM, b"hello", 0.0)

    assert added == [True, False]
    assert (first, second) == ([], [b"hello"])
    assert list(handlers) == [ROOM]


def test_a_removed_handler_is_not_called() -> None:
    """What comes for nobody is no fault, and not counted as received."""
    counts: Counter[str] = Counter()
    handlers = MessageHandlers(counts)
    arrived: list[bytes] = []
    handlers.add(ROOM, arrived.append)

    removed = [handlers.remove(ROOM), handlers.remove(ROOM)]
    handlers.deliver(ROOM, b"hello", 0.0)

    assert removed == [True, False]
    assert (arrived, counts) == ([], {})


def test_a_failure_is_counted_and_sampled(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that always fails writes a line now and then, without payloads."""
    counts: Counter[str] = Counter()
    handlers = MessageHandlers(counts)

    def fail(payload: bytes) -> None:
        raise ValueError(len(payload))

    handlers.add(ROOM, fail)
    for number in range(100):
        handlers.deliver(ROOM, b"secret", number / 10)

    assert counts == {"received": 100, "receiver_failed": 100}
    assert caplog.messages == ["a receiver of the bus failed"]
    assert "secret" not in caplog.text


def test_gaps_are_reported_to_their_handlers(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody may be listening, and who fails is counted."""
    counts: Counter[str] = Counter()
    handlers = MessageHandlers(counts)
    gaps: list[Gap] = []

    def fail(gap: Gap) -> None:
        raise ValueError(gap)

    handlers.report(GAP, None)
    handlers.report(GAP, gaps.append)
    handlers.report(GAP, fail)

    assert gaps == [GAP]
    assert counts == {"receiver_failed": 1}
    assert caplog.messages == ["on_gap failed"]


def test_what_is_subscribed_can_change_while_it_is_listed() -> None:
    """Receivers may subscribe and unsubscribe while everything is subscribed again."""
    handlers = MessageHandlers(Counter())
    handlers.add(ROOM, ignore)
    handlers.add(OTHER, ignore)

    for one in handlers:
        handlers.remove(one)

    assert list(handlers) == []
