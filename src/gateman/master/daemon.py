"""
``start -d``: the master goes on without a terminal, and whoever started it learns how that went.

    command ──fork──► session leader ──fork──► master
       │                                          │ serves: its exit code is known to be none yet
       └──────── waits on a pipe ◄────────────────┘ or ends: its exit code

The first stays until everything serves, so that a shell, or a script, can go by its exit code.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import ExitCode
from ..log import LogFile, escaped
from ..safe_files import open_file

# The one byte that says "serves"; exit codes are written as themselves, behind it or alone.
_SERVING = b"\xff"

# What is shown of the log when it did not start.
_TAIL_SIZE = 4096  # bytes


class Daemon:
    """One detaching, as a pair of callbacks for :func:`gateman.master.start.start`."""

    def __init__(self, log_path: Path) -> None:
        """
        Prepare; nothing is forked yet.

        Raises:
            ConfigError: It cannot write there.
        """
        # Made now, while there is a terminal to be told that it cannot be.
        LogFile(log_path, ())
        self._log_path = log_path
        self._log_size = log_path.stat().st_size
        self._reader, self._writer = os.pipe()
        self._is_detached = False

    def detach(self) -> None:
        """Go on as the daemon; the process that calls this ends within it, when all serves."""
        sys.stdout.flush()
        sys.stderr.flush()
        if os.fork():
            os.close(self._writer)
            # Nothing is unwound here: what is open belongs to the daemon now, and stays.
            os._exit(self._wait_for_outcome())
        os.setsid()
        if os.fork():
            # Not the session's leader any more, so that no terminal can become the daemon's.
            os._exit(0)
        self._is_detached = True
        os.close(self._reader)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.close(null)

    def report_serving(self) -> None:
        """Let the command end: everything serves."""
        self._send_byte(_SERVING)

    def run(self, master: Callable[[], int]) -> int:
        """Run the master, and see to it that the command learns its exit code."""
        code: int = ExitCode.CRASHED
        try:
            code = master()
        finally:
            if self._is_detached:
                self._send_byte(bytes((code,)))
        return code

    def _send_byte(self, byte: bytes) -> None:
        if self._writer >= 0:
            os.write(self._writer, byte)
            os.close(self._writer)
            self._writer = -1

    def _wait_for_outcome(self) -> int:
        """Wait until it serves or has ended; gives the command's exit code."""
        byte = os.read(self._reader, 1)
        if byte == _SERVING:
            return int(ExitCode.STOPPED)
        sys.stderr.write(f"{self._tail()}not started; {self._log_path} has this too\n")
        sys.stderr.flush()
        return byte[0] if byte else int(ExitCode.CRASHED)

    def _tail(self) -> str:
        """Give what the daemon wrote, or the end of it."""
        try:
            with os.fdopen(open_file(self._log_path, os.O_RDONLY), "rb") as log:
                log.seek(max(self._log_size, log.seek(0, os.SEEK_END) - _TAIL_SIZE))
                return escaped(log.read().decode(errors="replace"))
        except OSError:
            return ""
