"""
What a process does when its master was killed: it says so in the log, and ends in order.

Processes write their log to the master, so each has a copy of where that writes. Those that others
need to the end have one end of a pair of sockets, of which the master and all that end first have
the other: when that is closed, the others have ended.
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


# Seconds that processes have beyond their own deadlines.
_GRACE = 2.0


def max_shutdown_time(policies: Iterable[Policy]) -> float:
    """Tell within how many seconds all processes that end first have ended."""
    first = [policy for policy in policies if not policy.ends_last]
    return max((policy.drain + policy.shutdown + _GRACE for policy in first), default=0.0)


class Orphan:
    """What a process has inherited for the case that its master is killed."""

    def __init__(self, log: int, liveness_fd: int) -> None:
        self._log = log
        self._liveness_sockets: socket.socket | None = None
        if liveness_fd >= 0:
            os.set_inheritable(liveness_fd, False)
            self._liveness_sockets = socket.socket(fileno=liveness_fd)
            at_fork.give_up(self._liveness_sockets)
        if log >= 0:
            os.set_inheritable(log, False)
            at_fork.give_up_all(self, Orphan._descriptors)

    def _descriptors(self) -> Iterable[int]:
        return (self._log,)

    def drop_root_log(self) -> None:
        """Give up a log file of root's: it could be emptied, where the master only appends."""
        if self._log >= 0 and stat.S_ISREG(os.fstat(self._log).st_mode):
            os.close(self._log)
            self._log = -1

    def redirect_output(self) -> None:
        """Write to the log directly: what read standard error so far is gone."""
        with suppress(OSError):
            log = self._log if self._log >= 0 else os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            # What a handler prints would fail where that went to the master, too.
            if os.path.sameopenfile(_STDOUT, _STDERR):
                os.dup2(log, _STDOUT)
            os.dup2(log, _STDERR)

    def wait(self, callback: Callable[[], object], timeout: float) -> None:
        """Wait until all processes that end first have ended."""
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(timeout, callback)
        liveness_fd = self._liveness_sockets
        if liveness_fd is None:
            return

        def others_ended() -> None:
            loop.remove_reader(liveness_fd)
            deadline.cancel()
            callback()

        loop.add_reader(liveness_fd, others_ended)

    def close(self) -> None:
        """Show the others that this process has ended; nothing waits any more."""
        if self._liveness_sockets is not None:
            asyncio.get_running_loop().remove_reader(self._liveness_sockets)
            self._liveness_sockets.close()
