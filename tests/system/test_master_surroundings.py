"""A master and what is around it: systemd, root's privileges, containers, unix sockets."""

import os
import pwd
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect, unix_connect

from tests.support.certificates import Authority, for_threads
from tests.support.deadlines import TIMEOUT
from tests.support.master import BOTH, GATEMAN, command_of, echo, master, open_to, run, until
from tests.support.server import authority
from tests.support.steady_clients import replaced

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")


# systemd.


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Listen somewhere, as systemd does for a socket unit."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def activated(sock: socket.socket) -> list[str]:
    """Write the command that hands a socket to ``python server.py`` as systemd does."""
    script = (
        f"import os, sys; os.dup2({sock.fileno()}, 3);"
        " os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='chat');"
        " os.execv(sys.executable, [sys.executable, 'server.py'])"
    )
    return [sys.executable, "-c", script]


@BOTH
def test_sockets_of_systemd_are_served(
    tmp_path: Path, listening: socket.socket, protect: Callable[[str], str]
) -> None:
    """A socket that listens at the worker's address is used; it outlives the service."""
    port = listening.getsockname()[1]
    script = protect(echo(options="count=2")).replace("127.0.0.1:0", f"127.0.0.1:{port}")
    command = activated(listening)
    fds = (listening.fileno(),)
    with master(script, tmp_path, command=command, pass_fds=fds) as service:
        with open_to(service) as client:
            client.send("hello")
            assert str(client.recv()).endswith(" hello")
        assert len(service.pids()) == 2
        assert service.command("reload").returncode == 0
        assert service.command("stop").returncode == 0

    # Nobody serves now, and who comes waits for somebody who does.
    with ExitStack() as stack:
        early = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        early.settimeout(TIMEOUT)
        with master(script, tmp_path, command=command, pass_fds=fds, listens=False):
            if "wss://" in script:
                tls = authority().trusting_client()
                early = stack.enter_context(tls.wrap_socket(early, server_hostname="localhost"))
            early.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert early.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_sockets_for_others_are_left_alone(tmp_path: Path, listening: socket.socket) -> None:
    """A socket that listens elsewhere is not the worker's; it binds its own."""
    command = activated(listening)
    fds = (listening.fileno(),)
    with master(echo(), tmp_path, command=command, pass_fds=fds) as service:
        assert service.port != listening.getsockname()[1]


def test_processes_do_not_see_what_was_for_the_master(tmp_path: Path) -> None:
    """What they start must not take sockets, notes or a place for its own."""
    script = echo().replace(
        "VERSION = 1",
        "PREFIXES = ('LISTEN_', 'NOTIFY_', 'GATEMAN_PROCESS')\n"
        "VERSION = [name for name in os.environ if name.startswith(PREFIXES)]",
    )
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(tmp_path / "none")}
    with (
        master(script, tmp_path, environment=environment) as service,
        connect(f"ws://127.0.0.1:{service.port}") as client,
    ):
        client.send("hello")
        assert str(client.recv()).split()[1:] == ["[]", "hello"]


