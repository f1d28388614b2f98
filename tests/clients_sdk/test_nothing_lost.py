"""
Nothing is lost silently: many SDK clients, while everything that can die is killed in turn.

Each message comes to each client of its channel once and in order, or the client is told that
some are missing. The size is one for every day; the whole proof is

    FLEET=500 FLEET_SECONDS=120 .venv/bin/pytest tests/clients_sdk/test_nothing_lost.py

The order of what happens is random, and the same each time; ``CHAOS=7`` makes another one.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.master import Master, descendants, master, until
from tests.support.nats import NatsServer, nats_cluster
from tests.support.sdk_fleet import Account, Fleet, faults, fleet

SIZE = int(os.environ.get("FLEET", "24"))
SECONDS = float(os.environ.get("FLEET_SECONDS", "0"))

# Ten clients in a channel, and two messages per second of each client, for some hundred clients.
CHANNELS = max(4, SIZE // 10)
INTERVAL = 0.1 if SIZE < 100 else 0.5  # seconds

pytestmark = [pytest.mark.long, pytest.mark.timeout(150 + 3 * SECONDS + SIZE)]

COMMON = """
from gateman import BusinessWorker, Channel, Gateway, Worker

CHANNELS = {
    "fleet:*": Channel(subscribe=True, publish=True, history_size=10_000, history_ttl=600)
}
LIMITS = {"max_connections_per_ip": None, "max_handshakes_per_second": None}
# Some recover what was sent in half a minute.
RECOVERED = {"max_recovered_publications": 10_000}
CLIENTS = dict(
    client_protocol="centrifuge", channels=CHANNELS, limits=LIMITS, client_limits=RECOVERED
)
PROCESSES = dict(count=2, max_crashes=10_000)
"""

WORKERS = """
Worker("websocket://127.0.0.1:0", name="chat", **CLIENTS, **PROCESSES)
"""

# The application sees each message before it is published.
GATEWAYS = """
Gateway("websocket://127.0.0.1:0", name="gate", **CLIENTS, **PROCESSES)
chat = BusinessWorker(name="chat", **PROCESSES)
chat.on_publish = lambda client_id, channel, data: None
"""


class Chaos:
    """What can happen to a service and its clients."""

    def __init__(self, service: Master, clients: Fleet, servers: Sequence[NatsServer] = ()) -> None:
        self._service = service
        self._clients = clients
        self._servers = servers
        self._random = random.Random(int(os.environ.get("CHAOS", "1")))  # noqa: S311 - no secret

    def happen(self, *actions: Callable[[], None]) -> None:
        """Let everything happen in turn, once at least, while the clients publish."""
        deadline = time.monotonic() + SECONDS
        while True:
            for action in self._random.sample(actions, len(actions)):
                action()
                self._let_publish()
            if time.monotonic() >= deadline:
                return

    def reload(self) -> None:
        """Replace all processes; the clients are told to come back."""
        done = self._service.gateman("reload")
        assert done.returncode == 0, done.stderr

    def kill_a_process(self) -> None:
        os.kill(self._random.choice(self._workers()), signal.SIGKILL)

    def lose_networks(self) -> None:
        """Break the connections of half of the clients."""
        self._clients.cut(0.5)

    def kill_the_router(self) -> None:
        """It has the history in its memory, and starts again without it."""
        [router] = set(descendants(self._service.pid)) - set(self._service.pids())
        os.kill(router, signal.SIGKILL)

    def reload_all(self) -> None:
        """Replace gateways, too, whose clients are told to come back."""
        done = self._service.gateman("reload", "--all")
        assert done.returncode == 0, done.stderr

    def kill_a_server(self) -> None:
        """Kill one NATS server of three, and start it again when the clients go on."""
        server = self._random.choice(self._servers)
        server.kill()
        self._let_publish()
        server.start()

    def _workers(self) -> list[int]:
        def idle() -> list[int]:
            processes = self._service.processes()
            return [process["pid"] for process in processes if process["status"] == "idle"]

        found: list[int] = until(idle)
        return found

    def _let_publish(self) -> None:
        before = self._clients.acknowledged()
        until(lambda: self._clients.acknowledged() >= before + 2 * SIZE)


@contextmanager
def running(
    folder: Path, workers: str = WORKERS, *, servers: Sequence[NatsServer] = ()
) -> Iterator[tuple[Chaos, Fleet]]:
    """Run a service, and clients that are in its channels."""
    places = ",".join(server.place for server in servers)
    bus = f"PROCESSES |= dict(bus='nats://{places}?name=test')" if places else ""
    script = f"{COMMON}{bus}{workers}\nWorker.run_all()\n"
    with (
        master(script, folder) as service,
        fleet(
            [f"ws://127.0.0.1:{service.port}"], clients=SIZE, channels=CHANNELS, interval=INTERVAL
        ) as clients,
    ):
        clients.settle()
        clients.publish()
        yield Chaos(service, clients, servers), clients


def account(clients: Fleet) -> Account:
    """Stop publishing, wait until all clients are there, and tell what became of each message."""
    clients.pause()
    clients.settle()
    found = clients.account()
    # What a person who runs the whole proof wants to read, with -s.
    print(  # noqa: T201
        f"{len(found.received)} clients, {len(found.acknowledged)} messages acknowledged,"
        f" {len(found.uncertain)} without an answer, {found.gaps} gaps told"
    )
    return found


def test_what_the_history_survives(tmp_path: Path) -> None:
    """Reloads, killed processes and lost networks: no client misses anything."""
    with running(tmp_path) as (chaos, clients):
        chaos.happen(chaos.reload, chaos.kill_a_process, chaos.lose_networks)
        found = account(clients)

    assert faults(found) == []
    assert found.gaps == 0
    assert len(found.acknowledged) >= 6 * SIZE


def test_what_the_history_does_not_survive(tmp_path: Path) -> None:
    """A killed router takes the history with it: clients are told, and go on from there."""
    with running(tmp_path) as (chaos, clients):
        chaos.happen(chaos.kill_the_router, chaos.kill_a_process, chaos.lose_networks)
        found = account(clients)

    assert faults(found) == []
    assert found.gaps > 0


def test_gateways(tmp_path: Path) -> None:
    """The clients of a gateway that is replaced or killed come back elsewhere."""
    with running(tmp_path, GATEWAYS) as (chaos, clients):
        chaos.happen(chaos.reload_all, chaos.kill_a_process, chaos.lose_networks)
        found = account(clients)

    assert faults(found) == []
    assert found.gaps == 0


def test_many_machines(tmp_path: Path) -> None:
    """JetStream on three NATS servers, one of which dies at a time, beside the processes."""
    with (
        nats_cluster(tmp_path, has_jetstream=True) as servers,
        running(tmp_path, servers=servers) as (chaos, clients),
    ):
        chaos.happen(chaos.kill_a_server, chaos.kill_a_process, chaos.lose_networks)
        found = account(clients)

    assert faults(found) == []
    assert found.gaps == 0
