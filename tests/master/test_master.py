"""What a master does about processes that die, stall, are stopped, or have done their share."""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.master import (
    BOTH,
    ask,
    echo,
    is_alive,
    master,
    obedient,
    open_to,
    pid_of,
    plain,
    secure,
    slots,
    until,
)
from tests.support.ports import free_port

# Crashes.


@BOTH
def test_a_killed_process_is_replaced(tmp_path: Path, protect: Callable[[str], str]) -> None:
    """The other processes continue, and status shows what happened."""
    with master(protect(obedient()), tmp_path) as service, open_to(service) as client:
        victim, witness = service.pids()
        if pid_of(client) == victim:
            victim, witness = witness, victim
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(service.pids()) == 2 and victim not in service.pids())

        assert pid_of(client) == witness
        assert ("running", 1, "was killed by SIGKILL") in until(
            lambda: [slot for slot in slots(service) if slot[1] == 1 and slot[0] == "running"]
        )
        assert witness in service.pids()


def test_clients_do_not_wait_for_a_missing_process(tmp_path: Path) -> None:
    """While a slot has no process, its neighbour accepts for it."""
    with master(obedient("count=2, max_crashes=1"), tmp_path) as service:
        victim, witness = service.pids()
        os.kill(victim, signal.SIGKILL)
        until(lambda: slots(service)[0][0] == "given_up")
        # The system chooses the queue of a slot by the client's port.
        for _ in range(30):
            with open_to(service) as client:
                assert pid_of(client) == witness


def test_a_crash_loop_is_ended(tmp_path: Path) -> None:
    """After its budget of crashes the slot is given up; the log and status say why."""
    port = free_port()
    good = obedient().replace("127.0.0.1:0", f"127.0.0.1:{port}")
    script = good.replace("count=2", "max_crashes=3").replace(
        "Worker.run_all",
        "print('no database', file=sys.stderr)\n"
        "worker.on_worker_start = lambda _: os._exit(7)\n"
        "Worker.run_all",
    )
    with master(script, tmp_path, listens=False) as service:
        line = service.wait_for("is given up")

        assert "ended with exit code 7" in line
        assert "the slot is given up after 3 crashes within" in line
        assert slots(service) == [("given_up", 2, "ended with exit code 7")]
        assert service.status()["slots"][0]["last_lines"] == ["no database"]
        # No client waits for a worker without processes.
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0

        service.path.write_text(good)
        assert service.command("reload").returncode == 0
        assert slots(service)[0][0] == "running"
        service.port = port
        with open_to(service) as client:
            assert pid_of(client) in service.pids()
        assert service.command("stop").returncode == 0


def test_status_shows_how_processes_ended(tmp_path: Path) -> None:
    """In words, with the last lines of what the process wrote."""
    with master(obedient("count=1"), tmp_path) as service:
        with open_to(service) as client:
            client.send("exit 9")
            with pytest.raises(ConnectionClosed):
                client.recv()
        until(lambda: slots(service) == [("running", 1, "ended with exit code 9")])

        assert service.status()["slots"][0]["last_lines"][-1:] == ["about to exit"]
        with open_to(service) as client:
            client.send(f"kill {signal.SIGSEGV.value}")
        until(lambda: slots(service) == [("running", 2, "was killed by SIGSEGV")])
        lines = service.status()["slots"][0]["last_lines"]
        assert "Fatal Python error: Segmentation fault" in lines


# Stalls.


def test_a_stuck_process_is_reported(tmp_path: Path) -> None:
    """It is busy, the log shows where, and it stays; its recovery is logged too."""
    script = obedient("timeouts={'stall': 2.0}")
    with master(script, tmp_path) as service, open_to(service) as client:
        pid = pid_of(client)
        client.send("stall 6")
        service.wait_for(f"(pid {pid}) is busy")
        service.wait_for("here_it_is_stuck")
        until(lambda: f"(pid {pid}) responds again" in service.stderr)

        assert pid_of(client) == pid
        assert slots(service) == [("running", 0, None)]


