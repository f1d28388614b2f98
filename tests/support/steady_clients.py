"""Clients that connect at a steady rate, and the outcome of each attempt."""

import asyncio
import base64
import os
import ssl
import time
from dataclasses import dataclass, field
from typing import Self

from .deadlines import TIMEOUT

_KEY = base64.b64encode(bytes(16)).decode()

# A masked text frame with the word "hello"; a mask of zeros changes nothing.
_HELLO = b"\x81\x85\x00\x00\x00\x00hello"

# With so many connected, no further client connects. All of them share this process: on a machine
# that is busy with other things, many would each be slower than the server's deadlines.
_MAX_PRESENT = 16


@dataclass
class Attempts:
    """
    The outcomes of attempts to connect.

    Attributes:
        answers: What the server answered to "hello", for each client that got that far.
        closed: How many got in and were closed before they had an answer, as a drain may do.
        failures: What the others saw.
        slowest: How long the slowest handshake took, in seconds.
        certificates: The certificates that were shown, in order, each once.
    """

    answers: list[str] = field(default_factory=list)
    closed: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    certificates: list[bytes] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many attempts there were."""
        return len(self.answers) + self.closed + len(self.failures)


class SteadyClients:
    """A stream of clients, each of which connects, says hello and leaves."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.attempts = Attempts()
        self._port = port
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._stream: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    def start(self, rate: float) -> None:
        """
        Connect clients from now on.

        Args:
            rate: Clients per second, as far as they are served.
        """
        self._stream = asyncio.ensure_future(self._run(rate))

    async def end(self) -> None:
        """Connect no more clients, and wait for those that are connected."""
        if self._stream is not None:
            self._stream.cancel()
            await asyncio.wait([self._stream])
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, rate: float) -> None:
        begun_at = time.monotonic()
        count = 0
        while True:
            due = int((time.monotonic() - begun_at) * rate)
            for _ in range(min(due - count, _MAX_PRESENT - len(self._tasks))):
                task = asyncio.ensure_future(self._attempt())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            count = max(count, due)
            await asyncio.sleep(1 / rate)

    async def _attempt(self) -> None:
        begun_at = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await self._greet(begun_at)
        except (OSError, EOFError, TimeoutError, AssertionError) as error:
            waited = time.monotonic() - begun_at
            self.attempts.failures.append(f"{type(error).__name__}: {error} after {waited:.2f} s")
        else:
            if answer is None:
                self.attempts.closed += 1
            else:
                self.attempts.answers.append(answer)

    async def _greet(self, begun_at: float) -> str | None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self._port,
            ssl=self._tls,
            server_hostname="localhost" if self._tls else None,
        )
        try:
            if self._tls is not None:
                shown = writer.get_extra_info("ssl_object").getpeercert(True)  # noqa: FBT003
                if shown not in self.attempts.certificates:
                    self.attempts.certificates.append(shown)
            writer.write(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: %b\r\n\r\n" % _KEY.encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            self.attempts.slowest = max(self.attempts.slowest, time.monotonic() - begun_at)
            writer.write(_HELLO)
            first, size = await reader.readexactly(2)
            payload = await reader.readexactly(size)
            return None if first == 0x88 else payload.decode()
        finally:
            writer.transport.abort()


def replaced(path: os.PathLike[str], content: bytes) -> None:
    """
    Put a file in the place of another, as those who renew certificates do.

    Args:
        path: Which.
        content: What is in it.
    """
    new = f"{os.fspath(path)}.new"
    with open(new, "wb") as file:  # noqa: PTH123 - a name made of another
        file.write(content)
    os.replace(new, path)  # noqa: PTH105 - as above
