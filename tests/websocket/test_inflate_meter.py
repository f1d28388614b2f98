"""Who has to wait with compressed frames, for how long, and who floods; without a clock."""

import pytest

from gateman import Deflate
from gateman.errors import ProtocolError
from gateman.websocket.inflate_meter import FRAME_COST, InflateMeter

MIB = 1 << 20
OPTIONS = Deflate(max_inflated_per_second=4 * MIB, flood_ratio=100, flood_seconds=10)


def test_a_second_may_be_used_at_once() -> None:
    """Behind it, a client waits until it has back what it used too much."""
    meter = InflateMeter(OPTIONS, 100.0)
    delays = []
    for _ in range(6):
        delays.append(meter.delay(100.0))
        meter.spend(1000, MIB)

    assert delays == [0, 0, 0, 0, 0, 0.25]
    assert meter.delay(100.25) == 0.25
    assert meter.delay(100.5) == 0


def test_a_frame_costs_something_also_if_it_is_empty() -> None:
    """So that tiny ones are not free."""
    meter = InflateMeter(OPTIONS, 0.0)

    assert [meter.spend(1, 0), meter.spend(1, 511), meter.spend(1, 513)] == [512, 512, 513]
    assert FRAME_COST == 512


def send(options: Deflate, *, size_in: int, per_second: int, seconds: int) -> float:
    """Send messages of 1 MiB, evenly, each when it may be; give the time of the last."""
    meter = InflateMeter(options, 0.0)
    now = 0.0
    while now < seconds:
        if delay := meter.delay(now):
            now += delay
        else:
            meter.spend(size_in, MIB)
            now += 1 / per_second
    return now


def test_bombs_without_end_are_a_flood() -> None:
    """At the limit for ten seconds, with a thousand bytes out per byte in; not before."""
    send(OPTIONS, size_in=1024, per_second=1000, seconds=10)
    with pytest.raises(ProtocolError) as caught:
        send(OPTIONS, size_in=1024, per_second=1000, seconds=12)

    error = caught.value
    assert (error.close_code, error.cause) == (1008, "inflate_flood")
    assert error.limit == "Deflate.flood_ratio"


@pytest.mark.parametrize(
    ("options", "size_in", "per_second"),
    [
        # Data that is only compressible, as fast as it is read.
        (OPTIONS, MIB // 50, 1000),
        # Bombs, but no more than are allowed.
        (OPTIONS, 1024, 3),
        # Whoever sets it does not want it.
        (Deflate(max_inflated_per_second=4 * MIB, flood_ratio=None), 1024, 1000),
    ],
    ids=["compressible", "slow", "never"],
)
def test_hard_work_is_no_flood(options: Deflate, size_in: int, per_second: int) -> None:
    """Not in ten minutes."""
    assert send(options, size_in=size_in, per_second=per_second, seconds=600) >= 600


def test_a_client_that_rests_begins_anew() -> None:
    """Bursts at the limit, with pauses between them, never add up to a flood."""
    meter = InflateMeter(OPTIONS, 0.0)
    now = 0.0
    for _ in range(20):
        for _ in range(8):
            now += meter.delay(now)
            meter.spend(1024, MIB)
        now += 2.0

    assert meter.delay(now) == 0


def test_little_makes_a_client_light() -> None:
    """Up to 1 MiB in the last second."""
    meter = InflateMeter(OPTIONS, 0.0)
    seen = [meter.is_light]
    meter.spend(1000, MIB)
    seen.append(meter.is_light)
    meter.spend(1000, 1)
    seen.append(meter.is_light)
    meter.delay(1.0)
    seen.append(meter.is_light)

    assert seen == [True, True, False, True]
