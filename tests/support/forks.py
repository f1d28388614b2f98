"""
Programs in processes that are forked: what users start, without its imports.

One process per kind of program imports what all of them import. For each of them it forks a child,
which gets the arguments, folder, variables and files of a process that is started. What Python
itself reads from variables when it starts is part of the process that is forked: there is one per
value of those.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Literal, TypedDict, cast

from .deadlines import TIMEOUT

Kind = Literal["command", "router", "script"]


class ForkedProcess:
    """A program in a forked process, with the interface of :class:`subprocess.Popen`."""

    def __init__(
        self, words: Sequence[str], answers: socket.socket, stderr: IO[str] | None
    ) -> None:
        self.args = list(words)
        self.stderr = stderr
        self.returncode: int | None = None
        self._answers = answers
        self._lines = answers.makefile()
        answers.settimeout(TIMEOUT)
        self.pid = int(self._lines.readline())

    def poll(self) -> int | None:
        """Return the exit code if it has ended; that of a signal is negative."""
        if self.returncode is None and self._has_answer(0):
            self.returncode = int(self._lines.readline())
            self._lines.close()
            self._answers.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        if self.returncode is None:
            self._has_answer(timeout)
        if (code := self.poll()) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def _has_answer(self, timeout: float | None) -> bool:
        # Not select(): a test may have more descriptors open than that takes.
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """End it in order."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class _Request(TypedDict):
    words: list[str]
    folder: str
    environment: dict[str, str]
    has_session: bool


def is_for_python(variable: str) -> bool:
    """Tell whether Python reads a variable when it starts."""
    return variable.startswith(("PYTHON", "LANG", "LC_"))


def start(
    kind: Kind,
    words: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    stdout: int,
    stderr: int,
    has_session: bool = False,
) -> ForkedProcess:
    """
    Start a program.

    Args:
        kind: One of ``PROGRAMS``.
        words: Its arguments.
        folder: Where.
        environment: All of its variables.
        stdout: A file descriptor.
        stderr: A file descriptor, or ``subprocess.PIPE``.
        has_session: Whether it leads a session of its own.
    """
    for_python = {name: value for name, value in environment.items() if is_for_python(name)}
    server = _server(kind, tuple(sorted(for_python.items())))
    request = _Request(
        words=list(words),
        folder=str(folder),
        environment=dict(environment),
        has_session=has_session,
    )
    ours, theirs = socket.socketpair()
    read = write = -1
    if stderr == subprocess.PIPE:
        read, write = os.pipe()
    stdin = os.open(os.devnull, os.O_RDONLY)
    try:
        files = [stdin, stdout, stderr if write < 0 else write, theirs.fileno()]
        socket.send_fds(server, [json.dumps(request).encode()], files)
    finally:
        theirs.close()
        os.close(stdin)
        if write >= 0:
            os.close(write)
    return ForkedProcess(words, ours, os.fdopen(read) if read >= 0 else None)


def start_script(
    words: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> ForkedProcess:
    """Start ``python WORDS``, whose standard error is read."""
    with Path(os.devnull).open("wb") as nowhere:
        return start(
            "script",
            words,
            folder=folder,
            environment=environment,
            stdout=nowhere.fileno(),
            stderr=subprocess.PIPE,
        )


@functools.cache
def _server(kind: Kind, for_python: tuple[tuple[str, str], ...]) -> socket.socket:
    """Start the process that forks; it ends when this one has."""
    others = {name: value for name, value in os.environ.items() if not is_for_python(name)}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, kind, str(theirs.fileno())],
            cwd=Path(__file__).parents[2],
            env=others | dict(for_python),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait()

    return ours


