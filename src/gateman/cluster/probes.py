"""Asks the bus whether silent nodes are still connected to it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from ..bus import Bus
from ..bus.interest import answered
from .channels import node_channel, subject_of
from .names import NodeId

Ask = Callable[[NodeId], Awaitable[bool | None]]
"""Asks whether a process is connected; ``None`` if that is unknown."""


def asks(bus: Bus | None) -> Ask:
    """Make a function that asks the bus; without a bus it answers ``None``."""

    def ask(node: NodeId) -> Awaitable[bool | None]:
        if bus is None:
            return answered(has_subscriber=None)
        return bus.has_subscriber(subject_of(node_channel(node)))

    return ask


class Probes:
    """The pending probes of one process, at most one for each node."""

    # The answer arrives after everything that the bus has for this process. So a process that was
    # stopped reads the hellos of the others before it can conclude that they sent none.

    def __init__(self, ask: Ask, answer: Callable[[NodeId, bool | None], object]) -> None:
        self._ask = ask
        self._answer = answer
        self._pending: dict[NodeId, asyncio.Future[bool | None]] = {}

    def ask(self, node: NodeId) -> None:
        """Ask about a node, unless a probe of it is pending."""
        if node in self._pending:
            return
        probe = asyncio.ensure_future(self._ask(node))
        self._pending[node] = probe
        probe.add_done_callback(partial(self._answered, node))

    def cancel(self) -> None:
        pending, self._pending = self._pending, {}
        for probe in pending.values():
            probe.cancel()

    def _answered(self, node: NodeId, probe: "asyncio.Future[bool | None]") -> None:
        if self._pending.get(node) is not probe:
            return
        del self._pending[node]
        self._answer(node, None if probe.cancelled() else probe.result())
