"""One connection to a broker: bytes in and out, and its end."""

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
    """
    One connection to a broker, over any transport.

    At first whoever connects reads it, an event at a time, with :meth:`next_event`;
    then :meth:`hand_over` gives it to the bus.

    Attributes:
        wire: How its bytes are written and read.
        max_payload_size: What the broker takes, in bytes.
        is_spread: Whether the broker is one of several.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.max_payload_size = MAX_PAYLOAD_SIZE
        self.is_spread = False
        self._transport: asyncio.Transport | None = None
        self._early: asyncio.Queue[BrokerEvent | None] = asyncio.Queue()
        self._take: Callable[[list[BrokerEvent]], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._on_room: Callable[[], None] | None = None
        self._gone = asyncio.Event()

    @property
    def backlog(self) -> int:
        """How many bytes the system has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def is_gone(self) -> bool:
        """Whether the connection has ended."""
        return self._gone.is_set()

    @property
    def has_more(self) -> bool:
        """Whether :meth:`next_event` has something to return already."""
        return not self._early.empty()

    async def next_event(self) -> BrokerEvent | None:
        """Return what the broker says next, before the handover; ``None`` if it has hung up."""
        return None if self.is_gone and not self.has_more else await self._early.get()

    async def encrypt(self, context: ssl.SSLContext, host: str) -> None:
        """
        Go on with TLS.

        Raises:
            OSError: The server's certificate is not good, or it does not speak TLS.
        """
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
        on_room: Callable[[], None],
        room: int,
    ) -> None:
        """Let the bus read it from now on."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(room)
        self._take, self._on_lost, self._on_room = take, on_lost, on_room
        while self.has_more:
            event = self._early.get_nowait()
            if event is not None:
                take([event])
        if self.is_gone:
            on_lost()

    def fileno(self) -> int:
        """Give the descriptor of the connection; -1 once it has ended."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    def write(self, data: bytes) -> None:
        """Write bytes; none are lost while the connection lasts."""
        if self._transport is not None:
            self._transport.write(data)

    async def close(self, within: float) -> None:
        """End the connection, and wait for its end."""
        if self._transport is None:
            return
        self._transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._gone.wait()
        self.abort()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; called by asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        at_fork.give_up(self)

    def data_received(self, data: bytes) -> None:
        """Read; called by asyncio."""
        if self._transport is None or self._transport.is_closing():
            return
        events = self.wire.feed(data)
        if self._take is not None:
            self._take(events)
        else:
            for event in events:
                self._early.put_nowait(event)

    def resume_writing(self) -> None:
        """Say that there is room again; called by asyncio."""
        if self._on_room is not None:
            self._on_room()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Say that it has ended; called by asyncio."""
        # A transport that has ended cannot be asked for anything, not even to end.
        self._transport = None
        self._gone.set()
        self._early.put_nowait(None)
        if self._on_lost is not None:
            self._on_lost()
