"""
Gateways with many clients, while their business workers are renewed, killed and blocked.

Over the bus of one master, and over NATS with two. ``FLOCK=5000 FLOCK_SECONDS=20 make test
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

from ..support.flock import (
    INTERVAL,
    SECONDS,
    SIZE,
    Account,
    flock,
    flying,
    journal,
    pids,
    ports,
    script,
)
from ..support.master import Master, master
from ..support.nats import nats_server

BUSES = pytest.mark.parametrize("node_count", [1, 2], ids=["local", "nats"])
"""Run a test with one master on its own bus, and with two over NATS."""

RELOADS = 5
KILLS = max(5, round(SECONDS))

# Each client sends in it.
A_WHILE = 0.2 + 1.5 * INTERVAL  # seconds

pytestmark = pytest.mark.timeout(120 + SIZE * SECONDS / 200)


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
def test_reloads_drop_nobody_and_lose_nothing(tmp_path: Path, node_count: int) -> None:
    """Every message is handled exactly once and in order, and every connection stays."""
    with services(tmp_path, node_count) as running:
        asyncio.run(_reload(tmp_path, running))


async def _reload(folder: Path, running: list[Master]) -> None:
    async with flock(folder, *ports(running)) as birds:
        async with flying(birds):
            for number in range(RELOADS):
                service = running[number % len(running)]
                reloaded = await asyncio.to_thread(service.gateman, "reload")
                assert (reloaded.returncode, reloaded.stdout) == (0, "reloaded\n")

        assert await birds.settle() == Account()
        assert birds.lost == Counter()


@BUSES
def test_killed_processes_lose_nothing(tmp_path: Path, node_count: int) -> None:
    """Every message is handled in order; some again, as nobody knows how far the dead had come."""
    with services(tmp_path, node_count) as running:
        asyncio.run(_kill(tmp_path, running))


async def _kill(folder: Path, running: list[Master]) -> None:
    async with flock(folder, *ports(running)) as birds:
        killed = 0
        async with flying(birds):
            for number in range(KILLS):
                service = running[number % len(running)]
                victims = await asyncio.to_thread(pids, service, "business")
                if victims:  # Those that die again and again are started again later and later.
                    os.kill(victims[number % len(victims)], signal.SIGKILL)
                    killed += 1
                await birds.pause(0.7)
        account = await birds.settle()

        assert (account.lost, account.disordered, birds.lost) == (0, 0, Counter())
        assert killed >= KILLS // 2


@BUSES
def test_a_blocked_process_delays_its_own_clients_only(tmp_path: Path, node_count: int) -> None:
    """All others are answered while it is blocked, and its own afterwards, in order."""
    with services(tmp_path, node_count) as running:
        asyncio.run(_block(tmp_path, running))


async def _block(folder: Path, running: list[Master]) -> None:
    async with flock(folder, *ports(running)) as birds:
        await birds.fly(A_WHILE)
        await birds.until(lambda: all(bird.pid for bird in birds.birds))
        blocker = birds.birds[0]
        blocker.say("block 10")
        await birds.until(lambda: "block" in kinds(folder))
        others = [bird for bird in birds.birds if bird.pid != blocker.pid]
        heard = {bird.name: bird.heard for bird in others}
        async with flying(birds):
            await birds.until(lambda: all(bird.heard >= heard[bird.name] + 3 for bird in others))
            assert others
            assert "unblock" not in kinds(folder)
        assert await birds.settle() == Account()
        assert (birds.lost, "unblock" in kinds(folder)) == (Counter(), True)


def kinds(folder: Path) -> set[str]:
    """Tell what kinds of events were handled."""
    return {entry.kind for entry in journal(folder)}


@BUSES
def test_a_killed_gateway_is_told_for_each_of_its_clients(tmp_path: Path, node_count: int) -> None:
    """They are closed once each, may come again at once, and nobody else notices."""
    with services(tmp_path, node_count) as running:
        asyncio.run(_kill_gateway(tmp_path, running))


async def _kill_gateway(folder: Path, running: list[Master]) -> None:
    async with flock(folder, *ports(running)) as birds:
        await birds.fly(A_WHILE)
        await birds.settle()
        victim = (await asyncio.to_thread(pids, running[0], "gateway"))[0]
        async with flying(birds):
            os.kill(victim, signal.SIGKILL)
        gone = {bird.client_id for bird in birds.birds if bird.is_lost}
        await birds.until(lambda: len(closed(folder)) >= len(gone))
        assert sorted(closed(folder)) == sorted((client_id, "1006") for client_id in gone)
        assert 0 < len(gone) < len(birds.birds)

        birds.birds = [bird for bird in birds.birds if not bird.is_lost]
        await birds.come(ports(running), len(gone))
        await birds.fly(A_WHILE)
        assert await birds.settle() == Account()
        assert birds.lost == Counter()


def closed(folder: Path) -> list[tuple[str, str]]:
    """Tell which clients were closed, and how."""
    return [(entry.client_id, entry.text) for entry in journal(folder) if entry.kind == "close"]


def test_a_deadly_message_is_set_aside(tmp_path: Path) -> None:
    """It kills two processes and not a third; what its client sends behind it is handled."""
    with services(tmp_path, 1) as running:
        asyncio.run(_die(tmp_path, running[0]))


async def _die(folder: Path, service: Master) -> None:
    async with flock(folder, service.port, count=8) as birds:
        birds.birds[0].say("die")
        await birds.until(lambda: deaths(folder) == 2)
        await birds.fly(A_WHILE)

        account = await birds.settle()
        assert (account.lost, account.disordered, birds.lost) == (0, 0, Counter())
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
