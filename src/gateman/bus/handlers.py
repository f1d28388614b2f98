"""The functions of this process that receive messages of the bus; their errors are logged."""

from collections import Counter
from collections.abc import Callable, Iterator

from ..log import RateLimitedLogger, logger
from .base import Gap, Receive
from .subjects import Subject


class MessageHandlers:
    """The handler of each subject, at most one; an error in one does not affect others."""

    __slots__ = ("_by_subject", "_counts", "_rate_limited", "otherwise")

    def __init__(self, counts: Counter[str]) -> None:
        self._by_subject: dict[str, Receive] = {}
        # Handles a message of a subject without a handler; None to discard it.
        self.otherwise: Callable[[str, bytes], None] | None = None
        self._counts = counts
        self._rate_limited = RateLimitedLogger()

    def __iter__(self) -> Iterator[Subject]:
        return map(Subject, tuple(self._by_subject))

    def add(self, subject: Subject, receive: Receive) -> bool:
        """Set the handler of a subject; return whether it had none."""
        is_new = subject not in self._by_subject
        self._by_subject[subject] = receive
        return is_new

    def remove(self, subject: Subject) -> bool:
        """Remove the handler of a subject; return whether it had one."""
        return self._by_subject.pop(subject, None) is not None

    def deliver(self, subject: str, payload: bytes, now: float) -> None:
        """Call the handler of a subject; it may have been removed meanwhile."""
        receive = self._by_subject.get(subject)
        if receive is None:
            if self.otherwise is not None:
                self.otherwise(subject, payload)
            return
        self._counts["received"] += 1
        try:
            receive(payload)
        except Exception as error:  # noqa: BLE001 - the receiver's fault must not end the connection
            self._counts["receiver_failed"] += 1
            self._rate_limited.error("a receiver of the bus failed", error, now)

    def report(self, gap: Gap, on_gap: Callable[[Gap], None] | None) -> None:
        if on_gap is None:
            return
        try:
            on_gap(gap)
        except Exception:  # noqa: BLE001 - as in deliver
            self._counts["receiver_failed"] += 1
            logger.exception("on_gap failed")
