"""The hub between the processes of one service, by the router that its master keeps up."""

import asyncio
import os
import signal
from pathlib import Path

from ..support.master import descendants, master
from ..support.node_clients import account, node_clients, script, send_numbers

TWO = script("count=2")


def test_processes_hear_each_other(tmp_path: Path) -> None:
    """With nothing declared but their number, every message reaches both."""
    asyncio.run(_talk(tmp_path))


async def _talk(folder: Path) -> None:
    with master(TWO, folder) as service:
        async with node_clients(service.port, service.port) as both:
            await send_numbers(both, 0.5)
            for state in await account(both):
                assert state["gaps"] == []
                assert "lost" not in state["counts"]
                assert state["counts"]["published"] > 0


def test_a_router_may_die(tmp_path: Path) -> None:
    """Another takes its place, and every message is delivered, or counted, by its cause."""
    asyncio.run(_lose_the_router(tmp_path))


async def _lose_the_router(folder: Path) -> None:
    with master(TWO, folder) as service:
        [router] = set(descendants(service.pid)) - set(service.pids())
        async with node_clients(service.port, service.port) as both:
            await send_numbers(both, 0.5)
            os.kill(router, signal.SIGKILL)
            while not all([(await one.ask())["gaps"] for one in both]):
                await send_numbers(both, 0.05)
            await send_numbers(both, 0.5)
            for state in await account(both):
                assert [cause for cause, _, _ in state["gaps"]] == ["disconnected"]
        service.wait_for("the router of the bus ended with -9: another one follows")
