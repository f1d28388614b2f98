"""The event loop: who reads is called at once, and otherwise as asyncio calls it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from aiofastnet import connect_accepted_socket

from gateman.net.event_loop import MAX_READY_COUNT, EventLoop
from tests.support.turns import pair, stepped_loop, turn

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    with stepped_loop() as made:
        yield made


def is_direct(loop: EventLoop, sock: socket.socket, peer: socket.socket) -> bool:
    """Tell whether a reader is called before what is in the queue; asyncio's comes behind."""
    order: list[str] = []
    loop.add_reader(sock, lambda: order.append(sock.recv(1).decode()))
    peer.send(b"r")
    loop.call_soon(order.append, "queued")
    turn(loop)
    assert sorted(order) == ["queued", "r"]
    return order[0] == "r"


# Who is called, and when.


def test_a_reader_is_called_at_once(loop: EventLoop) -> None:
    """Each time that there is something to read, and before what is in the queue."""
    with pair() as (sock, peer):
        assert is_direct(loop, sock, peer)
        assert is_direct(loop, sock, peer)


def test_a_transport_reads_at_once(loop: EventLoop) -> None:
    """Those that serve connections take the short way: aiofastnet calls ``add_reader``."""
    order: list[object] = []

    class Reads(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            order.append(data)

    with pair() as (sock, peer):
        transport, _ = loop.run_until_complete(connect_accepted_socket(loop, Reads, sock))
        turn(loop)
        peer.send(b"r")
        loop.call_soon(order.append, "queued")
        turn(loop)

        assert order == [b"r", "queued"]
        transport.abort()
        turn(loop)


def test_a_writer_beside_it_changes_nothing(loop: EventLoop) -> None:
    """What asyncio registers for a reader stays the same while a writer comes and goes."""
    order: list[str] = []
    with pair() as (sock, peer):
        loop.add_reader(sock, lambda: order.append(sock.recv(1).decode()))
        turn(loop)
        loop.add_writer(sock, order.append, "w")
        turn(loop)
        loop.remove_writer(sock)
        peer.send(b"r")
        loop.call_soon(order.append, "queued")
        turn(loop)

    assert order == ["w", "r", "queued"]


def test_a_reader_and_a_writer_of_one_socket_are_both_called(loop: EventLoop) -> None:
    """When it can be read and written."""
    called: list[str] = []
    with pair() as (sock, peer):
        loop.add_writer(sock, called.append, "w")
        loop.add_reader(sock, lambda: called.append(sock.recv(1).decode()))
        turn(loop)
        called.clear()
        peer.send(b"r")
        turn(loop)

    assert sorted(called) == ["r", "w"]


def test_a_writer_outlives_the_reader_beside_it(loop: EventLoop) -> None:
    """While there is a writer, asyncio has both; the next reader is called at once again."""
    called: list[str] = []
    with pair() as (sock, peer):
        loop.add_reader(sock, called.append, "with arguments")
        loop.add_reader(sock, lambda: called.append(sock.recv(1).decode()))
        loop.add_writer(sock, called.append, "w")
        peer.send(b"r")
        turn(loop)
        assert sorted(called) == ["r", "w"]
        assert loop.remove_reader(sock)
        assert not loop.remove_reader(sock)
        peer.send(b"x")
        turn(loop)
        assert called[2:] == ["w"]
        assert loop.remove_writer(sock)
        assert not loop.remove_writer(sock)
        assert sock.recv(1) == b"x"
        assert is_direct(loop, sock, peer)


def test_asyncio_may_read_what_has_a_reader(loop: EventLoop) -> None:
    """It takes the reader's place, as in its own loops, and the reader can come back."""
    called: list[str] = []
    with pair() as (sock, peer):
        loop.add_reader(sock, called.append, "not called")
        loop.add_reader(sock, lambda: called.append("not called"))
        loop.call_soon(peer.send, b"a")
        assert loop.run_until_complete(loop.sock_recv(sock, 1)) == b"a"
        assert called == []
        assert is_direct(loop, sock, peer)


def test_a_descriptor_that_was_closed_first_is_forgotten(loop: EventLoop) -> None:
    with pair() as (gone, _):
        fd = gone.fileno()
        loop.add_reader(fd, lambda: None)
        gone.close()
        assert loop.remove_reader(fd)
        assert not loop.remove_reader(fd)
        with pair() as (sock, peer):
            assert sock.fileno() == fd
            assert is_direct(loop, sock, peer)


def test_a_descriptor_that_was_closed_and_is_used_again_has_its_new_reader(
    loop: EventLoop,
) -> None:
    with pair() as (gone, _):
        fd = gone.fileno()
        loop.add_reader(fd, lambda: None)
        gone.close()
        with pair() as (sock, peer):
            assert sock.fileno() == fd
            assert is_direct(loop, sock, peer)


def test_a_closed_loop_takes_no_reader() -> None:
    loop = EventLoop()
    with pair() as (sock, _):
        loop.add_reader(sock, lambda: None)
        loop.close()
        assert not loop.remove_reader(sock)
    with pair() as (sock, _), pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_reader(sock, lambda: None)


def test_arguments_are_passed(loop: EventLoop) -> None:
    """A reader that was given some is asyncio's to call."""
    called: list[int] = []
    with pair() as (sock, peer):
        loop.add_reader(sock.fileno(), called.append, 7)
        peer.send(b"r")
        turn(loop)

    assert called == [7]


def test_debug_mode_is_asyncios(loop: EventLoop) -> None:
    """It measures what it calls itself."""
    loop.set_debug(True)
    with pair() as (sock, peer):
        assert not is_direct(loop, sock, peer)


def test_everybody_has_a_turn(loop: EventLoop) -> None:
    """Of those that stay ready, some are called in a turn, and all others before them again."""
    called: list[int] = []
    read, write = os.pipe()
    os.write(write, b"x")
    fds = [read, *(os.dup(read) for _ in range(MAX_READY_COUNT + 99))]
    for fd in fds:
        loop.add_reader(fd, lambda fd=fd: called.append(fd))  # type: ignore[misc]
    turn(loop)

    assert len(set(called)) == MAX_READY_COUNT
    turn(loop)
    assert set(called) == set(fds)
    for fd in (*fds, write):
        os.close(fd)


def test_it_waits_until_something_is_ready(loop: EventLoop) -> None:
    """For as long as it takes, or until a timer is due."""

    async def wait() -> bytes:
        await asyncio.sleep(0.01)
        with pair() as (sock, peer):
            loop.call_later(0.01, peer.send, b"x")
            return await loop.sock_recv(sock, 1)

    assert loop.run_until_complete(wait()) == b"x"


# Who is not called any more.


_WAITS = """
from gateman.net.event_loop import EventLoop

loop = EventLoop()
loop.add_reader(0, lambda: (loop.remove_reader(0), print("read")))
loop.call_later(0.3, lambda: (loop.stop(), print("timer")))
loop.call_soon(lambda: print("waits", flush=True))
loop.run_forever()
"""


def test_what_came_while_the_process_was_stopped_is_read_before_timers_run() -> None:
    """Otherwise others would be judged by a silence that was this process's own."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", _WAITS]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "waits\n"
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        child.stdin.write("x")
        child.stdin.flush()
        with suppress(subprocess.TimeoutExpired):
            child.wait(0.5)
        child.send_signal(signal.SIGCONT)
        said = child.stdout.read()

    assert said == "read\ntimer\n"


def test_a_reader_removed_in_a_turn_is_not_called_in_it(loop: EventLoop) -> None:
    """The first of two that are ready takes the other away."""
    called: list[socket.socket] = []
    with pair() as (one, one_peer), pair() as (other, other_peer):

        def read(sock: socket.socket) -> None:
            called.append(sock)
            loop.remove_reader(one)
            loop.remove_reader(other)

        loop.add_reader(one, lambda: read(one))
        loop.add_reader(other, lambda: read(other))
        one_peer.send(b"x")
        other_peer.send(b"x")
        turn(loop)
        turn(loop)

    assert len(called) == 1


def test_a_reused_descriptor_waits_for_the_next_turn(
    loop: EventLoop,
) -> None:
    """
    What the kernel said of a number is not believed of another socket.

    A client is gone and another one comes in the turn in which the first was ready: a reader that
    looks at what is there, and does not only read, would be told of something that is not.
    """
    called: list[str] = []
    with pair() as (one, one_peer), pair() as (other, other_peer), pair() as (late, late_peer):
        late_peer.send(b"x")

        def read(sock: socket.socket, closed: socket.socket) -> None:
            called.append("first")
            loop.remove_reader(sock)
            loop.remove_reader(closed)
            os.dup2(late.fileno(), closed.fileno())
            loop.add_reader(closed.fileno(), lambda: called.append("late"))

        loop.add_reader(one, lambda: read(one, other))
        loop.add_reader(other, lambda: read(other, one))
        one_peer.send(b"x")
        other_peer.send(b"x")
        turn(loop)

        assert called == ["first"]
        turn(loop)
        assert called == ["first", "late"]


def test_another_reader_takes_the_place_of_the_first(loop: EventLoop) -> None:
    """Both of asyncio's kinds: those without arguments, and those with some."""
    called: list[str] = []
    others: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
        (lambda: called.append("direct"), ()),
        (called.append, ("with arguments",)),
        (lambda: called.append("direct again"), ()),
    ]
    with pair() as (sock, peer):
        peer.send(b"x")
        for callback, args in others:
            loop.add_reader(sock, callback, *args)
            turn(loop)
            turn(loop)

    assert list(dict.fromkeys(called)) == ["direct", "with arguments", "direct again"]


