"""The HTTP API of a service with several processes, for curl and for an official library."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cent
import pytest
from websockets.sync.client import ClientConnection, connect

from ..support.deadlines import TIMEOUT
from ..support.master import Master, master, until
from ..support.nats import nats_server
from ..support.proxies import program

KEY = "0123456789abcdef"

SCRIPT = """
import os
from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", name="chat", count=2, {options})

@worker.on_websocket_connect
def enter(connection, request):
    connection.bind(request.query["user"])
    connection.join("room")

@worker.on_open
def greet(connection):
    connection.send(str(os.getpid()))

worker.on_message = lambda connection, message: None
Worker.run_all()
"""


@contextmanager
def service(folder: Path, options: str = "") -> Iterator[tuple[Master, cent.Client]]:
    """Run a service with a key from its environment, and use its API."""
    environment = {"GATEMAN_CHAT_API_KEY": KEY}
    with master(SCRIPT.format(options=options), folder, environment=environment) as running:
        api = cent.Client(f"http://127.0.0.1:{running.port}/api", KEY, timeout=TIMEOUT)
        try:
            yield running, api
        finally:
            api.close()


class Client:
    """A client of one of the processes."""

    def __init__(self, stack: ExitStack, port: int, user: str) -> None:
        url = f"ws://127.0.0.1:{port}/?user={user}"
        self.socket: ClientConnection = stack.enter_context(connect(url))
        self.pid = int(self.socket.recv(TIMEOUT))


def clients_of_two_processes(stack: ExitStack, port: int) -> tuple[Client, Client]:
    one = Client(stack, port, "ann")
    other = one
    while other.pid == one.pid:
        if other is not one:
            other.socket.close()
        other = Client(stack, port, "bob")
    return one, other


@pytest.mark.parametrize("bus", ["local", "nats"])
def test_presence_follows_the_death_of_a_process(bus: str, tmp_path: Path) -> None:
    """Publications reach all processes, and a killed one's clients are not present any more."""
    with ExitStack() as stack:
        options = ""
        if bus == "nats":
            options = f"bus={stack.enter_context(nats_server(tmp_path)).url!r}"
        running, api = stack.enter_context(service(tmp_path, options))
        one, other = clients_of_two_processes(stack, running.port)
        room = cent.PresenceRequest(channel="room")
        until(
            lambda: {info.user for info in api.presence(room).presence.values()} == {"ann", "bob"}
        )
        api.publish(cent.PublishRequest(channel="room", data="hello"))
        received = [client.socket.recv(TIMEOUT) for client in (one, other)]
        assert received == ["hello", "hello"]

        os.kill(other.pid, signal.SIGKILL)

        def users() -> set[str] | None:
            try:
                return {info.user for info in api.presence(room).presence.values()}
            except cent.CentNetworkError:
                # The connection of the library was to the killed process.
                return None

        until(lambda: users() == {"ann"})


def test_curl_publishes_with_the_key_alone(tmp_path: Path) -> None:
    def post(method: str, body: str, *words: str) -> tuple[object, int]:
        done = subprocess.run(
            [program("curl"), "-s", "-m", "20", "-w", "\n%{http_code}", "-d", body, *words,
             f"http://127.0.0.1:{running.port}/api/{method}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        answer, _, status = done.stdout.rpartition("\n")
        return json.loads(answer), int(status)

    with service(tmp_path) as (running, _), ExitStack() as stack:
        client = Client(stack, running.port, "ann")
        key = ("-H", f"X-API-Key: {KEY}")
        body = '{"channel": "room", "data": "from curl"}'

        assert post("publish", body) == ({"error": "unauthorized"}, 401)
        assert post("publish", body, *key) == ({"result": {}}, 200)
        assert client.socket.recv(TIMEOUT) == "from curl"
        assert KEY not in running.wait_for("without the right key, from 127.0.0.1")


def test_a_key_that_is_too_short_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "server.py"
    path.write_text(SCRIPT.format(options="api_key='short'"))
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, check=False, cwd=tmp_path
    )

    assert done.returncode == 78
    assert "api_key has 5 characters, or a space: it could be guessed" in done.stderr
    assert "Traceback" not in done.stderr
