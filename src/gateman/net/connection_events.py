"""
The events of connections, which a service implements, and what all connections of a worker share.

All methods run in the event loop's thread, do not raise, and return at once.
"""

import asyncio
from collections.abc import Callable
from threading import get_ident
from typing import Protocol

from msgspec import Struct, field

from ..connection import Connection
from ..errors import ProtocolError, WrongThread
from ..options import Limits, SlowConsumer, Timeouts
from ..websocket.deflate import Deflate
from .deadlines import Deadlines
from .heartbeat import Heartbeat
from .idle_cuts import IdleCuts
from .inflation import InflateTurns

Deliver = Callable[[Connection, str | bytes], object]


class ConnectionEvents(Protocol):
    """Called in this order for each connection."""

    deliver: Deliver
    """Handles each message. An attribute, as it is called on the hot path. It may raise; then
    ``handler_failed`` is called."""

    def connected(self, connection: Connection) -> None:
        """TCP is up and, with TLS, its handshake done."""

    def requested(self, connection: Connection, answer: "Decide") -> None:
        """A valid handshake arrived; ``answer`` has to be called once, now or later."""

    def opened(self, connection: Connection) -> None:
        """The 101 is sent."""

    def handler_failed(
        self,
        connection: Connection,
        error: Exception | asyncio.CancelledError,
        name: str = "on_message",
    ) -> None:
        """``deliver`` raised, or the application's protocol ``name``."""

    def peer_failed(self, connection: Connection, error: ProtocolError) -> None:
        """The peer broke the protocol or a limit; the connection is being closed for it."""

    def dropped(self, connection: Connection, size: int) -> None:
        """A message of ``size`` bytes was dropped because the client reads too slowly."""

    def buffer_full(self, connection: Connection) -> None:
        """The send buffer is full; the next message is dropped."""

    def buffer_drained(self, connection: Connection) -> None:
        """Everything is sent, after ``buffer_full``."""

    def half_closed(self, connection: Connection, finish: Callable[[], None]) -> None:
        """The client sends no more; ``finish`` is to be called when it has got its answers."""

    def closing(self, connection: Connection) -> None:
        """The server has begun to close: queued messages of the client are not handled."""

    def closed(self, connection: Connection, code: int, reason: str) -> None:
        """The WebSocket is over: exactly once for every ``connected``."""

    def lost(self, connection: Connection) -> None:
        """The TCP connection is over: exactly once, after ``closed``."""

    def noticed(self, cause: str, message: str, detail: str = "") -> None:
        """Count and log an event, rate-limited by cause and ``detail``; clients choose neither."""


Decide = Callable[["Exception | None"], None]
"""Called with ``None`` to accept a handshake, with ``Refuse``, or with another exception for a
generic 500."""


class ConnectionContext(Struct, frozen=True, kw_only=True):
    """What all connections of one worker share."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    timeouts: Timeouts
    events: ConnectionEvents
    slow_consumer: SlowConsumer
    compression: Deflate | None  # None to never negotiate it
    deadlines: Deadlines  # of handshakes and closing handshakes
    heartbeat: Heartbeat | None  # None to send no pings
    inflate_turns: InflateTurns
    idle_cuts: IdleCuts = field(default_factory=IdleCuts)
    # Translates a code and a reason of our own, for clients that know others.
    close_for_client: Callable[[int, str], tuple[int, str]] = lambda code, reason: (code, reason)
    # The event loop's, in which the context is made.
    thread: int = field(default_factory=get_ident)

    def check_thread(self) -> None:
        """Raise ``WrongThread`` for a message that is sent from another thread."""
        if get_ident() != self.thread:
            raise WrongThread("connection.send")
