"""
Takes the sockets, the event loop and the signal handlers of the parent from a forked child.

A child of ``multiprocessing`` or ``os.fork`` has a copy of every descriptor. While it holds a
listening socket, the port stays in use and clients wait in a backlog that no process accepts from.
While it holds a connection, the peer does not learn that the parent has ended. asyncio's wake-up
descriptor would pass the child's signals to the parent. A program started with ``exec`` inherits
none of this, as every descriptor is closed on exec.

In the child, each descriptor is replaced by a dead socket, and not closed: objects of the parent
still hold its number, and would otherwise use the next file that the child opens.
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
    def fileno(self) -> int:
        """Return the descriptor; negative once it is closed."""


T = TypeVar("T")

_owners: "weakref.WeakKeyDictionary[Any, Callable[[Any], Iterable[int]]]" = (
    weakref.WeakKeyDictionary()
)
_signals: set[signal.Signals] = set()
_renewed: "weakref.WeakKeyDictionary[Any, Callable[[Any], object]]" = weakref.WeakKeyDictionary()
_mask = threading.local()


def give_up(file: HasFileno) -> None:
    """Have forked children give up a file or socket while it is open."""
    _owners[file] = _descriptor


def give_up_all(owner: T, descriptors: Callable[[T], Iterable[int]]) -> None:
    """Have forked children give up the descriptors that an owner has at the fork."""
    _owners[owner] = descriptors


def reset_signals(signals: Iterable[signal.Signals]) -> None:
    """Have forked children reset these signals to what a new program has."""
    _signals.update(signals)


def keep_signals(signals: Iterable[signal.Signals]) -> None:
    """Undo :func:`reset_signals`."""
    _signals.difference_update(signals)


def renew(owner: T, do: Callable[[T], object]) -> None:
    """Have forked children call a function with its owner, if that still exists."""
    _renewed[owner] = do


def _descriptor(file: HasFileno) -> Iterable[int]:
    return (file.fileno(),)


def _block_signals() -> None:
    # The parent would get a signal that the child receives before its handlers are reset.
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _signals)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _clean_up_child() -> None:
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
            # The descriptor may be closed by now.
            with suppress(OSError):
                os.dup2(dead.fileno(), fd, inheritable=False)
        dead.close()
    for owner, do in list(_renewed.items()):
        do(owner)
    _unblock_signals()


os.register_at_fork(
    before=_block_signals, after_in_parent=_unblock_signals, after_in_child=_clean_up_child
)
