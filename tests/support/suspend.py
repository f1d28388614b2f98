"""Suspends processes where they are, as a debugger or a busy machine does."""

import os
import signal
import time
from pathlib import Path

from .deadlines import TIMEOUT


def suspend(pid: int) -> None:
    """
    Suspend a process, and wait until none of its threads runs: a signal takes effect later.

    Args:
        pid: Its id; SIGCONT lets it go on.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + TIMEOUT
    while {_state(task) for task in Path(f"/proc/{pid}/task").iterdir()} - {"T", "t"}:
        assert time.monotonic() < deadline, f"the process {pid} does not stop"
        time.sleep(0.001)


def _state(task: Path) -> str:
    # proc(5): the state follows the name, which is in parentheses and may contain some.
    return task.joinpath("stat").read_text().rpartition(") ")[2][0]
