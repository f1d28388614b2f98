"""A server of which every connection is counted out in the end, whatever became of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateman.net.admission import Admission

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
    return server.service._admission  # noqa: SLF001 - what no operator needs to see


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
