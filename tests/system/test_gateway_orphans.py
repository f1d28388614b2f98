"""A master is killed: its processes end in the order of a stop, and say so in its log."""

import asyncio
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..support.client_fleet import Account, client_fleet, journal, script
from ..support.loop import eventually
from ..support.master import Master, descendants, is_alive, master
from ..support.nats import nats_server

# A gateway closes its first client at once, and the next one a second later at the earliest.
COUNT = 6
WINDOW = 6.0  # seconds


@pytest.mark.parametrize("is_nats", [False, True], ids=["local", "nats"])
def test_processes_without_a_master_end_in_order(tmp_path: Path, *, is_nats: bool) -> None:
    """What clients say is handled, each is told to be gone, and the log says what happens."""
    with ExitStack() as stack:
        bus = stack.enter_context(nats_server(tmp_path)).url if is_nats else None
        made = script(tmp_path, bus=bus, drain_window=WINDOW)
        service = stack.enter_context(master(made, tmp_path))
        asyncio.run(_orphan(tmp_path, service))


async def _orphan(folder: Path, service: Master) -> None:
    service.wait_for("business serves, 3 processes")
    processes = descendants(service.pid)
    async with client_fleet(folder, service.port, count=COUNT) as fleet:
        os.kill(service.pid, signal.SIGKILL)
        await fleet.until(lambda: service.stderr.count("the master is gone: draining\n") == 2)
        await fleet.pause(0.2)
        for client in fleet.clients:
            client.send()
        await fleet.until(lambda: all(client.is_lost for client in fleet.clients))
        await eventually(lambda: not any(map(is_alive, processes)))

        assert fleet.account() == Account()
        assert fleet.lost == {1012: COUNT}
        ends = sorted(entry.client_id for entry in journal(folder) if entry.kind == "close")
        assert ends == sorted(client.client_id for client in fleet.clients)
    said = service.stderr
    assert said.count("the master is gone: draining\n") == 2
    assert said.count("gateway has ended without a master") == 2
    assert said.count("business has ended without a master") == 3
    assert said.rindex("gateway has ended") < said.index("business has ended")
