"""What figures are made of, and what is concluded from them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from figures import RECORD, Figure, Ratio, ratio, read, record
from generator import Load
from guard import is_regression
from table import form


def figure(server: str, *values: float, why: str = "") -> Figure:
    """Make a figure of one case."""
    return Figure(
        question="echo", case="ws", server=server, unit="a second", values=values, why=why
    )


def test_compares_turn_by_turn() -> None:
    """A ratio is the median of the turns' ratios, and turns that only one took do not count."""
    assert ratio([2.0, 9.0, 5.0, 7.0], [1.0, 3.0, 5.0]) == Ratio(median=2, lowest=1, highest=3)
    assert ratio([], [1.0]) is None


def test_records_for_the_suite_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded is read back as it was; without a suite nothing is written."""
    path = tmp_path / "figures"
    monkeypatch.delenv(RECORD, raising=False)
    record(figure("gateman", 1))
    monkeypatch.setenv(RECORD, str(path))
    record(figure("gateman", 1), figure("other", why="it did not start"))

    assert [(one.server, list(one.values), one.why) for one in read(path)] == [
        ("gateman", [1], ""),
        ("other", [], "it did not start"),
    ]


def test_table_has_ratios_spread_and_reasons() -> None:
    """A line has each server's ratio with its spread, and says below who could not be measured."""
    table = form([figure("gateman", 10, 20), figure("slow", 5, 5), figure("none", why="it fell")])

    assert table.splitlines()[-5:] == [
        "echo                gateman        slow        none",
        "                                                   ",
        "  ws, a second            1  0.38 ±0.12           x",
        "",
        "x  echo, ws, none: it fell",
    ]


@pytest.mark.parametrize(
    ("ratios", "tolerance", "expected"),
    [
        ([0.9, 0.92, 0.91, 1.1], 0.95, True),
        ([0.9, 0.9, 1.1, 1.1], 0.95, False),
        ([0.96, 0.97, 0.96, 0.98], 0.95, False),
        ([1.2, 1.3], 1.08, True),
        ([0.8, 1.05], 1.08, False),
    ],
)
def test_only_clear_regressions_count(
    ratios: list[float],
    tolerance: float,
    expected: bool,  # noqa: FBT001 - a parameter
) -> None:
    """The median has to be beyond the tolerance, and nearly all turns on the wrong side of 1."""
    assert is_regression(ratios, tolerance=tolerance) == expected


@pytest.mark.parametrize(
    ("cpu_seconds", "queued_seconds", "is_disturbed"),
    [
        pytest.param(1.0, 1.7, False, id="three-processes-of-one-server-share-a-core"),
        pytest.param(0.9, 0.09, True, id="another-program-has-a-tenth"),
        pytest.param(0.5, 1.0, True, id="another-program-has-the-half"),
        pytest.param(0.5, 0.01, False, id="it-is-idle"),
    ],
)
def test_a_server_is_disturbed_by_others_only(
    cpu_seconds: float, queued_seconds: float, *, is_disturbed: bool
) -> None:
    """The processes of one server wait for each other, which disturbs nothing."""
    figures: dict[str, Any] = dict.fromkeys((field.name for field in fields(Load)), 0)
    figures |= {"messages": 1, "seconds": 1.0, "server_cpu_seconds": cpu_seconds}
    load = Load(**figures | {"server_queued_seconds": queued_seconds})
    assert load.was_disturbed is is_disturbed
