"""What is lost is counted once, and told in the gap that it belongs to."""

from collections import Counter

from gateman.bus.base import Cause, Gap
from gateman.bus.losses import Losses


def test_nothing_lost_is_no_gap() -> None:
    """A broker that was not away has not come back."""
    losses = Losses(Counter())

    assert (losses.restored(1.0), losses.relieved(1.0)) == (None, None)
    assert (losses.is_away, losses.is_full) == (False, False)


def test_a_broken_connection_is_a_gap() -> None:
    """It lasts from when all was well until the broker knows us again."""
    counts: Counter[str] = Counter()
    losses = Losses(counts)
    losses.broken(10.0, uncertain=3)
    losses.refused_away(11.0)
    losses.refused_away(12.0)

    gap = losses.restored(13.0)

    assert gap == Gap(
        cause=Cause.DISCONNECTED, since=10.0, until=13.0, unsent=2, uncertain=3, missed=None
    )
    assert counts == {"unsent": 2, "uncertain": 3, "gaps": 1}
    assert losses.restored(14.0) is None


def test_a_connection_that_breaks_again_lengthens_the_gap() -> None:
    """Until the broker has confirmed our subscriptions, it is one gap."""
    losses = Losses(Counter())
    losses.broken(10.0, uncertain=3)
    losses.broken(20.0, uncertain=4)

    gap = losses.restored(30.0)

    assert gap == Gap(
        cause=Cause.DISCONNECTED, since=10.0, until=30.0, unsent=0, uncertain=7, missed=None
    )


def test_what_is_refused_before_there_is_a_broker_is_a_gap() -> None:
    """Who publishes before the start has a gap that begins there."""
    losses = Losses(Counter())
    losses.refused_away(5.0)

    gap = losses.restored(6.0)

    assert gap == Gap(
        cause=Cause.DISCONNECTED, since=5.0, until=6.0, unsent=1, uncertain=0, missed=None
    )


def test_too_much_at_once_is_a_gap() -> None:
    """It lasts from the first message that was refused until there is room."""
    losses = Losses(Counter())
    losses.refused(5.0)
    losses.refused(6.0)
    was_full = losses.is_full

    gap = losses.relieved(7.0)

    assert was_full
    assert not losses.is_full
    assert gap == Gap(cause=Cause.FULL, since=5.0, until=7.0, unsent=2, uncertain=0, missed=0)


def test_a_broker_that_goes_while_too_much_waits_is_one_gap() -> None:
    """What was refused before belongs to the gap, which begins with it."""
    losses = Losses(Counter())
    losses.refused(5.0)
    losses.broken(9.0, uncertain=1)
    relieved = losses.relieved(9.5)

    gap = losses.restored(10.0)

    assert relieved is None
    assert gap == Gap(
        cause=Cause.DISCONNECTED, since=5.0, until=10.0, unsent=1, uncertain=1, missed=None
    )


def test_what_we_did_not_take_is_a_gap_of_its_own() -> None:
    """It says how many messages for us were dropped, and leaves our own for later."""
    counts: Counter[str] = Counter()
    losses = Losses(counts)
    losses.refused(1.0)

    missed = losses.dropped(2.0, 3.0, 40)
    own = losses.relieved(4.0)

    assert missed == Gap(cause=Cause.SLOW, since=2.0, until=3.0, unsent=0, uncertain=0, missed=40)
    assert own == Gap(cause=Cause.FULL, since=1.0, until=4.0, unsent=1, uncertain=0, missed=0)
    assert counts == {"unsent": 1, "missed": 40, "gaps": 2}


def test_a_clock_that_is_set_back_makes_no_negative_gap() -> None:
    """A gap ends no earlier than it begins."""
    losses = Losses(Counter())
    losses.broken(100.0, uncertain=0)

    gap = losses.restored(50.0)

    assert gap is not None
    assert (gap.since, gap.until) == (100.0, 100.0)
