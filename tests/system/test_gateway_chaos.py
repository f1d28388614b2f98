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

from ..support.flock import PATIENCE, Bird, Flock, flock, flying, journal, script
from ..support.master import Master, descendants, master
from ..support.nats import NatsServer, nats_server

COUNT = 16
WINDOW = 6.0  # seconds
SLOW = WINDOW - 1.0  # seconds
# Longer than a silent process is believed to be there without a question.
STOPPED = 7.5  # seconds

pytestmark = pytest.mark.timeout(180)


class Chaos:
    """
    What can happen to one service with many clients.

    Attributes:
        gone: The clients that were cut off.
    """

    def __init__(self, service: Master, broker: NatsServer | None, birds: Flock) -> None:
        self._service = service
        self._broker = broker
        self._birds = birds
        self.gone: list[Bird] = []
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
            async with flying(self._birds):
                await action()
            await self._come_again()

    async def _come_again(self) -> None:
        """Have others come for the clients that were cut off."""
        birds = self._birds
        gone = [bird for bird in birds.birds if bird.is_lost]
        birds.birds = [bird for bird in birds.birds if not bird.is_lost]
        self.gone += gone
        await birds.come([self._service.port], len(gone))

    async def stop_a_gateway_and_reload(self) -> None:
        """Not while the broker dies, too: a stopped process that has lost it counts as dead."""
        await asyncio.gather(self.stop_a_gateway(), self.reload())

    async def reload(self) -> None:
        """Renew the code, while some handlers take long."""
        self._slow_down()
        done = await asyncio.to_thread(self._service.gateman, "reload", timeout=PATIENCE)
        assert done.returncode == 0, done.stderr

    async def reload_all(self) -> None:
        """Renew gateways, too: they part from their clients while business processes drain."""
        self._slow_down()
        done = await asyncio.to_thread(self._service.gateman, "reload", "--all", timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        await self._birds.until(lambda: all(bird.is_lost for bird in self._birds.birds))

    async def kill_a_gateway(self) -> None:
        """Kill one while business processes drain that have slow handlers of its clients."""
        victim = await self._a_gateway()
        before = set(descendants(self._service.pid))
        known = {bird.pid for bird in self._birds.birds}
        self._service.signal(signal.SIGUSR1)
        await self._birds.until(lambda: bool(set(descendants(self._service.pid)) - before))
        self._slow_down()
        # A client was handed over.
        await self._birds.until(lambda: any(bird.pid not in known for bird in self._birds.birds))
        os.kill(victim, signal.SIGKILL)
        await asyncio.to_thread(self._service.wait_for, "INFO reloaded")

    async def stop_a_gateway(self) -> None:
        """Stop one for so long that it hears nobody, and nobody hears it."""
        victim = await self._a_gateway()
        os.kill(victim, signal.SIGSTOP)
        await self._birds.pause(STOPPED)
        os.kill(victim, signal.SIGCONT)

    async def kill_the_broker(self) -> None:
        """Kill what connects the processes; it is there again at once, or soon."""
        if self._broker is None:
            known = await asyncio.to_thread(self._service.pids)
            [router] = set(descendants(self._service.pid)) - set(known)
            os.kill(router, signal.SIGKILL)
        else:
            self._broker.kill()
            await self._birds.pause(1.0)
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
        for bird in self._birds.birds[::3]:
            if not bird.is_lost:
                bird.say(f"slow {SLOW}")


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
    async with flock(folder, service.port, count=COUNT) as birds:
        chaos = Chaos(service, broker, birds)
        await chaos.happen()
        gone = chaos.gone
        account = await birds.settle()
        await birds.until(lambda: len(ends(folder)) >= len(gone))

        assert (account.lost, account.disordered, account.repeated) == (0, 0, 0)
        handled = birds.handled()
        for bird in gone:
            numbers = handled.get(bird.name, [])
            # Of a connection that ends, the last messages may not have arrived.
            assert numbers == list(range(1, len(numbers) + 1)), bird.name
        for bird in birds.all_there_were:
            assert bird.answered == sorted(set(bird.answered)), bird.name
        assert ends(folder) == Counter(bird.client_id for bird in gone)
        assert len(gone) > COUNT
    await birds.until(lambda: len(ends(folder)) >= len(birds.all_there_were))
    assert ends(folder) == Counter(bird.client_id for bird in birds.all_there_were)


def ends(folder: Path) -> Counter[str]:
    """Tell whose end the application was told, and how often."""
    return Counter(entry.client_id for entry in journal(folder) if entry.kind == "close")
