"""The master's loop: files that are ready, and signals, whose handlers only wake it."""

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


def run_once(selector: selectors.BaseSelector, timeout: float | None) -> int:
    """Wait until a file is ready, and call the function that it was registered with."""
    # After SIGSTOP and SIGCONT the timeout is over. What processes have sent meanwhile is read
    # before the master judges them by their silence.
    ready = selector.select(timeout) or selector.select(0)
    for key, _ in ready:
        # By identity: a new file may have the number of a closed descriptor.
        # A file that one of the functions unregisters is skipped, although it was ready: a process
        # may end in the same iteration as it wrote its last line.
        if selector.get_map().get(key.fd) is key:
            key.data()
    return len(ready)


@contextlib.contextmanager
def wake_on_signals(
    selector: selectors.BaseSelector, signalled: Callable[[Iterable[int]], None]
) -> Iterator[None]:
    """Pass the numbers of received signals to a function, called by the loop."""
    read, write = socket.socketpair()
    read.setblocking(False)
    write.setblocking(False)
    selector.register(read, selectors.EVENT_READ, lambda: signalled(dict.fromkeys(read.recv(4096))))
    # If the buffer is full, the loop is already awake.
    before = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    # A shell that starts a program in the background makes it ignore SIGINT.
    handled = [
        number
        for number in _SIGNALS
        if number != signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    ]
    at_fork.reset_signals(handled)
    handlers = {number: signal.signal(number, _only_wake) for number in handled}
    try:
        yield
    finally:
        at_fork.keep_signals(handled)
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(before)
        selector.unregister(read)
        read.close()
        write.close()


def _only_wake(_number: int, _frame: object) -> None:
    """Do nothing: Python has written the number to the wake-up descriptor."""
