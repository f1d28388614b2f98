"""The commands of a service, on a real master: each does what it says, or says why not."""

import json
import os
import signal
import socket
import stat
import sys
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.master import GATEMAN, echo, is_alive, master, run, until


def ask(port: int, text: str = "hello") -> list[str]:
    """Send a message, and give the words of the answer: pid, version and message."""
    with connect(f"ws://127.0.0.1:{port}") as client:
        client.send(text)
        return str(client.recv()).split()


def files_beside(script: Path) -> list[str]:
    """List what a master has put beside its script."""
    return sorted(path.suffix for path in script.parent.iterdir() if path != script)


# Starting and stopping.


@pytest.mark.parametrize("words", [[], ["start"]])
def test_a_program_serves(tmp_path: Path, words: list[str]) -> None:
    """``python server.py`` and ``python server.py start`` serve, with a process per slot."""
    with master(echo(), tmp_path, *words) as service:
        assert ask(service.port)[1:] == ["1", "hello"]
        assert int(ask(service.port)[0]) in service.pids()
        assert len(set(service.pids())) == 2
        service.signal(signal.SIGTERM)

        assert service.wait() == 0
    assert files_beside(service.path) == []


@pytest.mark.parametrize(
    "target",
    ["server.py", "server"],
    ids=["file", "module"],
)
@pytest.mark.parametrize("ending", ["Worker.run_all()\n", ""], ids=["run_all", "declares only"])
def test_the_command_serves_the_same(tmp_path: Path, target: str, ending: str) -> None:
    """``gateman start`` takes a file or a module, and needs no ``run_all`` in it."""
    script = echo().replace("Worker.run_all()\n", ending)
    with master(script, tmp_path, command=[*GATEMAN, "start", target]) as service:
        assert ask(service.port)[1:] == ["1", "hello"]
        stopped = run([*GATEMAN, "stop", target], tmp_path, service._environment)  # noqa: SLF001

        assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "stopped\n", "")
        assert service.wait() == 0


