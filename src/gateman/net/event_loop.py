"""
The event loop of a process: asyncio's own, with a shorter way from a socket to whoever reads it.

    asyncio   epoll tells of all that are ready ─► a note of each ─► a queue ─► each is called
    here      epoll tells of some that are ready ─► each is called

The notes and the queue take a tenth of an echo (bench/echo.py). With thousands of sockets, what was
looked at for the last note is out of the processor's caches when its turn comes, in the kernel as
well as here, and so many notes set off the garbage collector. The kernel keeps those that are ready
in a queue, and puts behind it whomever it has told of, so that nobody waits for longer.

What reads is called before what ``call_soon`` has queued, and otherwise as asyncio does it: in a
context of its own, and never after ``remove_reader``. All else is left to asyncio: what writes,
sockets that have failed, and everything in debug mode. Linux only, as is epoll.

Semi-internal parts that are relied on: transports call ``add_reader``, and not what is below it;
the first half of what asyncio registers for a socket is the same for as long as its reader is.
``tests/net/test_event_loop.py`` fails when they change.
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
    """asyncio's, but that readers are called at once."""

    def __init__(self) -> None:
        self._direct = _Selector(self._reader_failed)
        super().__init__(self._direct)
        # What a forked child does with its copy of the queue would be done to ours.
        at_fork.give_up_all(self._direct, _Selector.queues)

    def add_reader(self, fd: Any, callback: Callable[[Unpack[_Args]], Any], *args: *_Args) -> None:
        """Call a function whenever there is something to read."""
        # In debug mode, asyncio tells of whatever takes long that it has called itself.
        if args or self.get_debug():
            super().add_reader(fd, callback, *args)
            return
        # The same context, whichever way it is called.
        context = copy_context()
        read: Any = callback
        super().add_reader(fd, context.run, read)
        self._direct.read_by(fd, (context, read))

    def _reader_failed(self, callback: Callable[[], object], error: BaseException) -> None:
        # In asyncio's words, for those who look for them.
        self.call_exception_handler(
            {"message": f"Exception in callback {callback!r}", "exception": error}
        )


class _Selector(EpollSelector):
    """Calls who reads, and tells of everything else that is ready."""

    def __init__(self, failed: Callable[[Callable[[], object], BaseException], None]) -> None:
        super().__init__()
        self._failed = failed
        # Another way to the kernel's queue: that of the class above is private.
        self._queue = select.epoll.fromfd(os.dup(self.fileno()))
        # By descriptor. A list, and no object that makes the call: each is one more that has left
        # the caches since the last time.
        self._readers: list[_Reader | None] = []
        # What asyncio has registered beside each; when it is another, the reader is over.
        self._handles: dict[int, object] = {}
        # Registered since the kernel was asked: what it said of these numbers was about others.
        self._fresh: dict[int, _Reader | None] = {}

    def read_by(self, fileobj: Any, reader: _Reader) -> None:
        """Call a reader, for as long as what asyncio has just registered for it stays."""
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
                # Errors and hang-ups are for whoever reads or writes to find out.
                events = (EVENT_READ if event & ~_OUT else 0) | (EVENT_WRITE if event & ~_IN else 0)
                ready.append((key, events & key.events))
        return ready

    def queues(self) -> list[int]:
        """List the descriptors of the kernel's queue."""
        return [] if self._queue.closed else [self._queue.fileno(), self.fileno()]

    def close(self) -> None:
        self._queue.close()
        super().close()
