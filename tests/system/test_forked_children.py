"""What handlers fork: a child neither ends its parent, nor keeps anything of it open."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.deadlines import TIMEOUT
from tests.support.master import Master, is_alive, master, open_to, plain, secure, until

# Handlers that fork. The children sleep, for longer than any test.
FORKING = """
import asyncio, multiprocessing, os, signal, threading, time
from gateman import Worker

forking = multiprocessing.get_context("fork")
worker = Worker("websocket://127.0.0.1:0", name="chat", restart_stalled=True)
{beside}

def sleep():
    time.sleep(600)

@worker.on_message
def fork(connection, message):
    match message:
        case "multiprocessing":
            child = forking.Process(target=sleep, daemon=True)
            child.start()
        case "os.fork":
            if not os.fork():
                sleep()
        case "thread":
            thread = threading.Thread(target=lambda: os.fork() or sleep())
            thread.start()
            return
        case "terminate":
            child = forking.Process(target=sleep)
            child.start()
            child.terminate()
            child.join(20)
            connection.send(str(child.exitcode))
            return
        case "misuse":
            child = forking.Process(target=use, args=(connection,))
            child.start()
            child.join(20)
            connection.send(str(child.exitcode))
            return
        case "loop":
            child = forking.Process(target=run_a_loop)
            child.start()
            child.join(20)
            connection.send(str(child.exitcode))
            return
        case "default":
            child = forking.Process(target=signals)
            child.start()
            child.join(20)
            connection.send(str(child.exitcode))
            return
    connection.send(str(os.getpid()))

def use(connection):
    connection.send("from a child")
    connection.destroy()
    worker.connections.clear()

def run_a_loop():
    assert asyncio.run(asyncio.sleep(0, 7)) == 7

def signals():
    for number in signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2:
        assert signal.getsignal(number) == signal.SIG_DFL, number
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])

Worker.run_all()
"""


def forking(beside: str = "") -> str:
    return FORKING.format(beside=beside)


@contextmanager
def ended_with_their_children(service: Master) -> Iterator[None]:
    """End what a test's processes have forked; it has another parent by then."""
    try:
        yield
    finally:
        for pid in forked(service):
            os.kill(pid, signal.SIGKILL)


def forked(service: Master) -> list[int]:
    """Find the processes with the command line of a service's, which a fork keeps."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
                environment = (folder / "cwd").readlink()
            except OSError:
                continue
            if b"child_main.py" in line and environment == service.path.parent:
                found.append(int(folder.name))
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    folder = tmp_path_factory.mktemp("service")
    with master(forking(), folder) as running, ended_with_their_children(running):
        yield running


def test_a_terminated_child_is_not_its_parent(service: Master) -> None:
    """``Process.terminate`` ends the child by SIGTERM, and the parent goes on."""
    with open_to(service) as client:
        for _ in range(3):
            client.send("terminate")
            assert client.recv(TIMEOUT) == str(-signal.SIGTERM)
        client.send("who?")
        pid = int(client.recv(TIMEOUT))

    assert service.pids() == [pid]


@pytest.mark.parametrize("what", ["default", "loop", "misuse"])
def test_what_a_child_does_is_its_own(service: Master, what: str) -> None:
    """It begins with a program's signals, may run an event loop, and reaches no client."""
    with open_to(service) as client:
        client.send(what)
        assert client.recv(TIMEOUT) == "0"
        client.send("who?")
        assert int(client.recv(TIMEOUT)) == service.pids()[0]


@pytest.mark.parametrize(
    ("way", "protect"),
    [("multiprocessing", secure), ("os.fork", plain), ("thread", plain)],
)
def test_what_a_child_that_outlives_its_process_keeps_open(
    tmp_path: Path, way: str, protect: Callable[[str], str]
) -> None:
    """Nothing: clients hear of the end, none get into its backlog, and the service starts again."""
    script = protect(forking())
    with master(script, tmp_path) as service, ended_with_their_children(service):
        [pid] = service.pids()
        with open_to(service) as client:
            client.send(way)
            until(lambda: len(forked(service)) == 2)
            os.kill(pid, signal.SIGKILL)
            with suppress(ConnectionClosed):
                while True:
                    client.recv(TIMEOUT)
            assert client.close_code == 1006
        # A listening socket of the child's would take half of these.
        for _ in range(5):
            with open_to(service) as client:
                client.send("who?")
                assert int(client.recv(TIMEOUT)) != pid
        service.gateman("stop")
        assert service.wait() == 0
        again = script.replace("127.0.0.1:0", f"127.0.0.1:{service.port}")
        with master(again, tmp_path):
            pass
        assert len(forked(service)) == 1


BUSINESS = """
import multiprocessing, os, time
from gateman import BusinessWorker, Gateway, Worker, hub

gateway = Gateway("websocket://127.0.0.1:0", name="gateway")
business = BusinessWorker(name="business", count=2)
context = multiprocessing.get_context("fork")

@business.on_message
def answer(client_id, message):
    if message == "fork":
        context.Process(target=time.sleep, args=(600,), daemon=True).start()
    hub.send_to_client(client_id, str(os.getpid()))

Worker.run_all()
"""


@pytest.mark.alone
def test_a_business_process_is_missed_though_a_child_outlives_it(tmp_path: Path) -> None:
    """Its connection to the bus ends with it, and another one takes over what it had."""
    with master(BUSINESS, tmp_path) as service, ended_with_their_children(service):
        service.wait_for("business serves")
        with connect(f"ws://127.0.0.1:{service.port}") as client:
            client.send("fork")
            pid = int(client.recv(TIMEOUT))
            os.kill(pid, signal.SIGKILL)
            begun_at = time.monotonic()
            client.send("who?")
            assert int(client.recv(TIMEOUT)) != pid
            # By silence alone, it would take 7 s and more.
            assert time.monotonic() - begun_at < 6.5


# A thread of the script's, in the master too, that forks when it is told to.
IN_THE_MASTER = """
import os, sys, threading, time
from gateman import Worker

worker = Worker("websocket://127.0.0.1:{port}", name="chat")

def fork_later():
    while not os.path.exists("go"):
        time.sleep(0.02)
    child = os.fork()
    if not child:
        # What reads the log of the service waits for the end of all who write it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        time.sleep(600)
        os._exit(0)
    with open("child.part", "w") as file:
        file.write(str(child))
    os.rename("child.part", "child")

if "child_main.py" not in sys.orig_argv[1]:
    threading.Thread(target=fork_later, daemon=True).start()

Worker.run_all()
"""


def test_a_child_of_the_master_keeps_nothing_of_it(tmp_path: Path) -> None:
    """Its signals do not stop the service, and another one starts while it is there."""
    with master(IN_THE_MASTER.format(port=0), tmp_path) as service:
        (tmp_path / "go").touch()
        until((tmp_path / "child").exists)
        child = int((tmp_path / "child").read_text())
        try:
            with open_to(service):
                service.signal(signal.SIGKILL)
                service.wait()
            again = IN_THE_MASTER.format(port=service.port)
            (tmp_path / "go").unlink()
            with master(again, tmp_path):
                assert is_alive(child)
                os.kill(child, signal.SIGTERM)
                until(lambda: not is_alive(child))
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
