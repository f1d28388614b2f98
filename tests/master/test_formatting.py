"""How processes end, and for how long, in words."""

import pytest

from gateman.errors import ExitCode
from gateman.master import formatting


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, "ended by itself"),
        (1, "ended with exit code 1"),
        (3, "ended with exit code 3"),
        (4, "could not load the script"),
        (78, "refused its configuration"),
        (255, "ended with exit code 255"),
        (-9, "was killed by SIGKILL"),
        (-11, "was killed by SIGSEGV"),
        (-64, "was killed by SIGRTMAX"),
        (-63, "was killed by signal 63"),
    ],
)
def test_ending(status: int, expected: str) -> None:
    """A verb for every exit code and signal, those without a name too."""
    assert formatting.exit_description(status, has_served=False) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, "ended by itself"),
        (1, "ended with exit code 1"),
        (4, "ended with exit code 4"),
        (78, "ended with exit code 78"),
        (-9, "was killed by SIGKILL"),
    ],
)
def test_ending_of_a_process_that_has_served(status: int, expected: str) -> None:
    """Its script was loaded, so the codes for that are the application's own."""
    assert formatting.exit_description(status, has_served=True) == expected


@pytest.mark.parametrize(
    ("status", "is_final"),
    [
        (ExitCode.STOPPED, False),
        (ExitCode.CRASHED, True),
        (ExitCode.USAGE, False),
        (ExitCode.LOAD_FAILED, True),
        (ExitCode.CONFIG, True),
        (7, False),
        (-9, False),
        (-1, False),
    ],
)
def test_which_exit_codes_say_that_it_never_will(status: int, *, is_final: bool) -> None:
    """The three that follow from what the user wrote; a signal is never one."""
    assert formatting.is_final(status) is is_final


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.26, "0.3 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (2 * 86400 - 1, "48 h"),
        (2 * 86400, "2 days"),
        (8.4 * 86400, "8 days"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """About two digits, in the unit that they fit."""
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0.0 MiB"), (12_897_485, "12.3 MiB"), (3 << 30, "3072.0 MiB")]
)
def test_size(count: int, text: str) -> None:
    """Memory is in mebibytes."""
    assert formatting.size(count) == text


def test_lines_below_a_sentence() -> None:
    """Each on its own, and nothing for none."""
    assert "It says:" + formatting.indented(["one", "two"]) == "It says:\n    one\n    two"
    assert formatting.indented([]) == ""
