"""A process as its master sees it: real ones, whose script runs without a service."""

import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateman.master.assignment import Assignment
from gateman.master.channel import Accept, ConnectionsAnswer, Stop
from gateman.master.events import SlotId
from gateman.master.spawn import ChildProcess, spawn
from tests.support.master import until


@contextmanager
def process(folder: Path, script: str, *, has_terminal: bool = True) -> Iterator[ChildProcess]:
    """Start a process that runs a script instead of serving, and end it in any case."""
    path = folder / "server.py"
    path.write_text(script)
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    assignment = Assignment(
        worker=0,
        worker_count=2,
        number=1,
        listen="",
        channel=theirs.fileno(),
        sockets=[],
        path=str(path),
        module="",
        argv=["start"],
    )
    with theirs:
        child = spawn(assignment, ours, dict(os.environ), label="chat/1", has_terminal=has_terminal)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGKILL)
        ended(child)
        child.close()


def ended(child: ChildProcess) -> int:
    """Wait for its end; gives how it ended."""
    until(lambda: child.poll() is not None)
    status = child.poll()
    assert status is not None
    return status


def all_errors(child: ChildProcess) -> bytes:
    """Read its standard error to the end."""
    read = b""
    while child.stderr_fd >= 0:
        select.select([child.stderr_fd], [], [], 10)
        read += child.read_stderr()
    return read


def test_it_has_a_slot_and_a_name(tmp_path: Path) -> None:
    """``ps`` shows what it is."""
    with process(tmp_path, "import time; time.sleep(1000)") as child:
        shown = until(Path(f"/proc/{child.pid}/cmdline").read_bytes).split(b"\0")

        assert child.slot_id == SlotId(0, 1)
        assert shown[-3].endswith(b"gateman/master/child_main.py")
        assert shown[-2] == b"chat/1"
        assert child.poll() is None


def test_its_last_lines_are_kept(tmp_path: Path) -> None:
    """As many as say why it ended, each of a length that a log can take."""
    script = (
        "import os, sys\n"
        "for number in range(200): print('line', number, file=sys.stderr)\n"
        "print('x' * 1000, file=sys.stderr)\n"
        "sys.stderr.write('no end')\nsys.stderr.flush()\nos._exit(7)\n"
    )
    with process(tmp_path, script) as child:
        written = all_errors(child)

        assert ended(child) == 7
        assert written.startswith(b"line 0\nline 1\n")
        assert written.endswith(b"\nno end")
        assert child.last_lines == (
            *(f"line {number}" for number in range(101, 200)),
            "x" * 500,
            "no end",
        )


@pytest.mark.parametrize("has_terminal", [True, False])
def test_where_it_prints(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], *, has_terminal: bool
) -> None:
    """To the master's standard output, or where its standard error goes when there is none."""
    with process(tmp_path, "import os; os.write(1, b'hello')", has_terminal=has_terminal) as one:
        stderr_fd = all_errors(one)
        ended(one)
    printed = capfd.readouterr().out

    assert (printed, b"hello" in stderr_fd) == (("hello", False) if has_terminal else ("", True))


def test_its_output_is_read_to_the_end(tmp_path: Path) -> None:
    """Messages arrive, then the end."""
    script = (
        "import os, sys\n"
        "links = {fd: os.readlink(f'/proc/self/fd/{fd}') for fd in range(3, 100)\n"
        "         if os.path.lexists(f'/proc/self/fd/{fd}')}\n"
        "(channel,) = [fd for fd, link in links.items() if link.startswith('socket:')]\n"
        "for number in (1, 2):\n"
        '    os.write(channel, b\'{"say":"connections","to":%d,"connections":[],\'\n'
        "                      b'\"total\":3}\\n' % number)\n"
        "os._exit(0)\n"
    )
    with process(tmp_path, script) as child:
        ended(child)

        assert child.read() == [ConnectionsAnswer(1, [], 3), ConnectionsAnswer(2, [], 3)]
        with pytest.raises(EOFError):
            child.read()
        assert not child.send(Stop())


def test_a_process_that_does_not_read_takes_no_more(tmp_path: Path) -> None:
    """The master never waits for it."""
    with process(tmp_path, "import time; time.sleep(1000)") as child:
        told = 0
        while child.send(Accept(list(range(100)))):
            told += 1
            assert told < 100_000

        assert told > 100


def test_signals_and_being_stopped(tmp_path: Path) -> None:
    """A stopped process differs from one that works, and from one that has ended."""
    with process(tmp_path, "import time; time.sleep(1000)") as child:
        assert not child.is_stopped
        child.send_signal(signal.SIGSTOP)
        until(lambda: child.is_stopped)
        child.send_signal(signal.SIGKILL)

        assert ended(child) == -signal.SIGKILL
        assert not child.is_stopped
        child.send_signal(signal.SIGKILL)


def test_the_system_starts_no_process(tmp_path: Path) -> None:
    """Nothing is left open when the system gives none."""
    before = _descriptors()
    ours, theirs = socket.socketpair()
    assignment = Assignment(
        worker=0,
        worker_count=2,
        number=0,
        listen="",
        channel=theirs.fileno(),
        sockets=[],
        path="",
        module="",
        # Linux takes no argument or variable of more than 128 KiB.
        argv=["x" * 200_000],
    )
    with ours, theirs, pytest.raises(OSError, match="Argument list too long"):
        spawn(assignment, ours, {}, label=str(tmp_path), has_terminal=True)

    assert _descriptors() == before


def _descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_ctrl_c_while_it_starts_is_the_masters_business(tmp_path: Path) -> None:
    """A terminal signals all at once, also processes that have not installed their handlers yet."""
    script = (
        "import os, signal\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('here', flush=True)\n"
        "os._exit(0)\n"
    )
    with process(tmp_path, script, has_terminal=False) as child:
        child.send_signal(signal.SIGINT)

        assert all_errors(child) == b"set()\nhere\n"
        assert ended(child) == 0


def test_only_a_new_process_holds_interrupts_back(tmp_path: Path) -> None:
    """The master itself still hears Ctrl-C."""
    with process(tmp_path, ""):
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
