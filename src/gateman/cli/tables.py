"""
Tables that fit a terminal, and how numbers look in them: values in, lines out.

A table has columns that are always there, and others that come as the terminal gets wider.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..log import one_line

Row = Mapping[str, Any]


class Line(NamedTuple):
    """One line for a terminal."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column."""

    head: str
    show: Callable[[Row], str]
    rank: int = 0
    is_left: bool = False


def table(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[str]:
    """Lay a table out."""
    cells = {
        column: [column.head, *(one_line(column.show(row)) for row in rows)] for column in columns
    }
    widths = {column: max(map(cells_of, texts)) for column, texts in cells.items()}
    chosen, gap = _choose(columns, widths, width)
    lines = []
    for index in range(len(rows) + 1):
        padded = [_pad(cells[one][index], widths[one], is_left=one.is_left) for one in chosen]
        lines.append((" " * gap).join(padded).rstrip())
    return lines


def _choose(
    columns: Sequence[Column], widths: Mapping[Column, int], width: int | None
) -> tuple[list[Column], int]:
    """Choose columns and the space between them; more columns are worth more than more space."""
    for rank in sorted({0, *(column.rank for column in columns)}, reverse=True):
        chosen = [column for column in columns if column.rank <= rank]
        for gap in (2, 1):
            taken = sum(widths[column] for column in chosen) + gap * (len(chosen) - 1)
            if width is None or taken <= width:
                return chosen, gap
    return [column for column in columns if not column.rank], 1


def _pad(text: str, width: int, *, is_left: bool) -> str:
    space = " " * (width - cells_of(text))
    return text + space if is_left else space + text


def cells_of(text: str) -> int:
    """Tell how wide a text is in a terminal."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def size(count: float | None) -> str:
    """Write an amount of memory."""
    if count is None:
        return "-"
    return _scaled(count, 1024, "KMGT", exact_below=1024)


def number(count: float | None) -> str:
    """Write how many."""
    if count is None:
        return "-"
    if 0 < count < 10 and count != int(count):
        return f"{count:.1f}"
    return _scaled(round(count), 1000, "KMGT", exact_below=100_000_000)


def _scaled(count: float, step: int, units: str, *, exact_below: int) -> str:
    if count < exact_below:
        return str(int(count))
    unit = ""
    for larger in units:
        if count < step:
            break
        count, unit = count / step, larger
    return f"{count:.1f}{unit}"


def span(seconds: float | None) -> str:
    """Write a time span."""
    if seconds is None:
        return "-"
    for limit, unit, text in (
        (0.00005, 0.001, "{:.0f}ms"),
        (0.00095, 0.001, "{:.1f}ms"),
        (0.9995, 0.001, "{:.0f}ms"),
        (9.95, 1.0, "{:.1f}s"),
        (120.0, 1.0, "{:.0f}s"),
        (7200.0, 60.0, "{:.0f}m"),
        (172_800.0, 3600.0, "{:.0f}h"),
    ):
        if seconds < limit:
            return text.format(seconds / unit)
    return f"{seconds / 86400:.0f}d"


def total(rows: Iterable[Row], name: str) -> float | None:
    """Add a column up."""
    known = [row[name] for row in rows if row.get(name) is not None]
    return sum(known) if known else None
