"""Arrivals are remembered for one nonce, and forgotten when nobody asks for them."""

from gateman.net.arrivals import WATCH_TIME
from gateman.runtime.arrival_watch import ArrivalWatch
from tests.support.clock import Clock

NONCE = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2


def test_arrivals_are_those_since_the_first_question_with_a_nonce() -> None:
    loop = Clock()
    watch = ArrivalWatch(loop)
    assert watch.arrivals is None
    watch.report(NONCE)
    arrivals = watch.arrivals
    assert arrivals is not None
    arrivals.noticed("login_timeout", "")

    assert [cause["cause"] for cause in watch.report(NONCE)["causes"]] == ["login_timeout"]
    assert watch.arrivals is arrivals
    assert watch.report(OTHER)["causes"] == []
    watch.stop()
    loop.close()


def test_arrivals_are_forgotten_a_while_after_the_last_question() -> None:
    loop = Clock()
    watch = ArrivalWatch(loop)
    watch.report(NONCE)
    loop.advance(WATCH_TIME - 1)
    watch.report(NONCE)
    loop.advance(WATCH_TIME - 1)
    assert watch.arrivals is not None
    loop.advance(2)

    assert watch.arrivals is None
    loop.close()
