"""An event loop of gateman that a test runs turn by turn, and sockets for it."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from gateman.net.event_loop import EventLoop


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make two connected sockets that do not block."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        theirs.settimeout(0)
        yield ours, theirs


def turn(loop: EventLoop) -> None:
    """Let the loop ask once what is ready, and call that."""
    loop.call_soon(loop.stop)
    loop.run_forever()


@contextmanager
def stepped_loop() -> Iterator[EventLoop]:
    """Make a loop that only :func:`turn` runs, and end it; what fails in it fails the test."""
    failures: list[dict[str, Any]] = []
    with closing(EventLoop()) as made:
        made.set_exception_handler(lambda _, context: failures.append(context))
        yield made
    assert failures == []
