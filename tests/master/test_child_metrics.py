"""What a process sends to its master has a bound."""

import pytest

from gateman.master.child_metrics import bounded
from gateman.metrics.families import Family, decode, encode


def family(name: str, size: int) -> Family:
    return Family(
        name=name,
        kind="gauge",
        description="X.",
        labels=("n",),
        series=[((str(number),), [1.0]) for number in range(size)],
    )


@pytest.mark.parametrize(
    ("max_size", "names"), [(1 << 20, ["small", "large", "some"]), (3000, ["small", "some"])]
)
def test_the_largest_are_left_out(max_size: int, names: list[str]) -> None:
    families = [family("small", 1), family("large", 1000), family("some", 50)]
    data = bounded(families, max_size=max_size)

    assert [one.name for one in decode(data)] == names
    assert len(data) <= max_size
    assert len(families) == 3


def test_what_fits_is_not_changed() -> None:
    families = [family("small", 1)]

    assert bounded(families) == encode(families)
