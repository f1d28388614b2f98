"""Signals that wake a loop."""

import os
import selectors
import signal
from collections.abc import Iterable

from gateman.master.selector_loop import run_once, wake_on_signals


def test_signals_arrive_in_the_loop() -> None:
    """The loop reports each signal once."""
    told: list[list[int]] = []

    def signalled(numbers: Iterable[int]) -> None:
        told.append(list(numbers))

    with selectors.DefaultSelector() as selector, wake_on_signals(selector, signalled):
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1):
            os.kill(os.getpid(), number)

        assert told == []
        run_once(selector, 10)

    assert told == [[signal.SIGUSR1, signal.SIGHUP]]


def test_ctrl_c_that_is_ignored_stays_so() -> None:
    """A service in the background of a script continues when the script is interrupted."""
    told: list[int] = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with selectors.DefaultSelector() as selector, wake_on_signals(selector, told.extend):
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
            run_once(selector, 10)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)

    assert told == [signal.SIGTERM]


def test_everything_is_as_before() -> None:
    """Handlers, the wake-up descriptor and the selector are left as they were found."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCHLD)]
    with selectors.DefaultSelector() as selector:
        with wake_on_signals(selector, lambda _: None):
            pass
        descriptor = signal.set_wakeup_fd(-1)

        assert descriptor == -1
        assert len(selector.get_map()) == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCHLD)] == before
