"""The history of a bus within one process."""

import time
from typing import Protocol

from ..errors import BusError
from ..history.base import (
    FollowingHistory,
    HistoryLimits,
    Missed,
    Page,
    Position,
)
from ..history.store import HistoryStore
from ..history.wire import live
from .base import Bus
from .bus_history import BusHistory
from .followers import check_append, history_subject


class StoreOwner(Protocol):
    """What the buses of one process meet at."""

    @property
    def store(self) -> HistoryStore:
        """The history of the channels."""

    def send_to_followers(self, subject: str, payload: bytes) -> None:
        """Pass a message to all subscribers."""


class MemoryHistory(BusHistory):
    """The store of a :class:`~.memory.MemoryBroker`; see :class:`~.history.base.History`."""

    def __init__(self, bus: Bus, broker: StoreOwner) -> None:
        self._bus = bus
        self._broker = broker
        super().__init__(bus, self._top)

    async def append(
        self, channel: str, payload: bytes, limits: HistoryLimits, *, idempotency_key: str = ""
    ) -> Position:
        check_append(self._bus, payload, idempotency_key)
        self._check()
        store = self._broker.store
        now = time.time()
        store.expire(now)
        added = store.append(history_subject(channel), payload, limits, now, idempotency_key)
        if added.is_new:
            message = live(added.previous, added.offset, payload)
            self._broker.send_to_followers(history_subject(channel), message)
        return Position(store.epoch, added.offset)

    async def since(self, channel: str, position: Position | None, limit: int) -> Missed:
        self._check()
        return self._broker.store.since(history_subject(channel), position, limit, time.time())

    async def read(
        self, channel: str, *, limit: int, since: Position | None = None, is_reverse: bool = False
    ) -> Page:
        self._check()
        return self._broker.store.read(
            history_subject(channel),
            limit=limit,
            since=since,
            is_reverse=is_reverse,
            now=time.time(),
        )

    async def remove(self, channel: str) -> None:
        self._check()
        self._broker.store.remove(history_subject(channel))

    async def _top(self, channel: str) -> Position:
        return (await self.since(channel, None, 0)).position

    def _check(self) -> None:
        if not self._bus.is_connected:
            raise BusError(self._bus.url, "it is away")


_: type[FollowingHistory] = MemoryHistory
