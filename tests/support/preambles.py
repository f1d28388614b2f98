"""
Connections that begin with a PROXY header, as a proxy would make them.

The header goes out in one segment with what follows, in a segment of its own, or byte by byte.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

from .deadlines import TIMEOUT
from .raw import RawClient
from .server import Server

V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPECIFIED, TCP4, TCP6, UNIX_STREAM = 0x00, 0x11, 0x21, 0x31


def v1(source: str = "203.0.113.7", port: int = 50312) -> bytes:
    """
    Write a header of version 1.

    Args:
        source: The client's address.
        port: The client's port.

    Returns:
        The line.
    """
    if ":" in source:
        return f"PROXY TCP6 {source} 2001:db8::2 {port} 443\r\n".encode()
    return f"PROXY TCP4 {source} 198.51.100.2 {port} 443\r\n".encode()


def v2(source: str = "203.0.113.7", port: int = 50312, tlvs: bytes = b"") -> bytes:
    """
    Write a header of version 2 for a client.

    Args:
        source: The client's address.
        port: The client's port.
        tlvs: What follows the addresses.

    Returns:
        The header.
    """
    address = ip_address(source)
    ours = ip_address("198.51.100.2" if address.version == 4 else "2001:db8::2")
    block = address.packed + ours.packed + struct.pack("!HH", port, 443) + tlvs
    return v2_header(PROXY, TCP4 if address.version == 4 else TCP6, block)


def v2_header(command: int, family: int, block: bytes = b"", *, size: int | None = None) -> bytes:
    """
    Write a header of version 2, right or wrong.

    Args:
        command: Its 13th byte: version and command.
        family: Its 14th byte: family and transport.
        block: What follows.
        size: The size to declare; ``None`` for that of the block.

    Returns:
        The header.
    """
    declared = len(block) if size is None else size
    return V2_SIGNATURE + bytes([command, family]) + struct.pack("!H", declared) + block


def tlv(kind: int, value: bytes) -> bytes:
    """
    Write a TLV.

    Args:
        kind: Its type.
        value: Its value.

    Returns:
        The bytes.
    """
    return struct.pack("!BH", kind, len(value)) + value


async def dial(address: tuple[str, int] | Path, *, source: str | None = None) -> socket.socket:
    """
    Connect.

    Args:
        address: Where to.
        source: The address to connect from, such as ``"127.0.0.2"``; ``None`` for the usual.

    Returns:
        A non-blocking socket.
    """
    if isinstance(address, Path):
        sock, target = socket.socket(socket.AF_UNIX), str(address)
    else:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock, target = socket.socket(family), address  # type: ignore[assignment]
    sock.settimeout(0)
    try:
        if source is not None:
            sock.bind((source, 0))
        async with asyncio.timeout(TIMEOUT):
            await asyncio.get_running_loop().sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


@asynccontextmanager
async def arriving(
    server: Server,
    preamble: bytes = b"",
    *,
    source: str | None = None,
    tls: bool = True,
    is_joined: bool = False,
) -> AsyncIterator[RawClient]:
    """
    Connect, send a preamble, and do the TLS handshake if the server does TLS.

    Args:
        server: Where to.
        preamble: The first bytes of the connection.
        source: The address to connect from; ``None`` for the usual.
        tls: ``False`` for no TLS on a TLS port.
        is_joined: Whether the preamble waits for what follows it, and goes out in its segment.

    Yields:
        The client; behind the block its connection has ended.
    """
    sock = await dial(server.address, source=source)
    if preamble:
        assert sock.send(preamble, socket.MSG_MORE if is_joined else 0) == len(preamble)
    context = server.tls if tls else None
    async with asyncio.timeout(TIMEOUT):
        client = RawClient(
            *await asyncio.open_connection(
                sock=sock, ssl=context, server_hostname=None if context is None else "localhost"
            )
        )
    try:
        yield client
    finally:
        await client.close()
