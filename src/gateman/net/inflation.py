"""
Schedules the inflating of compressed frames, so that one client cannot stall all others.

Two budgets bound it: an :class:`~gateman.websocket.inflate_meter.InflateMeter` for each client, and
an :class:`InflateTurns` for all clients of a worker in one iteration of the event loop. A frame
that exceeds one waits, compressed, and its connection is not read from meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from ..websocket.assembler import Assembler
from ..websocket.deflate import Agreement, Inflater
from ..websocket.inflate_meter import InflateMeter


class InflateTurns:
    """The budget of all clients of a worker in one iteration of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self._loop = loop
        self._size = size
        self._used = 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False
        self._is_serving = False

    def spend(self, size: int) -> None:
        self._used += size
        self._schedule()

    def admits(self, *, is_light: bool) -> bool:
        """Return whether a frame may be inflated now; light clients do not wait for heavy ones."""
        if is_light:
            return self._used < 2 * self._size
        return self._used < self._size and (self._is_serving or not self._waiting)

    def wait(self, proceed: Callable[[], None]) -> None:
        """Call a function in the next iteration that has budget left for it."""
        self._waiting.append(proceed)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._begin_turn)

    def _begin_turn(self) -> None:
        self._is_scheduled = False
        self._used = 0
        self._is_serving = True
        try:
            # Each may call `wait` again, and then is last.
            for _ in range(len(self._waiting)):
                if self._used >= self._size:
                    break
                self._waiting.popleft()()
        finally:
            self._is_serving = False
        if self._waiting:
            self._schedule()


class Inflation:
    """The inflater of one connection, and its budgets."""

    __slots__ = ("_loop", "_meter", "_proceed", "_timer", "_turns", "inflater", "is_over")

    def __init__(
        self,
        agreement: Agreement,
        loop: asyncio.AbstractEventLoop,
        turns: InflateTurns,
        proceed: Callable[[], None],
    ) -> None:
        self.inflater: Inflater = agreement.make_inflater()
        self._loop = loop
        self._turns = turns
        self._proceed: Callable[[], None] | None = proceed
        self._meter = InflateMeter(agreement.options, loop.time())
        self._timer: asyncio.TimerHandle | None = None
        # Whether the last frame that had to wait exceeded the client's own budget.
        self.is_over = False

    def must_wait(self) -> bool:
        """Return whether the next frame has to wait; then ``proceed`` is called once, later."""
        seconds = self._meter.delay(self._loop.time())
        self.is_over = seconds > 0
        if self.is_over:
            self._timer = self._loop.call_later(seconds, self._continue)
            return True
        if self._turns.admits(is_light=self._meter.is_light):
            return False
        self._turns.wait(self._continue)
        return True

    def feed(
        self, assembler: Assembler, opcode: int, payload: bytes | memoryview, *, fin: bool, rsv: int
    ) -> str | bytes | None:
        """Feed a compressed frame to the assembler, and count it."""
        before = self.inflater.work
        try:
            return assembler.feed(opcode, fin, rsv, payload)
        finally:
            self._turns.spend(self._meter.spend(len(payload), self.inflater.work - before))

    def stop(self) -> None:
        """Do not call ``proceed`` any more."""
        self._proceed = None
        if self._timer is not None:
            self._timer.cancel()

    def _continue(self) -> None:
        if self._proceed is not None:
            self._proceed()
