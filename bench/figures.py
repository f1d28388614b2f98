"""
What the questions of the suite have in common: figures, and how they become ratios.

A question is a file of this folder that prints what it measured. Run by the suite (``suite.py``,
``make bench``), it also records figures here, and those go into the table and the picture; run
alone, recording does nothing::

    from figures import Figure, record

    record(Figure(question="fan-out", case="ws, 100 to 100", server="gateman",
                  unit="deliveries per CPU-second", values=[1.02e6, 1.05e6, 1.01e6]))

One value per turn. Values at the same place of two figures were measured in the same turn, so that
their ratio means something on a machine whose pace changes.
"""

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RECORD = "BENCH_FIGURES"  # the environment variable that names the file


@dataclass(frozen=True, kw_only=True)
class Figure:
    """
    What one server achieved in one case.

    Attributes:
        question: Whose it is: ``"echo"``, ``"fan-out"``…
        case: What was asked: ``"ws, 64 B"``.
        server: Who answered.
        unit: Of the values: ``"messages per CPU-second"``.
        values: One per turn; empty where it could not be measured.
        base: The server whose values are 1 in ratios of this case.
        is_less_better: Whether small values are good ones, as of latencies.
        why: Why there is no value, or what is to be known about them.
    """

    question: str
    case: str
    server: str
    unit: str
    values: Sequence[float]
    base: str = "gateman"
    is_less_better: bool = False
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The median of the ratios of all turns, with the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        digits = 2 if self.median < 10 else 1 if self.median < 100 else 0
        return f"{self.median:.{digits}f} ({self.lowest:.{digits}f} to {self.highest:.{digits}f})"


def ratio(values: Sequence[float], base: Sequence[float]) -> Ratio | None:
    """Compare what two servers did in the same turns."""
    ratios = [one / other for one, other in zip(values, base, strict=False) if other]
    if not ratios:
        return None
    return Ratio(median=statistics.median(ratios), lowest=min(ratios), highest=max(ratios))


def record(*figures: Figure) -> None:
    """Hand figures to the suite, if it is the suite that asked."""
    path = os.environ.get(RECORD)
    if path:
        with Path(path).open("a") as file:
            file.writelines(json.dumps(asdict(figure)) + "\n" for figure in figures)


def read(path: Path) -> list[Figure]:
    """Read what was recorded."""
    if not path.exists():
        return []
    return [Figure(**json.loads(line)) for line in path.read_text().splitlines()]
