"""``start -d``: what the command reports, and what continues without it."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.master import GATEMAN, descendants, echo, is_alive, run, until

FAILS = """
from gateman import Worker

worker = Worker("websocket://127.0.0.1:0")

@worker.on_worker_start
def begin(worker):
    raise RuntimeError("no database")

Worker.run_all()
"""


@contextmanager
def daemon(folder: Path, *words: str) -> Iterator[int]:
    """Start an echo service with -d; gives the master's pid, and ends what is left of it."""
    path = folder / "server.py"
    path.write_text(echo())
    started = run([sys.executable, str(path), "start", "-d", *words], folder)
    assert (started.returncode, started.stdout) == (0, ""), started.stderr
    pid = json.loads(run([*GATEMAN, "status", "--json", str(path)], folder).stdout)["master"]["pid"]
    try:
        yield pid
    finally:
        for one in [pid, *descendants(pid)]:
            if is_alive(one):
                os.kill(one, signal.SIGKILL)


def test_daemon_has_no_terminal_and_no_parent(tmp_path: Path) -> None:
    """It is in a session that it does not lead, reads nothing, and writes to its log."""
    with daemon(tmp_path) as pid:
        log = (tmp_path / "server.log").resolve()

        assert os.getsid(pid) not in {os.getsid(0), pid}
        assert Path(f"/proc/{pid}/fd/0").readlink() == Path(os.devnull)
        assert Path(f"/proc/{pid}/fd/1").readlink() == log
        assert Path(f"/proc/{pid}/fd/2").readlink() == log
        assert "INFO chat listens on ws://127.0.0.1:" in log.read_text()


def test_commands_find_the_daemon(tmp_path: Path) -> None:
    """A second start reports the first one, and stop ends the service and its processes."""
    with daemon(tmp_path) as pid:
        path = str(tmp_path / "server.py")
        processes = descendants(pid)
        again = run([*GATEMAN, "start", "-d", path], tmp_path)
        stopped = run([sys.executable, path, "stop"], tmp_path)

        assert again.returncode == 5
        assert f"server.py is running already (pid {pid})" in again.stderr
        assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
        # The one that serves, and the router.
        assert len(processes) == 2
        assert until(lambda: not any(map(is_alive, [pid, *processes])))
        assert run([sys.executable, path, "status"], tmp_path).returncode == 3


def test_a_daemon_is_restarted(tmp_path: Path) -> None:
    """``restart -d -g`` returns when another one serves, and the one before has drained."""
    with daemon(tmp_path) as pid:
        path = str(tmp_path / "server.py")
        old = descendants(pid)
        restarted = run([*GATEMAN, "restart", "-g", "-d", path], tmp_path)
        assert (restarted.returncode, restarted.stdout) == (0, ""), restarted.stderr
        new = json.loads(run([*GATEMAN, "status", "--json", path], tmp_path).stdout)["master"]
        stopped = run([sys.executable, path, "stop"], tmp_path)

        assert not any(map(is_alive, [pid, *old]))
        assert new["pid"] != pid
        assert new["state"] == "running"
        assert stopped.returncode == 0
        assert "draining, then stopping" in (tmp_path / "server.log").read_text()


def test_quiet_daemon_writes_no_information(tmp_path: Path) -> None:
    """With -q the log begins with the first warning."""
    with daemon(tmp_path, "-q", "--log-file", "quiet.log"):
        assert (tmp_path / "quiet.log").read_text() == ""


def test_command_shows_why_the_daemon_failed(tmp_path: Path) -> None:
    """A process that cannot start ends the command with its words and its exit code."""
    (tmp_path / "server.py").write_text(FAILS)
    (tmp_path / "server.log").write_text("what an earlier one wrote\n")

    started = run([*GATEMAN, "start", "-d", "server.py"], tmp_path)

    assert started.returncode == 1
    assert "RuntimeError: no database" in started.stderr
    assert started.stderr.endswith("server.log\n")
    assert "what an earlier one wrote" not in started.stderr
    assert run([*GATEMAN, "status", "server.py"], tmp_path).returncode == 3


@pytest.mark.parametrize(
    ("listen", "code"), [("websocket://127.0.0.1:99999", 78), ("websocket://127.0.0.1:0", 78)]
)
def test_mistake_is_shown_before_the_fork(tmp_path: Path, listen: str, code: int) -> None:
    """What is wrong in the script, or with the log file, is one sentence on the terminal."""
    (tmp_path / "server.py").write_text(echo(listen))
    words = ["--log-file", "nowhere/server.log"] if listen.endswith(":0") else []

    started = run([*GATEMAN, "start", "-d", *words, "server.py"], tmp_path)

    assert started.returncode == code
    assert started.stderr.splitlines()[-1].count(": ") >= 1
    assert "Traceback" not in started.stderr
