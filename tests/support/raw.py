"""
A client that can do everything wrong: any bytes, when and as slowly as the test likes.

What it reads, it reads with a deadline. For what well-behaved clients do there is ``websockets``.
"""

import asyncio
import contextlib
import http.client
import io
import socket
import ssl
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .deadlines import TIMEOUT

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The answer to KEY (RFC 6455, section 1.3)."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

EOF = "eof"
RESET = "reset"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x5a\xc3\x11\xf8",
    size: int | None = None,
) -> bytes:
    """
    Write a frame of a client, right or wrong.

    Args:
        opcode: 0 to 15.
        payload: Unmasked.
        fin: The first bit.
        rsv: The three reserved bits as a number.
        mask: 4 bytes; ``None`` for a frame that is not masked.
        size: The length to declare, in its shortest form; ``None`` for the payload's.

    Returns:
        The bytes.
    """
    declared = len(payload) if size is None else size
    head = bytes([fin << 7 | rsv << 4 | opcode])
    bit = 0 if mask is None else 0x80
    if declared < 126:
        head += bytes([bit | declared])
    elif declared < 65536:
        head += struct.pack("!BH", bit | 126, declared)
    else:
        head += struct.pack("!BQ", bit | 127, declared)
    if mask is None:
        return head + payload
    pad = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload) ^ int.from_bytes(pad)
    return head + mask + masked.to_bytes(len(payload))


def close_payload(code: int, reason: str = "") -> bytes:
    """
    Write what a Close frame carries.

    Args:
        code: Any 16 bits.
        reason: Text.

    Returns:
        The bytes.
    """
    return struct.pack("!H", code) + reason.encode()


def handshake(path: str = "/", headers: tuple[str, ...] = (), host: str = "localhost") -> bytes:
    """
    Write a good handshake.

    Args:
        path: The request target.
        headers: More lines.
        host: The Host field.

    Returns:
        The request head.
    """
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return request(*lines)


def request(*lines: str, end: str = "\r\n") -> bytes:
    """
    Write any request head.

    Args:
        lines: The request line, and the fields.
        end: What each of them ends in.

    Returns:
        The head, with its empty line.
    """
    return "".join(f"{line}{end}" for line in (*lines, "")).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that the server sent; servers never mask."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """
    An answer, as Python's own HTTP client understands it.

    Attributes:
        status: The status code.
        headers: The fields; of equal names the last.
        body: The body, whole.
    """

    status: int
    headers: dict[str, str]
    body: bytes


def parse_response(data: bytes, *, method: str = "GET") -> Response:
    """
    Parse an answer strictly: it is one response, and nothing behind it.

    Args:
        data: All that the server sent.
        method: Of the request that was answered.

    Returns:
        The answer.
    """
    wire = _Wire(data)
    parsed = http.client.HTTPResponse(wire, method=method)  # type: ignore[arg-type]
    parsed.begin()
    body = parsed.read()
    assert wire.file.read() == b"", "bytes behind the answer"
    headers = {name.lower(): value for name, value in parsed.getheaders()}
    if method != "HEAD" and parsed.status != 101:
        assert int(headers["content-length"]) == len(body)
    return Response(parsed.status, headers, body)


class _Wire:
    """What ``http.client`` takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self.file = _Unclosed(data)

    def makefile(self, _mode: str) -> io.BytesIO:
        return self.file


