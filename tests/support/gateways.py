"""Gateways and business workers in one process: each with a hub of its own, connected by a bus."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection

from gateman import BusinessWorker, Gateway
from gateman.bus.memory import MemoryBroker
from gateman.cluster.channels import node_channel, subject_of
from gateman.cluster.envelope import ExtensionMessage as Envelope
from gateman.cluster.envelope import encode as encode_envelope
from gateman.cluster.hub import Hub
from gateman.cluster.names import ClientId, NodeId
from gateman.config.callbacks import BUSINESS_CLIENT_SIGNATURES, BUSINESS_SIGNATURES
from gateman.config.channels import kept_by
from gateman.gateway.business_service import BusinessService
from gateman.gateway.client_context import ClientContext
from gateman.gateway.dispatch import Dispatch
from gateman.gateway.factory import service_maker
from gateman.gateway.gateway_service import GatewayService
from gateman.gateway.protocol import Packet, encode
from gateman.gateway.receive_window import ReceiveWindow
from gateman.request import Request
from gateman.runtime.process import serving

from .cluster import Deaf
from .deadlines import TIMEOUT
from .loop import eventually
from .server import TIMEOUTS, Journal, Server, serve_made

_CALLBACKS = BUSINESS_SIGNATURES | BUSINESS_CLIENT_SIGNATURES

_NOW = 1.8e9  # For certificates, of which there are none.


@dataclass
class GatewayNode:
    """
    A gateway process, as far as others know.

    Attributes:
        server: Where its clients connect.
        service: It, at work.
        hub: Its hub.
        bus: What connects it with others.
    """

    server: Server
    service: GatewayService
    hub: Hub
    bus: Deaf
    _stack: AsyncExitStack
    _clients: AsyncExitStack

    @property
    def node(self) -> NodeId:
        """Its name."""
        return self.hub.node

    async def client(self, path: str = "", **options: Any) -> ClientConnection:
        """Connect a client, which stays longer than any server."""
        return await self._clients.enter_async_context(self.server.client(path, **options))

    async def newcomer(self) -> tuple[ClientConnection, ClientId]:
        """Connect a client, and find out who it is."""
        before = set(self.service.connections)
        client = await self.client()
        [number] = set(self.service.connections) - before
        return client, ClientId(self.service.connections[number].client_id)

    @property
    def dispatch(self) -> Dispatch:
        """Its assignment of clients to business processes."""
        return self.service._dispatch  # noqa: SLF001

    @property
    def pending_count(self) -> int:
        """How many events of its clients are not done."""
        return self.service._waiting_count  # noqa: SLF001

    async def settle(self) -> None:
        """Wait until everything is done, and known to be."""
        await eventually(lambda: not self.pending_count)

    async def stop(self) -> None:
        """Stop it in order, with all clients that it has."""
        await self._stack.aclose()

    async def kill(self) -> None:
        """Cut it off from the others, as its death would."""
        await self.bus.stop()


@dataclass
class BusinessNode:
    """
    A business process.

    Attributes:
        service: It, at work.
        hub: Its hub.
        bus: What connects it with others.
        journal: What its handlers were told; the client's id is the first of each.
    """

    service: BusinessService
    hub: Hub
    bus: Deaf
    journal: Journal
    _stack: AsyncExitStack

    @property
    def windows(self) -> dict[NodeId, ReceiveWindow]:
        """What it receives of each gateway."""
        gateways = self.service._gateways  # noqa: SLF001
        return {name: gateway.window for name, gateway in gateways.items()}

    @property
    def clients(self) -> dict[ClientId, ClientContext]:
        """The clients that are assigned to it."""
        return self.service._runner.clients  # noqa: SLF001

    async def stop(self) -> None:
        """Let it leave and stop, in order."""
        await self._stack.aclose()

    async def kill(self) -> None:
        """Cut it off, as its death would."""
        await self.bus.stop()


class Site:
    """
    All of it.

    Attributes:
        broker: What connects them; can be taken away.
        hub: Of a program that is neither.
        journal: What the handlers of all business processes were told.
    """

    def __init__(self, stack: AsyncExitStack) -> None:
        self.broker = MemoryBroker()
        self.hub = Hub()
        self.journal = Journal()
        self._stack = stack
        self._clients = AsyncExitStack()
        stack.push_async_callback(self._clients.aclose)

    async def gateway(
        self,
        listen: str = "websocket://127.0.0.1:0",
        *,
        timeouts: dict[str, float | None] | None = None,
        errors: Sequence[str] = (),
        **options: Any,
    ) -> GatewayNode:
        """Start a gateway."""
        gateway = Gateway(listen, timeouts={**TIMEOUTS, **(timeouts or {})})
        for name, value in options.items():
            setattr(gateway, name, value)
        bus, hub = Deaf(broker=self.broker), Hub()
        made: list[GatewayService] = []

        def make() -> GatewayService:
            service = service_maker(gateway, now=_NOW)()
            assert isinstance(service, GatewayService)
            made.append(service)
            return service

        stack = await self._stack.enter_async_context(AsyncExitStack())
        server = await stack.enter_async_context(
            serve_made(
                gateway,
                make,
                bus=bus,
                hub=hub,
                errors=errors,
                kept=kept_by([gateway]),
            )
        )
        return GatewayNode(server, made[0], hub, bus, stack, self._clients)

    async def business(self, hub: Hub | None = None, **declared: Any) -> BusinessNode:
        """Start a business process, whose callbacks take note of what they are told by default."""
        journal = Journal()
        options = {
            "timeouts": {"shutdown": 0.5},
            **{name: declared[name] for name in declared if name not in _CALLBACKS},
        }
        business = BusinessWorker(**options)
        for name, function in {**self._callbacks(journal), **declared}.items():
            if name in _CALLBACKS:
                setattr(business, name, function)
        make = service_maker(business, now=_NOW)
        bus, hub = Deaf(broker=self.broker), hub or Hub()
        stack = await self._stack.enter_async_context(AsyncExitStack())
        [service] = await stack.enter_async_context(
            serving([[]], [make], bus=bus, hub=hub, has_clients=False)
        )
        assert isinstance(service, BusinessService)
        return BusinessNode(service, hub, bus, journal, stack)

    def _callbacks(self, journal: Journal) -> dict[str, Callable[..., object]]:
        def note(kind: str, *args: object) -> None:
            for one in (journal, self.journal):
                one.note(kind, *args)

        def connect(client_id: ClientId, request: Request) -> None:
            note("connect", client_id, request.path)

        return {
            "on_websocket_connect": connect,
            "on_open": lambda client_id: note("open", client_id),
            "on_message": lambda client_id, message: note("message", client_id, message),
            "on_close": lambda client_id, code, reason: note("close", client_id, code, reason),
        }

    def forge(self, source: NodeId, target: NodeId, packet: Packet | bytes) -> None:
        """Send a process what another one has never sent."""
        data = packet if isinstance(packet, bytes) else encode(packet)
        bus = self.hub.local_node.bus
        assert bus is not None
        bus.publish(subject_of(node_channel(target)), encode_envelope(Envelope(source, data)))


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """Have a bus for gateways and business workers, which end with the block."""
    async with AsyncExitStack() as stack:
        made = Site(stack)
        await made.hub.start(Deaf(broker=made.broker), has_clients=False)
        stack.push_async_callback(made.hub.stop)
        yield made


async def read(client: ClientConnection, count: int = 1) -> list[str | bytes]:
    """Read messages."""
    async with asyncio.timeout(TIMEOUT):
        return [await client.recv() for _ in range(count)]