def test_a_stuck_process_is_replaced_where_that_is_wanted(tmp_path: Path) -> None:
    """With ``restart_stalled`` another process takes its place."""
    script = obedient("timeouts={'stall': 1.5}, restart_stalled=True")
    with master(script, tmp_path) as service, open_to(service) as client:
        pid = pid_of(client)
        client.send("stall 1000")
        until(lambda: not is_alive(pid))
        with open_to(service) as other:
            assert pid_of(other) != pid
        assert slots(service) == [("running", 1, None)]


def test_a_stopped_process_is_not_dead(tmp_path: Path) -> None:
    """SIGSTOP does not end it: no other process is started, and SIGCONT lets it continue."""
    script = obedient("timeouts={'stall': 1.5}, restart_stalled=True")
    with master(script, tmp_path) as service, open_to(service) as client:
        pid = pid_of(client)
        os.kill(pid, signal.SIGSTOP)
        service.wait_for(f"(pid {pid}) was stopped by a signal")

        assert [one["status"] for one in service.processes()] == ["stopped"]
        os.kill(pid, signal.SIGCONT)
        service.wait_for("responds again")
        assert pid_of(client) == pid
        assert service.pids() == [pid]


# Doing one's share.


@pytest.mark.parametrize(
    ("option", "reason", "protect"),
    [
        ("max_messages=10", "it has received 10 messages", secure),
        ("max_lifetime=1.0", "it has served for", plain),
        ("max_memory=1000", "it holds", plain),
    ],
)
def test_a_process_is_replaced_at_its_limits(
    tmp_path: Path, option: str, reason: str, protect: Callable[[str], str]
) -> None:
    """Another one serves before it drains; this is not a restart."""
    with master(protect(obedient(f"drain_window=0.2, {option}")), tmp_path) as service:
        with open_to(service) as client:
            pid = pid_of(client)
            for _ in range(9):
                pid_of(client)
            service.wait_for(reason)
            with pytest.raises(ConnectionClosed, match="1012"):
                client.recv()
        until(lambda: not is_alive(pid))
        assert [slot[1] for slot in slots(service)] == [0]


# Releases.


def test_a_deployment_behind_a_link(tmp_path: Path) -> None:
    """A command that is given as soon as the link leads to the next release finds the master."""
    for name in ("1", "2"):
        (tmp_path / "releases" / name).mkdir(parents=True)
        script = echo(options="drain_window=0.1").replace("VERSION = 1", f"VERSION = {name}")
        (tmp_path / "releases" / name / "server.py").write_text(script)
    current = tmp_path / "current"
    current.symlink_to("releases/1")
    first = (current / "server.py").read_text()
    command = [sys.executable, str(current / "server.py")]
    with master(first, current, command=command, cwd=tmp_path) as service:
        assert ask(service.port)[1] == "1"
        current.unlink()
        current.symlink_to("releases/2")

        assert service.command("start").returncode == 5
        assert service.command("reload").returncode == 0
        assert ask(service.port)[1] == "2"
        assert service.command("stop").returncode == 0


# Being frugal.


def test_a_master_has_no_event_loop_and_runs_no_callbacks(tmp_path: Path) -> None:
    """What it never needs is not even loaded; what the script declares runs in its processes."""
    script = "import os, sys\n" + obedient().replace(
        "Worker.run_all()",
        "worker.on_worker_start = lambda _: sys.stderr.write(f'begins in {os.getpid()}\\n')\n"
        "Worker.run_all()\n"
        "print('ends in', os.getpid(), {'asyncio', 'ssl'} & set(sys.modules), file=sys.stderr)",
    )
    with master(script, tmp_path) as service:
        expected = {f"begins in {pid}" for pid in service.pids()}
        until(lambda: expected == set(re.findall(r"begins in \d+", service.stderr)))
        assert service.command("stop").returncode == 0

        assert service.wait() == 0
        assert f"ends in {service.pid} set()" in service.stderr


def test_an_idle_master_does_nothing(tmp_path: Path) -> None:
    """In some seconds it uses no time that the system can measure, but for a beat's worth."""
    with master(obedient(), tmp_path) as service:
        before = _ticks(service.pid)
        deadline = time.monotonic() + 3
        until(lambda: time.monotonic() > deadline)

        # A tick is a hundredth of a second.
        assert _ticks(service.pid) - before <= 2


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])
