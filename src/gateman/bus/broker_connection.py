"""One connection to a broker."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import cast

from .. import at_fork
from .base import MAX_PAYLOAD_SIZE
from .wire import BrokerEvent, Wire

# Seconds; to connect to one broker, with all greetings.
CONNECT_TIMEOUT = 5.0


class BrokerConnection(asyncio.Protocol):
    """One connection to a broker: events one at a time, until :meth:`hand_over` to the bus."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.max_payload_size = MAX_PAYLOAD_SIZE
        self.is_spread = False
        self._transport: asyncio.Transport | None = None
        self._early: asyncio.Queue[BrokerEvent | None] = asyncio.Queue()
        self._take: Callable[[list[BrokerEvent]], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._on_writable: Callable[[], None] | None = None
        self._gone = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Bytes in the transport's write buffer."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def is_gone(self) -> bool:
        return self._gone.is_set()

    @property
    def has_more(self) -> bool:
        """Whether :meth:`next_event` returns without waiting."""
        return not self._early.empty()

    async def next_event(self) -> BrokerEvent | None:
        """Wait for an event of the greeting; ``None`` if the broker has closed."""
        return None if self.is_gone and not self.has_more else await self._early.get()

    async def encrypt(self, context: ssl.SSLContext, host: str) -> None:
        """Start TLS; raises OSError if the certificate is bad or the peer speaks no TLS."""
        if self._transport is None:
            raise ConnectionResetError
        loop = asyncio.get_running_loop()
        encrypted = await loop.start_tls(self._transport, self, context, server_hostname=host)
        if encrypted is None:
            raise ConnectionResetError
        self._transport = encrypted

    def hand_over(
        self,
        take: Callable[[list[BrokerEvent]], None],
        *,
        on_lost: Callable[[], None],
        on_writable: Callable[[], None],
        room: int,
    ) -> None:
        """Pass all further events to the bus."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(room)
        self._take, self._on_lost, self._on_writable = take, on_lost, on_writable
        while self.has_more:
            event = self._early.get_nowait()
            if event is not None:
                take([event])
        if self.is_gone:
            on_lost()

    def fileno(self) -> int:
        """Get the descriptor of the socket; -1 after the connection has ended."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def close(self, within: float) -> None:
        """Close the connection, and wait for its end for some seconds."""
        if self._transport is None:
            return
        self._transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._gone.wait()
        self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        at_fork.give_up(self)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        events = self.wire.feed(data)
        if self._take is not None:
            self._take(events)
        else:
            for event in events:
                self._early.put_nowait(event)

    def resume_writing(self) -> None:
        if self._on_writable is not None:
            self._on_writable()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        # A closed transport must not be used, not even to abort it.
        self._transport = None
        self._gone.set()
        self._early.put_nowait(None)
        if self._on_lost is not None:
            self._on_lost()
