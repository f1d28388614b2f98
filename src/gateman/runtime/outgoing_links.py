"""Open links to other servers: WebSockets by websockets, and packets on streams."""

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from ..config.outgoing import WEBSOCKET_SCHEMES, OutgoingConnection, check_headers, parse
from ..connection_interfaces import SendResult
from ..protocols.base import PacketProtocol
from ..protocols.built_in import BUILT_IN, make_reader
from ..websocket.encoding import not_utf8

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

_READ_SIZE = 64 << 10  # bytes

# For what was sent before `close`, if the other side reads slowly.
_FLUSH_TIME = 2.0  # seconds


class LinkClosed(Exception):
    """The link has ended, or could not be opened."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".rstrip()


class Link(Protocol):
    """An open connection."""

    dropped_count: int

    async def receive(self) -> Iterable[Any]:
        """Wait for messages; raises LinkClosed or PacketError."""

    def send(self, message: Any) -> SendResult: ...
    def close(self, code: int, reason: str) -> None: ...
    async def wait_closed(self) -> None: ...
    def abort(self) -> None: ...


async def open_link(connection: OutgoingConnection) -> Link:
    """Open a connection; raises LinkClosed or OSError."""
    parts = parse(connection.url)
    if parts.scheme in WEBSOCKET_SCHEMES:
        return await _open_websocket(connection)
    tls = await _context(connection)
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port, ssl=tls, server_hostname=parts.hostname if tls else None
    )
    return _StreamLink(connection, BUILT_IN[parts.scheme], reader, writer)


async def _context(connection: OutgoingConnection) -> ssl.SSLContext | None:
    if isinstance(connection.tls, bool):
        # It reads the system's roots, which takes a tenth of a second.
        return await asyncio.to_thread(_default_context) if connection.tls else None
    return connection.tls


_default_context = functools.cache(ssl.create_default_context)


class _StreamLink:
    """Packets on a TCP connection."""

    def __init__(
        self,
        connection: OutgoingConnection,
        protocol: PacketProtocol,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.dropped_count = 0
        self._max_waiting = connection.max_send_buffer_size
        self._read_size = min(_READ_SIZE, connection.max_message_size)
        self._protocol = protocol
        self._packets = make_reader(protocol, connection.max_message_size)
        self._reader = reader
        self._writer = writer
        self._aborting: asyncio.TimerHandle | None = None

    async def receive(self) -> Iterable[Any]:
        try:
            data = await self._reader.read(self._read_size)
        except OSError as error:
            raise LinkClosed(1006, error.strerror or type(error).__name__) from None
        if not data:
            if self._packets.is_incomplete:
                raise LinkClosed(1006, "it ended within a packet")
            raise LinkClosed(1000, "")
        return self._packets.feed(data)

    def send(self, message: Any) -> SendResult:
        packet = self._protocol.encode(message)
        transport = self._writer.transport
        if transport.is_closing():
            return SendResult.CLOSED
        if transport.get_write_buffer_size() + len(packet) > self._max_waiting:
            self.dropped_count += 1
            return SendResult.DROPPED
        self._writer.write(packet)
        return SendResult.QUEUED if transport.get_write_buffer_size() else SendResult.SENT

    def close(self, _code: int, _reason: str) -> None:
        transport = self._writer.transport
        if not transport.is_closing():
            transport.close()
            loop = asyncio.get_running_loop()
            self._aborting = loop.call_later(_FLUSH_TIME, transport.abort)

    async def wait_closed(self) -> None:
        self.close(1000, "")
        with contextlib.suppress(OSError):  # It is closed then, too.
            await self._writer.wait_closed()
        if self._aborting is not None:
            self._aborting.cancel()

    def abort(self) -> None:
        if self._aborting is not None:
            self._aborting.cancel()
        self._writer.transport.abort()


async def _open_websocket(connection: OutgoingConnection) -> Link:
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidHandshake, InvalidProxy, InvalidStatus, InvalidURI

    headers = connection.headers() if callable(connection.headers) else connection.headers
    if isinstance(headers, Awaitable):
        headers = await headers
    check_headers(headers)
    how: dict[str, Any] = {"proxy": True} if connection.uses_proxy else {"proxy": None}
    if connection.url.startswith("wss:"):
        how["ssl"] = await _context(connection)

    class Connect(connect):
        def process_redirect(self, exc: Exception) -> Exception:
            # Browsers do not follow them either; the headers may have secrets.
            return exc

    try:
        opened = await Connect(
            connection.url,
            additional_headers=headers,
            subprotocols=connection.subprotocols or None,  # type: ignore[arg-type]
            max_size=connection.max_message_size,
            # One at a time: while a callback runs, TCP holds the others back.
            max_queue=1,
            open_timeout=None,
            ping_interval=20,
            ping_timeout=20,
            close_timeout=2,
            **how,
        )
    except InvalidStatus as error:
        raise LinkClosed(1006, f"it answers {error.response.status_code}, and not 101") from None
    except InvalidURI as error:
        # Without the address, which may have a secret.
        raise LinkClosed(1006, error.msg) from None
    except InvalidProxy as error:
        raise LinkClosed(1006, f"the proxy of the environment: {error.msg}") from None
    except (ImportError, InvalidHandshake) as error:  # python-socks, for a proxy that needs it
        raise LinkClosed(1006, str(error)) from None
    return _WebSocketLink(connection, opened)


class _WebSocketLink:
    """A WebSocket; messages wait in a queue, which one task sends."""

    def __init__(self, connection: OutgoingConnection, opened: "ClientConnection") -> None:
        self.dropped_count = 0
        self._max_waiting = connection.max_send_buffer_size
        self._opened = opened
        self._waiting_size = 0
        # With whether it is text. None is the last.
        self._queue: asyncio.Queue[tuple[bytes, bool] | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self._sending = loop.create_task(self._send_queued())
        self._closing: asyncio.Task[None] | None = None

    async def receive(self) -> Iterable[Any]:
        from websockets.exceptions import ConnectionClosed

        try:
            return [await self._opened.recv()]
        except ConnectionClosed as closed:
            received, sent = closed.rcvd, closed.sent
            if received is None:
                # What this side has said, such as that no pong has come.
                raise LinkClosed(1006, sent.reason if sent is not None else "") from None
            raise LinkClosed(received.code, received.reason) from None

    def send(self, message: Any) -> SendResult:
        if not isinstance(message, (str, bytes, bytearray, memoryview)):
            raise ValueError(f"a message is str or bytes, and not {type(message).__name__}")  # noqa: TRY004
        if self._closing is not None:
            return SendResult.CLOSED
        try:
            data = message.encode() if isinstance(message, str) else bytes(message)
        except UnicodeEncodeError as error:
            raise ValueError(not_utf8(error)) from None
        if self._waiting_size + len(data) > self._max_waiting:
            self.dropped_count += 1
            return SendResult.DROPPED
        self._waiting_size += len(data)
        self._queue.put_nowait((data, isinstance(message, str)))
        return SendResult.QUEUED

    async def _send_queued(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            while (queued := await self._queue.get()) is not None:
                data, is_text = queued
                await self._opened.send(data, text=is_text)
                self._waiting_size -= len(data)
        except ConnectionClosed:
            self.dropped_count += 1  # `receive` tells why.

    def close(self, code: int, reason: str) -> None:
        if self._closing is None:
            self._queue.put_nowait(None)
            self._closing = asyncio.get_running_loop().create_task(self._finish(code, reason))

    async def _finish(self, code: int, reason: str) -> None:
        await asyncio.wait([self._sending], timeout=_FLUSH_TIME)
        self._sending.cancel()
        while not self._queue.empty():
            self.dropped_count += self._queue.get_nowait() is not None
        try:
            async with asyncio.timeout(_FLUSH_TIME):
                await self._opened.close(code, reason)
        except TimeoutError:
            # It waits for a server that does not read.
            self._opened.transport.abort()

    async def wait_closed(self) -> None:
        self.close(1000, "")
        assert self._closing is not None
        await asyncio.shield(self._closing)

    def abort(self) -> None:
        self._sending.cancel()
        self._opened.transport.abort()
