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
    """
    One line for a terminal.

    Attributes:
        text: What it says.
        style: How it looks where there are colours: ``"head"``, ``"bad"``, ``"warning"``,
            ``"changing"``, or ``""``.
    """

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """
    A column.

    Attributes:
        head: Its title.
        show: Writes a row's cell.
        rank: 0 if it is always there; otherwise those with the highest go first when it is tight.
        is_left: Whether it is words, which begin below one another.
    """

    head: str
    show: Callable[[Row], str]
    rank: int = 0
    is_left: bool = False


def table(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[str]:
    """
    Lay a table out.

    Args:
        columns: What there may be, from left to right.
        rows: What is shown.
        width: Cells of the terminal; ``None`` for as many as it takes.

    Returns:
        The line of titles, and a line for each row. They are wider than ``width`` only if the
        columns that are always there are.
    """
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
    """
    Tell how wide a text is in a terminal.

    Args:
        text: Without control characters.

    Returns:
        Cells: two for a Chinese character, none for an accent that is put on another one.
    """
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def size(count: float | None) -> str:
    """
    Write an amount of memory.

    Args:
        count: Bytes; ``None`` if it is not known.

    Returns:
        At most six letters: ``"512"``, ``"31.4M"``, ``"-"``.
    """
    if count is None:
        return "-"
    return _scaled(count, 1024, "KMGT", exact_below=1024)


def number(count: float | None) -> str:
    """
    Write how many.

    Args:
        count: How many; ``None`` if it is not known.

    Returns:
        At most eight letters: ``"12034"``, ``"0.4"``, ``"123.4M"``, ``"-"``.
    """
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
    """
    Write a time span.

    Args:
        seconds: How long; ``None`` if it is not known.

    Returns:
        At most five letters: ``"0.2ms"``, ``"12ms"``, ``"3s"``, ``"47h"``, ``"365d"``, ``"-"``.
    """
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
    """
    Add a column up.

    Args:
        rows: The rows.
        name: The column's key.

    Returns:
        The sum of what is known; ``None`` if nothing is.
    """
    known = [row[name] for row in rows if row.get(name) is not None]
    return sum(known) if known else None
