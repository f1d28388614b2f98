"""What hostile clients can write into a log: one line per cause and interval."""

import logging

from gateman.log import SAMPLE_INTERVAL, Sampled, logger


def test_the_logger_is_the_package_s() -> None:
    """An operator configures it by the name of the package, and hears warnings without that."""
    assert logger is logging.getLogger("gateman")


def test_one_line_per_cause_and_interval() -> None:
    """The first is written at once; the next tells how many were left out."""
    sampled = Sampled(10.0)

    assert [
        sampled.line("flood", f"line {now}", now) for now in (0.0, 0.0, 9.9, 10.0, 19.9, 20.0, 40.0)
    ] == [
        "line 0.0",
        None,
        None,
        "line 10.0 (and 2 more like it)",
        None,
        "line 20.0 (and 1 more like it)",
        "line 40.0",
    ]


def test_causes_do_not_hide_each_other() -> None:
    """What floods the log silences itself only."""
    sampled = Sampled()

    assert [sampled.line(cause, cause, 0.0) for cause in ("a", "b", "a", "a", "b")] == [
        "a",
        "b",
        None,
        None,
        None,
    ]
    assert [sampled.line(cause, cause, SAMPLE_INTERVAL) for cause in ("a", "b", "c")] == [
        "a (and 2 more like it)",
        "b (and 1 more like it)",
        "c",
    ]
