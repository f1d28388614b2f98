"""One SDK client: its connection, its session, and what it was allowed."""

import asyncio
from typing import Any

from msgspec import Raw

from ..clients.allow import Allow
from ..clients.data import one_line_of_json, read_data
from ..clients.messages import SubscribeRequest
from ..clients.session import ClientSession
from ..cluster.names import ClientId
from ..cluster.publication import BINARY, JSON, ClientInfo, as_json
from ..connection import Connection
from .client_send_buffer import ClientSends


class Client:
    """One SDK client."""

    __slots__ = (
        "allowed",
        "connection",
        "id",
        "info",
        "positions",
        "reading",
        "session",
        "timer",
        "told_of",
        "uid",
    )

    def __init__(self, connection: Connection, client: ClientId, session: ClientSession) -> None:
        self.connection = connection
        self.id = client
        self.session = session
        self.uid = ""
        # JSON, for other clients.
        self.info = b""
        # What was said when it subscribed, by channel; nothing for most.
        self.allowed: dict[str, Allow] = {}
        # The channels of which it is told who joins and leaves.
        self.told_of: set[str] = set()
        # Of server-side subscriptions before a reconnect: the application may begin them again.
        self.positions: dict[str, SubscribeRequest] = {}
        # Held by what reads a history for it; None before the first.
        self.reading: asyncio.Lock | None = None
        # For the next deadline of the session.
        self.timer: asyncio.TimerHandle | None = None

    @property
    def send_buffer(self) -> ClientSends:
        send_buffer = self.connection.send_buffer
        assert isinstance(send_buffer, ClientSends)
        return send_buffer

    def publisher(self, channel: str) -> ClientInfo:
        """Describe it to those who get what it publishes."""
        return ClientInfo(self.id, self.uid, self.info, self.channel_info(channel))

    def channel_info(self, channel: str) -> bytes:
        allowed = self.allowed.get(channel)
        return b"" if allowed is None or allowed.info is None else as_json(allowed.info)

    @property
    def speaks_json(self) -> bool:
        return not self.session.codec.is_binary

    def read(self, data: Raw) -> Any:
        """Read data of the client: a JSON value, or bytes that are none."""
        return read_data(bytes(data))

    def message(self, data: Raw) -> tuple[int, bytes]:
        """Read data of the client as the kind and the payload of a message."""
        encoded = bytes(data)
        if self.speaks_json:
            # Taken from one line, so it has no line breaks.
            return JSON, encoded
        text = one_line_of_json(encoded)
        return (BINARY, encoded) if text is None else (JSON, text)

    def write(self, value: object) -> bytes:
        """Write an answer of the application; raises TypeError if the client cannot read it."""
        if isinstance(value, (bytes, bytearray, memoryview)):
            if self.speaks_json:
                raise TypeError("bytes cannot be sent to a client that speaks JSON")
            return bytes(value)
        return as_json(value)
