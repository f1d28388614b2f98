"""What hostile clients can write into a log: one line per cause and interval."""

import logging
import re
import subprocess
import sys

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


# Writing to standard error, in a process whose logging may be changed.

FLOOD = """
import logging
from gateman.log import logger, write_to_stderr
{}
write_to_stderr()
logger.debug("detail")
logger.info("listening")
engine = logging.getLogger("aiofastnet")
for number in range(3):
    engine.info("detail %s", number)
    engine.warning("slow %s", number)
    engine.error("broken %s", number)
"""


def lines_of(program: str) -> list[str]:
    """Run a program; gives what it writes to standard error, without times and process ids."""
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    line = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} pid:\d+ "
    return [re.sub(line, "", text) for text in ended.stderr.splitlines()]


def test_lines_for_people() -> None:
    """Without any setting, one reads what happens; of the library below, once per interval."""
    assert lines_of(FLOOD.format("")) == [
        "INFO listening",
        "WARNING slow 0",
        "ERROR broken 0",
    ]


def test_an_application_s_own_logging_stays() -> None:
    """Nothing is added to it, but peers cannot flood it either."""
    settings = "logging.basicConfig(format='%(name)s %(message)s', level=logging.INFO)"

    assert lines_of(FLOOD.format(settings)) == [
        "gateman listening",
        "aiofastnet detail 0",
        "aiofastnet slow 0",
        "aiofastnet broken 0",
        "aiofastnet detail 1",
        "aiofastnet detail 2",
    ]


def test_a_handler_of_the_logger_is_a_setting_too() -> None:
    """Who has given the logger a handler gets no second line."""
    settings = "logger.addHandler(logging.StreamHandler()); logger.setLevel(logging.INFO)"

    assert lines_of(FLOOD.format(settings)) == ["listening", "slow 0", "broken 0"]
