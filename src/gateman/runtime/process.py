"""Serves declared workers in one process: start, stop, event loop and its exception handler."""

import asyncio
import contextlib
import resource
import selectors
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..bus import Bus
from ..cluster.hub import Hub
from ..cluster.hub import hub as process_hub
from ..cluster.membership import ConnectionMembership
from ..cluster.node_channels import NOTHING_KEPT, Kept
from ..cluster.services import Outline
from ..log import RateLimitedLogger
from ..websocket.close import GOING_AWAY
from .timer import timers
from .worker_service import WorkerService

if TYPE_CHECKING:
    from ..tls.contexts import TlsContexts

# Keys that asyncio sets when a task or a callback fails, and never for a transport.
_APPLICATIONS = frozenset({"future", "task", "handle", "asyncgen"})


ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]
"""As ``loop.set_exception_handler`` takes it."""


class AnyService(Protocol):
    """Serves one declared worker, of any kind, in this process."""

    @property
    def counts(self) -> Counter[str]:
        """How often each cause in ``gateman status`` has happened."""

    @property
    def contexts(self) -> "TlsContexts | None":
        """``None`` without TLS."""

    @property
    def present_count(self) -> int:
        """Connections that have a transport, open or not."""

    @property
    def message_count(self) -> int:
        """Messages received by all connections since the start."""

    async def start(
        self, sockets: Sequence[socket.socket], membership: ConnectionMembership
    ) -> None:
        """Run ``on_worker_start``, and then serve."""

    def accept(self, sockets: Collection[socket.socket]) -> None:
        """Accept on exactly these sockets from now on."""

    async def drain(
        self, code: int, reason: str, *, window: float, may_stay: Callable[[], bool] = ...
    ) -> None:
        """Refuse new clients, and close the connections in steps."""

    async def stop(self, code: int, reason: str) -> None:
        """Close everything and run ``on_worker_stop``, within ``timeouts.shutdown``."""

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
    kept: Kept = NOTHING_KEPT,
    exception_handler: ExceptionHandler | None = None,
) -> AsyncIterator[list[_S]]:
    """Serve while the body runs; raises BusError, or StartFailed for an ``on_worker_start``."""
    loop = asyncio.get_running_loop()
    # Errors that are a peer's are not passed to the exception handler.
    loop.set_exception_handler(_ExceptionLog(exception_handler))
    services: list[_S] = []
    await hub.start(bus, has_clients=has_clients, service=declared, kept=kept)
    try:
        for number, (sockets, factory) in enumerate(zip(bound, make, strict=True)):
            service = factory()
            try:
                await service.start(sockets, ConnectionMembership(hub.local_node, number))
            except Exception as error:
                raise StartFailed(service) from error
            services.append(service)
        # After all services have started; the timers stop before them.
        timers.start(hub.local_node.leases)
        yield services
    finally:
        await _to_its_end(_stop(services, hub))


async def _stop(services: Collection[AnyService], hub: Hub) -> None:
    await timers.stop()
    await asyncio.gather(*(service.stop(*GOING_AWAY) for service in services))
    await hub.stop()


async def _to_its_end(cleanup: Coroutine[Any, Any, None]) -> None:
    """Clean up; a cancellation meanwhile is raised when that is done, as it bounds its own time."""
    # A process whose on_worker_start fails cleans up while its master tells it to end.
    task = asyncio.get_running_loop().create_task(cleanup)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


class _ExceptionLog:
    """The loop's exception handler: one line per source location and interval."""

    def __init__(self, others: ExceptionHandler | None) -> None:
        self._rate_limited = RateLimitedLogger()
        self._others = others

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exception = context.get("exception")
        # aiofastnet reports a class in place of an exception for each peer that disappears during
        # its TLS handshake. asyncio's own handler writes 35 lines for each.
        is_transports = not _APPLICATIONS.intersection(context)
        if is_transports and (
            exception is ConnectionResetError or isinstance(exception, ConnectionError)
        ):
            return
        if self._others is not None:
            self._others(loop, context)
            return
        error = exception if isinstance(exception, BaseException) else None
        message = str(context.get("message", "an error on the event loop"))
        # asyncio's messages end with a callback's arguments, which differ each time.
        cause = message.partition("(")[0] if error is None else error
        self._rate_limited.error(message, cause, loop.time())


def new_event_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    if type(loop) is not asyncio.SelectorEventLoop or not hasattr(selectors, "EpollSelector"):
        return loop
    loop.close()
    # Imported here: it cannot be imported where there is no epoll.
    from ..net.event_loop import EventLoop

    return EventLoop()


def allow_open_files() -> None:
    """Use the hard limit on open files; the soft one, often 1024, is for select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS refuses more than its kern.maxfilesperproc; the limit does not change then.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
