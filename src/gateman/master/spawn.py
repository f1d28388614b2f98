"""Starts processes; :class:`ChildProcess` is the master's side of one."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .assignment import Assignment
from .channel import FromMaster, FromProcess, Lines, Report, from_process, line, read
from .events import SlotId
from .process_state import is_stopped
from .script import interpreter_options

_CHILD_MAIN = Path(__file__).with_name("child_main.py")
_ROOT = str(Path(__file__).parents[2])

# The end of standard error, kept for a process that fails; a traceback of faulthandler fits, with
# the stack of C that it shows from Python 3.14 on.
_MAX_LINES = 100
_MAX_LINE_LENGTH = 500  # characters

# Read at once from a channel, so that a process that never stops writing cannot block the master.
_MAX_READ_SIZE = 1 << 20  # bytes

STACK_SIGNAL = signal.SIGUSR2
"""Makes a process write the stack of its main thread to standard error, even if it is stuck."""

PIECE_SIZE = 4096  # bytes
"""Read at once from a standard error. POSIX: a pipe that is writable takes as much."""


class ChildProcess:
    def __init__(
        self,
        slot_id: SlotId,
        process: "subprocess.Popen[bytes]",
        channel: socket.socket,
        stderr_fd: int,
    ) -> None:
        self.slot_id = slot_id
        self.pid = process.pid
        self.channel = channel
        self.stderr_fd = stderr_fd
        self.report: Report | None = None
        self.is_ready = False
        self._process = process
        self._received = Lines()
        self._unsent = b""
        self._lines: deque[str] = deque(maxlen=_MAX_LINES)
        self._unfinished = b""

    def read(self) -> list[FromProcess]:
        """Read messages; raise EOFError at the end, and ValueError if they are not valid."""
        try:
            data = self.channel.recv(_MAX_READ_SIZE)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            raise EOFError
        return read(from_process, self._received.feed(data))

    def send(self, message: FromMaster) -> bool:
        """Return whether the message was sent; a process that does not read gets none."""
        try:
            self._unsent = self._unsent[self.channel.send(self._unsent) :]
            if self._unsent:
                return False
            data = line(message)
            # The rest of a line is sent before the next one.
            self._unsent = data[self.channel.send(data) :]
        except OSError:
            return False
        return True

    def read_stderr(self) -> bytes:
        """Read a piece of standard error, and keep the last lines."""
        if self.stderr_fd < 0:
            return b""
        try:
            data = os.read(self.stderr_fd, PIECE_SIZE)
        except BlockingIOError:
            return b""
        if not data:
            os.close(self.stderr_fd)
            self.stderr_fd = -1
        *lines, rest = (self._unfinished + data).split(b"\n")
        self._unfinished = rest[-_MAX_LINE_LENGTH:]
        for one in lines:
            self._lines.append(one.decode(errors="replace")[:_MAX_LINE_LENGTH])
        return data

    @property
    def last_lines(self) -> tuple[str, ...]:
        rest = self._unfinished.decode(errors="replace")
        return (*self._lines, rest) if rest else tuple(self._lines)

    def send_signal(self, number: signal.Signals) -> None:
        # Not permitted if the process has switched to another user, and the master is not root.
        with contextlib.suppress(PermissionError):
            self._process.send_signal(number)

    def poll(self) -> int | None:
        """Return the exit status if it has ended; see :class:`gateman.master.events.Exited`."""
        return self._process.poll()

    @property
    def is_stopped(self) -> bool:
        return is_stopped(self.pid)

    def close(self) -> None:
        self.channel.close()
        if self.stderr_fd >= 0:
            os.close(self.stderr_fd)
            self.stderr_fd = -1


def spawn(
    assignment: Assignment,
    channel: socket.socket,
    environment: Mapping[str, str],
    *,
    label: str,
    has_terminal: bool,
) -> ChildProcess:
    """Start a new interpreter that runs the script."""
    complete = dict(environment)
    assignment.put(complete)
    read, write = os.pipe()
    os.set_blocking(read, False)
    fds = {assignment.channel, *assignment.http}
    fds.update(fd for fds in assignment.sockets for fd in fds)
    fds.update(fd for fd in (assignment.log, assignment.liveness_fd) if fd >= 0)
    try:
        with signals_blocked():
            process = subprocess.Popen(  # noqa: S603 - this package
                _command(label),
                env=complete,
                pass_fds=tuple(fds),
                stdout=None if has_terminal else write,
                stderr=write,
            )
    except OSError:
        os.close(read)
        raise
    finally:
        os.close(write)
    return ChildProcess(SlotId(assignment.worker, assignment.number), process, channel, read)


def program(code: str, *arguments: str) -> list[str]:
    """Return the command of a new interpreter that runs code of this package."""
    # Not -m: the script may have changed sys.path to find gateman. -P: a module in the working
    # directory would run as the master's user, which may be root.
    code = f"import sys; sys.path.append({_ROOT!r}); {code}"
    return [sys.executable, *interpreter_options(sys.orig_argv), "-P", "-c", code, *arguments]


def end(process: "subprocess.Popen[bytes]", timeout: float) -> None:
    """Wait until a process that was told to end has ended; kill it if it does not."""
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def not_started(error: OSError) -> str:
    return f"cannot be started ({(error.strerror or str(error)).lower()})"


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block SIGINT and the stack signal, also in processes that are started meanwhile."""
    # Ctrl-C reaches the whole process group: a process that still imports would print a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, STACK_SIGNAL})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _command(label: str) -> Sequence[str]:
    return [sys.executable, *interpreter_options(sys.orig_argv), str(_CHILD_MAIN), label]
