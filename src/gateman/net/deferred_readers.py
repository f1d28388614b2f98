"""
Readers that the event loop calls after all others, and for a bounded time in each turn.

These are connections that shake hands: a TLS handshake takes a millisecond. When thousands of
clients come at once, those that are open would wait for all that have come.
"""

import asyncio
import select
from collections.abc import Callable
from contextvars import Context
from typing import Any

Reader = tuple[Context, Callable[[], object]]

# An open connection waits this long at most, and as long for what is accepted in a turn. A turn
# costs some 20 microseconds itself.
TIME_PER_TURN = 0.004  # seconds


class DeferredReaders:
    def __init__(
        self,
        failed: Callable[[Callable[[], object], BaseException], None],
        now: Callable[[], float],
    ) -> None:
        self._failed = failed
        self._now = now
        self._queue = select.epoll()
        self._readers: dict[int, Reader] = {}

    def add(self, fd: int, reader: Reader) -> None:
        """Add or replace a reader."""
        try:  # noqa: SIM105 - `suppress` costs three calls
            self._queue.register(fd, select.EPOLLIN)
        except FileExistsError:
            pass
        self._readers[fd] = reader

    def remove(self, fd: int) -> Reader | None:
        """Remove a reader and return it, if there is one."""
        reader = self._readers.pop(fd, None)
        if reader is not None:
            try:  # noqa: SIM105 - as above
                self._queue.unregister(fd)
            except OSError:
                # It was closed, and the kernel has forgotten it.
                pass
        return reader

    def call(self) -> None:
        """Call those that are ready, one after the other, until the time is over."""
        readers, poll, now = self._readers, self._queue.poll, self._now
        until = now() + TIME_PER_TURN
        # One at a time: each may remove others. The kernel moves it to the end of its queue.
        while (found := poll(0, 1)) and now() < until:
            reader = readers.get(found[0][0])
            if reader is None:
                # A program that is being started still has a copy of a socket that was closed.
                continue
            context, callback = reader
            try:
                context.run(callback)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio has it
                self._failed(callback, error)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a reader is ready; negative if closed."""
        return -1 if self._queue.closed else self._queue.fileno()

    def close(self) -> None:
        self._readers.clear()
        self._queue.close()


def defer(loop: asyncio.AbstractEventLoop, fd: int, callback: Callable[[], object]) -> None:
    """Have a handshake read after the open connections, by a loop that knows the difference."""
    getattr(loop, "add_deferred_reader", loop.add_reader)(fd, callback)


def promote(loop: asyncio.AbstractEventLoop, transport: Any) -> None:
    """Have a connection read like all that are open."""
    promote_reader = getattr(loop, "promote_reader", None)
    if promote_reader is not None:
        promote_reader(transport.get_extra_info("socket").fileno())