def test_systemd_is_told(tmp_path: Path) -> None:
    """``Type=notify``: ready when everything serves, reloading, ready again, and stopping."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notes:
        notes.settimeout(TIMEOUT)
        notes.bind(f"\0gateman-test-{os.getpid()}")
        environment = {"NOTIFY_SOCKET": f"@gateman-test-{os.getpid()}"}
        with master(echo(), tmp_path, environment=environment) as service:
            assert notes.recv(100) == b"READY=1"
            assert service.command("reload").returncode == 0
            assert notes.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert notes.recv(100) == b"READY=1"
            service.signal(signal.SIGTERM)
            assert notes.recv(100) == b"STOPPING=1"
            assert service.wait() == 0, service.stderr


# root.


def low_port() -> int:
    """Find a port that only root may listen on, and that is free."""
    for port in range(1023, 600, -1):
        with ExitStack() as stack:
            probe = stack.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port below 1024 is free")


def ids(pid: int) -> tuple[set[str], set[str], list[str]]:
    """Tell as whom a process runs: its users, its groups, and the supplementary ones."""
    fields = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    return set(fields["Uid"].split()), set(fields["Gid"].split()), fields["Groups"].split()


@needs_root
def test_root_is_given_up_after_binding_and_reading_keys(tmp_path: Path) -> None:
    """A low port and a key of root's, served by processes of somebody else."""
    nobody = pwd.getpwnam("nobody")
    authority = Authority()
    issued = authority.issue(tmp_path)
    issued.key.chmod(0o600)
    port = low_port()
    context = {"ssl": {"local_cert": str(issued.certificate), "local_pk": str(issued.key)}}
    script = echo(
        f"wss://127.0.0.1:{port}", f"count=2, drain_window=0.2, user='nobody', context={context!r}"
    )
    tls = for_threads(authority.trusting_client())
    with master(script, tmp_path) as service:
        with connect(f"wss://localhost:{port}", ssl=tls) as client:
            client.send("hello")
            assert str(client.recv()).endswith(" hello")
        for pid in service.pids():
            users, groups, others = ids(pid)
            assert users == {str(nobody.pw_uid)}
            assert groups == {str(nobody.pw_gid)}
            assert "0" not in others
        assert ids(service.pid)[0] == {"0"}

        # A renewed key is root's too: that this needs a reload is said at the start.
        service.wait_for(
            f"user nobody may not read {issued.key}: when it is renewed, only `reload`"
        )
        second = Authority().issue(_folder(tmp_path / "new"))
        replaced(issued.certificate, second.certificate.read_bytes())
        replaced(issued.key, second.key.read_bytes())
        issued.key.chmod(0o600)
        assert service.command("reload").returncode == 0
        until(lambda: len(service.pids()) == 2)
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(f"wss://localhost:{port}", ssl=tls)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@needs_root
def test_a_unix_socket_belongs_to_the_worker_s_user(tmp_path: Path) -> None:
    """A proxy that runs as the same user or group may connect; others may not."""
    path = tmp_path / "chat.sock"
    script = echo(f"websocket+unix://{path}", "count=2, user='nobody'")
    with master(script, tmp_path):
        found = path.stat()

        assert found.st_uid == pwd.getpwnam("nobody").pw_uid
        assert found.st_mode & 0o777 == 0o660


# Unix sockets, and addresses of both families.


def test_processes_share_a_unix_socket(tmp_path: Path) -> None:
    """Every process accepts from it; a reload leaves it, and a stop removes it."""
    path = tmp_path / "chat.sock"
    script = echo(f"websocket+unix://{path}", "count=2, drain_window=0.2")
    with master(script, tmp_path) as service:
        for _ in range(2):
            with unix_connect(str(path)) as client:
                client.send("hello")
                assert int(str(client.recv()).split()[0]) in service.pids()
            assert service.command("reload").returncode == 0
            until(lambda: len(service.pids()) == 2)
        service.signal(signal.SIGTERM)

        assert service.wait() == 0, service.stderr
        assert not path.exists()


def test_a_unix_socket_that_was_removed(tmp_path: Path) -> None:
    """The log says so once, and a reload makes it anew; connected clients stay till then."""
    path = tmp_path / "chat.sock"
    script = echo(f"websocket+unix://{path}", "count=2, drain_window=0.2")
    with master(script, tmp_path) as service, unix_connect(str(path)) as client:
        path.unlink()
        service.wait_for(f"{path} was removed: no client can connect until a `reload`")
        client.send("hello")
        assert str(client.recv()).endswith("hello")
        assert service.command("reload").returncode == 0
        with unix_connect(str(path)) as other:
            other.send("hello")
            assert int(str(other.recv()).split()[0]) in service.pids()
        assert service.command("stop").returncode == 0


def test_a_name_of_both_families(tmp_path: Path) -> None:
    """``localhost`` is listened on wherever it leads, at one port, by each process."""
    with master(echo("websocket://localhost:0", "count=2"), tmp_path) as service:
        for line in service.stderr.splitlines():
            if "listens on " in line:
                with connect(line.rpartition(" ")[2]) as client:
                    client.send("hello")
                    assert str(client.recv()).endswith(" hello")


