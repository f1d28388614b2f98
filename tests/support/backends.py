"""
Servers behind a proxy that fail in a way of their own, on free loopback ports.

They run in a thread with a loop of its own, so that a module can share them.
"""

import asyncio
import base64
import hashlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeAlias

from .deadlines import TIMEOUT

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Serve = Callable[[Reader, Writer], Awaitable[None]]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def hang(reader: Reader, _writer: Writer) -> None:
    """Read, and never answer."""
    while await reader.read(1 << 16):
        pass


async def leave(reader: Reader, _writer: Writer) -> None:
    """End the connection in place of an answer."""
    await reader.readuntil(b"\r\n\r\n")


async def ssh(reader: Reader, writer: Writer) -> None:
    """Greet as an SSH server does."""
    writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
    await reader.read(1 << 16)


def says(answer: bytes) -> Serve:
    """Give the same answer to all; ``{accept}`` in it is that of the request's key."""

    async def serve(reader: Reader, writer: Writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = next(
            (
                line.partition(b":")[2].strip()
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"sec-websocket-key:")
            ),
            b"",
        )
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        writer.write(answer.replace(b"{accept}", accept))
        await writer.drain()
        if b" 101 " in answer[:20]:
            while await reader.read(1 << 16):
                pass

    return serve


@contextmanager
def backends(**serving: Serve) -> Iterator[dict[str, int]]:
    """Run servers; give the port of each."""
    ports: dict[str, int] = {}
    ready = threading.Event()
    loop = asyncio.new_event_loop()

    async def run(stop: asyncio.Event) -> None:
        servers = []
        for name, serve in serving.items():
            server = await asyncio.start_server(_closing(serve), "127.0.0.1", 0)
            ports[name] = server.sockets[0].getsockname()[1]
            servers.append(server)
        ready.set()
        await stop.wait()
        for server in servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(stop),), daemon=True)
    thread.start()
    assert ready.wait(TIMEOUT)
    try:
        yield ports
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(TIMEOUT)
        loop.close()


def _closing(serve: Serve) -> Serve:
    async def handle(reader: Reader, writer: Writer) -> None:
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()

    return handle
