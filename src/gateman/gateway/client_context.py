"""A business worker's client, its session, and an event of it that is to be handled."""

from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from typing import Any, Protocol

import msgspec

from ..cluster.envelope import unsendable
from ..cluster.names import ClientId
from .current import current_context
from .protocol import AnyEvent, CloseEvent, ConnectEvent, MessageEvent, OpenEvent, Result
from .send_window import MAX_BATCH_SIZE

CALLBACK_NAMES: dict[type, str] = {
    ConnectEvent: "on_websocket_connect",
    OpenEvent: "on_open",
    MessageEvent: "on_message",
    CloseEvent: "on_close",
}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Any])


class Origin(Protocol):
    """The gateway that has sent an event, to which its result goes."""

    @property
    def prefix(self) -> str:
        """What the ids of its clients begin with."""

    @property
    def handled(self) -> Callable[[int], None]:
        """Take the number of an event with an empty result."""

    def complete(self, result: Result) -> None:
        """Take a result."""

    def announce(self, number: int) -> None:
        """Report that a handler begins a suspected event."""


class ClientContext:
    """A client whose events go to this process."""

    __slots__ = (
        "__weakref__",
        "callback_context",
        "name",
        "origin",
        "parts",
        "remote_ip",
        "remote_port",
        "saved",
        "used_session",
    )

    def __init__(self, name: ClientId, origin: Origin, remote_ip: str, remote_port: int) -> None:
        self.name = name
        self.origin = origin
        self.remote_ip = remote_ip
        self.remote_port = remote_port
        # All its handlers run in it.
        self.callback_context = copy_context()
        self.callback_context.run(current_context.set, self)
        # The session that the gateway has, as MessagePack; empty for an empty session.
        self.saved = b""
        # The pieces of a message that is not complete.
        self.parts: list[Work] = []
        # The session, if a handler has used it since `save`.
        self.used_session: dict[str, Any] | None = None

    @property
    def session(self) -> dict[str, Any]:
        """Its session."""
        if self.used_session is None:
            self.used_session = _decoder.decode(self.saved) if self.saved else {}
        return self.used_session

    def renew(self, saved: bytes) -> None:
        """Take the session that the gateway has sent."""
        self.saved = saved
        # A task of an earlier handler may have decoded the old one.
        self.used_session = None

    def save(self) -> bytes | None:
        """Return the encoded session if a handler has changed it; ValueError if it cannot be."""
        session, self.used_session = self.used_session, None
        if session is None:
            return None
        problem = ""
        try:
            saved = _encoder.encode(session) if session else b""
        except (TypeError, ValueError, OverflowError, RecursionError):
            problem = unsendable(session) or "it is nested too deeply"
        keys: Iterable[object] = session
        if problem or not all(isinstance(key, str) for key in keys):
            raise ValueError(f"its session cannot be kept: {problem or unsendable(session)}")
        if len(saved) > MAX_BATCH_SIZE:
            raise ValueError(f"its session has more than {MAX_BATCH_SIZE} bytes")
        if saved == self.saved:
            return None
        self.saved = saved
        return saved


class Work(msgspec.Struct):
    """An event to handle."""

    number: int  # its number in its receive window
    event: AnyEvent
    origin: Origin
    # What its handler, a plain function, has returned.
    running: Awaitable[object] | None = None
    # The number of its question and the callback, if it is a command.
    command: tuple[int, str] | None = None

    @property
    def name(self) -> str:
        """The callback that it is for."""
        return (
            self.command[1] if self.command else CALLBACK_NAMES.get(type(self.event), "a handler")
        )


class _Gone:
    """A gateway that is gone: it takes no results."""

    prefix = ""

    def handled(self, number: int) -> None:
        pass

    def complete(self, result: Result) -> None:
        pass

    def announce(self, number: int) -> None:
        pass


GONE = _Gone()