def test_a_module_in_a_package_is_run_again(tmp_path: Path) -> None:
    """``python -m package.module`` gives its processes its package too."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text('NAME = "from the package"\n')
    (package / "module.py").write_text(
        echo().replace("VERSION = 1", "from .words import NAME as VERSION")
    )
    command = [sys.executable, "-m", "package.module"]
    with master("", tmp_path, command=command) as service:
        assert ask(service.port)[1:] == ["from", "the", "package", "hello"]


def test_options_of_the_interpreter_and_arguments_are_handed_on(tmp_path: Path) -> None:
    """A process is told what its master was told."""
    script = echo().replace(
        "VERSION = 1", "import sys; VERSION = (sys.argv[1:], sys.flags.optimize)"
    )
    command = [sys.executable, "-O", "server.py", "--room", "two"]
    with master(script, tmp_path, command=command) as service:
        assert ask(service.port)[1:-1] == ["(['--room',", "'two'],", "1)"]


def test_without_a_command_the_usage_is_one_line(tmp_path: Path) -> None:
    """Who does not know the commands sees them, and the service starts."""
    with master(echo(), tmp_path) as service:
        assert service.stderr.splitlines()[0] == (
            "usage: python server.py {start|stop|restart|reload|status|connections|check}"
            " [--help]; without a command it starts in the foreground"
        )
    with master(echo(), tmp_path, "start") as service:
        assert "usage" not in service.stderr


def test_code_behind_run_all_runs_once(tmp_path: Path) -> None:
    """Where the service has ended, the program goes on; its processes do not."""
    script = echo() + "\nopen('ended', 'a').write('once')\n"
    with master(script, tmp_path) as service:
        service.signal(signal.SIGINT)

        assert service.wait() == 0
    assert (tmp_path / "ended").read_text() == "once"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_fast_stop_says_going_away(tmp_path: Path, number: signal.Signals) -> None:
    """Clients see 1001, and a reason."""
    with master(echo(), tmp_path) as service, connect(f"ws://127.0.0.1:{service.port}") as client:
        service.signal(number)
        with pytest.raises(Exception, match="1001"):
            client.recv(10)
        assert service.wait() == 0


def test_ctrl_c_reaches_all_processes_and_only_the_master_acts(tmp_path: Path) -> None:
    """A terminal signals the whole group; nobody shows a traceback."""
    with master(echo(), tmp_path, start_new_session=True) as service:
        os.killpg(service.pid, signal.SIGINT)

        assert service.wait() == 0
        assert "Traceback" not in service.stderr


def test_stop_by_command(tmp_path: Path) -> None:
    """It returns when nothing is left: no process, no file, no socket."""
    with master(echo(), tmp_path) as service:
        pids = service.pids()
        stopped = service.command("stop")

        assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "stopped\n", "")
        assert not any(map(is_alive, pids))
        assert files_beside(service.path) == []
        assert service.wait() == 0
        with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(("127.0.0.1", service.port))


def test_a_process_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """A callback that never returns delays a stop by ``timeouts.shutdown``, and no more."""
    script = echo(options="timeouts={'shutdown': 0.2}").replace(
        "    connection.send", "    import time; time.sleep(1000)\n    connection.send"
    )
    with master(script, tmp_path) as service, connect(f"ws://127.0.0.1:{service.port}") as client:
        client.send("stick")
        until(lambda: [one["status"] for one in service.processes()] == ["busy"])
        started_at = time.monotonic()

        assert service.command("stop").returncode == 0
        assert 0.2 < time.monotonic() - started_at < 8
        assert "does not end: killed" in service.stderr


def test_restart(tmp_path: Path) -> None:
    """It stops what runs, and serves in its place; a new address is taken up."""
    with master(echo(), tmp_path) as service:
        (tmp_path / "server.py").write_text(echo().replace("VERSION = 1", "VERSION = 2"))
        script = (tmp_path / "server.py").read_text()
        with master(script, tmp_path, "restart") as other:
            assert service.wait() == 0
            assert ask(other.port)[1] == "2"


def test_restart_starts_what_does_not_run(tmp_path: Path) -> None:
    """As Workerman does."""
    with master(echo(), tmp_path, "restart") as service:
        assert ask(service.port)[1] == "1"


def test_a_restart_with_a_broken_script_stops_nothing(tmp_path: Path) -> None:
    """What is wrong is said before anything is ended."""
    with master(echo(), tmp_path) as service:
        (tmp_path / "server.py").write_text(echo(listen="websocket://127.0.0.1:x"))

        assert service.command("restart").returncode == 78
        assert ask(service.port)[1] == "1"


# Status.


def test_status(tmp_path: Path) -> None:
    """It says of each slot and process how it is."""
    with (
        master(echo(), tmp_path) as service,
        connect(f"ws://127.0.0.1:{service.port}") as client,
    ):
        client.send("hello")
        client.recv()
        status = service.status()

        assert status["master"]["pid"] == service.pid
        assert status["master"]["script"] == str(service.path)
        assert status["master"]["state"] == "running"
        assert status["workers"] == [
            {"name": "chat", "listen": f"ws://127.0.0.1:{service.port}", "count": 2}
        ]
        assert [(slot["slot"], slot["state"], slot["restarts"]) for slot in status["slots"]] == [
            (0, "running", 0),
            (1, "running", 0),
        ]
        processes = service.processes()
        assert [one["status"] for one in processes] == ["idle", "idle"]
        assert sum(one["connections"] for one in processes) == 1
        assert sum(one["messages"] for one in processes) == 1
        assert all(one["memory"] > 10 << 20 for one in processes)


def test_connections(tmp_path: Path) -> None:
    """It lists who is connected, with what the system has counted."""
    with (
        master(echo(), tmp_path) as service,
        connect(f"ws://127.0.0.1:{service.port}") as client,
    ):
        client.send("hello")
        client.recv()
        answer = json.loads(service.command("connections", "--json").stdout)
        (connection,) = answer["connections"]

        assert answer["total"] == 1
        assert answer["silent"] == []
        assert connection["pid"] in service.pids()
        assert connection["client"] == "{}:{}".format(*client.local_address)
        assert connection["state"] == "open"
        assert connection["messages"] == 1
        assert connection["received"] > 100
        assert connection["sent"] > 100


def test_status_does_not_wait_for_a_stuck_process(tmp_path: Path) -> None:
    """It is busy; the others answer, all within 100 ms."""
    script = echo().replace(
        "    connection.send", "    import time; time.sleep(1000)\n    connection.send"
    )
    with master(script, tmp_path) as service, connect(f"ws://127.0.0.1:{service.port}") as client:
        client.send("stick")
        until(lambda: "busy" in [one["status"] for one in service.processes()])
        started_at = time.monotonic()
        answered = ask_control(service.path, b'{"command": "status"}\n')
        took = time.monotonic() - started_at

        assert answered["ok"]
        assert took < 0.1
        assert sorted(one["status"] for one in service.processes()) == ["busy", "idle"]


# The control socket.


def ask_control(script: Path, request: bytes) -> dict[str, object]:
    """Send a request to the control socket beside a script, and read the answer."""
    (path,) = script.parent.glob("*.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        # The path may be longer than a socket's may be.
        fd = os.open(path.parent, os.O_PATH)
        sock.connect(f"/proc/self/fd/{fd}/{path.name}")
        os.close(fd)
        sock.sendall(request)
        answer: dict[str, object] = json.loads(sock.makefile().readline())
        return answer


def test_files_are_their_owners_only(tmp_path: Path) -> None:
    """Who may not stop the service may not ask it either."""
    with master(echo(), tmp_path) as service:
        modes = {
            path.suffix: stat.S_IMODE(path.stat().st_mode)
            for path in tmp_path.iterdir()
            if path != service.path
        }

        assert modes == {".sock": 0o600, ".pid": 0o600}
        assert int(next(tmp_path.glob("*.pid")).read_text()) == service.pid


def test_files_are_where_the_system_wants_them(tmp_path: Path) -> None:
    """The folder of systemd is used, and found, where it is set."""
    folder = tmp_path / "run"
    environment = {"RUNTIME_DIRECTORY": str(folder)}
    with master(echo(), tmp_path, environment=environment) as service:
        assert sorted(path.suffix for path in folder.iterdir()) == [".pid", ".sock"]
        assert service.command("status").returncode == 0


def test_a_folder_that_is_too_deep_for_a_socket_will_do(tmp_path: Path) -> None:
    """The length of a path is no concern of the user's."""
    folder = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 6)
    folder.mkdir(parents=True)
    with master(echo(), folder) as service:
        assert service.command("status").returncode == 0


