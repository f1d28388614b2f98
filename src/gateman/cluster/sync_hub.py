"""
The hub for programs without an event loop: Django, Flask, Celery, a cron job.

    with SyncHub("nats://127.0.0.1:4222?name=chat") as hub:
        hub.send_to_uid("42", "your order is ready")

It may be used by several threads. Its event loop runs in a thread of its own, which is started
at the first use, and anew in a process that was forked since: a hub may be made, and in use, when a
server forks its workers.
"""

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from functools import partial, wraps
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from .. import at_fork
from ..bus import open_bus
from ..errors import HubError
from .confirmation import Confirmation
from .hub import Hub

P = ParamSpec("P")
T = TypeVar("T")


class Sending:
    """A message that is on its way; :meth:`result` tells how many clients it was for."""

    __slots__ = ("_confirmation", "_run")

    def __init__(
        self,
        run: Callable[[Callable[[Hub], Awaitable[int]]], int],
        confirmation: Confirmation[int],
    ) -> None:
        self._run = run
        self._confirmation = confirmation

    def result(self) -> int:
        """
        Ask how many clients it was for, in all processes; 0 if nobody was there.

        Raises:
            PartialResult: A process did not answer in time; its ``value`` is that of the others.
        """

        async def wait(_: Hub) -> int:
            return await self._confirmation

        return self._run(wait)


def _plain(verb: Callable[Concatenate[Hub, P], T]) -> "Callable[Concatenate[SyncHub, P], T]":
    """Make a verb of what sends: it returns when the message is on its way."""

    @wraps(verb)
    def call(self: "SyncHub", /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def do(hub: Hub) -> T:
            result = verb(hub, *args, **kwargs)
            # What was sent is published at the end of this turn.
            await asyncio.sleep(0)
            return result

        return self._run(do)

    return call


def _sent(
    verb: Callable[Concatenate[Hub, P], Confirmation[int]],
) -> "Callable[Concatenate[SyncHub, P], Sending]":
    """Make a verb of what sends to clients: whoever wants to know asks how many there were."""
    plain = _plain(verb)

    @wraps(verb)
    def call(self: "SyncHub", /, *args: P.args, **kwargs: P.kwargs) -> Sending:
        return Sending(self._run, plain(self, *args, **kwargs))

    return call


def _awaited(
    verb: Callable[Concatenate[Hub, P], Awaitable[T]],
) -> "Callable[Concatenate[SyncHub, P], T]":
    """Make a verb of what is awaited: it returns when it is in effect, or answered."""

    @wraps(verb)
    def call(self: "SyncHub", /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def do(hub: Hub) -> T:
            return await verb(hub, *args, **kwargs)

        return self._run(do)

    return call


class SyncHub:
    """
    A :class:`~.hub.Hub` whose verbs block, and may be used by several threads.

    What changes something at a client returns when it is in effect. Sending returns when the
    message is on its way; what it returns has a method ``result()``, which waits for the number of
    clients that the message was for. Events can be sent, and not received.

    Raises:
        BusError: From every verb: the bus is not there, or refuses us. The next one tries again.
        HubError: It is closed. And all that :class:`~.hub.Hub` raises.
    """

    def __init__(self, url: str, *, answer_timeout: float = 3.0, **options: object) -> None:
        """
        Make one; the first verb connects it.

        Args:
            url: Of the bus: ``local:///path/to/socket`` or ``nats://host:4222?name=chat``, as the
                service has it.
            answer_timeout: How long an answer may take, in seconds.
            options: What that bus takes beside its URL.

        Raises:
            ConfigError: The URL, the timeout or an option makes no sense.
        """
        self._open_bus = partial(open_bus, url, **options)
        # So that a mistake in them is told here.
        self._open_bus()
        Hub().answer_timeout = answer_timeout
        self._answer_timeout = answer_timeout
        self._is_closed = False
        self._begin()
        at_fork.renew(self, SyncHub._begin_anew)
        # A program may end right behind a message.
        atexit.register(self.close)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._hub: Hub | None = None
        self._connecting: asyncio.Task[Hub] | None = None

    def _begin_anew(self) -> None:
        # In a forked child: another thread of the parent's may have held the lock, and the thread
        # of the loop is not there. What was of the parent's is kept: it cannot be ended here.
        self._of_parent = (self._loop, self._thread, self._hub, self._connecting)
        self._begin()

    send_to_all = _sent(Hub.send_to_all)
    send_to_group = _sent(Hub.send_to_group)
    send_to_uid = _sent(Hub.send_to_uid)
    send_to_client = _sent(Hub.send_to_client)
    send_to_clients = _sent(Hub.send_to_clients)
    send_event = _plain(Hub.send_event)
    dissolve_group = _awaited(Hub.dissolve_group)
    close_client = _awaited(Hub.close_client)
    close_uid = _awaited(Hub.close_uid)
    bind_uid = _awaited(Hub.bind_uid)
    unbind_uid = _awaited(Hub.unbind_uid)
    join_group = _awaited(Hub.join_group)
    leave_group = _awaited(Hub.leave_group)
    set_session = _awaited(Hub.set_session)
    update_session = _awaited(Hub.update_session)
    get_session = _awaited(Hub.get_session)
    is_online = _awaited(Hub.is_online)
    is_uid_online = _awaited(Hub.is_uid_online)
    uid_of_client = _awaited(Hub.uid_of_client)
    clients_of_uid = _awaited(Hub.clients_of_uid)
    clients_of_group = _awaited(Hub.clients_of_group)
    sessions_of_group = _awaited(Hub.sessions_of_group)
    uids_of_group = _awaited(Hub.uids_of_group)
    groups = _awaited(Hub.groups)
    count_clients = _awaited(Hub.count_clients)
    count_group = _awaited(Hub.count_group)
    count_uids = _awaited(Hub.count_uids)

    def close(self) -> None:
        """
        Send what waits, within a second, and end; nothing happens if it is closed.

        Threads that wait for an answer get an error.
        """
        with self._lock:
            self._is_closed = True
            hub, loop, thread = self._hub, self._loop, self._thread
            self._hub = self._loop = self._thread = None
        atexit.unregister(self.close)
        if loop is not None and thread is not None:
            if hub is not None:
                asyncio.run_coroutine_threadsafe(hub.stop(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, do: Callable[[Hub], Awaitable[T]]) -> T:
        async def run() -> T:
            return await do(await self._connected())

        # Locked, so that the loop is not closed before it knows of this.
        with self._lock:
            loop = self._running_loop()
            waiting = asyncio.run_coroutine_threadsafe(run(), loop)
        try:
            return waiting.result()
        except CancelledError:
            raise _closed() from None

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._is_closed:
            raise _closed()
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_serve, args=(self._loop,), name="gateman hub", daemon=True
            )
            self._thread.start()
        return self._loop

    async def _connected(self) -> Hub:
        # On the loop's thread. All who wait share one attempt, and its failure: one after another,
        # each would wait for a timeout of its own.
        if self._hub is not None:
            return self._hub
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Hub:
        try:
            hub = Hub()
            hub.answer_timeout = self._answer_timeout
            await hub.start(self._open_bus(), has_clients=False, needs_bus=True)
            if self._is_closed:
                await hub.stop()
                raise _closed()
            self._hub = hub
            return hub
        finally:
            self._connecting = None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        # Whoever still waits hears that it is over.
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
    finally:
        loop.close()


def _closed() -> HubError:
    return HubError("the hub is closed")
