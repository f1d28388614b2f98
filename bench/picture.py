"""One picture of the ratios: a panel for each thing that was measured, a bar for each server."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figures import Figure
from table import compared, rows

COLUMNS = 4  # panels in a row
OURS = {"gateman": "#2b6cb0", "gateman async": "#63a4dd", "bare picows": "#a0aec0"}
THEIRS = "#dd9a52"


def _is_drawn(row: dict[str, Figure]) -> bool:
    """Tell whether a row is worth a panel: the wall's second says little beside the CPU's."""
    one = next(iter(row.values()))
    return "per second" not in one.unit and sum(bool(figure.values) for figure in row.values()) > 1


def draw(figures: Sequence[Figure], path: Path) -> str:
    """Draw bars with their spread."""
    try:
        import matplotlib as mpl
    except ImportError:
        return "no picture: matplotlib is not installed here; `make bench` installs it"
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = {key: row for key, row in rows(figures).items() if _is_drawn(row)}
    if not panels:
        return "no picture: nothing was measured"
    height = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(
        height, COLUMNS, figsize=(5 * COLUMNS, 3 * height), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, ((question, case, unit), row) in zip(axes.flat, panels.items(), strict=False):
        _panel(axis, row)
        arrow = ", less is better" if next(iter(row.values())).is_less_better else ""
        axis.set_title(f"{question}: {case}\n{unit}{arrow}", fontsize=9)
    figure.savefig(path, dpi=110)
    return f"the picture: {path}"


def _panel(axis: Any, row: dict[str, Figure]) -> None:
    measured = [figure for figure in reversed(row.values()) if figure.values]
    places = range(len(measured))
    middles, lows, highs = [], [], []
    for figure in measured:
        one = compared(figure, row)
        if one is not None:
            middle, low, high = one.median, one.lowest, one.highest
        else:
            middle = statistics.median(figure.values)
            low, high = min(figure.values), max(figure.values)
        middles.append(middle)
        lows.append(middle - low)
        highs.append(high - middle)
    colours = [OURS.get(figure.server, THEIRS) for figure in measured]
    axis.barh(places, middles, xerr=[lows, highs], color=colours, ecolor="#444", capsize=2)
    names = [
        f"{figure.server}  {middle:.2f}" for figure, middle in zip(measured, middles, strict=True)
    ]
    axis.set_yticks(places, names, fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