@pytest.mark.parametrize(
    "request_line", [b"nonsense\n", b"[]\n", b"x" * 5000, b'{"command": "explode"}\n', b""]
)
def test_nonsense_is_refused(tmp_path: Path, request_line: bytes) -> None:
    """Whatever is sent to the control socket, the master lives."""
    with master(echo(), tmp_path) as service:
        (path,) = tmp_path.glob("*.sock")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            fd = os.open(path.parent, os.O_PATH)
            sock.connect(f"/proc/self/fd/{fd}/{path.name}")
            os.close(fd)
            sock.sendall(request_line)
            sock.shutdown(socket.SHUT_WR)
            answer = sock.recv(4096)

        assert answer in {
            b"",
            b'{"ok":false,"error":"the running master knows no such command."}\n',
        }
        assert service.status()["ok"]


# What cannot be.


@pytest.mark.parametrize(
    "words", [["stop"], ["stop", "-g"], ["reload"], ["reload", "-g"], ["status"], ["connections"]]
)
def test_what_needs_a_running_service_says_so(tmp_path: Path, words: list[str]) -> None:
    """One sentence, and exit code 3, both ways."""
    path = tmp_path / "server.py"
    path.write_text(echo())
    for command in (
        [sys.executable, "server.py", *words],
        [*GATEMAN, words[0], "server.py", *words[1:]],
    ):
        asked = run(command, tmp_path)

        assert (asked.returncode, asked.stdout) == (3, "")
        assert asked.stderr.endswith("server.py is not running.\n")
        assert len(asked.stderr.splitlines()) == 1


def test_one_master_for_each_script(tmp_path: Path) -> None:
    """A second start says who runs, exits with 5, and changes nothing."""
    with master(echo(), tmp_path) as service:
        for command in ([sys.executable, "server.py", "start"], [*GATEMAN, "start", "server.py"]):
            asked = run(command, tmp_path)

            assert asked.returncode == 5
            assert f"server.py is running already (pid {service.pid})" in asked.stderr
        assert ask(service.port)[1] == "1"


def test_files_of_a_killed_master_are_no_obstacle(tmp_path: Path) -> None:
    """A pid file and a control socket that nobody owns are replaced."""
    with master(echo(options="drain_window=0.1"), tmp_path) as service:
        service.signal(signal.SIGKILL)
        service.wait()

        assert files_beside(service.path) == [".pid", ".sock"]
        assert service.command("status").returncode == 3
        with master(echo(), tmp_path) as other:
            assert other.status()["master"]["pid"] == other.pid


BROKEN = {
    "syntax": ("from gateman import Worker\ndef (:\n", 4, "server.py:2: invalid syntax."),
    "raises": (
        "from gateman import Worker\n1 / 0\n",
        4,
        "server.py could not be loaded: ZeroDivisionError.",
    ),
    "nothing declared": (
        "from gateman import Worker\nWorker.run_all()\n",
        78,
        'no worker is declared: write Worker("websocket://0.0.0.0:8282").',
    ),
    "declared twice": (
        "from gateman import Worker\n"
        "Worker('websocket://127.0.0.1:7001')\nWorker('ws://127.0.0.1:7001')\nWorker.run_all()\n",
        78,
        "two workers listen on websocket://127.0.0.1:7001: give each an address of its own;"
        " count=2 is one worker with two processes.",
    ),
    "declared beside everywhere": (
        "from gateman import Worker\n"
        "Worker('websocket://0.0.0.0:7001')\nWorker('ws://127.0.0.1:7001')\nWorker.run_all()\n",
        78,
        "two workers listen on one port: websocket://0.0.0.0:7001 and websocket://127.0.0.1:7001:"
        " give each an address of its own; count=2 is one worker with two processes.",
    ),
    "no certificate": (
        "from gateman import Worker\nWorker('wss://127.0.0.1:0')\nWorker.run_all()\n",
        78,
        "worker 'none' has transport='ssl', but no certificate",
    ),
    "no such user": (
        "from gateman import Worker\nWorker('ws://127.0.0.1:0', user='nobody-of-this-name')\n",
        78,
        "user='nobody-of-this-name': there is no such user: create it, or choose another.",
    ),
}


