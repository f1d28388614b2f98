"""
``start -d``: the master runs without a terminal, and the command exits when the service serves.

    command ──fork──► session leader ──fork──► master
       │                                          │ one byte: it serves,
       └──────── waits on a pipe ◄────────────────┘ or its exit code

The command's exit code tells a shell or script whether the start succeeded.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import ExitCode
from ..log import LogFile, escaped
from ..safe_files import open_file

# The byte for "serves"; any other byte is an exit code.
_SERVING = b"\xff"

# The end of the log that the command prints if the start fails.
_TAIL_SIZE = 4096  # bytes


class Daemon:
    def __init__(self, log_path: Path) -> None:
        # The file is made now: the terminal still shows an error.
        LogFile(log_path, ())
        self._log_path = log_path
        self._log_size = log_path.stat().st_size
        self._reader, self._writer = os.pipe()
        self._is_detached = False

    def detach(self) -> None:
        """Continue in the daemon; the calling process ends here when the service serves."""
        sys.stdout.flush()
        sys.stderr.flush()
        if os.fork():
            os.close(self._writer)
            # No cleanup: the open files and sockets belong to the daemon.
            os._exit(self._wait_for_outcome())
        os.setsid()
        if os.fork():
            # A process that is not a session leader cannot acquire a terminal.
            os._exit(0)
        self._is_detached = True
        os.close(self._reader)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.close(null)

    def report_serving(self) -> None:
        """Let the command exit with 0."""
        self._send_byte(_SERVING)

    def run(self, master: Callable[[], int]) -> int:
        """Run the master; report its exit code to the command."""
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
        """Wait until the daemon serves or has ended; return the command's exit code."""
        byte = os.read(self._reader, 1)
        if byte == _SERVING:
            return int(ExitCode.STOPPED)
        sys.stderr.write(f"{self._tail()}not started; the log is in {self._log_path}\n")
        sys.stderr.flush()
        return byte[0] if byte else int(ExitCode.CRASHED)

    def _tail(self) -> str:
        """Return the end of what the daemon has logged."""
        try:
            with os.fdopen(open_file(self._log_path, os.O_RDONLY), "rb") as log:
                log.seek(max(self._log_size, log.seek(0, os.SEEK_END) - _TAIL_SIZE))
                return escaped(log.read().decode(errors="replace"))
        except OSError:
            return ""
