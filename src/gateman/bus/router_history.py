"""The history that a router keeps, as a process on its bus sees it."""

import asyncio
from typing import TYPE_CHECKING, cast

from msgspec import structs

from ..history.base import (
    FollowingHistory,
    HistoryLimits,
    Missed,
    Page,
    Position,
)
from ..history.wire import (
    Answer,
    Append,
    HistoryRequest,
    Read,
    Remove,
    Since,
    decode_answer,
    encode,
)
from .bus_history import BusHistory
from .followers import check_append, history_subject

if TYPE_CHECKING:
    from .broker_bus import BrokerBus
    from .router_wire import RouterWire

# Of this process at a time; each has at most one page of messages in the router's buffer.
_MAX_READS = 4


class RouterHistory(BusHistory):
    """The store of a router; see :class:`~.history.base.History`."""

    def __init__(self, bus: "BrokerBus") -> None:
        self._bus = bus
        super().__init__(bus, self._top)
        self._reads = asyncio.Semaphore(_MAX_READS)

    async def append(
        self, channel: str, payload: bytes, limits: HistoryLimits, *, idempotency_key: str = ""
    ) -> Position:
        check_append(self._bus, payload, idempotency_key)
        request = Append(payload, limits.size, limits.ttl, idempotency_key)
        answer = await self._ask(channel, request)
        return Position(answer.epoch, answer.offset)

    async def since(self, channel: str, position: Position | None, limit: int) -> Missed:
        if position is None or not position.is_possible:
            top = await self._top(channel)
            return Missed((), top, is_complete=position is None)
        answer = await self._ask_for_all(channel, Since(*position, limit))
        messages = answer.messages if answer.is_complete else []
        return Missed(tuple(messages), Position(answer.epoch, answer.offset), answer.is_complete)

    async def read(
        self, channel: str, *, limit: int, since: Position | None = None, is_reverse: bool = False
    ) -> Page:
        if since is not None and not since.is_readable:
            return Page((), await self._top(channel))
        epoch, offset = since or ("", 0)
        answer = await self._ask_for_all(channel, Read(epoch, offset, limit, is_reverse))
        return Page(tuple(answer.messages), Position(answer.epoch, answer.offset))

    async def remove(self, channel: str) -> None:
        await self._ask(channel, Remove())

    async def _top(self, channel: str) -> Position:
        answer = await self._ask(channel, Since("", 0, 0))
        return Position(answer.epoch, answer.offset)

    async def _ask_for_all(self, channel: str, request: Since | Read) -> Answer:
        """Ask for one page after the other."""
        async with self._reads:
            answer = await self._ask(channel, request)
            found = answer.messages
            while answer.has_more:
                request = structs.replace(
                    request,
                    epoch=answer.epoch,
                    offset=found[-1].offset,
                    limit=request.limit - len(answer.messages),
                )
                answer = await self._ask(channel, request)
                found += answer.messages
        answer.messages = found
        return answer

    async def _ask(self, channel: str, request: HistoryRequest) -> Answer:
        name, body = history_subject(channel), encode(request)
        (reply,) = await self._bus.request(
            lambda wire, number: cast("RouterWire", wire).history(name, number, body), len(body)
        )
        return decode_answer(reply.payload)


_: type[FollowingHistory] = RouterHistory
