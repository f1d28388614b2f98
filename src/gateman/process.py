"""One process that serves: what its event loop needs, from the start to the end."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from .bus import Bus
from .cluster.here import Here
from .cluster.hub import Hub
from .cluster.hub import hub as process_hub
from .log import Sampled, logger
from .service import Service
from .timer import timers

# RFC 6455, section 7.4.1: an endpoint is going away.
_GOING_AWAY = (1001, "server is shutting down")


class StartFailed(Exception):
    """``on_worker_start`` raised; the cause is what it raised."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.service = service


@contextlib.asynccontextmanager
async def serving(
    bound: Sequence[Sequence[socket.socket]],
    make: Sequence[Callable[[], Service]],
    *,
    bus: Bus | None = None,
    hub: Hub = process_hub,
) -> AsyncIterator[list[Service]]:
    """
    Serve while the body of an ``async with`` runs, and stop in order behind it.

    The timers of the process begin when everything serves, and end first.

    Args:
        bound: For each worker, its listening sockets; they stay the caller's.
        make: Makes each worker's service.
        bus: What connects the hub with other processes; ``None`` if there are none.
        hub: The hub; it runs from before the first ``on_worker_start`` to the end.

    Yields:
        The services.

    Raises:
        BusError: The bus is not there, or refuses us.
        StartFailed: An ``on_worker_start`` raised; nothing is served then.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_ExceptionLog())
    services: list[Service] = []
    await hub.start(bus)
    try:
        for number, (sockets, factory) in enumerate(zip(bound, make, strict=True)):
            service = factory()
            try:
                await service.start(sockets, Here(hub.station, number))
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
    The loop's exception handler: one line per cause and interval, whatever peers do.

    aiofastnet reports a peer that vanishes in its TLS handshake through it, with a class in
    place of an exception, of which asyncio's own handler makes 35 lines each (engine.md).
    """

    def __init__(self) -> None:
        self._sampled = Sampled()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exception = context.get("exception")
        if exception is ConnectionResetError or isinstance(exception, ConnectionError):
            return
        message = str(context.get("message", "an error on the event loop"))
        # asyncio's go on with a callback's arguments, which are others each time.
        line = self._sampled.line(message.partition("(")[0], message, loop.time())
        if line is not None:
            is_instance = isinstance(exception, BaseException)
            logger.error(line, exc_info=exception if is_instance else None)


def allow_open_files() -> None:
    """Use the hard limit on open files; the soft one, often 1024, is for select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS refuses what its kern.maxfilesperproc does not allow; then it stays as it was.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
