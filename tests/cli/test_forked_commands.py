"""Commands and programs that tests fork do what those do that users start."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click import Context

from gateman.cli import gateman
from tests.support import command_line, forks
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
        ["server.py", "check"],
        ["server.py", "status", "--json"],
    ],
    ids=" ".join,
)
def test_a_command_is_the_same(words: list[str], tmp_path: Path) -> None:
    """What it prints, and its exit code."""
    (tmp_path / "server.py").write_text(echo("websocket://127.0.0.1:7001"))
    (tmp_path / "broken.py").write_text("import sys; print(__name__, sys.argv, sys.path[0]); 1 / 0")
    command = [*GATEMAN, *words] if words[0] != "server.py" else [sys.executable, *words]
    started = subprocess.run(
        command,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    forked = run(command, tmp_path)

    assert (forked.returncode, forked.stdout, forked.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("import time; time.sleep(1000)")

    with pytest.raises(subprocess.TimeoutExpired):
        run([*GATEMAN, "check", "server.py"], tmp_path, timeout=0.1)


# Says what it is, and fails.
PROGRAM = """
import os, sys
print(__name__, __file__, sys.argv, sys.orig_argv, sys.path[0], os.getcwd(), os.environ["HERE"])
print(sys.stdin.read(), sys.stdout.seekable(), sys.stdout.isatty(), file=sys.stderr)
sys.stderr.reconfigure(errors="backslashreplace")
sys.exit(sys.argv[1]) if sys.argv[1] else 1 / 0
"""


@pytest.mark.parametrize("word", ["why", ""], ids=["exit", "traceback"])
def test_a_program_is_the_same(word: str, tmp_path: Path) -> None:
    path = tmp_path / "server.py"
    path.write_text(PROGRAM)
    command = [str(path), word]
    environment = {**os.environ, "HERE": "here"}
    started = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    read, write = os.pipe()
    forked = forks.start(
        "script",
        command,
        folder=tmp_path,
        environment=environment,
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert forked.stderr is not None
    with os.fdopen(read) as stdout, forked.stderr as stderr:
        written = (stdout.read(), stderr.read())

    assert (forked.wait(TIMEOUT), *written) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


def test_a_program_is_ended_by_a_signal(tmp_path: Path) -> None:
    path = tmp_path / "server.py"
    path.write_text("import sys, time; print('here', file=sys.stderr); time.sleep(1000)")
    forked = forks.start_script([str(path)], tmp_path, os.environ)
    assert forked.stderr is not None
    with forked.stderr:
        assert forked.stderr.readline() == "here\n"
        before = forked.poll()
        with pytest.raises(subprocess.TimeoutExpired):
            forked.wait(0.01)
        forked.terminate()

        assert (before, forked.wait(TIMEOUT)) == (None, -signal.SIGTERM)
    forked.kill()


def test_all_but_those_that_start_a_service_are_forked() -> None:
    """A new command is one of them."""
    assert {*command_line.COMMANDS, "start", "restart"} == set(
        gateman.list_commands(Context(gateman))
    )
