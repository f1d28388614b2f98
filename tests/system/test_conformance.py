"""What ``docs/conformance.md`` says of the tests and the limits is so."""

import re
from pathlib import Path

from gateman import Limits, Timeouts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "conformance.md").read_text()


def part(heading: str) -> str:
    """Read a part of the page, up to the next heading of the same level."""
    level = heading.split(maxsplit=1)[0]
    return re.split(rf"(?m)^{level} ", PAGE.split(f"{heading}\n", 1)[1])[0]


def test_tests_that_are_named_exist() -> None:
    """Each name in the page is that of a test."""
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    files = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    existing = set(re.findall(r"(?m)^(?:async )?def (test_\w+)", files))

    assert len(named) > 50
    assert named - existing == set()


def test_every_row_of_the_entrance_is_there() -> None:
    """Each once, with a test that names it."""
    tables = part("### The attack list, rows 1 to 22") + part("### Faults of life and time")
    rows = {
        int(number): tests for number, tests in re.findall(r"(?m)^\| (\d+) \|.*\| (.*) \|$", tables)
    }

    assert sorted(rows) == [*range(1, 23), 43, 44, 58, 59]
    for number, tests in rows.items():
        docstrings = "".join(
            path.read_text() for path in (ROOT / "tests" / "system").glob("test_attacks_*.py")
        )
        assert re.search(rf'"""Row {number}: ', docstrings), number
        assert "`test_" in tests, number


def test_defaults_are_those_of_the_options() -> None:
    """A limit that changes changes the page."""
    said = dict(re.findall(r"(?m)^\| `(\w+\.\w+)` \| (.*?) \|", part("### What is limited")))

    assert said == {
        "timeouts.handshake": f"{Timeouts().handshake:g} s",
        "limits.max_head_size": f"{Limits().max_head_size >> 10} KiB",
        "limits.max_header_count": str(Limits().max_header_count),
        "limits.max_connections": "what `ulimit -n` leaves, less 64",
        "limits.max_connections_per_ip": str(Limits().max_connections_per_ip),
        "limits.max_handshakes_per_second": str(Limits().max_handshakes_per_second),
    }
    assert Limits().max_connections is None
