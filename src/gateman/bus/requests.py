"""Requests to a broker that wait for their answers, each with a number."""

import asyncio

from ..errors import BusError
from .wire import BrokerReply


class ConnectionLost(BusError):
    """The connection ended before the answer came, so nobody knows what has been done."""


class BrokerRequests:
    """The requests of one process."""

    __slots__ = ("_last_number", "_open", "_url")

    def __init__(self, url: str) -> None:
        self._url = url
        self._last_number = 0
        self._open: dict[int, asyncio.Future[BrokerReply]] = {}

    def add(self) -> tuple[int, asyncio.Future[BrokerReply]]:
        """Make a request; return its number and its answer."""
        self._last_number += 1
        answer = self._open[self._last_number] = asyncio.get_running_loop().create_future()
        return self._last_number, answer

    def answered(self, reply: BrokerReply) -> None:
        """End a request; it may have been given up."""
        answer = self._open.pop(reply.number, None)
        if answer is not None and not answer.done():
            answer.set_result(reply)

    def give_up(self, number: int) -> None:
        self._open.pop(number, None)

    def broken(self) -> None:
        """Fail all requests: the connection has ended."""
        waiting, self._open = self._open, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(
                    ConnectionLost(self._url, "the connection was lost before the answer came")
                )
