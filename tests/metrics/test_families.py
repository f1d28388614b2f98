"""Sums over processes, by equality."""

import msgspec
import pytest

from gateman.metrics.families import MAX_SERIES, Combine, Family, Totals, decode, encode


def counted(count: float, label: str = "a", *, name: str = "orders_total") -> Family:
    return Family(
        name=name,
        kind="counter",
        description="Orders.",
        labels=("kind",),
        series=[((label,), [count])],
    )


def gauge(value: float, combine: Combine = "sum") -> Family:
    return Family(
        name="rooms", kind="gauge", description="Rooms.", combine=combine, series=[((), [value])]
    )


def series_of(totals: Totals) -> dict[str, list[tuple[tuple[str, ...], list[float]]]]:
    return {family.name: family.series for family in totals.families()}


def test_counters_are_summed_by_their_labels() -> None:
    totals = Totals()
    totals.add([counted(1), counted(2, name="users_total")])
    totals.add([counted(3), counted(4, "b")])

    assert series_of(totals) == {
        "orders_total": [(("a",), [4]), (("b",), [4])],
        "users_total": [(("a",), [2])],
    }


@pytest.mark.parametrize(("combine", "value"), [("sum", 5), ("max", 3), ("min", 2)])
def test_gauges_are_combined_as_declared(combine: Combine, value: float) -> None:
    totals = Totals()
    totals.add([gauge(2, combine)])
    totals.add([gauge(3, combine)])

    assert series_of(totals) == {"rooms": [((), [value])]}


def test_histograms_are_summed_by_bucket() -> None:
    one = Family(
        name="seconds",
        kind="histogram",
        description="Time.",
        bounds=(0.1,),
        series=[((), [1, 2, 9.5])],
    )
    totals = Totals()
    totals.add([one])
    totals.add([one])

    assert series_of(totals) == {"seconds": [((), [2, 4, 19])]}


def test_a_process_that_has_ended_leaves_what_only_grows() -> None:
    totals = Totals()
    totals.add([counted(1), gauge(2)], only_cumulative=True)

    assert series_of(totals) == {"orders_total": [(("a",), [1])]}


def test_what_is_added_does_not_change() -> None:
    first = counted(1)
    totals = Totals()
    totals.add([first])
    totals.add([counted(5)])

    assert first.series == [(("a",), [1])]


def test_series_above_the_limit_are_counted_and_not_kept() -> None:
    many = counted(1)
    many.series = [((str(number),), [1.0]) for number in range(MAX_SERIES + 7)]
    totals = Totals()
    totals.add([many])

    assert len(series_of(totals)["orders_total"]) == MAX_SERIES
    assert totals.dropped == 7


def test_another_declaration_of_a_metric_is_not_added() -> None:
    """A reload may change it; the sum of both would be of neither."""
    other = Family(name="orders_total", kind="gauge", description="Orders.", series=[((), [1])])
    totals = Totals()
    totals.add([counted(1)])
    totals.add([other])

    assert series_of(totals) == {"orders_total": [(("a",), [1])]}
    assert totals.dropped == 1


def test_what_a_process_reports_is_read_again() -> None:
    families = [counted(1, 'ü"\n'), gauge(0.5, "max")]

    assert decode(encode(families)) == families


@pytest.mark.parametrize(
    "family",
    [
        {"name": "a b", "kind": "counter", "description": ""},
        {"name": "a", "kind": "summary", "description": ""},
        {"name": "a", "kind": "gauge", "description": "", "series": [[["x"], [1]]]},
        {"name": "a", "kind": "gauge", "description": "", "series": [[[], []]]},
        {"name": "a", "kind": "histogram", "description": "", "series": [[[], [1]]]},
        {"name": "a", "kind": "gauge", "description": "", "series": [[[], [None]]]},
        {"name": "a", "kind": "gauge", "description": "", "labels": ["b"], "series": [[[], [1]]]},
    ],
)
def test_what_is_not_valid_is_refused(family: dict[str, object]) -> None:
    """A process may be compromised: its text is written into the answer."""
    with pytest.raises(ValueError, match=r"."):
        decode(msgspec.json.encode([family]))


def test_nesting_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(b"[" * 100_000)
