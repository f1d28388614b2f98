"""Signals that wake the master's loop, and do nothing else."""

import contextlib
import selectors
import signal
import socket
from collections.abc import Callable, Iterable, Iterator

from .. import at_fork

_SIGNALS = (
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


@contextlib.contextmanager
def wake_on_signals(
    selector: selectors.BaseSelector, signalled: Callable[[Iterable[int]], None]
) -> Iterator[None]:
    """Have signals wake the loop, inside a block."""
    read, write = socket.socketpair()
    read.setblocking(False)
    write.setblocking(False)
    selector.register(read, selectors.EVENT_READ, lambda: signalled(dict.fromkeys(read.recv(4096))))
    # A full buffer has woken the loop already.
    before = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    # A shell that starts a program in the background has it ignore Ctrl-C, which is for others.
    heard = [
        number
        for number in _SIGNALS
        if number != signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    ]
    at_fork.reset_signals(heard)
    handlers = {number: signal.signal(number, _only_wake) for number in heard}
    try:
        yield
    finally:
        at_fork.keep_signals(heard)
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(before)
        selector.unregister(read)
        read.close()
        write.close()


def _only_wake(_number: int, _frame: object) -> None:
    """Do nothing: the wake-up descriptor has the number already."""