def test_two_workers(tmp_path: Path) -> None:
    """Each has its own address, its own processes and its own callbacks."""
    script = (
        "from gateman import Worker\n"
        "for name in ('one', 'two'):\n"
        "    worker = Worker('websocket://127.0.0.1:0', name=name)\n"
        "    worker.on_message = lambda connection, message: connection.send(\n"
        "        f'{connection.worker.name} {connection.worker.id} {message}')\n"
        "Worker.run_all()\n"
    )
    with master(script, tmp_path) as service:
        for line in (service.wait_for("one listens on"), service.wait_for("two listens on")):
            with connect(line.rpartition(" ")[2]) as client:
                client.send("hello")
                name = "one" if "one listens" in line else "two"
                assert client.recv() == f"{name} 0 hello"
        assert [slot["worker"] for slot in service.status()["slots"]] == ["one", "two"]


def test_a_start_says_that_every_page_may_connect(tmp_path: Path) -> None:
    """Once for a worker, not for each of its processes; not where pages are named."""
    script = (
        "from gateman import Worker\n"
        "Worker('websocket://127.0.0.1:0', name='one', count=2)\n"
        "Worker('websocket://127.0.0.1:0', name='two', allowed_origins=['https://a.example'])\n"
        "Worker.run_all()\n"
    )
    with master(script, tmp_path) as service:
        service.wait_for("two listens on")
        lines = [line for line in service.stderr.splitlines() if "pages of every origin" in line]

        assert [line.partition(" INFO ")[2] for line in lines] == [
            "one lets pages of every origin connect, and those of other hosts without the user's"
            " cookies: allowed_origins is not set"
        ]


def test_workers_with_one_name_are_told_apart(tmp_path: Path) -> None:
    """In the log, in status, and for their own code; a reload changes nothing about it."""
    script = (
        "from gateman import Worker\n"
        "for _ in range(2):\n"
        "    worker = Worker('websocket://127.0.0.1:0', drain_window=0.1)\n"
        "    worker.on_message = lambda connection, message: connection.send(\n"
        "        connection.worker.name)\n"
    )
    with master(script, tmp_path, command=[*GATEMAN, "start", "server.py"]) as service:
        service.wait_for("worker-2 listens on")
        for name in ("worker", "worker-2"):
            (line,) = [line for line in service.stderr.splitlines() if f"{name} listens" in line]
            with connect(line.rpartition(" ")[2]) as client:
                client.send("hello")
                assert client.recv() == name
        assert service.gateman("reload").returncode == 0
        assert [one["worker"] for one in service.status()["slots"]] == ["worker", "worker-2"]
        shown = service.gateman("status").stdout
        assert "worker/0" in shown
        assert "worker-2/0" in shown


# Containers.


def _may_unshare() -> bool:
    return shutil.which("unshare") is not None and os.getuid() == 0


@pytest.mark.skipif(not _may_unshare(), reason="a namespace of processes takes unshare and root")
def test_pid_1_reaps_orphans(tmp_path: Path) -> None:
    """What processes leave behind is nobody's but PID 1's; no zombie stays."""
    script = echo(options="count=1").replace(
        "Worker.run_all",
        "worker.on_worker_start = lambda _: os.system('(sleep 600 & sleep 600 &)')\nWorker.run_all",
    )
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "server.py"]
    with master(script, tmp_path, command=command) as service:
        (first,) = _children(service.pid)
        orphans = until(lambda: len(found := _children(first, "sleep")) == 2 and found)
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
        # A zombie has a folder, too.
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
        os.kill(first, signal.SIGTERM)

        assert service.wait() == 0, service.stderr


def _children(pid: int, program: str = "") -> list[int]:
    """Find the processes whose parent is a process that lives: all, or those of one program."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in map(int, children) if command_of(child).startswith(program)]


# The working directory.


def test_modules_of_the_working_directory_are_not_imported(tmp_path: Path) -> None:
    """Root may type a command in any folder: nothing that lies there runs in a process of ours."""
    folder, hostile = tmp_path / "service", tmp_path / "hostile"
    folder.mkdir()
    hostile.mkdir()
    ran = tmp_path / "ran"
    names = ("argparse", "asyncio", "click", "gateman", "json", "logging", "msgspec", "signal")
    for name in names:
        (hostile / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write('{name} ')\n")
    gateman = [str(Path(sys.executable).with_name("gateman"))]
    script = str(folder / "server.py")
    command = [*gateman, "start", script]
    with master(echo(), folder, command=command, cwd=hostile) as service:
        for words in (["status", script], ["push", "--all", "hi", "--service", script]):
            assert run([*gateman, *words], hostile).returncode == 0
        assert service.status()["ok"]
        assert not ran.exists(), ran.read_text()
