"""
What a connection asks of the layers around it: its link and send buffer, the hub, and the timers.

None of them is imported here, nor the connection itself: it imports this module.
"""

from collections.abc import Awaitable, Callable, Sized
from enum import Enum
from typing import Any, Protocol

JsonValue = dict[str, Any] | list[Any] | int | float | bool | None
"""What JSON can carry, beside text."""


class SendResult(Enum):
    """What became of a message that was given to ``send``."""

    SENT = "sent"
    """Handed to the operating system whole (under TLS: up to 32 KiB may still be ciphered)."""
    QUEUED = "queued"
    """
    Waiting in this process: for the 101, for a peer that reads slowly, or to be written with what
    else goes to it in this turn of the event loop. It will go out in order.
    """
    DROPPED = "dropped"
    """Thrown away: more than ``limits.max_send_buffer_size`` would be waiting. Counted."""
    CLOSED = "closed"
    """Thrown away: the connection is not open."""

    def __bool__(self) -> bool:
        """Whether the message is on its way."""
        return self is SendResult.SENT or self is SendResult.QUEUED


class ConnectionLink(Protocol):
    """What a connection asks of the layer below it."""

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake, or end a handshake that is not done."""

    def abort(self, code: int, reason: str) -> None:
        """End the TCP connection at once; ``on_close`` gets the code and the reason."""

    def pause(self, reason: int) -> None:
        """Stop reading until ``resume`` was called for every reason given."""

    def resume(self, reason: int) -> None:
        """Take one reason to pause back."""

    @property
    def message_count(self) -> int:
        """Messages received."""

    @property
    def socket(self) -> Any:
        """The socket, to be asked and not used; ``None`` when it is closed."""


class MessageSender(Protocol):
    """What a connection and the hub ask of :class:`gateman.net.send_buffer.SendBuffer`."""

    connection: Any
    dropped: int  # how many messages were dropped
    takes_frames: bool  # whether ``write_frames`` may be called
    has_channels: bool  # whether it is for an SDK client, which gets publications of channels
    # Equal for clients that share frames; None for a client that shares none.
    key: tuple[int, ...] | None

    def send(self, opcode: int, payload: str | bytes) -> SendResult:
        """Send one message, and return what became of it."""

    def as_payload(self, message: object) -> tuple[int, bytes]:
        """Turn what an application sends into an opcode and bytes that no longer change."""

    def carries(self, kind: int) -> bool:
        """Whether the client's protocol has such messages: text (1), binary (2) or JSON (3)."""

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """Make a frame."""

    def write_frames(self, frames: bytes) -> None:
        """Write frames that were made for this client."""

    @property
    def is_closed(self) -> bool:
        """Whether messages are discarded: the connection is closing, or has ended."""

    @property
    def is_direct(self) -> bool:
        """Whether the connection is open, and its client not slow."""

    @property
    def unsent_size(self) -> int:
        """Bytes that wait in this process for the client."""

    async def drain(self) -> None:
        """Wait until nothing is unsent, or the connection is closed."""

    def detach(self) -> None:
        """Release the connection."""


class Membership(Protocol):
    """What a connection asks of the hub; see :class:`gateman.Hub`."""

    @property
    def fanout_turns(self) -> Sized:
        """Empty unless messages to many connections are collected, to be written soon."""

    def client_id(self, connection: Any) -> str:
        """Name a client."""

    def check_thread(self, verb: str) -> None:
        """Raise ``WrongThread`` anywhere but in the event loop's thread."""

    def join(self, connection: Any, group: str) -> Awaitable[None]:
        """Put a client into a group."""

    def leave(self, connection: Any, group: str) -> Awaitable[None]:
        """Take a client out of a group."""

    def bind(
        self, connection: Any, uid: str, *, only: bool, code: int, reason: str
    ) -> Awaitable[None]:
        """Say who a client is."""

    def unbind(self, connection: Any) -> Awaitable[None]:
        """Take the uid from a client."""

    def put(self, connection: Any, opcode: int, payload: bytes) -> bool:
        """Put a message behind what is collected; ``False`` if nothing is, or a peer is slow."""

    def settle(self, connection: Any) -> None:
        """Send what is collected for a client."""


class Schedule(Protocol):
    """What a connection asks of the timers of its process."""

    def after(
        self,
        connection: Any,
        seconds: float,
        function: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> int:
        """Run a function later, unless the connection has closed by then."""


class _Gone:
    """The link of a connection whose TCP connection is over: there is nothing to do."""

    __slots__ = ()

    def close(self, _code: int, _reason: str) -> None:
        pass

    def abort(self, _code: int, _reason: str) -> None:
        pass

    def pause(self, _reason: int) -> None:
        pass

    def resume(self, _reason: int) -> None:
        pass

    message_count = 0
    socket = None


GONE: ConnectionLink = _Gone()

# Reasons to stop reading from a client; a bit each, so that they do not undo one another.
PAUSED_BY_USER = 1
PAUSED_BY_QUEUE = 2
PAUSED_BY_PEER = 4
PAUSED_BY_QUEUES = 8  # Of all clients together.
PAUSED_BY_INFLATION = 16
PAUSED_BY_HELD = 32
