"""Questions that a command has put to all processes, of which some may be stuck. PURE."""

from collections.abc import Callable, Iterable
from typing import Any


class Question:
    """
    One question.

    Attributes:
        answers: What was answered, by pid.
        due_at: When no more is waited for, in monotonic seconds.
        then: Takes the question once it is over.
    """

    def __init__(
        self, pids: Iterable[int], due_at: float, then: Callable[["Question"], None]
    ) -> None:
        """
        Note a question that was put.

        Args:
            pids: To whom.
            due_at: Until when it is waited for their answers.
            then: What to do then.
        """
        self.answers: dict[int, dict[str, Any]] = {}
        self.due_at = due_at
        self.then = then
        self._silent = set(pids)

    def answered(self, pid: int, answer: dict[str, Any]) -> None:
        """
        Take an answer.

        Args:
            pid: Whose.
            answer: It.
        """
        self.answers[pid] = answer
        self._silent.discard(pid)

    def forget(self, pid: int) -> None:
        """
        Expect no answer of a process that has ended.

        Args:
            pid: Whose.
        """
        self._silent.discard(pid)

    def is_over(self, now: float) -> bool:
        """
        Tell whether to wait no longer.

        Args:
            now: Monotonic seconds.

        Returns:
            Whether all have answered, or time is up.
        """
        return not self._silent or now >= self.due_at
