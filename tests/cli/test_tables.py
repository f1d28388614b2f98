"""Tables fit the terminal, and numbers stay short."""

import pytest

from gateman.cli.tables import Column, cells_of, number, size, span, table, total

COLUMNS = [
    Column("name", lambda row: str(row["name"]), is_left=True),
    Column("count", lambda row: str(row["count"])),
    Column("age", lambda row: str(row["age"]), rank=1),
    Column("comment", lambda row: str(row["comment"]), rank=2, is_left=True),
]
ROWS = [
    {"name": "chat", "count": 5, "age": "12s", "comment": "first"},
    {"name": "聊天", "count": 12034, "age": "3d", "comment": "second\x1b[2J"},
]


def test_a_table_without_bounds_has_all_columns() -> None:
    """Words begin below one another, numbers end so, whatever the letters are; nothing trails."""
    assert table(COLUMNS, ROWS, None) == [
        "name  count  age  comment",
        "chat      5  12s  first",
        r"聊天  12034   3d  second\x1b[2J",
    ]


def test_no_cell_forges_a_row() -> None:
    """A line feed in what a client is known as begins no line of the table."""
    forged = {**ROWS[0], "comment": "ann\nchat  99999  1s  admin\r\x1b[1A"}

    assert table(COLUMNS, [forged], None)[1:] == [
        r"chat      5  12s  ann\nchat  99999  1s  admin\r\x1b[1A"
    ]


@pytest.mark.parametrize(
    ("width", "head"),
    [
        (31, "name  count  age  comment"),
        (30, "name count age comment"),
        (28, "name count age comment"),
        (27, "name  count  age"),
        (16, "name  count  age"),
        (15, "name count age"),
        (14, "name count age"),
        (13, "name  count"),
        (11, "name  count"),
        (10, "name count"),
        (1, "name count"),
    ],
)
def test_columns_go_before_a_table_gets_too_wide(width: int, head: str) -> None:
    """Space goes first, then the columns of the highest rank; rank 0 stays."""
    lines = table(COLUMNS, ROWS, width)

    assert lines[0] == head
    assert max(map(cells_of, lines)) <= max(width, 10)


def test_a_table_without_rows_is_its_head() -> None:
    """There is nothing to show, and what it would be is said."""
    assert table(COLUMNS, [], None) == ["name  count  age  comment"]


@pytest.mark.parametrize(
    ("text", "cells"), [("", 0), ("chat", 4), ("聊天", 4), ("ü", 1), ("u\u0308", 1)]
)
def test_a_terminal_shows_some_letters_wider(text: str, cells: int) -> None:
    """Chinese takes two cells a letter, an accent of its own takes none."""
    assert cells_of(text) == cells


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0"),
        (1023, "1023"),
        (1024, "1.0K"),
        (32_925_286, "31.4M"),
        (1 << 40, "1.0T"),
        (1 << 52, "4096.0T"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    """Bytes in powers of 1024."""
    assert size(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.0, "0"),
        (0.4, "0.4"),
        (3.0, "3"),
        (9.94, "9.9"),
        (12.6, "13"),
        (12034, "12034"),
        (99_999_999, "99999999"),
        (123_400_000, "123.4M"),
        (4_200_000_000, "4.2G"),
    ],
)
def test_numbers(count: float | None, text: str) -> None:
    """Exact as long as they are short."""
    assert number(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0ms"),
        (0.0002, "0.2ms"),
        (0.0123, "12ms"),
        (0.9999, "1.0s"),
        (3.3, "3.3s"),
        (119.4, "119s"),
        (120, "2m"),
        (7199, "120m"),
        (7200, "2h"),
        (172_799, "48h"),
        (172_800, "2d"),
        (400 * 86400, "400d"),
    ],
)
def test_spans(seconds: float | None, text: str) -> None:
    """One unit is enough."""
    assert span(seconds) == text


def test_totals_leave_out_what_is_not_known() -> None:
    """A process that has not said how it is counts for nothing, not for zero."""
    assert total([{"a": 1}, {"a": None}, {}, {"a": 2}], "a") == 3
    assert total([{"a": None}, {}], "a") is None
