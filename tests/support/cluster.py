"""Several nodes in one process: each a hub and a server of its own, connected by a bus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection

from gateman import Connection
from gateman.bus import Bus
from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.cluster.hub import Hub

from .deadlines import TIMEOUT
from .loop import eventually
from .server import Server, serve


@dataclass
class Node:
    """
    One process of a cluster, as far as its hub knows.

    Attributes:
        hub: Its hub.
        server: Where its clients connect.
        bus: What connects it with others; ``None`` if it is alone.
        connections: The server's side of its clients, in the order in which they came.
    """

    hub: Hub
    server: Server
    bus: Bus | None
    connections: list[Connection]
    _stack: AsyncExitStack

    async def client(self, *groups: str, uid: str | None = None) -> "Client":
        """
        Connect a client.

        Args:
            groups: What it is put into; in effect everywhere when this returns.
            uid: Who it is; ``None`` for nobody.

        Returns:
            The client.
        """
        place = len(self.connections)
        socket = await self._stack.enter_async_context(self.server.client())
        await eventually(lambda: len(self.connections) > place)
        connection = self.connections[place]
        for group in groups:
            await connection.join(group)
        if uid is not None:
            await connection.bind(uid)
        return Client(socket, connection)


@dataclass
class Client:
    """
    Both ends of a client.

    Attributes:
        socket: Its end.
        connection: The server's.
    """

    socket: ClientConnection
    connection: Connection

    @property
    def id(self) -> str:
        """Its client id."""
        return self.connection.client_id

    async def read(self, count: int = 1) -> list[str | bytes]:
        """Read so many messages."""
        async with asyncio.timeout(TIMEOUT):
            return [await self.socket.recv() for _ in range(count)]

    async def read_to(self, last: str | bytes) -> list[str | bytes]:
        """Read all messages before a certain one."""
        found: list[str | bytes] = []
        async with asyncio.timeout(TIMEOUT):
            while (message := await self.socket.recv()) != last:
                found.append(message)
        return found


class Deaf(MemoryBus):
    """
    A bus that loses what is for it, without noticing, as long as it is told to.

    Attributes:
        is_deaf: Whether it does.
    """

    is_deaf = False

    def put(self, subject: str, payload: bytes) -> None:
        """Take a message, or not."""
        if not self.is_deaf:
            super().put(subject, payload)


@asynccontextmanager
async def cluster(
    count: int = 2, make_bus: Callable[[], Bus | None] | None = None, **declared: Any
) -> AsyncIterator[list[Node]]:
    """
    Run nodes, to the end of the block.

    Args:
        count: How many.
        make_bus: Makes the bus of each; by default they share a broker in this process.
        declared: Options and callbacks of their workers.

    Yields:
        The nodes, who know each other.
    """
    broker = MemoryBroker()
    async with AsyncExitStack() as stack:
        nodes = []
        for _ in range(count):
            bus = MemoryBus(broker=broker) if make_bus is None else make_bus()
            nodes.append(await stack.enter_async_context(node(bus, **declared)))
        for one in nodes:
            await eventually(lambda one=one: len(one.hub.nodes) == count - 1)  # type: ignore[misc]
        yield nodes


@asynccontextmanager
async def node(bus: Bus | None, **declared: Any) -> AsyncIterator[Node]:
    """
    Run one node, to the end of the block.

    Args:
        bus: What connects it with others; ``None`` for nothing.
        declared: Options and callbacks of its worker.

    Yields:
        The node.
    """
    connections: list[Connection] = []
    hub = Hub()
    # A busy machine is no reason for an incomplete answer.
    hub.answer_timeout = TIMEOUT
    on_open = declared.pop("on_open", None)

    def opened(connection: Connection) -> None:
        if on_open is not None:
            on_open(connection)
        connections.append(connection)

    async with (
        serve(bus=bus, hub=hub, on_open=opened, **declared) as server,
        AsyncExitStack() as stack,
    ):
        yield Node(hub, server, bus, connections, stack)


@asynccontextmanager
async def alone(**declared: Any) -> AsyncIterator[Node]:
    """
    Run a node without any bus, as a service of one process does.

    Args:
        declared: Options and callbacks of its worker.

    Yields:
        The node.
    """
    async with node(None, **declared) as one:
        yield one


def deaf_buses(broker: MemoryBroker) -> tuple[list[Deaf], Any]:
    """Make what makes buses that can be deaf, and a list of those that were made."""
    made: list[Deaf] = []

    def make() -> Bus:
        made.append(Deaf(broker=broker))
        return made[-1]

    return made, make
