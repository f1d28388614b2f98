"""
The time within which a script has to come to ``Worker.run_all()``, for a command that reports.

A script that hangs may be in C code, and may swallow every exception: a thread looks after it.
"""

import os
import signal
import sys
import sysconfig
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from ..errors import LoadFailed
from ..log import write_to_user

# For what the script does when it is interrupted; then the process ends.
_GRACE = 3.0  # seconds

_NOT_THE_USERS = (
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    str(Path(__file__).parents[1]),
    "<frozen ",
)


class _Late(BaseException):
    """Raised where the script hangs; not an Exception, which it may catch and try again."""


class LoadDeadline:
    """A context that ends with ``LoadFailed`` unless :meth:`reached` is called in time."""

    def __init__(self, script: str, seconds: float) -> None:
        self._script = script
        self._seconds = seconds
        self._reached = threading.Event()
        self._ended = threading.Event()
        self._problem = ""
        self._main = threading.get_ident()

    def __enter__(self) -> Self:
        # Kept for the rest of the process: the signal may still be on its way.
        signal.signal(signal.SIGALRM, self._interrupt)
        threading.Thread(target=self._watch, name="load deadline", daemon=True).start()
        return self

    @property
    def is_late(self) -> bool:
        """Whether the script was interrupted."""
        return bool(self._problem)

    def reached(self) -> None:
        """Tell that the script has come to ``Worker.run_all()``."""
        self._reached.set()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        is_late = self.is_late and not self._reached.is_set()
        self._reached.set()
        self._ended.set()
        # What the script makes of the interruption is not the cause.
        if is_late and not isinstance(error, KeyboardInterrupt):
            raise LoadFailed(self._problem) from None

    def _watch(self) -> None:
        if self._reached.wait(self._seconds):
            return
        place = _user_line(sys._current_frames().get(self._main))  # noqa: SLF001 - documented
        self._problem = (
            f"{self._script} did not come to Worker.run_all() within {self._seconds:g} s"
            f"{place and f', it is at {place}'}: move what it waits for into on_worker_start, or"
            " give a longer --timeout"
        )
        signal.pthread_kill(self._main, signal.SIGALRM)
        if not self._ended.wait(_GRACE) and not self._reached.is_set():
            failure = LoadFailed(self._problem)
            write_to_user(f"gateman: {failure}")
            os._exit(int(failure.exit_code))

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if not self._reached.is_set():
            raise _Late


def end_process(code: int) -> NoReturn:
    """End without waiting for threads of the script, which may hang as it does."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _user_line(frame: FrameType | None) -> str:
    """Return the innermost line of the user's own code; empty if there is none."""
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_NOT_THE_USERS):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
