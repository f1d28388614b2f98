"""What a node tells of itself, and what it takes from others."""

import logging

import pytest

from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.cluster.node import Node
from gateman.history.base import HistoryLimits

from ..support.loop import eventually, on_loop

CHAT = ("chat.py", "Worker chat answer")
BILLING = ("server.py", "Worker billing pay")
KEPT = {"news": HistoryLimits(10, 60.0)}


async def started(broker: MemoryBroker, **options: object) -> Node:
    node = Node(MemoryBus(broker=broker), **options)  # type: ignore[arg-type]
    await node.start()
    return node


@on_loop
async def test_two_services_on_one_bus_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """In both, once."""
    caplog.set_level(logging.WARNING, "gateman")
    broker = MemoryBroker()
    chat = await started(broker, has_clients=True, service=CHAT)
    billing = await started(broker, has_clients=True, service=BILLING)
    await eventually(lambda: len(caplog.messages) == 2)

    for service in ("chat.py (Worker chat answer)", "server.py (Worker billing pay)"):
        assert any(
            line.startswith(f"{service} is on the bus memory:// too") for line in caplog.messages
        )
    await billing.stop()
    await chat.stop()


@on_loop
async def test_a_program_learns_what_is_kept() -> None:
    broker = MemoryBroker()
    service = await started(broker, has_clients=True, kept=KEPT)
    program = await started(broker, has_clients=False, needs_bus=True)

    assert program.channels.rules == service.channels.rules != ()
    await program.stop()
    await service.stop()
