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

Relied on in asyncio, and tested by ``tests/net/test_event_loop.py``: transports call
``add_reader``, and nothing below it; the first half of the data that asyncio registers for a socket
stays the same object while its reader does.
"""

import asyncio
import os
import select
from collections.abc import Callable
from contextvars import Context, copy_context
from selectors import EVENT_READ, EVENT_WRITE, EpollSelector, SelectorKey
from typing import Any, TypeVarTuple, Unpack

from .. import at_fork

# Few enough for the caches: with 10 000 connections that all talk, 256 to 1024 at once make 1.15 to
# 1.17 of the messages that asyncio's way makes, and all at once 0.96 of what 256 do. Enough for a
# hub, which joins what it writes in a turn: with 128, 1000 clients had 0.7 of the deliveries.
MAX_READY_COUNT = 512

_IN = select.EPOLLIN
_OUT = select.EPOLLOUT

_Args = TypeVarTuple("_Args")
_Reader = tuple[Context, Callable[[], object]]


class EventLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop, which calls readers directly from the selector."""

    def __init__(self) -> None:
        self._direct = _Selector(self._reader_failed)
        super().__init__(self._direct)
        # What a forked child does with its copy of the queue would be done to ours.
        at_fork.give_up_all(self._direct, _Selector.queues)

    def add_reader(self, fd: Any, callback: Callable[[Unpack[_Args]], Any], *args: *_Args) -> None:
        """Call a function whenever the descriptor is readable."""
        # In debug mode, asyncio logs slow callbacks, but only those that it calls itself.
        if args or self.get_debug():
            super().add_reader(fd, callback, *args)
            return
        # The same context, whichever way it is called.
        context = copy_context()
        read: Any = callback
        super().add_reader(fd, context.run, read)
        self._direct.read_by(fd, (context, read))

    def _reader_failed(self, callback: Callable[[], object], error: BaseException) -> None:
        # The text is asyncio's, so that log searches find it.
        self.call_exception_handler(
            {"message": f"Exception in callback {callback!r}", "exception": error}
        )


class _Selector(EpollSelector):
    """Calls readers, and returns everything else that is ready."""

    def __init__(self, failed: Callable[[Callable[[], object], BaseException], None]) -> None:
        super().__init__()
        self._failed = failed
        # A second descriptor of the same epoll: the base class keeps its own private.
        self._queue = select.epoll.fromfd(os.dup(self.fileno()))
        # By descriptor. A list, and no object that makes the call: each is one more that has left
        # the caches since the last time.
        self._readers: list[_Reader | None] = []
        # What asyncio has registered beside each; when it is another, the reader is over.
        self._handles: dict[int, object] = {}
        # Registered since the kernel was asked: what it said of these numbers was about others.
        self._fresh: dict[int, _Reader | None] = {}

    def read_by(self, fileobj: Any, reader: _Reader) -> None:
        """Call a reader, until asyncio replaces the handle that it has just registered."""
        key = self.get_key(fileobj)
        self._handles[key.fd] = key.data[0]
        self._fresh[key.fd] = reader

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        key = super().register(fileobj, events, data)
        self._readers.extend([None] * (key.fd + 1 - len(self._readers)))
        self._fresh[key.fd] = None
        return key

    def unregister(self, fileobj: Any) -> SelectorKey:
        key = super().unregister(fileobj)
        self._forget(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        key = super().modify(fileobj, events, data)
        if self._handles.get(key.fd) is not key.data[0]:
            self._forget(key.fd)
        return key

    def _forget(self, fd: int) -> None:
        self._readers[fd] = None
        self._handles.pop(fd, None)
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
            if event == _IN and (direct := readers[fd]) is not None:
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
                # Errors and hang-ups are found by the reader or the writer.
                events = (EVENT_READ if event & ~_OUT else 0) | (EVENT_WRITE if event & ~_IN else 0)
                ready.append((key, events & key.events))
        return ready

    def queues(self) -> list[int]:
        return [] if self._queue.closed else [self._queue.fileno(), self.fileno()]

    def close(self) -> None:
        self._queue.close()
        super().close()
