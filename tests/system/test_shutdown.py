"""The end of a program by a signal, whatever its clients and its callbacks do."""

import fcntl
import os
import pty
import signal
import socket
import termios
from collections import Counter
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.deadlines import TIMEOUT
from tests.support.master import command_of, descendants, is_alive, master, until, written
from tests.support.raw import CLOSE, TEXT, close_payload, frame, handshake
from tests.support.server import child

SCRIPT = """\
import asyncio

from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", timeouts={"close": 300.0, "shutdown": 0.5})

@worker.on_message
async def answer(connection, message):
    if message == "flood":
        for _ in range(100):
            connection.send(bytes(100_000))
    else:
        await asyncio.Event().wait()

@worker.on_close
def note(connection, code, reason):
    with open("closed", "a") as file:
        print(code, file=file)

Worker.run_all()
"""

both = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def opened(port: int) -> socket.socket:
    """Open a WebSocket by hand."""
    client = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    client.sendall(handshake())
    assert client.recv(1024).startswith(b"HTTP/1.1 101 ")
    return client


@both
def test_clients_that_do_nothing_do_not_delay_the_end(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Silent ones, deaf ones, and one whose handler is stuck: all told 1001, exit code 0."""
    with child(SCRIPT, tmp_path) as process:
        silent, deaf, stuck = (opened(process.port) for _ in range(3))
        deaf.sendall(frame(TEXT, b"flood"))
        stuck.sendall(frame(TEXT, b"stick"))
        with connect(f"ws://127.0.0.1:{process.port}") as good:
            process.signal(number)
            # Long before the closing handshakes end.
            code = process.wait()
            with pytest.raises(ConnectionClosed) as closed:
                good.recv(timeout=TIMEOUT)
        with closing(silent), closing(deaf), closing(stuck):
            reason = close_payload(1001, "server is shutting down")
            assert silent.recv(1024) == bytes([0x80 | CLOSE, len(reason)]) + reason

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert code == os.EX_OK
    assert sorted((tmp_path / "closed").read_text().split()) == ["1001", "1006", "1006", "1006"]
    assert "Traceback" not in process.stderr


STARTING = """\
import asyncio
import sys

from gateman import Worker

worker = Worker("websocket://127.0.0.1:0")

@worker.on_worker_start
async def start(worker):
    print("it begins", file=sys.stderr, flush=True)
    await asyncio.Event().wait()

Worker.run_all()
"""


@both
def test_start_that_does_not_end_can_be_stopped(number: signal.Signals, tmp_path: Path) -> None:
    """on_worker_start is given up."""
    with child(STARTING, tmp_path, listens=False) as process:
        process.wait_for("it begins")
        process.signal(number)

        assert process.wait() == os.EX_OK
        assert "Traceback" not in process.stderr


# Gateways pass everything that a client says to a business process, which takes its time.
GATEWAY = """\
import asyncio
from gateman import BusinessWorker, Gateway, Worker, hub

gateway = Gateway("websocket://127.0.0.1:0", name="gateway", count=2, drain_window=2.0)
business = BusinessWorker(name="business", count=2)

@business.on_message
async def answer(client_id, message):
    await asyncio.sleep(1)
    write(message)
    hub.send_to_client(client_id, message)

@business.on_close
async def note(client_id, code, reason):
    write(str(code))

def write(line):
    with open("journal", "a") as file:
        print(line, file=file)

Worker.run_all()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 1001), (signal.SIGQUIT, 1012)])
def test_a_signal_to_the_whole_group_is_a_stop_like_any(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Gateways end before business workers, which handle all; nobody misses the router."""
    with master(GATEWAY, tmp_path, start_new_session=True) as service, ExitStack() as stack:
        service.wait_for("business serves")
        url = f"ws://127.0.0.1:{service.port}"
        clients = [stack.enter_context(connect(url)) for _ in range(6)]
        for client in clients:
            client.send("hello")
        # They are at the business processes when these have one of each.
        until(lambda: "hello" in _journal(tmp_path))
        for client in clients:
            client.send("bye")
        os.killpg(service.pid, number)
        for client in clients:
            with suppress(ConnectionClosed):
                while True:
                    client.recv(TIMEOUT)
        assert service.wait() == 0

    assert {client.close_code for client in clients} == {code}
    assert Counter(_journal(tmp_path)) == {"hello": 6, "bye": 6, str(code): 6}
    assert "ERROR" not in service.stderr


def _journal(folder: Path) -> list[str]:
    return written(folder / "journal").split()


def test_the_router_ends_by_no_signal(tmp_path: Path) -> None:
    """What a terminal or a service manager sends to everybody is for the master."""
    with master(GATEWAY, tmp_path) as service:
        service.wait_for("business serves")
        [router] = [pid for pid in descendants(service.pid) if "--fd" in command_of(pid)]
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
            os.kill(router, number)
        with connect(f"ws://127.0.0.1:{service.port}") as client:
            client.send("hello")
            assert client.recv(TIMEOUT) == "hello"
        assert is_alive(router)
        service.signal(signal.SIGTERM)
        assert service.wait() == 0

    assert "router" not in service.stderr.replace(str(tmp_path), "")


@pytest.mark.parametrize(("hangup", "ends"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_a_closed_terminal_ends_what_nohup_did_not_start(
    tmp_path: Path, hangup: signal.Handlers, *, ends: bool
) -> None:
    """It is a stop in the foreground; with nohup the service goes on."""

    def take_terminal() -> None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY)
        signal.signal(signal.SIGHUP, hangup)

    screen, terminal = pty.openpty()
    script = 'from gateman import Worker\nWorker("websocket://127.0.0.1:0")\nWorker.run_all()\n'
    with master(
        script,
        tmp_path,
        start_new_session=True,
        preexec_fn=take_terminal,
        pass_fds=[terminal],
    ) as service:
        os.close(terminal)
        os.close(screen)
        if ends:
            assert service.wait() == 0
        else:
            service.signal(signal.SIGHUP)
            service.wait_for("re-reading certificates")
            assert len(service.pids()) == 1