class _Unclosed(io.BytesIO):
    """Still readable when the response is over."""

    def close(self) -> None:
        pass


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int] | Path,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "localhost",
        receive_buffer: int | None = None,
    ) -> Self:
        """
        Connect, and do the TLS handshake.

        Args:
            address: Host and port, or a unix socket's path.
            tls: The context; ``None`` for no TLS.
            server_name: Whom to ask for and verify.
            receive_buffer: What the kernel may keep unread, in bytes; small ones make the
                server feel soon that nobody reads.

        Returns:
            The connection.
        """
        name = None if tls is None else server_name
        async with asyncio.timeout(TIMEOUT):
            if isinstance(address, Path):
                opened = asyncio.open_unix_connection(str(address), ssl=tls, server_hostname=name)
                return cls(*await opened)
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.settimeout(0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            try:
                await asyncio.get_running_loop().sock_connect(sock, address)
            except BaseException:
                sock.close()
                raise
            limit = receive_buffer or 1 << 16
            return cls(
                *await asyncio.open_connection(
                    sock=sock, ssl=tls, server_hostname=name, limit=limit
                )
            )

    # Sending.

    async def send(self, data: bytes) -> None:
        """Send bytes; they have left this process when it returns."""
        self.push(data)
        async with asyncio.timeout(TIMEOUT):
            # Not 0, at which TLS transports pause for ever.
            self._writer.transport.set_write_buffer_limits(high=1, low=0)
            await self._writer.drain()

    def push(self, data: bytes) -> None:
        """Send bytes, as far as the server takes them."""
        self._writer.write(data)

    async def send_frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        """Send a good frame."""
        await self.send(frame(opcode, payload, fin=fin))

    async def send_close(self, code: int = 1000, reason: str = "") -> None:
        """Send a good Close."""
        await self.send_frame(CLOSE, close_payload(code, reason))

    def end(self) -> None:
        """End our half of the TCP connection."""
        self._writer.write_eof()

    def reset(self) -> None:
        """End the TCP connection with a reset, if it has not ended."""
        if not self._writer.transport.is_closing():
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()

    def vanish(self) -> None:
        """End the TCP connection, whatever is unread or unsent."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """End it and wait for that."""
        # Python 3.11.2 does not find the protocol of a TLS connection that has ended.
        with contextlib.suppress(AttributeError):
            self._writer.transport.abort()
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._writer.wait_closed()
        except (OSError, ssl.SSLError):
            pass

    # Reading.

    async def read(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        async with asyncio.timeout(TIMEOUT):
            return await self._reader.readexactly(size)

    async def read_head(self) -> Response:
        """Read the head of an answer that has no body, such as a 101."""
        async with asyncio.timeout(TIMEOUT):
            return parse_response(await self._reader.readuntil(b"\r\n\r\n"), method="HEAD")

    async def read_response(self, *, method: str = "GET") -> Response:
        """Read an answer and the end of the connection behind it, and end our half then."""
        data, end = await self.read_end()
        assert end == EOF
        self._writer.close()
        return parse_response(data, method=method)

    async def read_frame(self) -> Frame:
        """Read one frame."""
        first, second = await self.read(2)
        assert not second & 0x80, "a server never masks (RFC 6455, section 5.1)"
        size = second
        if second > 125:
            size = int.from_bytes(await self.read(2 if second == 126 else 8))
        return Frame(first & 15, await self.read(size), bool(first & 0x80), first >> 4 & 7)

    async def read_close(self) -> tuple[int, str]:
        """Read a Close frame: its code and reason, or ``(1005, "")``."""
        found = await self.read_frame()
        assert found.opcode == CLOSE, found
        code = int.from_bytes(found.payload[:2]) if found.payload else 1005
        return code, found.payload[2:].decode()

    async def read_end(self) -> tuple[bytes, str]:
        """
        Read on to the end.

        Returns:
            What came, and ``EOF`` or ``RESET``.
        """
        data = bytearray()
        async with asyncio.timeout(TIMEOUT):
            while True:
                try:
                    part = await self._reader.read(1 << 16)
                except OSError:
                    return bytes(data), RESET
                if not part:
                    return bytes(data), EOF
                data += part

    def stop_reading(self) -> None:
        """Read nothing more: the kernel's buffers fill, and then the server's."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def go_on_reading(self) -> None:
        """Read again."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    @property
    def socket(self) -> socket.socket:
        """The socket."""
        found: socket.socket = self._writer.get_extra_info("socket")
        return found

    @property
    def tls(self) -> ssl.SSLObject:
        """What is known of its TLS."""
        found: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        return found
