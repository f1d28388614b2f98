"""One table of all figures: a line for each thing that was measured, a column for each server."""

import statistics
from collections.abc import Sequence

from figures import Figure, Ratio, ratio

LEGEND = """\
Ratios to gateman, which is 1: the median of the turns, ± half of the way from the lowest to the
highest. Where there is a ↓, less is better. A "*" is a value as it is, no ratio. "-" was not
measured, "x" could not be: see below."""

WIDTH = 12  # of a column
SHORT = {
    "deliveries per CPU-second": "per CPU-second",
    "deliveries per second": "per second",
    "messages per CPU-second": "per CPU-second",
    "messages per second": "per second",
    "handshakes per CPU-second": "per CPU-second",
    "handshakes per second": "per second",
}

Row = tuple[str, str, str]


def rows(figures: Sequence[Figure]) -> dict[Row, dict[str, Figure]]:
    """Sort figures by what was measured, and by server."""
    sorted_ones: dict[Row, dict[str, Figure]] = {}
    for figure in figures:
        row = (figure.question, figure.case, figure.unit)
        sorted_ones.setdefault(row, {})[figure.server] = figure
    return sorted_ones


def compared(figure: Figure, row: dict[str, Figure]) -> Ratio | None:
    """Compare a figure with the base of its row."""
    base = row.get(figure.base)
    return ratio(figure.values, base.values) if base else None


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _cell(figure: Figure | None, row: dict[str, Figure]) -> str:
    if figure is None:
        return "-"
    if not figure.values:
        return "x"
    one = compared(figure, row)
    if one is None:
        return f"{_number(statistics.median(figure.values))}*"
    if figure.server == figure.base:
        return "1"
    return f"{_number(one.median)} ±{_number((one.highest - one.lowest) / 2)}"


def form(figures: Sequence[Figure]) -> str:
    """Write the table."""
    table = rows(figures)
    labels = {key: f"  {key[1]}, {SHORT.get(key[2], key[2])}" for key in table}
    first = max([len(label) for label in labels.values()] + [0]) + 1
    lines = [LEGEND]
    for question in dict.fromkeys(figure.question for figure in figures):
        of = [figure for figure in figures if figure.question == question]
        servers = list(dict.fromkeys(figure.server for figure in of))
        heads = [server.partition(" ") for server in servers]
        name = f"{question} ↓" if of[0].is_less_better else question
        for part, label in ((0, name), (2, "")):
            lines.append(f"{label:{first}}" + "".join(f"{head[part]:>{WIDTH}}" for head in heads))
        lines[-2:-2] = [""]
        for key, row in table.items():
            if key[0] == question:
                cells = "".join(f"{_cell(row.get(server), row):>{WIDTH}}" for server in servers)
                lines.append(f"{labels[key]:{first}}{cells}")
    failed = dict.fromkeys(
        f"x  {figure.question}, {figure.case}, {figure.server}: {figure.why}"
        for figure in figures
        if not figure.values
    )
    return "\n".join([*lines, *([""] if failed else []), *failed])
