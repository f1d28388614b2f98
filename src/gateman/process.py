"""One process that serves declared workers: the event loop, signals, the end."""

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from .errors import ExitCode
from .listen import ListenAddress
from .log import Sampled, logger
from .net import sockets as listening
from .service import Service

# RFC 6455, section 7.4.1: an endpoint is going away.
_GOING_AWAY = (1001, "server is shutting down")

_FORMAT = "%(asctime)s pid:%(process)d %(levelname)s %(message)s"


def run(addresses: Sequence[ListenAddress], make: Sequence[Callable[[], Service]]) -> ExitCode:
    """
    Serve until a signal ends it.

    Args:
        addresses: Where each worker listens.
        make: Makes each worker's service; called on the event loop.

    Returns:
        What to tell the shell.

    Raises:
        ConfigError: An address cannot be listened on; then nothing listens.
    """
    _log_to_stderr()
    _allow_open_files()
    bound: list[list[socket.socket]] = []
    try:
        for address in addresses:
            bound.append(listening.bind(address))  # noqa: PERF401 - so that a part is released
        return asyncio.run(_until_signalled(bound, make))
    finally:
        for sockets in bound:
            listening.release(sockets)


async def _until_signalled(
    bound: Sequence[Sequence[socket.socket]], make: Sequence[Callable[[], Service]]
) -> ExitCode:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    starting = asyncio.current_task()

    def stop() -> None:
        nonlocal starting
        stopping.set()
        if starting is not None:
            # on_worker_start may take its time, and need not end by itself.
            starting.cancel()
            starting = None

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        async with serving(bound, make):
            starting = None
            await stopping.wait()
            logger.info("stopping")
    except _StartFailedError as error:
        logger.error("%s: on_worker_start failed", error.service, exc_info=error.__cause__)
        return ExitCode.CRASHED
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
    logger.info("stopped")
    return ExitCode.STOPPED


class _StartFailedError(Exception):
    """``on_worker_start`` raised; the cause is what it raised."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.service = service


@contextlib.asynccontextmanager
async def serving(
    bound: Sequence[Sequence[socket.socket]], make: Sequence[Callable[[], Service]]
) -> AsyncIterator[list[Service]]:
    """
    Serve while the body of an ``async with`` runs, and stop in order behind it.

    Args:
        bound: For each worker, its listening sockets; they stay the caller's.
        make: Makes each worker's service.

    Yields:
        The services.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_ExceptionLog())
    services: list[Service] = []
    try:
        for sockets, factory in zip(bound, make, strict=True):
            service = factory()
            try:
                await service.start(sockets)
            except Exception as error:
                raise _StartFailedError(service) from error
            services.append(service)
            _announce(service, sockets)
        yield services
    finally:
        await asyncio.gather(*(service.stop(*_GOING_AWAY) for service in services))


def _announce(service: Service, sockets: Sequence[socket.socket]) -> None:
    scheme = "ws" if service.settings.contexts is None else "wss"
    for sock in sockets:
        name = sock.getsockname()
        if isinstance(name, tuple):
            host = f"[{name[0]}]" if ":" in name[0] else name[0]
            logger.info("%s listens on %s://%s:%s", service, scheme, host, name[1])
        else:
            logger.info("%s listens on the unix socket %s", service, name)
    if service.settings.contexts is not None:
        for warning in service.settings.contexts.warnings:
            logger.warning("%s: %s", service, warning)


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
        line = self._sampled.line(message, message, loop.time())
        if line is not None:
            is_instance = isinstance(exception, BaseException)
            logger.error(line, exc_info=exception if is_instance else None)


def _log_to_stderr() -> None:
    """Write lines for people, unless the application has set up logging itself."""
    if logging.getLogger().handlers or logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _allow_open_files() -> None:
    """Use the hard limit on open files; the soft one, often 1024, is for select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS refuses what its kern.maxfilesperproc does not allow; then it stays as it was.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
