"""A process ends on its master's command, and drains when the master is gone."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from gateman.master.channel import line
from gateman.master.master_connection import describe
from tests.support.loop import on_loop
from tests.support.master import (
    BOTH,
    Master,
    ask,
    is_alive,
    master,
    obedient,
    open_to,
    pid_of,
    slots,
    until,
)
from tests.support.server import serve


@BOTH
def test_a_process_that_is_told_to_end_is_replaced(
    tmp_path: Path, protect: Callable[[str], str]
) -> None:
    """SIGTERM to a process is a fast stop of it, and SIGQUIT a drain; the slot stays in service."""
    with master(protect(obedient("count=1, drain_window=0.2")), tmp_path) as service:
        for count, (number, code) in enumerate([(signal.SIGTERM, 1001), (signal.SIGQUIT, 1012)], 1):
            with open_to(service) as client:
                os.kill(pid_of(client), number)
                with pytest.raises(ConnectionClosed, match=str(code)):
                    client.recv()
            expected = [("running", count, "ended by itself")]
            until(partial(_slots_are, service, expected))


def _slots_are(service: Master, expected: list[tuple[str, int, str]]) -> bool:
    return slots(service) == expected


@BOTH
def test_processes_of_a_killed_master_drain(tmp_path: Path, protect: Callable[[str], str]) -> None:
    """They close their connections, let go of the port, and end; another master may start."""
    script = protect(obedient("count=2, drain_window=0.5"))
    with master(script, tmp_path) as service:
        pids = service.pids()
        with open_to(service) as client:
            service.signal(signal.SIGKILL)
            service.wait()
            with pytest.raises(ConnectionClosed, match="1012"):
                client.recv()
        until(lambda: not any(map(is_alive, pids)))
        fixed = script.replace("127.0.0.1:0", f"127.0.0.1:{service.port}")
    with master(fixed, tmp_path) as service:
        assert len(service.pids()) == 2


@BOTH
def test_a_new_master_waits_for_the_processes_of_a_killed_one(
    tmp_path: Path, protect: Callable[[str], str]
) -> None:
    """Started at once, it finds the port taken for a moment, and is patient."""
    with master(protect(obedient("count=2, drain_window=5.0")), tmp_path) as service:
        fixed = service.path.read_text().replace("127.0.0.1:0", f"127.0.0.1:{service.port}")
        with open_to(service):
            service.signal(signal.SIGKILL)
            with master(fixed, tmp_path) as other:
                assert other.port == service.port


def test_programs_of_a_process_do_not_delay_its_end(tmp_path: Path) -> None:
    """A program that holds the standard error of its process open is not waited for."""
    script = obedient("count=1").replace(
        "Worker.run_all",
        "import subprocess\n"
        "worker.on_worker_start = lambda _: open('pid', 'w').write(\n"
        "    str(subprocess.Popen(['sleep', '1000']).pid))\n"
        "Worker.run_all",
    )
    with master(script, tmp_path) as service:
        left = int((tmp_path / "pid").read_text())
        try:
            os.kill(service.pids()[0], signal.SIGKILL)
            until(lambda: slots(service) == [("running", 1, "was killed by SIGKILL")])
            assert service.command("stop").returncode == 0
        finally:
            os.kill(left, signal.SIGKILL)
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


# Its processes run on the loop that a program sets.
LOOP = """
import asyncio
import uvloop
from gateman import Worker

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
worker = Worker("websocket://127.0.0.1:0", count=2, drain_window=0.1)

@worker.on_message
def answer(connection, message):
    connection.send(type(asyncio.get_running_loop()).__module__)

