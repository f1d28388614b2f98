"""The connection of a process to its master, over which both send messages of :mod:`.channel`."""

import asyncio
from collections.abc import Callable
from typing import cast

from ..runtime import process
from . import channel
from .channel import MAX_LINE_SIZE, FromMaster, FromProcess, Lines, from_master, line, read
from .process_stats import ProcessStats

# A master that has stopped reading gets no more heartbeats.
_MAX_UNSENT = 64 << 10  # bytes

# A master reads what its processes send at once.
_LAST_MESSAGE_TIME = 0.5  # seconds

# The rest of the line is enough for the other fields of the answer.
_MAX_ANSWER_SIZE = MAX_LINE_SIZE - 1024  # bytes


class MasterConnection(asyncio.Protocol):
    """Sends to the master, and passes its messages on."""

    def __init__(self, handle: Callable[[FromMaster], object], lost: Callable[..., object]) -> None:
        self._handle = handle
        self._lost = lost
        self._lines = Lines()
        self._transport: asyncio.Transport | None = None
        self.stats: ProcessStats | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # isinstance() fails for uvloop's transports.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            messages = read(from_master, self._lines.feed(data))
        except ValueError:
            self.close()
            self._lost("the master's channel has an invalid message")
            return
        for message in messages:
            self._handle(message)

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self._lost(
                "the master is gone" if error is None else f"the master's channel failed ({error})",
                is_master_gone=True,
            )

    @property
    def is_connected(self) -> bool:
        return self._transport is not None

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    async def send_last(self, message: FromProcess) -> None:
        """Send a message, and wait until it is sent, or the master does not read."""
        self.send(message)
        deadline = asyncio.get_running_loop().time() + _LAST_MESSAGE_TIME
        while (transport := self._transport) is not None and transport.get_write_buffer_size():
            if asyncio.get_running_loop().time() > deadline:
                break
            # The protocol is told of nothing below the transport's limits.
            await asyncio.sleep(0.01)

    def answer(self, number: int) -> None:
        if self.stats is not None:
            now = asyncio.get_running_loop().time()
            self.send(channel.ReportAnswer(number, self.stats.report(now)))

    def send(self, message: FromProcess, *, is_urgent: bool = True) -> None:
        """Send a message; one that is not urgent is dropped if the master does not read."""
        transport = self._transport
        if transport is not None and (is_urgent or transport.get_write_buffer_size() < _MAX_UNSENT):
            transport.write(line(message))


def describe(
    service: process.AnyService, number: int, limit: int, *, max_size: int = _MAX_ANSWER_SIZE
) -> channel.ConnectionsAnswer:
    """List a service's connections, and fewer than the limit if they would be too large."""
    connections = cast("list[channel.ConnectionReport]", service.describe(limit))
    answer = channel.ConnectionsAnswer(number, connections, service.present_count)
    while answer.connections and len(line(answer)) > max_size:
        answer.connections = answer.connections[: len(answer.connections) // 2]
    return answer
