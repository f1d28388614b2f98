"""A server whose admission counts must be zero in the end, however its connections ended."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from gateman.net.admission import Admission
from gateman.net.handshake_config import HandshakeConfig

from .loop import eventually
from .server import Server, serve


def admission(server: Server) -> Admission:
    """
    Give the counts of a server.

    Args:
        server: The server.

    Returns:
        Its counts.
    """
    return handshake_config(server).admission


def handshake_config(server: Server) -> HandshakeConfig:
    """Give what the handshakes of a server share."""
    maker = server.service._maker  # noqa: SLF001 - what no operator needs to see
    assert maker is not None
    assert maker.config is not None
    return maker.config


class Waiting(NamedTuple):
    """What waits for callbacks that run."""

    connections: int
    tasks: int
    messages: int


def waiting(server: Server) -> Waiting:
    """Count what waits for callbacks."""
    queues = server.service._callback_runner._queues  # noqa: SLF001 - as above
    by_connection, tasks = queues.by_owner, queues._tasks  # noqa: SLF001 - as above
    messages = sum(len(queue.items) for queue in by_connection.values())
    return Waiting(len(by_connection), len(tasks), messages)


@asynccontextmanager
async def serve_counted(listen: str | None = None, **declared: Any) -> AsyncIterator[Server]:
    """
    Serve as :func:`serve` does, and fail when a connection is still counted behind the block.

    Args:
        listen: The address; ``None`` for a free port on loopback.
        declared: As for ``serve``.

    Yields:
        The server.
    """
    async with serve(listen, **declared) as server:
        yield server
    counts = admission(server)
    await eventually(lambda: counts.count == 0)
    assert counts.address_count == 0
