"""
A turn of the master's loop.

A process wrote its last line and died between two turns. The loop found both in one turn, forgot
the process for the first, and the master died of a ``KeyError`` for the second.
"""

import os
import selectors
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from gateman.master.selector_loop import run_once


@contextmanager
def two_ready() -> Iterator[tuple[selectors.BaseSelector, list[int]]]:
    """Make a selector, and two pipes with something in them."""
    pipes = [os.pipe() for _ in range(2)]
    for _, write in pipes:
        os.write(write, b"x")
    with selectors.DefaultSelector() as selector:
        yield selector, [read for read, _ in pipes]
    for read, write in pipes:
        os.close(read)
        os.close(write)


def test_all_that_is_ready_is_called() -> None:
    """Each once; their number is returned."""
    called: list[int] = []
    with two_ready() as (selector, fds):
        for fd in fds:
            selector.register(fd, selectors.EVENT_READ, partial(called.append, fd))

        assert run_once(selector, 10) == 2
    assert sorted(called) == sorted(fds)


def test_nothing_is_called_when_nothing_is_ready() -> None:
    """The patience ends the wait."""
    with selectors.DefaultSelector() as selector:
        assert run_once(selector, 0) == 0


class _Stopped(selectors.DefaultSelector):
    """What a process sees that was stopped while it waited: first nothing, as its time is over."""

    patience: float | None = -1

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Find nothing while there is patience."""
        self.patience = timeout
        return super().select(timeout) if timeout == 0 else []


def test_what_came_while_the_process_was_stopped_is_called() -> None:
    """Before anybody is judged by silence."""
    called: list[str] = []
    read, write = os.pipe()
    os.write(write, b"x")
    with _Stopped() as selector:
        selector.register(read, selectors.EVENT_READ, partial(called.append, "read"))
        assert run_once(selector, 10) == 1
    os.close(read)
    os.close(write)
    assert called == ["read"]


def _unregister(selector: selectors.BaseSelector, other: int) -> None:
    selector.unregister(other)


def _register_anew(selector: selectors.BaseSelector, other: int) -> None:
    data = selector.unregister(other).data
    selector.register(other, selectors.EVENT_READ, data)


@pytest.mark.parametrize(("change", "called_in_all"), [(_unregister, 1), (_register_anew, 2)])
def test_what_is_not_wanted_any_more_is_not_called(
    change: Callable[[selectors.BaseSelector, int], None], called_in_all: int
) -> None:
    """What the first of two takes away or replaces is not called in this turn."""
    called: list[int] = []
    with two_ready() as (selector, fds):

        def call(fd: int) -> None:
            called.append(fd)
            if len(called) == 1:
                change(selector, fds[1 - fds.index(fd)])

        for fd in fds:
            selector.register(fd, selectors.EVENT_READ, partial(call, fd))

        assert run_once(selector, 10) == 2
        assert len(called) == 1
        run_once(selector, 10)

    assert len(set(called)) == called_in_all
