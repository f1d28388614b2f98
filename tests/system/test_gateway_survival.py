"""
Gateways with many clients, while their business workers are renewed, killed and blocked.

Over the bus of one master, and over NATS with two. ``FLEET=5000 FLEET_SECONDS=20 make test
ARGS="-k gateway_survival"`` is the same with 5 000 clients, as far as the limit on open files goes.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..support.client_fleet import (
    DEADLINE,
    INTERVAL,
    SECONDS,
    SIZE,
    Account,
    client_fleet,
    journal,
    pids,
    ports,
    script,
    sending,
)
from ..support.master import Master, master
from ..support.nats import nats_server

BUSES = pytest.mark.parametrize("node_count", [1, 2], ids=["local", "nats"])
"""Run a test with one master on its own bus, and with two over NATS."""

RELOADS = max(3, round(SECONDS / 4))
KILLS = max(5, round(SECONDS))

# Each client sends in it.
A_WHILE = 0.2 + 1.5 * INTERVAL  # seconds

pytestmark = [pytest.mark.long, pytest.mark.timeout(200 + SIZE * SECONDS / 200)]


@contextmanager
def services(folder: Path, node_count: int) -> Iterator[list[Master]]:
    """Run one master, or several that share a NATS."""
    with ExitStack() as stack:
        bus = stack.enter_context(nats_server(folder)).url if node_count > 1 else None
        running = []
        for number in range(node_count):
            place = folder / f"node{number}"
            place.mkdir()
            one = stack.enter_context(master(script(folder, bus=bus), place))
            one.wait_for("business serves, 3 processes")
            running.append(one)
        yield running


@BUSES
def test_reloads_drop_no_client_and_lose_no_message(tmp_path: Path, node_count: int) -> None:
    """Every message is handled exactly once and in order, and every connection stays."""
    with services(tmp_path, node_count) as running:
        asyncio.run(_reload(tmp_path, running))


async def _reload(folder: Path, running: list[Master]) -> None:
    async with client_fleet(folder, *ports(running)) as fleet:
        async with sending(fleet):
            for number in range(RELOADS):
                service = running[number % len(running)]
                reloaded = await asyncio.to_thread(service.gateman, "reload", timeout=2 * DEADLINE)
                assert (reloaded.returncode, reloaded.stdout) == (0, "reloaded\n")

        assert await fleet.settle() == Account()
        assert fleet.lost == Counter()


@BUSES
def test_killed_processes_lose_nothing(tmp_path: Path, node_count: int) -> None:
    """Every message is handled in order; some twice, as the dead process reported no result."""
    with services(tmp_path, node_count) as running:
        asyncio.run(_kill(tmp_path, running))


async def _kill(folder: Path, running: list[Master]) -> None:
    async with client_fleet(folder, *ports(running)) as fleet:
        killed = 0
        async with sending(fleet):
            for number in range(KILLS):
                service = running[number % len(running)]
                victims = await asyncio.to_thread(pids, service, "business")
                if victims:  # Those that die again and again are started again later and later.
                    fleet.send_at_once()
                    os.kill(victims[number % len(victims)], signal.SIGKILL)
                    killed += 1
                await fleet.pause(0.7)
        account = await fleet.settle()

        assert (account.lost, account.disordered, fleet.lost) == (0, 0, Counter())
        assert killed >= KILLS // 2


@BUSES
def test_a_blocked_process_delays_its_own_clients_only(tmp_path: Path, node_count: int) -> None:
    """All others are answered while it is blocked, and its own afterwards, in order."""
    with services(tmp_path, node_count) as running:
        asyncio.run(_block(tmp_path, running))


async def _block(folder: Path, running: list[Master]) -> None:
    async with client_fleet(folder, *ports(running)) as fleet:
        await fleet.send_messages(A_WHILE)
        await fleet.until(lambda: all(client.pid for client in fleet.clients))
        blocker = fleet.clients[0]
        blocker.say("block 10")
        await fleet.until(lambda: "block" in kinds(folder))
        others = [client for client in fleet.clients if client.pid != blocker.pid]
        answer_count = {client.name: client.answer_count for client in others}
        async with sending(fleet):
            await fleet.until(
                lambda: all(
                    client.answer_count >= answer_count[client.name] + 3 for client in others
                )
            )
            assert others
            assert "unblock" not in kinds(folder)
        assert await fleet.settle() == Account()
        assert (fleet.lost, "unblock" in kinds(folder)) == (Counter(), True)


def kinds(folder: Path) -> set[str]:
    """Tell what kinds of events were handled."""
    return {entry.kind for entry in journal(folder)}


@BUSES
def test_a_killed_gateway_is_told_for_each_of_its_clients(tmp_path: Path, node_count: int) -> None:
    """Each is closed once and may reconnect at once; other clients notice nothing."""
    with services(tmp_path, node_count) as running:
        asyncio.run(_kill_gateway(tmp_path, running))


async def _kill_gateway(folder: Path, running: list[Master]) -> None:
    async with client_fleet(folder, *ports(running)) as fleet:
        await fleet.send_messages(A_WHILE)
        await fleet.settle()
        victim = (await asyncio.to_thread(pids, running[0], "gateway"))[0]
        async with sending(fleet):
            os.kill(victim, signal.SIGKILL)
        gone = {client.client_id for client in fleet.clients if client.is_lost}
        await fleet.until(lambda: len(closed(folder)) >= len(gone))
        assert sorted(closed(folder)) == sorted((client_id, "1006") for client_id in gone)
        assert 0 < len(gone) < len(fleet.clients)

        fleet.clients = [client for client in fleet.clients if not client.is_lost]
        await fleet.connect(ports(running), len(gone))
        await fleet.send_messages(A_WHILE)
        assert await fleet.settle() == Account()
        assert fleet.lost == Counter()


def closed(folder: Path) -> list[tuple[str, str]]:
    """Tell which clients were closed, and how."""
    return [(entry.client_id, entry.text) for entry in journal(folder) if entry.kind == "close"]


def test_a_deadly_message_is_quarantined(tmp_path: Path) -> None:
    """It kills two processes and not a third; what its client sends behind it is handled."""
    with services(tmp_path, 1) as running:
        asyncio.run(_die(tmp_path, running[0]))


async def _die(folder: Path, service: Master) -> None:
    async with client_fleet(folder, service.port, count=8) as fleet:
        fleet.clients[0].say("die")
        await fleet.until(lambda: deaths(folder) == 2)
        await fleet.send_messages(A_WHILE)

        account = await fleet.settle()
        assert (account.lost, account.disordered, fleet.lost) == (0, 0, Counter())
        assert deaths(folder) == 2
        status = await asyncio.to_thread(service.status)
        assert counts(status)["events_quarantined"] == 1
        assert sum(slot["restarts"] for slot in status["slots"]) == 2


def deaths(folder: Path) -> int:
    """Count the processes that the message has killed."""
    return sum(entry.kind == "die" for entry in journal(folder))


def counts(status: dict[str, Any]) -> Counter[str]:
    """Add up what all processes have counted."""
    return sum(
        (Counter(one["counts"]) for slot in status["slots"] for one in slot["processes"]),
        Counter(),
    )
