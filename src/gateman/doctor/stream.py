"""One TCP connection of a probe, with TLS if asked for; every wait has the probe's deadline."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def opened(
    address: str,
    port: int,
    *,
    context: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> AsyncIterator[Stream]:
    """
    Connect, and abort the connection at the end; the caller sets the deadline.

    Raises:
        OSError: The connection or the TLS handshake failed.
    """
    reader, writer = await asyncio.open_connection(
        address,
        port,
        ssl=context,
        server_hostname=None if context is None else server_name or "",
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
