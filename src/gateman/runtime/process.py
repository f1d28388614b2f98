"""One process that serves: what its event loop needs, from the start to the end."""

import asyncio
import contextlib
import resource
import selectors
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

from ..bus import Bus
from ..cluster.hub import Hub
from ..cluster.hub import hub as process_hub
from ..cluster.membership import ConnectionMembership
from ..cluster.services import Outline
from ..log import RateLimitedLogger
from ..tls.contexts import TlsContexts
from .timer import timers
from .worker_service import WorkerService

# RFC 6455, section 7.4.1: an endpoint is going away.
_GOING_AWAY = (1001, "server is shutting down")

# What asyncio names where a task or a callback has failed, and transports do not.
_APPLICATIONS = frozenset({"future", "task", "handle", "asyncgen"})


class AnyService(Protocol):
    """One declared worker, of whatever kind, served by this process."""

    @property
    def counts(self) -> Counter[str]:
        """How often each cause that an operator may ask for has happened."""

    @property
    def contexts(self) -> TlsContexts | None:
        """Its TLS contexts; ``None`` if it has none."""

    @property
    def present_count(self) -> int:
        """Connections that it holds."""

    @property
    def message_count(self) -> int:
        """Messages received, over all connections that there ever were."""

    @property
    def dropped_count(self) -> int:
        """Messages that were not sent, because their peer read too slowly."""

    async def start(
        self, sockets: Sequence[socket.socket], membership: ConnectionMembership
    ) -> None:
        """Run ``on_worker_start``, and then serve."""

    def accept(self, sockets: Collection[socket.socket]) -> None:
        """Accept on exactly these sockets from now on."""

    async def drain(
        self, code: int, reason: str, *, window: float, may_stay: Callable[[], bool] = ...
    ) -> None:
        """Take nothing new, and part from what is there bit by bit."""

    async def stop(self, code: int, reason: str) -> None:
        """Run ``on_worker_stop``, and end everything, within ``timeouts.shutdown``."""

    def describe(self, limit: int) -> list[dict[str, Any]]:
        """List connections for an operator."""

    def __str__(self) -> str:
        """Name it for a log line."""


_: type[AnyService] = WorkerService

_S = TypeVar("_S", bound=AnyService)


class StartFailed(Exception):
    """``on_worker_start`` raised; the cause is what it raised."""

    def __init__(self, service: AnyService) -> None:
        super().__init__(service)
        self.service = service


@contextlib.asynccontextmanager
async def serving(
    bound: Sequence[Sequence[socket.socket]],
    make: Sequence[Callable[[], _S]],
    *,
    bus: Bus | None = None,
    hub: Hub = process_hub,
    has_clients: bool = True,
    declared: Outline = (),
) -> AsyncIterator[list[_S]]:
    """
    Serve while the body of an ``async with`` runs, and stop in order behind it.

    The timers of the process begin when everything serves, and end first.

    Raises:
        BusError: The bus is not there, or refuses us.
        StartFailed: An ``on_worker_start`` raised; nothing is served then.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_ExceptionLog())
    services: list[_S] = []
    await hub.start(bus, has_clients=has_clients, service=declared)
    try:
        for number, (sockets, factory) in enumerate(zip(bound, make, strict=True)):
            service = factory()
            try:
                await service.start(sockets, ConnectionMembership(hub.local_node, number))
            except Exception as error:
                raise StartFailed(service) from error
            services.append(service)
        timers.start()
        yield services
    finally:
        await timers.stop()
        await asyncio.gather(*(service.stop(*_GOING_AWAY) for service in services))
        await hub.stop()


class _ExceptionLog:
    """
    The loop's exception handler: one line per place and interval, whatever peers do.

    aiofastnet reports a peer that vanishes in its TLS handshake through it, with a class in
    place of an exception, of which asyncio's own handler makes 35 lines each.
    """

    def __init__(self) -> None:
        self._rate_limited = RateLimitedLogger()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exception = context.get("exception")
        is_transports = not _APPLICATIONS.intersection(context)
        if is_transports and (
            exception is ConnectionResetError or isinstance(exception, ConnectionError)
        ):
            return
        error = exception if isinstance(exception, BaseException) else None
        message = str(context.get("message", "an error on the event loop"))
        # asyncio's go on with a callback's arguments, which are others each time.
        cause = message.partition("(")[0] if error is None else error
        self._rate_limited.error(message, cause, loop.time())


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make the event loop of a process."""
    loop = asyncio.new_event_loop()
    if type(loop) is not asyncio.SelectorEventLoop or not hasattr(selectors, "EpollSelector"):
        return loop
    loop.close()
    # Not before: without epoll it cannot be imported.
    from ..net.event_loop import EventLoop

    return EventLoop()


def allow_open_files() -> None:
    """Use the hard limit on open files; the soft one, often 1024, is for select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS refuses what its kern.maxfilesperproc does not allow; then it stays as it was.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
