"""The end of a program by a signal, whatever its clients and its callbacks do."""

import os
import signal
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.raw import CLOSE, TEXT, close_payload, frame, handshake
from tests.support.server import child

SCRIPT = """\
import asyncio

from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", timeouts={"close": 30.0, "shutdown": 0.5})

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
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
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
            begun_at = time.monotonic()
            process.signal(number)
            code = process.wait()
            took = time.monotonic() - begun_at
            with pytest.raises(ConnectionClosed) as closed:
                good.recv(timeout=10)
        with closing(silent), closing(deaf), closing(stuck):
            reason = close_payload(1001, "server is shutting down")
            assert silent.recv(1024) == bytes([0x80 | CLOSE, len(reason)]) + reason

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert (code, took < 5.0) == (os.EX_OK, True)
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
