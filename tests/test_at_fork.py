"""What a forked child has of its parent: no socket, no event loop, no handler of a signal."""

import subprocess
import sys

import pytest

from tests.support.deadlines import TIMEOUT

BEGINNING = """
import asyncio, os, signal, socket, sys, threading
from gateman import at_fork
from gateman.net.event_loop import EventLoop

def ended_well(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def in_child(check):
    child = os.fork()
    if not child:
        try:
            check()
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    assert ended_well(child)
"""


def run(script: str) -> None:
    """Run a program of one thread: a fork beside the threads of a test would be warned of."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BEGINNING + script],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_peer_hears_of_the_end() -> None:
    """The child has no copy of the socket, and the parent keeps its own."""
    run("""
ours, theirs = socket.socketpair()
at_fork.give_up(ours)
wait, go = os.pipe()
child = os.fork()
if not child:
    os.close(go)
    os.read(wait, 1)
    os._exit(0)
ours.sendall(b"still here")
assert theirs.recv(99) == b"still here"
ours.close()
assert theirs.recv(99) == b""
os.close(go)
assert ended_well(child)
""")


def test_closed_descriptors_are_left_alone() -> None:
    """An object with the number of a closed socket keeps it in the child."""
    run("""
sock = socket.socket()
at_fork.give_up(sock)
number = sock.fileno()
sock.close()
read, write = os.pipe()
assert number in (read, write)
in_child(lambda: os.write(write, b"from the child"))
assert os.read(read, 99) == b"from the child"
""")


def test_objects_of_the_parent_reach_nothing_that_the_child_opens() -> None:
    """A socket that was given up still has its number, and is dead."""
    run("""
ours, theirs = socket.socketpair()
at_fork.give_up(ours)

def check():
    mine, other = socket.socketpair()
    try:
        ours.sendall(b"x")
    except BrokenPipeError:
        pass
    ours.close()
    mine.sendall(b"y")
    assert other.recv(9) == b"y"

in_child(check)
theirs.setblocking(False)
try:
    theirs.recv(9)
except BlockingIOError:
    pass
else:
    raise AssertionError
""")


def test_the_child_cannot_unregister_what_the_parent_waits_for() -> None:
    """The kernel's queue of an event loop is shared by a fork, unless the child gives it up."""
    run("""
async def main():
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ready = asyncio.Event()
    loop.add_reader(ours, ready.set)
    in_child(lambda: loop.remove_reader(ours))
    theirs.sendall(b"x")
    await asyncio.wait_for(ready.wait(), 30)
    loop.remove_reader(ours)

with asyncio.Runner(loop_factory=EventLoop) as runner:
    runner.run(main())
in_child(lambda: None)
""")


@pytest.mark.parametrize("fork", ["os.fork()", "from_a_thread()"])
def test_signals_of_the_child_are_its_own(fork: str) -> None:
    """It ends by what ends a new program, and the parent's event loop does not hear of it."""
    run(f"""
async def main():
    loop = asyncio.get_running_loop()
    heard = []
    for number in signal.SIGTERM, signal.SIGUSR1:
        loop.add_signal_handler(number, heard.append, number)
        at_fork.reset_signals([number])
    read, write = os.pipe()
    child = {fork}
    if not child:
        os.close(write)
        os.read(read, 1)
        os._exit(9)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    os.kill(os.getpid(), signal.SIGUSR1)
    while not heard:
        await asyncio.sleep(0)
    assert heard == [signal.SIGUSR1]
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])

def from_a_thread():
    pids = []
    thread = threading.Thread(target=lambda: pids.append(os.fork() or os.read(0, 1) or os._exit(9)))
    thread.start()
    thread.join()
    return pids[0]

sys.stdin = None
null, keep = os.pipe()
os.dup2(null, 0)
asyncio.run(main())
""")


def test_owners_are_called_after_each_fork() -> None:
    """Locks that another thread held in the parent are replaced before anybody takes them."""
    run("""
class Owner:
    lock = threading.Lock()

    def renew(self):
        self.lock = threading.Lock()

owner = Owner()
at_fork.renew(owner, Owner.renew)
owner.lock.acquire()
in_child(lambda: owner.lock.acquire())
""")
