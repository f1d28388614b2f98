"""What a process sends to its master has a bound."""

from gateman.master.child_metrics import bounded
from gateman.metrics.families import Family, decode

FAMILY = Family(
    name="rooms",
    kind="gauge",
    description="X.",
    labels=("n",),
    series=[((str(number),), [1.0]) for number in range(100)],
)


def test_what_fits_is_sent() -> None:
    data = bounded([FAMILY])

    assert data is not None
    assert decode(data) == [FAMILY]
    assert bounded([FAMILY], max_size=len(data)) == data


def test_what_is_too_large_is_not() -> None:
    assert bounded([FAMILY], max_size=1000) is None
