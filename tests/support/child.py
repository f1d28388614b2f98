"""A server in a child process that tests kill and start again, at the same address."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import forks
from .deadlines import TIMEOUT
from .suspend import suspend

STOP_TIMEOUT = 5.0  # seconds until it is killed


class Child:
    """
    A server in a child process.

    Attributes:
        log: Where what it prints is added.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        is_up: Callable[[], bool],
        kind: forks.Kind | None = None,
    ) -> None:
        """
        Name a server; nothing runs yet.

        Args:
            command: Its command line; it stays in the foreground.
            log: Where what it prints is added.
            is_up: Whether it can be reached.
            kind: If it is forked: what it is. The command is its arguments then.
        """
        self.log = log
        self._command = command
        self._is_up = is_up
        self._kind = kind
        self._process: subprocess.Popen[bytes] | forks.ForkedProcess | None = None

    @property
    def pid(self) -> int:
        """Its id, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Run it, and wait until it can be reached."""
        with self.log.open("ab") as output:
            if self._kind is None:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            else:
                self._process = forks.start(
                    self._kind,
                    self._command,
                    folder=Path.cwd(),
                    environment=os.environ,
                    stdout=output.fileno(),
                    stderr=output.fileno(),
                    has_session=True,
                )
        deadline = time.monotonic() + TIMEOUT
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self._command!r} cannot be reached:\n{said}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it without warning."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator would; nothing happens if it does not run."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop it where it is, with its connections open."""
        assert self._process is not None
        suspend(self._process.pid)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(TIMEOUT)
        self._process = None


def answers(family: int, address: str | tuple[str, int]) -> bool:
    """
    Tell whether somebody listens.

    Args:
        family: Of which kind the address is.
        address: Where.
    """
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(address)
        except OSError:
            return False
        return True
