"""
Tables that fit a terminal, and the format of numbers in them. Values in, lines out.

Columns of rank 0 are always shown; others only if the terminal is wide enough.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..log import one_line
from ..master.formatting import scaled_duration

Row = Mapping[str, Any]


class Line(NamedTuple):
    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    head: str
    show: Callable[[Row], str]
    rank: int = 0
    is_left: bool = False


def table(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[str]:
    """Return the lines of a table: the head, and one for each row."""
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
    """Choose columns and the gap between them; a further column is worth more than a wide gap."""
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
    """Return the width of a text in a terminal, in character cells."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def size(count: float | None) -> str:
    """Write a number of bytes."""
    return "-" if count is None else _scaled(count, 1024, exact_below=1024)


def number(count: float | None) -> str:
    if count is None:
        return "-"
    if 0 < count < 10 and count != int(count):
        return f"{count:.1f}"
    return _scaled(round(count), 1000, exact_below=100_000_000)


def _scaled(count: float, step: int, *, exact_below: int) -> str:
    if count < exact_below:
        return str(int(count))
    unit = ""
    for larger in "KMGT":
        if count < step:
            break
        count, unit = count / step, larger
    return f"{count:.1f}{unit}"


def span(seconds: float | None) -> str:
    """Write a duration in one unit, as a letter; milliseconds below a second."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        digits = 1 if 0.00005 <= seconds < 0.00095 else 0
        return f"{seconds * 1000:.{digits}f}ms"
    amount, unit = scaled_duration(seconds)
    return f"{amount}{unit[0]}"


def total(rows: Iterable[Row], name: str) -> float | None:
    """Add up a column; ``None`` if no row has a value."""
    known = [row[name] for row in rows if row.get(name) is not None]
    return sum(known) if known else None