Worker.run_all()
"""


def test_a_program_may_set_its_event_loop(tmp_path: Path) -> None:
    """
    It serves, is reloaded and stops.

    Its processes were silent for ever: uvloop's transports are none to ``isinstance``, and so
    they had no way to tell the master that they serve.
    """
    with master(LOOP, tmp_path) as service:
        assert ask(service.port) == ["uvloop"]
        assert service.command("reload").returncode == 0
        assert ask(service.port) == ["uvloop"]
        assert service.command("stop").returncode == 0


@on_loop
async def test_a_list_of_connections_that_is_too_long_is_cut() -> None:
    """It has to fit into one line of the channel; the total counts the others."""
    async with serve() as server, AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(server.client())
        sizes = [
            len(describe(server.service, 1, 100, max_size=size).connections)
            for size in (1 << 20, 1000, 10)
        ]
        answer = describe(server.service, 1, 100, max_size=1000)

        assert sizes == [20, 5, 0]
        assert answer.total == 20
        assert len(line(answer)) <= 1000


# Writes what a client sends to whatever pairs of sockets a process has; the channel is one.
GARBLES = """
import os, socket
from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", drain_window=0.1)

def is_of_a_pair(sock):
    try:
        return sock.family == socket.AF_UNIX and not (sock.getsockname() or sock.getpeername())
    except OSError:
        return False

@worker.on_message
def garble(connection, message):
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        with sock:
            if is_of_a_pair(sock):
                sock.send(message.encode() + b"\\n")

Worker.run_all()
"""


def test_a_process_that_sends_an_invalid_message_is_replaced(tmp_path: Path) -> None:
    """The master cannot talk to it: it drains, another process replaces it, the master stays."""
    garbage = ["nonsense", '{"say": "beat"}', '{"more": ' + "[" * 20_000]
    with master(GARBLES, tmp_path) as service:
        for count, words in enumerate(garbage, 1):
            (before,) = service.pids()
            with open_to(service) as client:
                client.send(words)
                with pytest.raises(ConnectionClosed, match="1012"):
                    client.recv()
            until(partial(_slots_are, service, [("running", count, "ended by itself")]))

            assert service.pids() != [before]
            service.wait_for(f"(pid {before}) sent an invalid message: ")
        assert "the master is gone" not in service.stderr


@BOTH
def test_a_process_closes_what_it_opened(tmp_path: Path, protect: Callable[[str], str]) -> None:
    """With warnings on, nothing is said of sockets at its end: after a drain, a stop, a failure."""
    script = protect(obedient("count=2, drain_window=0.2"))
    command = [sys.executable, "-X", "dev", "server.py"]
    with master(script, tmp_path, command=command) as service:
        with open_to(service) as client:
            pid_of(client)
            assert service.command("reload").returncode == 0
            with pytest.raises(ConnectionClosed, match="1012"):
                client.recv()
        assert service.command("stop").returncode == 0

        assert service.wait() == 0
        assert "ResourceWarning" not in service.stderr
    failing = script.replace(
        "Worker.run_all", "worker.on_worker_start = lambda _: 1 / 0\nWorker.run_all"
    )
    with master(failing, tmp_path, command=command, listens=False) as service:
        assert service.wait() == 1
        assert "ZeroDivisionError" in service.stderr
        assert "ResourceWarning" not in service.stderr


STARTS_FOR_LONG = """
import asyncio, os
from pathlib import Path
from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", count=1)

@worker.on_worker_start
async def start(worker):
    Path("starting").write_text(str(os.getpid()))
    try:
        await asyncio.Event().wait()
    finally:
        Path("leaving").touch()
        while not Path("may-leave").exists():
            await asyncio.sleep(0.01)
        Path("left").touch()

Worker.run_all()
"""


def test_a_start_that_is_stopped_twice_cleans_up(tmp_path: Path) -> None:
    """SIGTERM after the master's order, or SIGTERM twice: the first one cancels, the second not."""
    command = [sys.executable, "-X", "dev", "server.py"]
    with master(STARTS_FOR_LONG, tmp_path, command=command, listens=False) as service:
        until((tmp_path / "starting").exists)
        pid = int(until((tmp_path / "starting").read_text))
        service.signal(signal.SIGTERM)
        until((tmp_path / "leaving").exists)
        for _ in range(3):
            os.kill(pid, signal.SIGTERM)
        (tmp_path / "may-leave").touch()

        assert service.wait() == 0
        assert (tmp_path / "left").exists()
        assert "ResourceWarning" not in service.stderr
