"""
The command line in processes that are forked: the program that users start, without its imports.

One process imports what the commands need. Per command it forks a child, which gets the arguments,
folder, variables and files of a process that is started. What Python itself reads from variables
when it starts is part of the process that is forked: there is one per value of those.
"""

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from click import Context

from gateman.cli import gateman, main

from .deadlines import TIMEOUT

COMMANDS = (
    *("bus", "cert", "certificates", "check", "client", "connections", "doctor", "proxy", "push"),
    *("reload", "status", "stop", "systemd", "who"),
)
"""Those that can be forked always: they start no process that runs the same program again."""


def run(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, as ``subprocess.run`` would."""
    server = _server(tuple(sorted(filter(_is_for_python, environment.items()))))
    request = json.dumps({"words": words, "folder": str(folder), "environment": dict(environment)})
    answer, theirs = socket.socketpair()
    with (
        answer,
        TemporaryFile() as stdout,
        TemporaryFile() as stderr,
        Path(os.devnull).open() as stdin,
    ):
        with theirs:
            files = [stdin.fileno(), stdout.fileno(), stderr.fileno(), theirs.fileno()]
            socket.send_fds(server, [request.encode()], files)
        answer.settimeout(TIMEOUT)
        answers = answer.makefile()
        pid = int(answers.readline())
        answer.settimeout(timeout)
        try:
            code = int(answers.readline())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(words, timeout) from None
        texts = [_text(file.fileno()) for file in (stdout, stderr)]
    return subprocess.CompletedProcess(words, code, *texts)


def _is_for_python(variable: tuple[str, str]) -> bool:
    return variable[0].startswith(("PYTHON", "LANG", "LC_"))


def _text(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, closefd=False) as file:
        return file.read()


@functools.cache
def _server(for_python: tuple[tuple[str, str], ...]) -> socket.socket:
    """Start the process that forks; it ends when this one has."""
    others = {item for item in os.environ.items() if not _is_for_python(item)}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            cwd=Path(__file__).parents[2],
            env={**dict(others), **dict(for_python)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait()

    return ours


def _serve(fd: int) -> None:
    """Fork a child for each request; return in the child."""
    for name in COMMANDS:
        gateman.get_command(Context(gateman), name)
    # Nobody waits for those that wait for the commands.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=fd) as requests:
        while True:
            request, fds, _, _ = socket.recv_fds(requests, 1 << 20, 4)
            if not request:
                os._exit(0)
            if not os.fork():
                break
            for one in fds:
                os.close(one)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *files, answers = fds
    pid = os.fork()
    if pid:
        os.write(answers, f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        with suppress(BrokenPipeError):
            os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    os.close(answers)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    _become(**json.loads(request))


def _become(words: list[str], folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # As `python -m gateman` has them.
    sys.path[0] = folder
    sys.argv = ["gateman", *words]


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
    main()
