"""``status`` and ``connections`` of a real service, in a terminal and in a file."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread

import pytest
from websockets.sync.client import connect

from gateman.master.runtime_files import RuntimeFiles
from tests.support.deadlines import TIMEOUT
from tests.support.master import GATEMAN, Master, echo, master, run


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    """A service of two processes, at which tests only look."""
    with master(echo(options="count=2"), tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def folder(service: Master) -> Path:
    """Where the script of the service is."""
    return service.path.parent


def in_terminal(
    command: Sequence[str], folder: Path, *, rows: int = 24, columns: int = 80, frames: int = 0
) -> tuple[str, int]:
    """
    Run a command in a terminal of its own.

    Args:
        command: The command.
        folder: Where.
        rows: The terminal's height.
        columns: Its width.
        frames: After how many pictures Ctrl-C is pressed; 0 for not at all.

    Returns:
        What it wrote, and its exit code.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {
        name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}
    }
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux: the other side is closed.
                break
            if not data:
                break
            written += data
            if frames and written.count(b"\x1b[J") >= frames:
                process.send_signal(signal.SIGINT)
                frames = 0
        return written.decode(), process.wait(TIMEOUT)
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def test_status_in_a_file_has_every_column(service: Master) -> None:
    """Nothing is cut, and nothing is coloured."""
    shown = service.gateman("status")
    lines = shown.stdout.splitlines()

    assert (shown.returncode, shown.stderr) == (0, "")
    assert lines[0].startswith(f"{service.path}: running for ")
    assert lines[3].split() == ["chat", f"ws://127.0.0.1:{service.port}", "2"]
    assert " ".join(lines[5].split()) == (
        "name pid memory connections messages qps send_fail timers up lag restarts status"
    )
    assert [line.split()[0] for line in lines[6:9]] == ["chat/0", "chat/1", "Summary"]
    assert "\x1b" not in shown.stdout


def test_the_program_shows_its_own_status(service: Master) -> None:
    """``python server.py status`` is the same."""
    shown = service.command("status")

    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line.split()[0] for line in shown.stdout.splitlines()[6:9]] == [
        "chat/0",
        "chat/1",
        "Summary",
    ]


def test_status_for_programs_is_the_answer(service: Master) -> None:
    """All of it, as ``master.control_requests`` describes it."""
    status = json.loads(service.gateman("status", "--json").stdout)

    assert (status["ok"], status["master"]["state"]) == (True, "running")
    assert [slot["slot"] for slot in status["slots"]] == [0, 1]


def test_status_fits_a_terminal(folder: Path) -> None:
    """With 60 columns, what is not always there goes; titles are bold."""
    written, code = in_terminal([*GATEMAN, "status", "server.py"], folder, columns=60)
    head = next(line for line in written.splitlines() if "send_fail" in line)

    assert code == 0
    assert head.startswith("\x1b[1mname ")
    assert "restarts" not in head


def test_watching_repaints_until_ctrl_c(folder: Path) -> None:
    """Each picture begins at the first line, erases the rest of the last one, and fits."""
    command = [*GATEMAN, "status", "--watch", "server.py"]
    written, code = in_terminal(command, folder, rows=6, frames=2)
    pictures = written.split("\x1b[H")[1:3]

    assert code == 0
    assert [picture.count("\x1b[K\r\n") for picture in pictures] == [5, 5]
    # On a busy machine, notes about the processes are among them.
    assert re.search(r"and ([5-9]|\d\d) more lines", pictures[1])


def test_watching_ends_with_the_service(tmp_path: Path) -> None:
    """It reports that and exits like any command whose service does not run."""
    with (
        master(echo(), tmp_path) as service,
        subprocess.Popen(
            [*GATEMAN, "status", "-d", "--json", "server.py"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watching,
    ):
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        service.signal(signal.SIGTERM)
        service.wait()
        _, errors = watching.communicate(timeout=TIMEOUT)

    assert first["master"]["state"] == "running"
    assert (watching.returncode, errors) == (3, "gateman: server.py is not running.\n")


@pytest.mark.parametrize("command", ["status", "connections"])
def test_a_master_that_ends_before_it_answers(tmp_path: Path, command: str) -> None:
    """It is asked for while it ends: then it is not running."""
    script = tmp_path / "server.py"
    script.write_text(echo())
    runtime_files = RuntimeFiles.acquire(script, os.environ)
    listening = runtime_files.listen()
    listening.settimeout(TIMEOUT)

    def end() -> None:
        asked, _ = listening.accept()
        with asked:
            asked.recv(1)
            listening.close()

    ending = Thread(target=end)
    ending.start()
    seen = run([*GATEMAN, command, "server.py"], tmp_path)
    ending.join(TIMEOUT)
    runtime_files.release()

    assert (seen.returncode, seen.stderr) == (3, "gateman: server.py is not running.\n")


def test_connections_are_listed(service: Master) -> None:
    """As a table and for programs; the limit is for each process."""
    with connect(f"ws://127.0.0.1:{service.port}/?token=secret") as client:
        client.send("hello")
        client.recv()
        host, port = client.local_address[:2]
        table = service.gateman("connections").stdout.splitlines()
        listed = json.loads(service.gateman("connections", "--json", "--limit", "1").stdout)

    assert [line.split()[3] for line in table[:-2]] == ["client", f"{host}:{port}"]
    assert table[-1] == "1 connection"
    assert [one["client"] for one in listed["connections"]] == [f"{host}:{port}"]
    assert "secret" not in str(listed)


def test_watching_in_a_file_is_a_picture_after_the_other(service: Master) -> None:
    """Nothing is erased there; an empty line is between them."""
    with subprocess.Popen(
        [*GATEMAN, "status", "--watch", "server.py"],
        cwd=service.path.parent,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        lines = [watching.stdout.readline()]
        # Up to the next picture. On a busy machine, notes about the processes follow the table.
        while len(lines) == 1 or not lines[-1].startswith(str(service.path)):
            lines.append(watching.stdout.readline())
            assert lines[-1], lines
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=TIMEOUT)

    assert lines[0].startswith(str(service.path))
    assert (lines[8].split()[0], lines[9], lines[-2]) == ("Summary", "\n", "\n")
    assert watching.returncode == 0


@pytest.mark.parametrize("command", ["status", "connections"])
def test_without_a_service_it_is_one_sentence(command: str, tmp_path: Path) -> None:
    """And exit code 3."""
    (tmp_path / "server.py").write_text("")
    ended = subprocess.run(
        [*GATEMAN, command, "server.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (
        3,
        "",
        "gateman: server.py is not running.\n",
    )
