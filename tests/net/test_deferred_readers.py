"""Deferred readers: connections that shake hands wait for those that are open."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from contextvars import ContextVar
from pathlib import Path

import pytest

from gateman.net.deferred_readers import TIME_PER_TURN
from gateman.net.event_loop import EventLoop
from tests.support.turns import pair, stepped_loop, turn

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    with stepped_loop() as made:
        yield made


def wait_out_a_turn(sock: socket.socket) -> None:
    """Take as much time as all deferred readers have in a turn."""
    sock.recv(1)
    until = time.monotonic() + 2 * TIME_PER_TURN
    while time.monotonic() < until:
        pass


def test_a_deferred_reader_is_called_after_all_others(loop: EventLoop) -> None:
    order: list[str] = []
    with pair() as (late, late_peer), pair() as (open_, open_peer):
        loop.add_deferred_reader(late.fileno(), lambda: order.append(late.recv(1).decode()))
        loop.add_reader(open_, lambda: order.append(open_.recv(1).decode()))
        late_peer.send(b"d")
        open_peer.send(b"r")
        turn(loop)

    assert order == ["r", "d"]


def test_deferred_readers_take_a_bounded_time_of_each_turn(loop: EventLoop) -> None:
    """The others come first again, each time; and all of the deferred have their turn."""
    order: list[str] = []
    with ExitStack() as stack:
        for _ in range(3):
            sock, peer = stack.enter_context(pair())
            peer.send(b"d")

            def shake_hands(sock: socket.socket = sock) -> None:
                wait_out_a_turn(sock)
                order.append("d")

            loop.add_deferred_reader(sock.fileno(), shake_hands)
        open_, open_peer = stack.enter_context(pair())
        loop.add_reader(open_, lambda: order.append(open_.recv(1).decode()))
        for _ in range(3):
            open_peer.send(b"r")
            turn(loop)

    assert order == ["r", "d"] * 3


def test_a_promoted_reader_is_one_of_the_others(loop: EventLoop) -> None:
    """With its context; to promote what is not deferred changes nothing."""
    order: list[str] = []
    with pair() as (sock, peer):
        NAME.set("ann")
        loop.add_deferred_reader(
            sock.fileno(), lambda: order.append(NAME.get() + str(sock.recv(1)))
        )
        NAME.set("nobody")
        for _ in range(2):
            loop.promote_reader(sock.fileno())
        peer.send(b"r")
        loop.call_soon(order.append, "queued")
        turn(loop)

    assert order == ["annb'r'", "queued"]


def test_a_deferred_reader_may_be_promoted_beside_a_writer(loop: EventLoop) -> None:
    called: list[str] = []
    with pair() as (sock, peer):
        loop.add_deferred_reader(sock.fileno(), lambda: called.append(sock.recv(1).decode()))
        loop.add_writer(sock, called.append, "w")
        peer.send(b"d")
        turn(loop)
        assert sorted(called) == ["d", "w"]
        loop.promote_reader(sock.fileno())
        peer.send(b"r")
        turn(loop)
        loop.remove_writer(sock)
        peer.send(b"s")
        turn(loop)

        assert sorted(called) == ["d", "r", "s", "w", "w"]
        assert loop.remove_reader(sock)
        assert not loop.remove_reader(sock)


def test_a_deferred_reader_is_replaced_and_removed(loop: EventLoop) -> None:
    """By one of either kind; also if its descriptor was closed, and is another's now."""
    called: list[str] = []
    with pair() as (gone, _):
        fd = gone.fileno()
        loop.add_deferred_reader(fd, lambda: called.append("not called"))
        gone.close()
        with pair() as (sock, peer):
            assert sock.fileno() == fd
            peer.send(b"x")
            for add, name in [
                (loop.add_reader, "reader"),
                (loop.add_deferred_reader, "deferred"),
                (loop.add_deferred_reader, "deferred again"),
            ]:
                add(fd, lambda name=name: called.append(name))  # type: ignore[misc]
                turn(loop)
            assert loop.remove_reader(fd)
            assert not loop.remove_reader(fd)
            turn(loop)

    # It is called again and again while it reads nothing.
    assert list(dict.fromkeys(called)) == ["reader", "deferred", "deferred again"]


def test_what_a_deferred_reader_raises_is_told() -> None:
    told: list[object] = []
    error = ValueError("what it raised")

    def fail() -> None:
        raise error

    with closing(EventLoop()) as loop, pair() as (sock, peer), pair() as (other, other_peer):
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        loop.add_deferred_reader(sock.fileno(), fail)
        loop.add_deferred_reader(other.fileno(), lambda: told.append(other.recv(1)))
        peer.send(b"x")
        other_peer.send(b"x")
        turn(loop)

    assert error in told
    assert b"x" in told


def test_debug_mode_and_closed_loops_defer_nothing(loop: EventLoop) -> None:
    loop.set_debug(True)
    called: list[bytes] = []
    with pair() as (sock, peer):
        loop.add_deferred_reader(sock.fileno(), lambda: called.append(sock.recv(1)))
        peer.send(b"r")
        turn(loop)
        assert called == [b"r"]
        closed = EventLoop()
        closed.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            closed.add_deferred_reader(sock.fileno(), lambda: None)


def test_nothing_is_left_of_deferred_readers() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    loop = EventLoop()
    with pair() as (sock, _):
        loop.add_deferred_reader(sock.fileno(), lambda: None)
        turn(loop)
    loop.close()
    loop.close()

    assert len(list(Path("/proc/self/fd").iterdir())) == before