@pytest.mark.parametrize("command", ["start", "check", "restart"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_script_that_cannot_be_served(tmp_path: Path, case: str, command: str) -> None:
    """What is wrong is the last line, and the exit code tells whose turn it is."""
    script, code, sentence = BROKEN[case]
    (tmp_path / "server.py").write_text(script)
    asked = run([*GATEMAN, command, "server.py"], tmp_path)

    assert asked.returncode == code
    assert sentence in asked.stderr.splitlines()[-1]
    assert files_beside(tmp_path / "server.py") == ["" for _ in tmp_path.glob("__pycache__")]


def test_a_traceback_shows_their_code_only(tmp_path: Path) -> None:
    """Who runs the script is not their concern."""
    (tmp_path / "server.py").write_text(BROKEN["raises"][0])
    asked = run([*GATEMAN, "start", "server.py"], tmp_path)

    assert asked.stderr.splitlines()[:3] == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/server.py", line 2, in <module>',
        "    1 / 0",
    ]
    assert asked.stderr.count("File ") == 1


@pytest.mark.parametrize("name", ["missing.py", "missing", "missing.module", "./folder/missing"])
def test_a_script_that_is_not_there(tmp_path: Path, name: str) -> None:
    """One sentence, and exit code 4, for whatever command."""
    for command in ("start", "stop", "status", "check"):
        asked = run([*GATEMAN, command, name], tmp_path)

        assert (asked.returncode, asked.stdout) == (4, "")
        assert asked.stderr.startswith("gateman: there is no file ")
        assert len(asked.stderr.splitlines()) == 1


def test_a_process_that_cannot_load_the_script(tmp_path: Path) -> None:
    """What only processes run into ends the master too, with their traceback and exit code 4."""
    script = "import sys\nif 'launch.py' in sys.orig_argv[1]:\n    1 / 0\n" + echo()
    with master(script, tmp_path, listens=False) as service:
        assert service.wait() == 4
        assert "ZeroDivisionError" in service.stderr
        assert 'launch.py", line' not in service.stderr


def test_a_service_that_cannot_start(tmp_path: Path) -> None:
    """What ``on_worker_start`` raises ends the first start, with exit code 1."""
    script = echo().replace(
        "Worker.run_all", "worker.on_worker_start = lambda worker: 1 / 0\n\nWorker.run_all"
    )
    with master(script, tmp_path, listens=False) as service:
        assert service.wait() == 1
        assert "ZeroDivisionError" in service.stderr
        assert "gateman/" not in service.stderr
    assert files_beside(service.path) == []


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """Another program's port is found, whatever options it listens with."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        script = echo(f"websocket://127.0.0.1:{port}")
        with master(script, tmp_path, listens=False) as service:
            assert service.wait() == 78
            assert "the port is in use by another program" in service.stderr
    assert files_beside(service.path) == []


def test_a_word_that_is_nearly_a_command(tmp_path: Path) -> None:
    """A typo does not start a service."""
    with master(echo(), tmp_path, "relaod", listens=False) as service:
        assert service.wait() == 2
        assert service.stderr == "'relaod' is no command: did you mean 'reload'?"


def test_check(tmp_path: Path) -> None:
    """A good script is checked without anything being bound."""
    path = tmp_path / "server.py"
    path.write_text(echo("websocket://127.0.0.1:7001"))
    checked = run([*GATEMAN, "check", "server.py"], tmp_path)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == (
        "server.py: chat would listen on websocket://127.0.0.1:7001 with 2 processes\n"
    )


@pytest.mark.parametrize(
    "command", ["start", "stop", "restart", "reload", "status", "connections", "check"]
)
def test_help(tmp_path: Path, command: str) -> None:
    """Every command explains itself, both ways."""
    (tmp_path / "server.py").write_text(echo())
    ours = run([*GATEMAN, command, "--help"], tmp_path)
    theirs = run([sys.executable, "server.py", command, "--help"], tmp_path)

    assert (ours.returncode, theirs.returncode) == (0, 0)
    assert ours.stdout.startswith(f"Usage: gateman {command} [OPTIONS] SCRIPT\n")
    assert theirs.stdout.startswith(f"Usage: python server.py {command}")
