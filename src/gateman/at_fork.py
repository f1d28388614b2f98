"""
What a forked child gives up: the sockets, the event loop and the signal handlers of its parent.

A child that ``multiprocessing`` or ``os.fork`` makes has a copy of every descriptor. While it keeps
a listening socket, the port stays in use and clients wait in a backlog that nobody reads; while it
keeps a connection, the peer does not learn that the parent has ended. asyncio's wake-up descriptor
would even take the child's signals to the parent. Programs that are started by ``exec`` inherit
none of this, as every descriptor is closed on exec.

In the child each descriptor is replaced by a dead socket, not closed: objects of the parent still
hold its number, and would otherwise use whatever the child opens next.
"""

import faulthandler
import os
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol, TypeVar


class HasFileno(Protocol):
    """A file or a socket."""

    def fileno(self) -> int:
        """Give the descriptor; negative once it is closed."""


T = TypeVar("T")

_owners: "weakref.WeakKeyDictionary[Any, Callable[[Any], Iterable[int]]]" = (
    weakref.WeakKeyDictionary()
)
_signals: set[signal.Signals] = set()
_reborn: "weakref.WeakKeyDictionary[Any, Callable[[Any], object]]" = weakref.WeakKeyDictionary()
_mask = threading.local()


def give_up(file: HasFileno) -> None:
    """Have forked children give up a file or socket, for as long as it is open."""
    _owners[file] = _descriptor


def give_up_all(owner: T, descriptors: Callable[[T], Iterable[int]]) -> None:
    """Have forked children give up the descriptors that an owner has then."""
    _owners[owner] = descriptors


def reset_signals(signals: Iterable[signal.Signals]) -> None:
    """Have forked children treat these signals as a new program does."""
    _signals.update(signals)


def keep_signals(signals: Iterable[signal.Signals]) -> None:
    """Have forked children treat these signals as their parent does, again."""
    _signals.difference_update(signals)


def renew(owner: T, do: Callable[[T], object]) -> None:
    """Have forked children call a function with an owner, if that still exists."""
    _reborn[owner] = do


def _descriptor(file: HasFileno) -> Iterable[int]:
    return (file.fileno(),)


def _hold_back() -> None:
    # A signal that the child gets before its handlers are reset would reach the parent.
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _signals)


def _let_go() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _begin_anew() -> None:
    if _signals:
        signal.set_wakeup_fd(-1)
    for number in _signals:
        faulthandler.unregister(number)
        is_interrupt = number == signal.SIGINT
        signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
    descriptors = [fd for owner, of in list(_owners.items()) for fd in of(owner) if fd >= 0]
    if descriptors:
        dead, other = socket.socketpair()
        other.close()
        for fd in descriptors:
            # Its number may belong to nobody any more.
            with suppress(OSError):
                os.dup2(dead.fileno(), fd, inheritable=False)
        dead.close()
    for owner, do in list(_reborn.items()):
        do(owner)
    _let_go()


os.register_at_fork(before=_hold_back, after_in_parent=_let_go, after_in_child=_begin_anew)
