"""Requests to a broker that wait for their answers, each with a number."""

import asyncio
from collections.abc import Callable

from ..errors import BusError
from .wire import BrokerReply


class ConnectionLost(BusError):
    """The connection ended before the answer came, so nobody knows what has been done."""


class _Request:
    """A request, and the parts of its answer that have come."""

    __slots__ = ("answer", "is_last", "parts")

    def __init__(self, is_last: Callable[[BrokerReply], bool]) -> None:
        self.is_last = is_last
        self.parts: list[BrokerReply] = []
        self.answer: asyncio.Future[list[BrokerReply]]
        self.answer = asyncio.get_running_loop().create_future()


def _is_single(_: BrokerReply) -> bool:
    return True


class BrokerRequests:
    """The requests of one process."""

    __slots__ = ("_last_number", "_open", "_url")

    def __init__(self, url: str) -> None:
        self._url = url
        self._last_number = 0
        self._open: dict[int, _Request] = {}

    def add(
        self, is_last: Callable[[BrokerReply], bool] = _is_single
    ) -> tuple[int, asyncio.Future[list[BrokerReply]]]:
        """Make a request; return its number and its answer, which ends with the last part."""
        self._last_number += 1
        request = self._open[self._last_number] = _Request(is_last)
        return self._last_number, request.answer

    def answered(self, reply: BrokerReply) -> None:
        """Take a part of an answer; the request may have been given up."""
        request = self._open.get(reply.number)
        if request is None:
            return
        request.parts.append(reply)
        if request.is_last(reply):
            del self._open[reply.number]
            if not request.answer.done():
                request.answer.set_result(request.parts)

    def give_up(self, number: int) -> None:
        self._open.pop(number, None)

    def broken(self) -> None:
        """Fail all requests: the connection has ended."""
        self.fail(ConnectionLost(self._url, "the connection was lost before the answer came"))

    def fail(self, error: BusError) -> None:
        """Fail all requests with an error like this."""
        waiting, self._open = self._open, {}
        for request in waiting.values():
            if not request.answer.done():
                request.answer.set_exception(type(error)(error.url, error.problem))
