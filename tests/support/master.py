"""
A real master as a child process: a script of a test's own, its commands, and its processes.

Every process that a test starts is ended with it: the master by its pid, and what that left behind
by the names that its processes have in their environment.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.sync.client import ClientConnection, connect

from gateman.master.control import connect_to_master
from gateman.master.control_requests import GetStatus, StatusAnswer
from gateman.master.script import Script

from . import command_line, forks
from .certificates import for_threads
from .deadlines import TIMEOUT
from .server import Child, authority, shown_on_failure, ssl_options

# Says who answers, and which code it runs.
ECHO = """
import os
from gateman import Worker

VERSION = 1
worker = Worker({listen!r}, name="chat", {options})

@worker.on_message
def answer(connection, message):
    connection.send(f"{{os.getpid()}} {{VERSION}} {{message}}")

Worker.run_all()
"""


def echo(listen: str = "websocket://127.0.0.1:0", options: str = "") -> str:
    """
    Write a script that answers each message with its pid, its version and the message.

    Args:
        listen: Where.
        options: More arguments of its worker.

    Returns:
        The script.
    """
    return ECHO.format(listen=listen, options=options)


class Master(Child):
    """
    A running master.

    Attributes:
        path: Its script.
        port: The port of the first address that it listens on; 0 if it is none.
    """

    def __init__(
        self,
        process: "subprocess.Popen[str] | forks.ForkedProcess",
        path: Path,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(process)
        self.path = path
        self.environment = environment

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """
        Give a command about the script: ``python server.py WORDS``.

        Args:
            words: The command and its options.

        Returns:
            What it printed, and its exit code.
        """
        return run([sys.executable, str(self.path), *words], self.path.parent, self.environment)

    def gateman(
        self, word: str, *words: str, timeout: float = TIMEOUT
    ) -> "subprocess.CompletedProcess[str]":
        """
        Give a command about the script that does not run it: ``gateman WORD server.py WORDS``.

        Args:
            word: The command.
            words: Its options.
            timeout: Seconds that it may take.

        Returns:
            What it printed, and its exit code.
        """
        command = [*GATEMAN, word, str(self.path), *words]
        return run(command, self.path.parent, self.environment, timeout=timeout)

    def status(self) -> dict[str, Any]:
        """Ask its control socket for the status: no process is started for it."""
        with connect_to_master(Script.find(str(self.path)), self.environment) as master:
            return cast("dict[str, Any]", master.request(GetStatus(), StatusAnswer))

    def processes(self) -> list[dict[str, Any]]:
        """Tell of all processes, in the order of their slots."""
        return [one for slot in self.status()["slots"] for one in slot["processes"]]

    def pids(self) -> list[int]:
        """Tell the pids of all processes, in the order of their slots."""
        return [process["pid"] for process in self.processes()]


GATEMAN = (sys.executable, "-m", "gateman")


def run(
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> "subprocess.CompletedProcess[str]":
    """
    Run a command to its end; those of ``gateman`` and of scripts that can be forked are.

    Args:
        words: The command.
        folder: Where.
        environment: With which variables; this process's, if ``None``.
        timeout: Seconds that it may take.

    Returns:
        What it printed, and its exit code.
    """
    match tuple(words):
        case [sys.executable, "-m", "gateman", command, *_] if command in command_line.COMMANDS:
            return command_line.run(words[3:], folder, environment or os.environ, timeout)
        case [sys.executable, script, command, *_] if (
            script.endswith(".py") and command in command_line.COMMANDS
        ):
            return command_line.run(words[1:], folder, environment or os.environ, timeout)
    return subprocess.run(
        words,
        cwd=folder,
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def master(
    script: str,
    folder: Path,
    *words: str,
    command: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    listens: bool = True,
    cwd: Path | None = None,
    **options: Any,
) -> Iterator[Master]:
    """
    Run a script, and with it a master, while the block runs.

    Args:
        script: The program.
        folder: Where it is written, as ``server.py``, and run unless ``cwd`` says otherwise.
        words: Its arguments.
        command: How it is started in place of ``python server.py``, which is forked.
        environment: More variables.
        listens: Whether to wait until it listens.
        cwd: The working directory.
        options: Of the process; see :class:`subprocess.Popen`.

    Yields:
        The master.
    """
    path = folder / "server.py"
    path.write_text(script)
    variables = {**os.environ, "PYTHONWARNINGS": "default", **(environment or {})}
    variables.pop("XDG_RUNTIME_DIR", None)
    process: subprocess.Popen[str] | forks.ForkedProcess
    if command or options:
        process = subprocess.Popen(
            [*(command or (sys.executable, str(path))), *words],
            cwd=cwd or folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
    else:
        process = forks.start_script([str(path), *words], cwd or folder, variables)
    running = Master(process, path, variables)
    try:
        if listens:
            port = running.wait_for("listens on").rpartition(":")[2]
            running.port = int(port) if port.isdigit() else 0
        with shown_on_failure(running):
            yield running
    finally:
        children = descendants(process.pid)
        running.end()
        for pid in children:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


# A process does as it is told: dies, stalls, or answers.
OBEDIENT = """
import os, signal, sys, time
from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", name="chat", {options})

