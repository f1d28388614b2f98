"""The client of a test."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from .clock import settle

DEFAULT_TIMEOUT = 5.0
"""Seconds of real time that a test waits for something."""


@dataclass(frozen=True, slots=True)
class Closed:
    """How a connection ended: RFC 6455, section 7.1.5; 1006 without a Close."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer to a refused handshake."""

    status: int
    headers: dict[str, str]
    text: str


class Client:
    """
    One open connection.

    Attributes:
        subprotocol: What the server selected; ``None`` for none.
        received: All messages so far, in order.
    """

    def __init__(self, connection: ClientConnection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._next = 0
        self._arrived = asyncio.Event()
        self.received: list[str | bytes] = []
        self.subprotocol = connection.subprotocol
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self._connection:
                self.received.append(message)
                self._arrived.set()
        self._arrived.set()

    async def send(self, message: str | bytes) -> None:
        """
        Send a message: text for ``str``, binary for ``bytes``.

        Raises:
            AssertionError: The connection is closed.
            TypeError: It is neither.
        """
        # The library takes others too: of a list, it makes the fragments of one message.
        if not isinstance(message, (str, bytes)):
            raise TypeError(
                f"a client sends str or bytes, not {type(message).__name__}: encode it first, for"
                " example with json.dumps"
            )
        try:
            await self._connection.send(message)
        except ConnectionClosed:
            raise AssertionError(f"{message!r} cannot be sent: {self._ended()}") from None

    async def receive(self, timeout: float | None = None) -> str | bytes:  # noqa: ASYNC109
        """
        Return the next message.

        Args:
            timeout: Seconds of real time; that of ``connect`` if not given.

        Raises:
            AssertionError: None came in time, or the connection was closed; it says what was
                received before.
        """
        limit = self._timeout if timeout is None else timeout
        with contextlib.suppress(TimeoutError):
            # Of the event loop's clock, which `advance` moves.
            async with asyncio.timeout(limit):
                while self._next == len(self.received) and self.closed is None:
                    self._arrived.clear()
                    await self._arrived.wait()
        if self._next < len(self.received):
            self._next += 1
            return self.received[self._next - 1]
        why = f"within {limit:g} s" if self.closed is None else f"and {self._ended()}"
        raise AssertionError(f"no message came {why}; received before: {self.received!r}")

    async def receive_nothing(self) -> None:
        """
        Check that the server has sent no message that was not received.

        It waits for the answer to a ping, and so for all that the server had sent by then. What a
        handler sends after waiting for something else comes later: use :func:`.advance` or wait
        for that first.

        Raises:
            AssertionError: There is a message.
        """
        await settle()
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(self._timeout):
                await (await self._connection.ping())
        await settle()
        extra = self.received[self._next :]
        assert not extra, f"nothing was expected, and received: {extra!r}"

    @property
    def closed(self) -> Closed | None:
        """How the connection ended; ``None`` while it is open."""
        if not self._reader.done():
            return None
        code, reason = self._connection.close_code, self._connection.close_reason
        return Closed(1006 if code is None else int(code), reason or "")

    async def wait_closed(self) -> Closed:
        """
        Wait until the server has closed the connection.

        Raises:
            AssertionError: It has not, in time.
        """
        await asyncio.wait({self._reader}, timeout=self._timeout)
        closed = self.closed
        assert closed is not None, (
            f"the connection was not closed within {self._timeout:g} s; received:"
            f" {self.received[self._next :]!r}"
        )
        return closed

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection with a Close, and wait for the server's."""
        if not self._transport.is_closing():
            self.go_on_reading()
        await self._connection.close(code, reason)
        await self._reader

    async def drop(self) -> None:
        """End the TCP connection without a Close, as a client that loses its network."""
        self._transport.abort()
        await self._reader

    def stop_reading(self) -> None:
        """Read nothing from now on, as a client that is too slow; the server's data waits."""
        self._transport.pause_reading()

    def go_on_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    @property
    def _transport(self) -> Any:
        return self._connection.transport

    def _ended(self) -> str:
        closed = self.closed
        return "the connection ends" if closed is None else f"it was closed: {closed}"
