"""
What the network layer reports, and to whom: the interface that the row above implements.

All of them are called on the event loop, never raise, and return at once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import get_ident
from typing import Protocol

from ..connection import Connection
from ..errors import ProtocolError, WrongThread
from ..options import Limits, SlowConsumer, Timeouts
from ..websocket.deflate import Deflate
from .inflation import InflateTurns

Deliver = Callable[[Connection, str | bytes], object]


class ConnectionEvents(Protocol):
    """The life of connections, in the order in which it happens."""

    deliver: Deliver
    """Takes each message. Called on the hot path, hence a bare callable; the only one that may
    raise, and then ``handler_failed`` is told."""

    def connected(self, connection: Connection) -> None:
        """TCP is up and, with TLS, its handshake done."""

    def requested(self, connection: Connection, answer: "Decide") -> None:
        """A good handshake arrived; ``answer`` is owed once, now or later."""

    def opened(self, connection: Connection) -> None:
        """The 101 is sent."""

    def handler_failed(self, connection: Connection, error: Exception) -> None:
        """``deliver`` raised."""

    def peer_failed(self, connection: Connection, error: ProtocolError) -> None:
        """The peer broke the protocol or a limit; the connection is being closed for it."""

    def dropped(self, connection: Connection, size: int) -> None:
        """A message of ``size`` bytes was thrown away because the peer reads too slowly."""

    def buffer_full(self, connection: Connection) -> None:
        """As much is unsent as may be; the next message is dropped."""

    def buffer_drained(self, connection: Connection) -> None:
        """Everything was sent again, after ``buffer_full``."""

    def closing(self, connection: Connection) -> None:
        """Our side began to end it: messages that were delivered and wait are not wanted."""

    def closed(self, connection: Connection, code: int, reason: str) -> None:
        """The WebSocket is over: exactly once for every ``connected``."""

    def lost(self, connection: Connection) -> None:
        """The TCP connection is over: exactly once, after ``closed``."""

    def noticed(self, cause: str, message: str, detail: str = "") -> None:
        """
        Something happened that an operator may want to know: counted, and logged sampled.

        Of one cause, each detail has a line of its own; both are words of ours.
        """


Decide = Callable[["Exception | None"], None]
"""Takes ``None`` to accept a handshake, or why it is not: ``Refuse``, or any other exception
for a generic 500."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionContext:
    """
    What all connections of one worker share; one object, so that each holds one reference.

    Attributes:
        loop: The event loop.
        limits: The worker's limits.
        timeouts: The worker's timeouts.
        events: Whom to tell.
        slow_consumer: What happens to messages for a peer that does not read.
        compression: What permessage-deflate is negotiated with; ``None`` for never.
        inflate_turns: What may be inflated in a turn of the loop.
        thread: The event loop's, in which it is made.
    """

    loop: asyncio.AbstractEventLoop
    limits: Limits
    timeouts: Timeouts
    events: ConnectionEvents
    slow_consumer: SlowConsumer
    compression: Deflate | None
    inflate_turns: InflateTurns
    thread: int = field(default_factory=get_ident)

    def check_thread(self) -> None:
        """Raise ``WrongThread`` for a message that is sent from another thread."""
        if get_ident() != self.thread:
            raise WrongThread("connection.send")
