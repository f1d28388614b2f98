"""
What processes write to standard error goes to the master's, and its last lines are kept.

As without a master, who writes has to wait when nobody reads; the master itself never does.
"""

import contextlib
import os
import select
import selectors
from functools import partial

from .spawn import Offspring

_STDERR = 2

# What a process may have left in its pipe when it ended: as much as a pipe holds, and more.
_MAX_LAST_PIECES = 64


class Relay:
    """The pipes of all processes."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        """
        Start without processes.

        Args:
            selector: The master's; what it finds ready is called.
        """
        self._selector = selector
        self._relayed: set[Offspring] = set()
        self._is_paused = False

    def add(self, offspring: Offspring) -> None:
        """
        Relay what a process writes from now on.

        Args:
            offspring: Which.
        """
        self._relayed.add(offspring)
        if not self._is_paused:
            self._watch(offspring)

    def remove(self, offspring: Offspring) -> None:
        """
        Relay the last of a process that has ended.

        Args:
            offspring: Which.
        """
        self._ignore(offspring)
        self._relayed.discard(offspring)
        for _ in range(_MAX_LAST_PIECES):
            if not _copy(offspring, is_read_by_nobody=not _takes_more()):
                break

    def _ready(self, offspring: Offspring) -> None:
        if not _takes_more():
            for one in self._relayed:
                self._ignore(one)
            self._is_paused = True
            self._selector.register(_STDERR, selectors.EVENT_WRITE, self._resume)
            return
        fd = offspring.errors
        _copy(offspring)
        if offspring.errors < 0:
            self._selector.unregister(fd)
            self._relayed.discard(offspring)

    def _resume(self) -> None:
        self._selector.unregister(_STDERR)
        self._is_paused = False
        for offspring in self._relayed:
            self._watch(offspring)

    def _watch(self, offspring: Offspring) -> None:
        self._selector.register(
            offspring.errors, selectors.EVENT_READ, partial(self._ready, offspring)
        )

    def _ignore(self, offspring: Offspring) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(offspring.errors)


def _copy(offspring: Offspring, *, is_read_by_nobody: bool = False) -> bool:
    """Relay a piece, or only keep it; tell whether there was one."""
    data = offspring.read_errors()
    piece = b"" if is_read_by_nobody else data
    # A reader that is gone keeps nobody from working.
    with contextlib.suppress(OSError):
        while piece:
            piece = piece[os.write(_STDERR, piece) :]
    return bool(data)


def _takes_more() -> bool:
    """Tell whether a write of :data:`gateman.master.spawn.PIECE_SIZE` would not block."""
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    return bool(poll.poll(0))
