"""
Everything at once: reloads, gateways that die or are stopped, slow handlers, a broker that dies.

No business process is killed, so nothing may be handled twice. The order is random, and the same
each time; ``CHAOS=7`` in the environment makes another one.
"""

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..support.client_fleet import (
    DEADLINE,
    ClientFleet,
    NumberedClient,
    client_fleet,
    journal,
    script,
    sending,
)
from ..support.master import Master, descendants, master
from ..support.nats import NatsServer, nats_server
from ..support.suspend import suspend

COUNT = 16
WINDOW = 6.0  # seconds
SLOW = WINDOW - 1.0  # seconds
# Longer than a silent process is believed to be there without a question.
STOPPED = 7.5  # seconds

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


class Chaos:
    """
    What can happen to one service with many clients.

    Attributes:
        gone: The clients that were cut off.
    """

    def __init__(self, service: Master, broker: NatsServer | None, fleet: ClientFleet) -> None:
        self._service = service
        self._broker = broker
        self._fleet = fleet
        self.gone: list[NumberedClient] = []
        self._random = random.Random(int(os.environ.get("CHAOS", "1")))  # noqa: S311 - no secret

    async def happen(self) -> None:
        """Let everything happen once."""
        actions = [
            self.reload_all,
            self.kill_a_gateway,
            self.kill_the_broker,
            self.stop_a_gateway_and_reload,
        ]
        self._random.shuffle(actions)
        for action in actions:
            async with sending(self._fleet):
                await action()
            await self._replace_lost_clients()

    async def _replace_lost_clients(self) -> None:
        """Replace the clients that were disconnected."""
        fleet = self._fleet
        gone = [client for client in fleet.clients if client.is_lost]
        fleet.clients = [client for client in fleet.clients if not client.is_lost]
        self.gone += gone
        await fleet.connect([self._service.port], len(gone))

    async def stop_a_gateway_and_reload(self) -> None:
        """Not while the broker dies, too: a stopped process that has lost it counts as dead."""
        await asyncio.gather(self.stop_a_gateway(), self.reload())

    async def reload(self) -> None:
        """Renew the code, while some handlers take long."""
        self._slow_down()
        done = await asyncio.to_thread(self._service.gateman, "reload", timeout=DEADLINE)
        assert done.returncode == 0, done.stderr

    async def reload_all(self) -> None:
        """Renew gateways, too: their clients are disconnected while business processes drain."""
        self._slow_down()
        done = await asyncio.to_thread(self._service.gateman, "reload", "--all", timeout=DEADLINE)
        assert done.returncode == 0, done.stderr
        await self._fleet.until(lambda: all(client.is_lost for client in self._fleet.clients))

    async def kill_a_gateway(self) -> None:
        """Kill one while business processes drain that have slow handlers of its clients."""
        victim = await self._a_gateway()
        before = set(descendants(self._service.pid))
        known = {client.pid for client in self._fleet.clients}
        self._service.signal(signal.SIGUSR1)
        await self._fleet.until(lambda: bool(set(descendants(self._service.pid)) - before))
        self._slow_down()
        # A client was handed over.
        await self._fleet.until(
            lambda: any(client.pid not in known for client in self._fleet.clients)
        )
        os.kill(victim, signal.SIGKILL)
        await asyncio.to_thread(self._service.wait_for, "INFO reloaded")

    async def stop_a_gateway(self) -> None:
        """Stop one for so long that it hears nobody, and nobody hears it."""
        victim = await self._a_gateway()
        suspend(victim)
        await self._fleet.pause(STOPPED)
        os.kill(victim, signal.SIGCONT)

    async def kill_the_broker(self) -> None:
        """Kill what connects the processes; it is there again at once, or soon."""
        if self._broker is None:
            known = await asyncio.to_thread(self._service.pids)
            [router] = set(descendants(self._service.pid)) - set(known)
            os.kill(router, signal.SIGKILL)
        else:
            self._broker.kill()
            await self._fleet.pause(1.0)
            await asyncio.to_thread(self._broker.start)

    async def _a_gateway(self) -> int:
        status = await asyncio.to_thread(self._service.status)
        processes: list[int] = [
            process["pid"]
            for slot in status["slots"]
            for process in slot["processes"]
            if slot["worker"] == "gateway" and process["status"] in {"idle", "busy"}
        ]
        return self._random.choice(processes)

    def _slow_down(self) -> None:
        for client in self._fleet.clients[::3]:
            if not client.is_lost:
                client.say(f"slow {SLOW}")


@pytest.mark.parametrize("is_nats", [False, True], ids=["local", "nats"])
def test_nothing_is_lost_repeated_or_disordered(tmp_path: Path, *, is_nats: bool) -> None:
    """And a client that is gone is gone once, whatever happens at the same time."""
    with ExitStack() as stack:
        broker = stack.enter_context(nats_server(tmp_path)) if is_nats else None
        bus = None if broker is None else broker.url
        made = script(tmp_path, bus=bus, count=2, drain_window=WINDOW)
        service = stack.enter_context(master(made, tmp_path))
        service.wait_for("business serves, 2 processes")
        asyncio.run(_live(tmp_path, service, broker))


async def _live(folder: Path, service: Master, broker: NatsServer | None) -> None:
    async with client_fleet(folder, service.port, count=COUNT) as fleet:
        chaos = Chaos(service, broker, fleet)
        await chaos.happen()
        gone = chaos.gone
        account = await fleet.settle()
        await fleet.until(lambda: len(ends(folder)) >= len(gone))

        assert (account.lost, account.disordered, account.repeated) == (0, 0, 0)
        handled = fleet.handled()
        for client in gone:
            numbers = handled.get(client.name, [])
            # Of a connection that ends, the last messages may not have arrived.
            assert numbers == list(range(1, len(numbers) + 1)), client.name
        for client in fleet.all_clients:
            assert client.answered == sorted(set(client.answered)), client.name
        assert ends(folder) == Counter(client.client_id for client in gone)
        assert len(gone) > COUNT
    await fleet.until(lambda: len(ends(folder)) >= len(fleet.all_clients))
    assert ends(folder) == Counter(client.client_id for client in fleet.all_clients)


def ends(folder: Path) -> Counter[str]:
    """Tell whose end the application was told, and how often."""
    return Counter(entry.client_id for entry in journal(folder) if entry.kind == "close")
