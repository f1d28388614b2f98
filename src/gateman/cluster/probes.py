"""Asks the bus whether processes that are silent are still connected to it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from ..bus import Bus
from ..bus.interest import answered
from .channels import node_channel, subject_of
from .names import NodeId

Ask = Callable[[NodeId], Awaitable[bool | None]]
"""Asks whether a process is connected; ``None`` if nobody can tell."""


def asks(bus: Bus | None) -> Ask:
    """Make what asks a bus; without one nobody can tell."""

    def ask(node: NodeId) -> Awaitable[bool | None]:
        if bus is None:
            return answered(has_subscriber=None)
        return bus.has_subscriber(subject_of(node_channel(node)))

    return ask


class Probes:
    """
    The questions of one process that are not answered yet: one for each process at most.

    The answer comes behind everything that the bus has for this process. So one that was stopped
    has read the signs of life of others before it believes that they gave none.
    """

    def __init__(self, ask: Ask, answer: Callable[[NodeId, bool | None], object]) -> None:
        self._ask = ask
        self._answer = answer
        self._questions: dict[NodeId, asyncio.Future[bool | None]] = {}

    def ask(self, node: NodeId) -> None:
        """Ask for a process, unless that was done already."""
        if node in self._questions:
            return
        question = asyncio.ensure_future(self._ask(node))
        self._questions[node] = question
        question.add_done_callback(partial(self._answered, node))

    def cancel(self) -> None:
        """Wait for no answer any more."""
        query_client, self._questions = self._questions, {}
        for question in query_client.values():
            question.cancel()

    def _answered(self, node: NodeId, question: "asyncio.Future[bool | None]") -> None:
        if self._questions.get(node) is not question:
            return
        del self._questions[node]
        self._answer(node, None if question.cancelled() else question.result())
