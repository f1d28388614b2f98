"""Sends and receives what :mod:`.leases` decides, for one node."""

import asyncio
from collections.abc import Callable, Iterable

from .envelope import LeaseMessage
from .leases import LeaseOutput, Leases
from .names import NodeId

_INTERVAL = 1.0  # seconds between two ticks

_Publish = Callable[[NodeId | None, LeaseMessage, Callable[[bool], object]], None]
"""Publishes to one node or to all, and reports whether the bus took it."""


class LeaseKeeper:
    """The leases of a node; a node without a bus is alone, and holds what it wants."""

    def __init__(self, node: NodeId, publish: _Publish, *, is_alone: bool) -> None:
        self._node = node
        self._publish = publish
        self._is_alone = is_alone
        self._leases = Leases(node)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def want(self, name: str) -> None:
        """Claim a lease, and keep it until :meth:`release`."""
        if not self._is_alone:
            self._leases.want(name)
            if self._timer is None:
                # In the next turn: several that are wanted in this one share a message.
                self._timer = self._loop.call_soon(self._tick)  # type: ignore[assignment]

    def is_held(self, name: str) -> bool:
        return self._is_alone or self._leases.is_held(name, self._loop.time())

    def mark(self, name: str) -> int:
        """Return the last mark that a holder has set, in microseconds; 0 if none is known."""
        return 0 if self._is_alone else self._leases.mark(name)

    def advance(self, name: str, mark: int, on_sent: Callable[[bool], object]) -> None:
        """Move the mark of a held lease; report whether it has left this process."""
        if self._is_alone:
            on_sent(True)  # noqa: FBT003 - the bus's answer
        else:
            self._send(self._leases.advance(name, mark), on_sent)

    def release(self, names: Iterable[str]) -> None:
        """Give leases to other nodes."""
        for output in self._leases.release(names):
            self._send(output)

    def on_message(self, message: LeaseMessage) -> None:
        for output in self._leases.on_message(message, self._loop.time()):
            self._send(output)

    def on_gone(self, node: NodeId) -> None:
        """Note that a node has ended."""
        self._leases.on_gone(node)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        for output in self._leases.tick(self._loop.time()):
            self._send(output)
        self._timer = self._loop.call_later(_INTERVAL, self._tick) if self._leases else None

    def _send(self, output: LeaseOutput, on_sent: Callable[[bool], object] | None = None) -> None:
        def sent(was_taken: bool) -> None:  # noqa: FBT001 - the bus's answer
            if was_taken and output.node is None:
                self._leases.sent(output, self._loop.time())
            if on_sent is not None:
                on_sent(was_taken)

        self._publish(output.node, LeaseMessage(self._node, output.kind, output.marks), sent)
