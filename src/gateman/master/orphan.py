"""
A process whose master was killed logs this, and ends in order.

The master relays the log of its processes, so each process has a copy of the master's standard
error. A pair of sockets shows business workers when all others have ended: they have one end, and
the master and all other processes have the other end, which closes with the last of them.
"""

import asyncio
import os
import socket
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress

from .. import at_fork
from .events import Policy

_STDOUT, _STDERR = 1, 2


def max_shutdown_time(policies: Iterable[Policy]) -> float:
    """Return the seconds within which all processes without ``ends_last`` have ended."""
    return max((policy.drain_limit for policy in policies if not policy.ends_last), default=0.0)


def inherited_socket(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    at_fork.give_up(sock)
    return sock


class Orphan:
    def __init__(self, log: int, liveness_fd: int) -> None:
        self._log = log
        self._liveness_socket: socket.socket | None = None
        if liveness_fd >= 0:
            self._liveness_socket = inherited_socket(liveness_fd)
        if log >= 0:
            os.set_inheritable(log, False)
            at_fork.give_up_all(self, Orphan._descriptors)

    def _descriptors(self) -> Iterable[int]:
        return (self._log,)

    def drop_root_log(self) -> None:
        """Close a log file of root: this process could truncate it."""
        if self._log >= 0 and stat.S_ISREG(os.fstat(self._log).st_mode):
            os.close(self._log)
            self._log = -1

    def redirect_output(self) -> None:
        """Write to the log directly: no process reads this one's standard error any more."""
        with suppress(OSError):
            log = self._log if self._log >= 0 else os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            # Standard output also went to the master, and print() in a handler would fail.
            if os.path.sameopenfile(_STDOUT, _STDERR):
                os.dup2(log, _STDOUT)
            os.dup2(log, _STDERR)

    def wait(self, callback: Callable[[], object], timeout: float) -> None:
        """Call back when all processes without ``ends_last`` have ended, or at the timeout."""
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(timeout, callback)
        sock = self._liveness_socket
        if sock is None:
            return

        def others_ended() -> None:
            loop.remove_reader(sock)
            deadline.cancel()
            callback()

        loop.add_reader(sock, others_ended)

    def close(self) -> None:
        if self._liveness_socket is not None:
            asyncio.get_running_loop().remove_reader(self._liveness_socket)
            self._liveness_socket.close()
