"""What is lost is counted once, and told in the gap that it belongs to."""

from collections import Counter

from gateman.bus.base import Cause, Gap
from gateman.bus.gaps import GapTracker


def test_nothing_lost_is_no_gap() -> None:
    """A broker that was not away has not come back."""
    gaps = GapTracker(Counter())

    assert (gaps.restored(1.0), gaps.relieved(1.0)) == (None, None)
    assert (gaps.is_away, gaps.is_full) == (False, False)


def test_a_broken_connection_is_a_gap() -> None:
    """It lasts from when all was well until the broker knows us again."""
    counts: Counter[str] = Counter()
    gaps = GapTracker(counts)
    gaps.broken(10.0, uncertain=3)
    gaps.refused_away(11.0)
    gaps.refused_away(12.0)

    gap = gaps.restored(13.0)

    assert gap == Gap(
        cause=Cause.DISCONNECTED, since=10.0, until=13.0, unsent=2, uncertain=3, missed=None
    )
    assert counts == {"unsent": 2, "uncertain": 3, "gaps": 1}
    assert gaps.restored(14.0) is None


def test_a_connection_that_breaks_again_lengthens_the_gap() -> None:
    """Until the broker has confirmed our subscriptions, it is one gap."""
    gaps = GapTracker(Counter())
    gaps.broken(10.0, uncertain=3)
    gaps.broken(20.0, uncertain=4)

    gap = gaps.restored(30.0)

    assert gap == Gap(
        cause=Cause.DISCONNECTED, since=10.0, until=30.0, unsent=0, uncertain=7, missed=None
    )


def test_what_is_refused_before_there_is_a_broker_is_a_gap() -> None:
    """Who publishes before the start has a gap that begins there."""
    gaps = GapTracker(Counter())
    gaps.refused_away(5.0)

    gap = gaps.restored(6.0)

    assert gap == Gap(
        cause=Cause.DISCONNECTED, since=5.0, until=6.0, unsent=1, uncertain=0, missed=None
    )


def test_too_much_at_once_is_a_gap() -> None:
    """It lasts from the first message that was refused until there is room."""
    gaps = GapTracker(Counter())
    gaps.refused(5.0)
    gaps.refused(6.0)
    was_full = gaps.is_full

    gap = gaps.relieved(7.0)

    assert was_full
    assert not gaps.is_full
    assert gap == Gap(cause=Cause.FULL, since=5.0, until=7.0, unsent=2, uncertain=0, missed=0)


def test_a_broker_that_goes_while_too_much_waits_is_one_gap() -> None:
    """What was refused before belongs to the gap, which begins with it."""
    gaps = GapTracker(Counter())
    gaps.refused(5.0)
    gaps.broken(9.0, uncertain=1)
    relieved = gaps.relieved(9.5)

    gap = gaps.restored(10.0)

    assert relieved is None
    assert gap == Gap(
        cause=Cause.DISCONNECTED, since=5.0, until=10.0, unsent=1, uncertain=1, missed=None
    )


def test_what_we_did_not_take_is_a_gap_of_its_own() -> None:
    """It says how many messages for us were dropped, and leaves our own for later."""
    counts: Counter[str] = Counter()
    gaps = GapTracker(counts)
    gaps.refused(1.0)

    missed = gaps.dropped(2.0, 3.0, 40)
    own = gaps.relieved(4.0)

    assert missed == Gap(cause=Cause.SLOW, since=2.0, until=3.0, unsent=0, uncertain=0, missed=40)
    assert own == Gap(cause=Cause.FULL, since=1.0, until=4.0, unsent=1, uncertain=0, missed=0)
    assert counts == {"unsent": 1, "missed": 40, "gaps": 2}


def test_a_clock_that_is_set_back_makes_no_negative_gap() -> None:
    """A gap ends no earlier than it begins."""
    gaps = GapTracker(Counter())
    gaps.broken(100.0, uncertain=0)

    gap = gaps.restored(50.0)

    assert gap is not None
    assert (gap.since, gap.until) == (100.0, 100.0)
