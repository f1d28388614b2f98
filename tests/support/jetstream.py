"""Buses on a NATS server with JetStream, and an operator who changes its streams."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import nats
import nats.errors
from nats.aio.client import Client

from gateman.bus.base import Bus
from gateman.bus.nats import nats_bus
from gateman.errors import BusError

from .nats import jetstream, nats_server

T = TypeVar("T")

LOG = "gateman.test.=log.room"


@asynccontextmanager
async def served(
    folder: Path, count: int, config: str = "", *, command: str = ""
) -> AsyncIterator[list[Bus]]:
    """Run a server, Debian's if nothing else is said, and buses on it."""
    with nats_server(folder, config or jetstream(folder), command=command) as server:
        buses: list[Bus] = [nats_bus(server.url) for _ in range(count)]
        for bus in buses:
            await bus.start()
        try:
            yield buses
        finally:
            for bus in buses:
                await bus.stop()


async def operator(bus: Bus) -> Client:
    """Connect an independent client to the server of a bus."""
    return await nats.connect(bus.url.partition("?")[0])


async def ask(client: Client, verb: str, **request: object) -> dict[str, object]:
    """Ask JetStream something as an operator would."""
    reply = await client.request(f"$JS.API.{verb}", json.dumps(request).encode(), timeout=5)
    answer: dict[str, object] = json.loads(reply.data)
    assert "error" not in answer, answer
    return answer


async def leader_of(client: Client) -> str:
    """Wait until the other two servers are up to date; return who leads the stream."""
    while True:
        with contextlib.suppress(nats.errors.Error, AssertionError):
            match await ask(client, "STREAM.INFO.gateman-test"):
                case {"cluster": {"leader": str(leader), "replicas": [one, two]}}:
                    if one["current"] and two["current"]:
                        return leader
        await asyncio.sleep(0.1)


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until the cluster has elected its leaders."""
    while True:
        try:
            return await attempt()
        except BusError:
            await asyncio.sleep(0.1)
