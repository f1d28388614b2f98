"""Asks the bus whether processes that are silent are still connected to it."""

import asyncio
from collections.abc import Callable
from functools import partial

from ..bus import Bus
from ..cluster.channels import node_channel, subject_of
from ..cluster.names import NodeId


class Probes:
    """The questions of one process that are not answered yet: one for each process at most."""

    def __init__(self, bus: Bus | None, answer: Callable[[NodeId, bool], object]) -> None:
        """
        Begin with none.

        Args:
            bus: Who is asked; nobody without.
            answer: Gets the process, and whether it is there; not if the bus does not know.
        """
        self._bus = bus
        self._answer = answer
        self._questions: dict[NodeId, asyncio.Future[bool | None]] = {}

    def ask(self, node: NodeId) -> None:
        """
        Ask, unless that was done already.

        Args:
            node: For which process.
        """
        if self._bus is None or node in self._questions:
            return
        subject = subject_of(node_channel(node))
        question = asyncio.ensure_future(self._bus.has_subscriber(subject))
        self._questions[node] = question
        question.add_done_callback(partial(self._answered, node))

    def cancel(self) -> None:
        """Wait for no answer any more."""
        questions, self._questions = self._questions, {}
        for question in questions.values():
            question.cancel()

    def _answered(self, node: NodeId, question: "asyncio.Future[bool | None]") -> None:
        if self._questions.get(node) is not question:
            return
        del self._questions[node]
        is_there = None if question.cancelled() else question.result()
        if is_there is not None:
            self._answer(node, is_there)
