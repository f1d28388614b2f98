"""Requests to other nodes that wait for their answers."""

import asyncio
from collections.abc import Callable, Collection, Iterable

from msgspec import Raw

from .envelope import Problem, QueryReply
from .names import NodeId

# Parts of one node's answer: of 1 MiB each, more than any query needs.
_MAX_PARTS = 1024


class PendingRequest:
    """The answers to one request, and the nodes that have not answered yet."""

    __slots__ = ("_is_enough", "_over", "_parts", "missing", "number", "problems", "values")

    def __init__(
        self, number: int, nodes: Iterable[NodeId], is_enough: Callable[[Raw], bool] | None
    ) -> None:
        self.number = number
        self.missing = set(nodes)
        self.values: dict[NodeId, list[Raw]] = {}
        self.problems: dict[NodeId, Problem] = {}
        self._is_enough = is_enough
        self._parts: dict[NodeId, list[Raw]] = {}
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._end_if_complete()

    def take(self, answer: QueryReply) -> bool:
        """Add an answer, or a part of one; return whether it was expected."""
        parts = self._parts.setdefault(answer.source, [])
        if answer.part != len(parts) or answer.part >= _MAX_PARTS:
            return False
        # The value is a view of the payload, which is not kept.
        parts.append(answer.value.copy())
        if answer.is_last:
            self.missing.discard(answer.source)
            if answer.problem is Problem.NONE:
                self.values[answer.source] = parts
            else:
                self.problems[answer.source] = answer.problem
            if self._is_enough is not None and any(map(self._is_enough, parts)):
                self.missing.clear()
            self._end_if_complete()
        return True

    def expect(self, nodes: Iterable[NodeId]) -> None:
        """Wait for these nodes, and no others, unless there are answers enough."""
        if not self._over.done():
            self.missing = set(nodes) - self.values.keys() - self.problems.keys()
            self._end_if_complete()

    def forget(self, node: NodeId) -> None:
        """Stop waiting for a node that has ended."""
        self.missing.discard(node)
        self._end_if_complete()

    async def wait(self, deadline: float) -> None:
        """Wait for all answers, or until the deadline."""
        timeout = deadline - asyncio.get_running_loop().time()
        await asyncio.wait([self._over], timeout=max(timeout, 0))

    def end(self) -> None:
        """Stop waiting."""
        if not self._over.done():
            self._over.set_result(None)

    def _end_if_complete(self) -> None:
        if not self.missing:
            self.end()


class PendingRequests:
    """All requests of one process that wait for answers."""

    __slots__ = ("_number", "_requests")

    def __init__(self) -> None:
        self._requests: dict[int, PendingRequest] = {}
        self._number = 0

    def begin(
        self, nodes: Collection[NodeId], is_enough: Callable[[Raw], bool] | None = None
    ) -> PendingRequest:
        """Register a request that is about to be sent."""
        self._number += 1
        request = self._requests[self._number] = PendingRequest(self._number, nodes, is_enough)
        return request

    def end(self, request: PendingRequest) -> None:
        request.end()
        self._requests.pop(request.number, None)

    def take(self, answer: QueryReply) -> bool:
        """Pass an answer to its request; return whether it was expected."""
        request = self._requests.get(answer.request_id)
        return request is not None and request.take(answer)

    def forget(self, node: NodeId) -> None:
        """Stop waiting for a node that has ended."""
        for request in list(self._requests.values()):
            request.forget(node)

    def end_all(self) -> None:
        """End all requests with the answers that they have."""
        for request in list(self._requests.values()):
            self.end(request)
