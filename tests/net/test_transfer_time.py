"""Until when a request's body has to arrive, and its response to be taken."""

import math

from gateman.net.transfer_time import TransferTime


def test_without_a_body_and_a_response_nothing_is_waited_for() -> None:
    time = TransferTime(30)
    time.received(1000, 5)

    assert time.until(0, 10) == math.inf


def test_a_body_gets_time_for_what_arrives() -> None:
    """At 500 bytes a second; but never more than the limit from now on."""
    time = TransferTime(30)

    assert time.receive(100) == 130
    time.received(500, 110)
    assert time.until(0, 110) == 131
    time.received(50_000, 120)
    assert time.until(0, 120) == 150
    time.stop_receiving()
    assert time.until(0, 120) == math.inf


def test_a_peer_that_reads_gets_more_time() -> None:
    time = TransferTime(30)

    assert time.send(1000, 100) == 130
    assert time.until(999, 129) == 130
    assert time.until(999, 130) == 160
    assert time.until(999, 160) == 160
    time.stop_sending()
    assert time.until(999, 160) == math.inf


def test_the_earlier_time_counts() -> None:
    time = TransferTime(30)
    time.send(10, 100)
    time.receive(90)

    assert time.until(10, 100) == 120