def _serve(requests: socket.socket) -> _Request:
    """Fork a child for each request; return the request in the child."""
    ended, wake_up = socket.socketpair()
    for end in (ended, wake_up):
        end.settimeout(0)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_up.fileno(), warn_on_full_buffer=False)
    answers: dict[int, socket.socket] = {}
    # No collection looks at the modules again, nor do those at the end of each program.
    gc.freeze()
    # Not select(): the test that has started this one may have had too many descriptors open.
    poll = select.poll()
    for end in (requests, ended):
        poll.register(end, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if ended.fileno() in ready:
            ended.recv(1 << 12)
            _tell_ends(answers)
        if requests.fileno() not in ready:
            continue
        request, fds, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not request:
            os._exit(0)
        *files, answer = fds
        if pid := os.fork():
            for fd in files:
                os.close(fd)
            answers[pid] = socket.socket(fileno=answer)
            answers[pid].sendall(f"{pid}\n".encode())
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (requests, ended, wake_up, *answers.values()):
            one.close()
        os.close(answer)
        for number, fd in enumerate(files):
            os.dup2(fd, number)
            os.close(fd)
        _open_streams()
        known: _Request = json.loads(request)
        return known


def _open_streams() -> None:
    """Make the streams of the process for its files: those of the one before know other files."""
    for name, mode, number in (("stdin", "r", 0), ("stdout", "w", 1), ("stderr", "w", 2)):
        before = getattr(sys, name)
        # PYTHONUNBUFFERED is for what is written.
        size = 0 if before.write_through and mode == "w" else -1
        stream = io.TextIOWrapper(
            open(number, f"{mode}b", size, closefd=False),  # noqa: SIM115 - to the process's end
            before.encoding,
            before.errors,
            line_buffering=before.line_buffering,
            write_through=before.write_through,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _tell_ends(answers: dict[int, socket.socket]) -> None:
    while answers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with answers.pop(pid) as answer, contextlib.suppress(BrokenPipeError):
            answer.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _become(
    run: Callable[[list[str]], None],
    *,
    words: list[str],
    folder: str,
    environment: dict[str, str],
    has_session: bool,
) -> None:
    if has_session:
        os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    run(words)


def _command(words: list[str]) -> None:
    """``python -m gateman WORDS``, or ``python WORDS`` if they begin with a script."""
    if words[0].endswith(".py"):
        _script(words)
        return
    sys.path[0] = str(Path.cwd())
    sys.argv = ["gateman", *words]
    sys.modules["gateman.cli"].main()


def _router(words: list[str]) -> None:
    """``python -m gateman.bus.router WORDS``."""
    sys.path[0] = str(Path.cwd())
    sys.exit(sys.modules["gateman.bus.router"].main(words))


def _script(words: list[str]) -> None:
    """``python WORDS``."""
    path = words[0]
    sys.orig_argv = [sys.executable, *words]
    sys.argv = words
    sys.path[0] = str(Path(path).resolve().parent)
    program = ModuleType("__main__")
    program.__file__ = path
    sys.modules["__main__"] = program
    try:
        exec(compile(Path(path).read_bytes(), path, "exec"), vars(program))  # noqa: S102 - a test's
    except Exception as error:  # noqa: BLE001 - as Python itself
        # Without the frame of this module.
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)


PROGRAMS: dict[Kind, tuple[Callable[[list[str]], None], tuple[str, ...]]] = {
    "command": (
        _command,
        tuple(
            f"gateman.cli.{name}"
            for name in (
                *("bus", "cert", "certificates", "client", "doctor", "proxy", "push", "service"),
                *("status", "systemd", "who"),
            )
        ),
    ),
    "router": (_router, ("gateman.bus.router",)),
    "script": (_script, ("gateman.config.worker", "gateman.cli.program", "gateman.master.master")),
}
"""What runs each kind of program, and what is imported for it before."""


if __name__ == "__main__":
    _run, _modules = PROGRAMS[cast("Kind", sys.argv[1])]
    for _name in _modules:
        importlib.import_module(_name)
    _become(_run, **_serve(socket.socket(fileno=int(sys.argv[2]))))
