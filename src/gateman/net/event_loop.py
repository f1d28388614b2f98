"""
The event loop of a process: asyncio's own, with a shorter path from a socket to its reader.

    asyncio   epoll returns all ready sockets ─► a handle of each ─► a queue ─► each is called
    here      epoll returns some ready sockets ─► each is called

The handles and the queue take a tenth of an echo (bench/echo.py). With thousands of sockets, the
data of a socket has left the processor's caches before its handle runs. The kernel moves the ready
sockets that it has returned to the end of its queue, so that no socket waits longer.

Readers run before the callbacks of ``call_soon``, and otherwise as in asyncio: in their own
context, and never after ``remove_reader``. asyncio handles the rest: writers, sockets that have
failed, and everything in debug mode. Linux only, as is epoll.

Connections that shake hands are called last, for a bounded time (:mod:`.deferred_readers`).

Both use one queue of the kernel. asyncio does not know of these readers: its records of one take
five times as long as the system calls. While a socket has a writer too, asyncio calls both.

Relied on in asyncio, and tested by ``tests/net/test_event_loop.py``: transports call ``add_reader``
and ``remove_reader``; what asyncio registers for a socket is a pair of handles, the reader's first.
"""

import asyncio
import os
import select
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE, EpollSelector, SelectorKey
from typing import Any, TypeVarTuple, Unpack

from .. import at_fork
from .deferred_readers import DeferredReaders, Reader

# Few enough for the caches: with 10 000 connections that all talk, 256 to 1024 at once make 1.15 to
# 1.17 of the messages that asyncio's way makes, and all at once 0.96 of what 256 do. Enough for a
# hub, which joins what it writes in a turn: with 128, 1000 clients had 0.7 of the deliveries.
MAX_READY_COUNT = 512

_IN = select.EPOLLIN
_OUT = select.EPOLLOUT

_Args = TypeVarTuple("_Args")


class EventLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop, which calls readers directly from the selector."""

    def __init__(self) -> None:
        self._direct = _Selector(self._reader_failed, self._make_handle)
        super().__init__(self._direct)
        # Made for the first of them.
        self._deferred: DeferredReaders | None = None
        # What a forked child does with its copy of the queue would be done to ours.
        at_fork.give_up_all(self._direct, _Selector.queues)

    def add_reader(self, fd: Any, callback: Callable[[Unpack[_Args]], Any], *args: *_Args) -> None:
        """Call a function whenever the descriptor is readable."""
        self._take_deferred(fd)
        # In debug mode, asyncio logs slow callbacks, but only those that it calls itself.
        if args or self.get_debug() or self.is_closed():
            super().add_reader(fd, callback, *args)
            return
        read: Any = callback
        self._add((copy_context(), read), fd)

    def _add(self, reader: Reader, fd: Any) -> None:
        if not self._direct.add(_number_of(fd), reader):
            context, read = reader
            super().add_reader(fd, context.run, read)
            self._direct.lend(fd, reader)

    def add_deferred_reader(self, fd: int, callback: Callable[[], Any]) -> None:
        """Call a function whenever the descriptor is readable, after all others."""
        self.remove_reader(fd)
        if self.get_debug() or self.is_closed():
            self.add_reader(fd, callback)
            return
        if self._deferred is None:
            self._deferred = DeferredReaders(self._reader_failed, self.time)
            at_fork.give_up(self._deferred)
            self.add_reader(self._deferred, partial(self.call_soon, self._deferred.call))
        self._deferred.add(fd, (copy_context(), callback))

    def promote_reader(self, fd: int) -> None:
        """Call a deferred reader like all others from now on; others stay as they are."""
        reader = self._take_deferred(fd)
        if reader is not None:
            self._add(reader, fd)

    def _take_deferred(self, fd: Any) -> Reader | None:
        return None if self._deferred is None else self._deferred.remove(_number_of(fd))

    def remove_reader(self, fd: Any) -> bool:
        if self.is_closed():
            return False
        if self._take_deferred(fd) is not None:
            return True
        return self._direct.remove(_number_of(fd)) is not None or super().remove_reader(fd)

    def close(self) -> None:
        if self._deferred is not None and not self.is_closed():
            self.remove_reader(self._deferred)
            self._deferred.close()
            self._deferred = None
        super().close()

    def _make_handle(self, reader: Reader) -> asyncio.Handle:
        context, read = reader
        return asyncio.Handle(read, (), self, context)

    def _reader_failed(self, callback: Callable[[], object], error: BaseException) -> None:
        # The text is asyncio's, so that log searches find it.
        self.call_exception_handler(
            {"message": f"Exception in callback {callback!r}", "exception": error}
        )


def _number_of(fd: Any) -> int:
    return fd if isinstance(fd, int) else int(fd.fileno())


class _Selector(EpollSelector):
    """Calls readers, and returns everything else that is ready."""

    def __init__(
        self,
        failed: Callable[[Callable[[], object], BaseException], None],
        make_handle: Callable[[Reader], asyncio.Handle],
    ) -> None:
        super().__init__()
        self._failed = failed
        self._make_handle = make_handle
        # A second descriptor of the same epoll: the base class keeps its own private.
        self._queue = select.epoll.fromfd(os.dup(self.fileno()))
        # By descriptor. A list, and no object that makes the call: each is one more that has left
        # the caches since the last time.
        self._readers: list[Reader | None] = []
        # Registered since the kernel was asked: what it said of these numbers was about others.
        self._fresh: dict[int, Reader | None] = {}
        # The descriptors of readers, of which asyncio does not know.
        self._own: set[int] = set()
        # Readers that asyncio calls, with a handle of its own, while there is a writer too.
        self._lent: dict[int, tuple[object, Reader]] = {}

    def add(self, fd: int, reader: Reader) -> bool:
        """Add or replace a reader; return whether asyncio knows nothing of the descriptor."""
        # Where there is one already, too: its descriptor may have been closed and used again.
        try:
            self._queue.register(fd, _IN)
        except FileExistsError:
            if fd not in self._own:
                return False
        self._own.add(fd)
        self._note(fd, reader)
        return True

    def remove(self, fd: int) -> Reader | None:
        """Remove a reader of which asyncio does not know, and return it."""
        if fd not in self._own:
            return None
        reader = self._fresh.get(fd) or self._readers[fd]
        self._own.discard(fd)
        self._forget(fd)
        try:  # noqa: SIM105 - `suppress` costs three calls
            self._queue.unregister(fd)
        except OSError:
            # It was closed, and the kernel has forgotten it.
            pass
        return reader

    def lend(self, fileobj: Any, reader: Reader) -> None:
        """Take note that asyncio calls a reader, until there is nothing else to call."""
        key = self.get_key(fileobj)
        self._lent[key.fd] = (key.data[0], reader)
        self.modify(fileobj, key.events, key.data)

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        fd = _number_of(fileobj)
        reader = self.remove(fd)
        if reader is not None and not events & EVENT_READ:
            handle = self._make_handle(reader)
            self._lent[fd] = (handle, reader)
            events, data = events | EVENT_READ, (handle, data[1])
        key = super().register(fileobj, events, data)
        self._note(fd, None)
        return key

    def unregister(self, fileobj: Any) -> SelectorKey:
        key = super().unregister(fileobj)
        self._lent.pop(key.fd, None)
        self._forget(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        fd = _number_of(fileobj)
        handle, reader = self._lent.get(fd, (None, None))
        if reader is not None and data[0] is handle and events == EVENT_READ:
            key = self.unregister(fileobj)
            self.add(fd, reader)
            return key
        if data[0] is not handle:
            self._lent.pop(fd, None)
        return super().modify(fileobj, events, data)

    def _note(self, fd: int, reader: Reader | None) -> None:
        self._readers.extend([None] * (fd + 1 - len(self._readers)))
        self._readers[fd] = None
        self._fresh[fd] = reader

    def _forget(self, fd: int) -> None:
        self._readers[fd] = None
        self._fresh.pop(fd, None)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        readers, fresh = self._readers, self._fresh
        for fd, reader in fresh.items():
            readers[fd] = reader
        fresh.clear()
        ready = []
        patience = None if timeout is None else max(timeout, 0)
        found = self._queue.poll(patience, MAX_READY_COUNT)
        if not found and patience:
            # A process that was stopped by a signal wakes up with a timeout that is over, and
            # nothing: what has come meanwhile is read before timers judge others by their silence.
            found = self._queue.poll(0, MAX_READY_COUNT)
        for fd, event in found:
            # Errors and hang-ups are found by the reader.
            if (direct := readers[fd]) is not None:
                context, callback = direct
                try:
                    context.run(callback)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - as asyncio has it
                    self._failed(callback, error)
                continue
            key = self.get_map().get(fd)
            if key is not None and fd not in fresh:
                # Here too, or by the writer.
                events = (EVENT_READ if event & ~_OUT else 0) | (EVENT_WRITE if event & ~_IN else 0)
                ready.append((key, events & key.events))
        return ready

    def queues(self) -> list[int]:
        return [] if self._queue.closed else [self._queue.fileno(), self.fileno()]

    def close(self) -> None:
        self._queue.close()
        super().close()
