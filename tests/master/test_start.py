"""From a script to a master: one for each, and nothing left behind by those that fail."""

import os
import signal
import socket
import stat
import sys
from pathlib import Path

from tests.support.master import GATEMAN, ask, echo, files_beside, master, run


def test_one_master_for_each_script(tmp_path: Path) -> None:
    """A second start names the first one's pid, exits with 5, and changes nothing."""
    with master(echo(), tmp_path) as service:
        for command in ([sys.executable, "server.py", "start"], [*GATEMAN, "start", "server.py"]):
            asked = run(command, tmp_path)

            assert asked.returncode == 5
            assert f"server.py is running already (pid {service.pid})" in asked.stderr
        assert ask(service.port)[1] == "1"


def test_one_master_wherever_its_files_are(tmp_path: Path) -> None:
    """A start with other folders in its environment finds the first one, and exits with 5."""
    environment = {"RUNTIME_DIRECTORY": str(tmp_path / "run")}
    with master(echo(), tmp_path) as service:
        asked = run([*GATEMAN, "start", "server.py"], tmp_path, {**os.environ, **environment})

        assert asked.returncode == 5
        assert f"server.py is running already (pid {service.pid})" in asked.stderr


def test_files_of_a_killed_master_do_not_block_the_next(tmp_path: Path) -> None:
    """A pid file and a control socket of a killed master are replaced."""
    with master(echo(options="drain_window=0.1"), tmp_path) as service:
        service.signal(signal.SIGKILL)
        service.wait()

        assert files_beside(service.path) == [".bus", ".pid", ".sock"]
        assert service.command("status").returncode == 3
        with master(echo(), tmp_path) as other:
            assert other.status()["master"]["pid"] == other.pid


def test_files_are_their_owners_only(tmp_path: Path) -> None:
    """A user who may not stop the service may not ask it either."""
    with master(echo(), tmp_path) as service:
        modes = {
            path.suffix: stat.S_IMODE(path.stat().st_mode)
            for path in tmp_path.iterdir()
            if path != service.path
        }

        assert modes == {".bus": 0o600, ".sock": 0o600, ".pid": 0o600}
        assert int(next(tmp_path.glob("*.pid")).read_text()) == service.pid


def test_files_are_where_the_system_wants_them(tmp_path: Path) -> None:
    """The folder of systemd is used, and found, where it is set."""
    folder = tmp_path / "run"
    environment = {"RUNTIME_DIRECTORY": str(folder)}
    with master(echo(), tmp_path, environment=environment) as service:
        assert sorted(path.suffix for path in folder.iterdir()) == [".bus", ".pid", ".sock"]
        assert service.command("status").returncode == 0


def test_a_folder_that_is_too_deep_for_a_socket_will_do(tmp_path: Path) -> None:
    """The length of a path does not matter to the user."""
    folder = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 6)
    folder.mkdir(parents=True)
    with master(echo(), folder) as service:
        assert service.command("status").returncode == 0


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