def test_a_socket_that_was_removed_may_come_back(loop: EventLoop) -> None:
    """As when a transport pauses reading."""
    with pair() as (sock, peer):
        assert is_direct(loop, sock, peer)
        assert loop.remove_reader(sock)
        assert not loop.remove_reader(sock)
        assert is_direct(loop, sock, peer)


# As asyncio does it.


def test_each_reader_has_a_context_of_its_own(loop: EventLoop) -> None:
    """What one sets, no other sees; it does itself, also when its peer hangs up."""
    seen: list[str] = []
    with pair() as (one, one_peer), pair() as (other, other_peer):

        def read(sock: socket.socket, name: str) -> None:
            seen.append(f"{name} is {NAME.get()}")
            NAME.set(name)
            if not sock.recv(1):
                loop.remove_reader(sock)

        loop.add_reader(one, lambda: read(one, "ann"))
        turn(loop)
        loop.add_reader(other, lambda: read(other, "bob"))
        one_peer.send(b"x")
        turn(loop)
        other_peer.send(b"x")
        turn(loop)
        one_peer.close()
        turn(loop)

    assert seen == ["ann is nobody", "bob is nobody", "ann is ann"]
    assert NAME.get() == "nobody"


def test_what_a_reader_raises_is_told() -> None:
    """By the loop's exception handler; the others are called all the same."""
    told: list[dict[str, Any]] = []
    error = ValueError("what it raised")

    def fail() -> None:
        raise error

    with closing(EventLoop()) as loop, pair() as (one, one_peer), pair() as (other, other_peer):
        loop.set_exception_handler(lambda _, context: told.append(context))
        called: list[bytes] = []
        loop.add_reader(one, fail)
        loop.add_reader(other, lambda: called.append(other.recv(1)))
        one_peer.send(b"x")
        other_peer.send(b"x")
        turn(loop)

    assert called == [b"x"]
    assert told == [{"message": f"Exception in callback {fail!r}", "exception": error}]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_program_gets_out(loop: EventLoop, kind: type[BaseException]) -> None:
    """As from any callback of asyncio's."""

    def leave() -> None:
        raise kind

    with pair() as (sock, peer):
        loop.add_reader(sock, leave)
        peer.send(b"x")
        with pytest.raises(kind):
            turn(loop)


def test_nothing_is_left_of_it() -> None:
    """It gives back all descriptors that it took."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    loop = EventLoop()
    with pair() as (sock, peer):
        assert is_direct(loop, sock, peer)
    loop.close()
    loop.close()

    assert len(list(Path("/proc/self/fd").iterdir())) == before
