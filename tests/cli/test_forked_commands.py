"""Commands that tests fork do what those do that users start."""

import subprocess
from pathlib import Path

import pytest
from click import Context

from gateman.cli import gateman
from tests.support import command_line
from tests.support.deadlines import TIMEOUT
from tests.support.master import GATEMAN, echo, run


@pytest.mark.parametrize(
    "words",
    [
        ["check", "server.py"],
        ["check", "broken"],
        ["status", "server.py"],
        ["doctor", "--help"],
        ["proxy", "nginx"],
    ],
    ids=" ".join,
)
def test_a_command_is_the_same(words: list[str], tmp_path: Path) -> None:
    """What it prints, and its exit code."""
    (tmp_path / "server.py").write_text(echo("websocket://127.0.0.1:7001"))
    (tmp_path / "broken.py").write_text("import sys; print(__name__, sys.argv, sys.path[0]); 1 / 0")
    started = subprocess.run(
        [*GATEMAN, *words],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    forked = run([*GATEMAN, *words], tmp_path)

    assert (forked.returncode, forked.stdout, forked.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("import time; time.sleep(1000)")

    with pytest.raises(subprocess.TimeoutExpired):
        run([*GATEMAN, "check", "server.py"], tmp_path, timeout=0.1)


def test_all_but_those_that_start_a_service_are_forked() -> None:
    """A new command is one of them."""
    assert {*command_line.COMMANDS, "start", "restart"} == set(
        gateman.list_commands(Context(gateman))
    )
