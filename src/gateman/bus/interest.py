"""The answers that :meth:`.base.Bus.has_subscriber` returns."""

import asyncio
from collections import deque
from functools import partial

# Seconds; a broker on this machine answers within one millisecond, a remote one within some
# hundred. Queries find out whether a process is alive, which cannot wait longer.
_ANSWER_TIMEOUT = 2.0


class InterestQueries:
    """
    The queries that the broker has not answered yet, in the order in which they were sent.

    A broker only answers a query if there is no subscriber, and it handles commands in order. So
    when it answers the ping that follows a query, and has said nothing else, there is a subscriber.
    """

    __slots__ = ("_asked", "_last_number", "_open", "_timeout")

    def __init__(self, timeout: float = _ANSWER_TIMEOUT) -> None:
        self._timeout = timeout
        self._last_number = 0
        self._open: dict[int, asyncio.Future[bool | None]] = {}
        # For each ping the last query before it, and its deadline if there is one.
        self._asked: deque[tuple[int, asyncio.TimerHandle | None]] = deque()

    def add(self) -> tuple[int, asyncio.Future[bool | None]]:
        """Make a query; return its number and its answer."""
        self._last_number += 1
        answer = self._open[self._last_number] = asyncio.get_running_loop().create_future()
        return self._last_number, answer

    def asked(self) -> None:
        """Note that a ping was sent after all queries so far."""
        deadline = None
        if self._open:
            loop = asyncio.get_running_loop()
            give_up = partial(self._end, self._last_number, has_subscriber=None)
            deadline = loop.call_later(self._timeout, give_up)
        self._asked.append((self._last_number, deadline))

    def denied(self, number: int) -> None:
        """Answer a query with ``False``: the broker knows no subscriber."""
        _answer(self._open.pop(number, None), has_subscriber=False)

    def confirmed(self, *, has_subscriber: bool | None) -> None:
        """Answer the queries before the oldest ping, which the broker has answered."""
        last, deadline = self._asked.popleft()
        if deadline is not None:
            deadline.cancel()
        self._end(last, has_subscriber=has_subscriber)

    def doubted(self) -> None:
        """Answer all sent queries with ``None``: the broker refused something."""
        if self._asked:
            self._end(self._asked[-1][0], has_subscriber=None)

    def broken(self) -> None:
        """Answer all queries with ``None``: the connection has ended."""
        for _, deadline in self._asked:
            if deadline is not None:
                deadline.cancel()
        self._asked.clear()
        self._end(self._last_number, has_subscriber=None)

    def _end(self, last: int, *, has_subscriber: bool | None) -> None:
        # The dict is ordered: the remaining queries are newer.
        while self._open and (number := next(iter(self._open))) <= last:
            _answer(self._open.pop(number), has_subscriber=has_subscriber)


def answered(*, has_subscriber: bool | None) -> asyncio.Future[bool | None]:
    """Make an answer that is known already."""
    answer = asyncio.get_running_loop().create_future()
    _answer(answer, has_subscriber=has_subscriber)
    return answer


def _answer(answer: asyncio.Future[bool | None] | None, *, has_subscriber: bool | None) -> None:
    # The caller may have cancelled it.
    if answer is not None and not answer.done():
        answer.set_result(has_subscriber)
