"""Requests to a broker that wait for their answers, each with a number."""

import asyncio
from collections.abc import Callable

from ..errors import BusError
from .wire import BrokerReply


class ConnectionLost(BusError):
    """The connection ended before the answer came, so nobody knows what has been done."""


# Seconds for the whole answer to a request. It is sent behind all that is pending.
REQUEST_TIMEOUT = 5.0


class _Request:
    """A request, and the parts of its answer that have come."""

    __slots__ = ("answer", "deadline", "is_last", "parts")

    def __init__(
        self,
        answer: asyncio.Future[list[BrokerReply]],
        deadline: float,
        is_last: Callable[[BrokerReply], bool] | None,
    ) -> None:
        self.answer = answer
        self.deadline = deadline
        self.is_last = is_last
        self.parts: list[BrokerReply] = []


class BrokerRequests:
    """The requests of one process, each with the same time for its answer."""

    __slots__ = ("_last_number", "_open", "_timeout", "_timer", "_url")

    def __init__(self, url: str, timeout: float = REQUEST_TIMEOUT) -> None:
        self._url = url
        self._timeout = timeout
        self._last_number = 0
        # In the order of their deadlines, for the first of which there is a timer.
        self._open: dict[int, _Request] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(
        self, is_last: Callable[[BrokerReply], bool] | None = None
    ) -> tuple[int, asyncio.Future[list[BrokerReply]]]:
        """Make a request; return its number and its answer, which has one part, or ends so."""
        self._last_number += 1
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[BrokerReply]] = loop.create_future()
        deadline = loop.time() + self._timeout
        self._open[self._last_number] = _Request(answer, deadline, is_last)
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._expire)
        return self._last_number, answer

    def answered(self, reply: BrokerReply) -> None:
        """Take a part of an answer; the request may have been given up."""
        request = self._open.get(reply.number)
        if request is None:
            return
        request.parts.append(reply)
        if request.is_last is None or request.is_last(reply):
            del self._open[reply.number]
            if not request.answer.done():
                request.answer.set_result(request.parts)

    def broken(self) -> None:
        """Fail all requests: the connection has ended."""
        self.fail(ConnectionLost(self._url, "the connection was lost before the answer came"))

    def fail(self, error: BusError) -> None:
        """Fail all requests with an error like this."""
        waiting, self._open = self._open, {}
        for request in waiting.values():
            _fail(request, error)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        error = BusError(self._url, f"it has not answered within {self._timeout:g} seconds")
        while self._open:
            number, request = next(iter(self._open.items()))
            if request.deadline > loop.time():
                self._timer = loop.call_at(request.deadline, self._expire)
                return
            del self._open[number]
            _fail(request, error)


def _fail(request: _Request, error: BusError) -> None:
    # The caller may have given it up. Each gets an exception of its own.
    if not request.answer.done():
        request.answer.set_exception(type(error)(error.url, error.problem))
