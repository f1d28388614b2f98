"""Gateways in one script and business workers in others, which come and go, over NATS."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.deadlines import TIMEOUT
from tests.support.master import Master, master
from tests.support.nats import NatsServer, nats_server

GATEWAY = """
from gateman import Gateway

gateway = Gateway("websocket://127.0.0.1:0", count=2, bus={bus!r}, timeouts={{"handshake": 50}})
Gateway.run_all()
"""

BUSINESS = """
from gateman import BusinessWorker, current_client, hub

business = BusinessWorker(bus={bus!r})

@business.on_message
def answer(client_id, message):
    current_client.session["count"] = current_client.session.get("count", 0) + 1
    hub.send_to_client(client_id, f"{name} {{current_client.session['count']}} {{message}}")

BusinessWorker.run_all()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS that asks who somebody is."""
    config = "authorization { user: gateman, password: secret }"
    with nats_server(tmp_path, config) as running:
        yield running


def bus(server: NatsServer) -> str:
    """Write its URL, and who we are."""
    return f"nats://gateman:secret@{server.place}?name=test"


def start(stack: ExitStack, folder: Path, name: str, script: str) -> Master:
    """Run a script in a folder of its own."""
    place = folder / name
    place.mkdir()
    listens = "Gateway(" in script
    running = stack.enter_context(master(script, place, listens=listens))
    if not listens:
        running.wait_for("business serves")
    return running


def test_business_workers_come_and_go(tmp_path: Path, server: NatsServer) -> None:
    """A client waits for the first, is served by the next, and its session goes with it."""
    with ExitStack() as stack:
        gateway = start(stack, tmp_path, "gateway", GATEWAY.format(bus=bus(server)))
        first: list[Master] = []
        coming = threading.Timer(
            0.5,
            lambda: first.append(
                start(stack, tmp_path, "first", BUSINESS.format(bus=bus(server), name="first"))
            ),
        )
        coming.start()
        with connect(f"ws://127.0.0.1:{gateway.port}", open_timeout=40) as client:
            coming.join()
            client.send("hello")
            assert client.recv() == "first 1 hello"

            start(stack, tmp_path, "second", BUSINESS.format(bus=bus(server), name="second"))
            stopped = first[0].command("stop")
            assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
            client.send("again")
            assert client.recv(timeout=TIMEOUT) == "second 2 again"


def test_no_secret_is_in_a_log(tmp_path: Path, server: NatsServer) -> None:
    """A bus is named without who we are, whatever becomes of it."""
    with ExitStack() as stack:
        gateway = start(stack, tmp_path, "gateway", GATEWAY.format(bus=bus(server)))
        server.kill()
        gateway.wait_for("is away")
        gateway.command("status")

        assert "secret" not in gateway.stderr


def test_a_bus_of_all_the_world_is_refused(tmp_path: Path) -> None:
    """Whoever reached it could act as any client: one sentence, and 78."""
    with master(
        GATEWAY.format(bus="nats://192.0.2.1:4222?name=test"), tmp_path, listens=False
    ) as running:
        code = running.wait()

        assert code == 78
        assert "\n" not in running.stderr
        assert "nats://192.0.2.1:4222?name=test has no credentials" in running.stderr
