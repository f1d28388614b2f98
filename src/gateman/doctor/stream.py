"""One TCP connection of a probe, with TLS if asked for; every wait has the probe's deadline."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from .target import Route

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Opened = AbstractAsyncContextManager[Stream]


@asynccontextmanager
async def opened(
    address: str,
    port: int,
    *,
    context: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> AsyncIterator[Stream]:
    """Connect, and abort the connection at the end; the caller sets the deadline."""
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


def unverified(*, alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
    """Make a context that takes any certificate, so that the look goes on behind a faulty one."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    return context


def follow(route: Route, *, alpn: tuple[str, ...] = ("http/1.1",)) -> Opened:
    """Connect as a route says, whatever its certificate; else as :func:`opened`."""
    context = unverified(alpn=alpn) if route.is_tls else None
    return opened(route.address, route.port, context=context, server_name=route.server_name)
