"""Queries that the master sends to all processes for a command. PURE."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from .channel import Answer, ArrivalsAnswer, ConnectionsAnswer, MetricsAnswer, ReportAnswer

A = TypeVar("A", ReportAnswer, ConnectionsAnswer, ArrivalsAnswer, MetricsAnswer)


class ChildQuery(Generic[A]):
    def __init__(
        self,
        pids: Iterable[int],
        due_at: float,
        kind: type[A],
        on_answers: Callable[[dict[int, A]], None],
    ) -> None:
        self.answers: dict[int, A] = {}
        self.due_at = due_at
        self._kind: type[A] = kind
        self._on_answers: Callable[[dict[int, A]], None] = on_answers
        self._unanswered = set(pids)

    def add_answer(self, pid: int, answer: Answer) -> None:
        """Take an answer; ignore one of another kind, or from a process that was not asked."""
        if pid in self._unanswered and isinstance(answer, self._kind):
            self.answers[pid] = answer
            self._unanswered.discard(pid)

    def forget(self, pid: int) -> None:
        """Expect no answer from a process that has ended."""
        self._unanswered.discard(pid)

    def is_done(self, now: float) -> bool:
        return not self._unanswered or now >= self.due_at

    def finish(self) -> None:
        self._on_answers(self.answers)


AnyChildQuery = ChildQuery[Any]