@worker.on_message
def obey(connection, message):
    match message.split():
        case ["exit", code]:
            print("about to exit", file=sys.stderr, flush=True)
            os._exit(int(code))
        case ["kill", number]:
            os.kill(os.getpid(), int(number))
        case ["stall", seconds]:
            here_it_is_stuck(float(seconds))
        case _:
            connection.send(str(os.getpid()))

def here_it_is_stuck(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass

Worker.run_all()
"""


def obedient(options: str = "count=2") -> str:
    """Write a script whose processes do as clients tell them."""
    return OBEDIENT.format(options=options)


def plain(script: str) -> str:
    """Leave a script as it is: ws."""
    return script


def secure(script: str) -> str:
    """Make a script that listens on a free port do so with TLS: wss."""
    return script.replace(
        '"websocket://127.0.0.1:0"', f'"wss://127.0.0.1:0", {{"ssl": {ssl_options()!r}}}'
    ).replace("'websocket://127.0.0.1:0'", f"'wss://127.0.0.1:0', {{'ssl': {ssl_options()!r}}}")


BOTH = pytest.mark.parametrize("protect", [plain, secure], ids=["ws", "wss"])
"""Have a test run its script without and with TLS."""


def open_to(service: Master) -> ClientConnection:
    """Connect a client; it is refused for a moment when no process of a worker serves."""
    is_secure = "wss://" in service.path.read_text()
    client: ClientConnection = until(partial(_try_to_connect, service.port, is_secure=is_secure))
    return client


def _try_to_connect(port: int, *, is_secure: bool) -> ClientConnection | None:
    try:
        if is_secure:
            tls = for_threads(authority().trusting_client())
            return connect(f"wss://localhost:{port}", ssl=tls, open_timeout=TIMEOUT)
        return connect(f"ws://127.0.0.1:{port}", open_timeout=TIMEOUT)
    except OSError:
        return None


def pid_of(client: ClientConnection) -> int:
    """Ask which process has a client."""
    client.send("who?")
    return int(client.recv())


def slots(service: Master) -> list[tuple[str, int, str | None]]:
    """Tell of each slot its state, how often it was restarted, and how its last process ended."""
    return [
        (
            slot["state"],
            slot["restarts"],
            slot["last_exit"] and slot["last_exit"].partition(" after")[0],
        )
        for slot in service.status()["slots"]
    ]


def ask(port: int, text: str = "hello") -> list[str]:
    """Send a message, and give the words of the answer: pid, version and message."""
    with connect(f"ws://127.0.0.1:{port}") as client:
        client.send(text)
        return str(client.recv()).split()


def files_beside(script: Path) -> list[str]:
    """List what a master has put beside its script."""
    return sorted(path.suffix for path in script.parent.iterdir() if path != script)


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


def descendants(pid: int) -> list[int]:
    """
    Find the processes that a process has started.

    Args:
        pid: Its id.

    Returns:
        Their ids; those of their own children too.
    """
    found: list[int] = []
    # Each of them may end at any moment, and its folder with it.
    tasks: list[Path] = []
    with suppress(OSError):
        tasks += Path(f"/proc/{pid}/task").iterdir()
    for task in tasks:
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def is_alive(pid: int) -> bool:
    """
    Tell whether a process exists and has not ended.

    Args:
        pid: Its id.

    Returns:
        Whether it is, a zombie not counted.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def command_of(pid: int) -> str:
    """Read a process's command line; it is empty once the process has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def written(path: Path) -> str:
    """Read what another process has written to a file so far; nothing if it has not made it."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def until(condition: Callable[[], Any], *, within: float = TIMEOUT) -> Any:
    """
    Wait for what another process does and does not announce.

    Args:
        condition: Asked again and again.
        within: Seconds until the test fails.

    Returns:
        The first true answer.
    """
    deadline = time.monotonic() + within
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.02)
    return answer
