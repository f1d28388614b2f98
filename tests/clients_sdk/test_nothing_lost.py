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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.master import Master, descendants, master, until
from tests.support.sdk_fleet import Account, Fleet, faults, fleet

SIZE = int(os.environ.get("FLEET", "24"))
SECONDS = float(os.environ.get("FLEET_SECONDS", "0"))

# Ten clients in a channel, and two messages per second of each client, for some hundred clients.
CHANNELS = max(4, SIZE // 10)
INTERVAL = 0.1 if SIZE < 100 else 0.5  # seconds

pytestmark = [pytest.mark.long, pytest.mark.timeout(150 + 3 * SECONDS + SIZE)]

SCRIPT = """
from gateman import Channel, Worker

Worker(
    "websocket://127.0.0.1:0",
    name="chat",
    count=2,
    max_crashes=10_000,
    client_protocol="centrifuge",
    channels={{
        "fleet:*": Channel(subscribe=True, publish=True, history_size=10_000, history_ttl=600)
    }},
    limits={{"max_connections_per_ip": None, "max_handshakes_per_second": None}},
)
Worker.run_all({options})
"""


class Chaos:
    """What can happen to a service and its clients."""

    def __init__(self, service: Master, clients: Fleet) -> None:
        self._service = service
        self._clients = clients
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

    def _workers(self) -> list[int]:
        processes = until(lambda: [p for p in self._service.processes() if p["status"] == "idle"])
        return [process["pid"] for process in processes]

    def _let_publish(self) -> None:
        before = self._clients.acknowledged()
        until(lambda: self._clients.acknowledged() >= before + 2 * SIZE)


@contextmanager
def running(folder: Path, options: str = "") -> Iterator[tuple[Chaos, Fleet]]:
    """Run a service, and clients that are in its channels."""
    with (
        master(SCRIPT.format(options=options), folder) as service,
        fleet(
            [f"ws://127.0.0.1:{service.port}"], clients=SIZE, channels=CHANNELS, interval=INTERVAL
        ) as clients,
    ):
        clients.settle()
        clients.publish()
        yield Chaos(service, clients), clients


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
