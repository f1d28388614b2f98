"""
The hub for programs without an event loop: Django, Flask, Celery, a cron job.

    with SyncHub("nats://127.0.0.1:4222?name=chat") as hub:
        hub.send_to_uid("42", "your order is ready")

Several threads may share it. Its event loop runs in a thread of its own, which starts at the
first use, and again in a forked process: a hub may exist, and be in use, when a server forks its
workers.
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
from ..errors import HubError, WrongThread
from .confirmation import Confirmation
from .hub import Hub
from .hub import hub as hub_of_process
from .query_client import DEFAULT_TIMEOUT

P = ParamSpec("P")
T = TypeVar("T")


class Sending:
    """A message that was sent; :meth:`result` counts the clients that it was sent to."""

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
        Ask all processes how many clients it was sent to.

        Raises:
            PartialResult: A process did not answer in time; its ``value`` is that of the others.
        """

        async def wait(_: Hub) -> int:
            return await self._confirmation

        return self._run(wait)


def _plain(verb: Callable[Concatenate[Hub, P], T]) -> "Callable[Concatenate[SyncHub, P], T]":
    """Wrap a method that sends: it returns when the message is published."""

    @wraps(verb)
    def call(self: "SyncHub", /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def do(hub: Hub) -> T:
            result = verb(hub, *args, **kwargs)
            # Messages are published at the end of this turn.
            await asyncio.sleep(0)
            return result

        return self._run(do)

    return call


def _sent(
    verb: Callable[Concatenate[Hub, P], Confirmation[int]],
) -> "Callable[Concatenate[SyncHub, P], Sending]":
    """Wrap a method that sends to clients: its result can count them."""
    plain = _plain(verb)

    @wraps(verb)
    def call(self: "SyncHub", /, *args: P.args, **kwargs: P.kwargs) -> Sending:
        return Sending(self._run, plain(self, *args, **kwargs))

    return call


def _awaited(
    verb: Callable[Concatenate[Hub, P], Awaitable[T]],
) -> "Callable[Concatenate[SyncHub, P], T]":
    """Wrap an awaitable method: it returns when that is in effect, or answered."""

    @wraps(verb)
    def call(self: "SyncHub", /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def do(hub: Hub) -> T:
            return await verb(hub, *args, **kwargs)

        return self._run(do)

    return call


class SyncHub:
    """
    A :class:`~.hub.Hub` whose methods block, and that several threads may share.

    Methods that change something return when it is in effect. Sending returns when the
    message is published; the method ``result()`` of what it returns waits for the number of
    clients that the message was sent to. Events can be sent, but not received.

    Raises:
        BusError: From every method: the bus cannot be reached, or refuses the connection. The next
            call tries again.
        HubError: The hub is closed, or would block the event loop of a worker; and all other errors
            of :class:`~.hub.Hub`.
    """

    def __init__(
        self, url: str, *, answer_timeout: float = DEFAULT_TIMEOUT, **options: object
    ) -> None:
        """
        Make a hub; the first call of a method connects it.

        Args:
            url: URL of the bus that the service uses: ``local:///path/to/socket`` or
                ``nats://host:4222?name=chat``.
            answer_timeout: Seconds that an answer may take.
            options: Options of that bus.

        Raises:
            ConfigError: The URL, the timeout or an option is invalid.
        """
        self._open_bus = partial(open_bus, url, **options)
        # Reports a mistake in the URL or the options here.
        self._open_bus()
        Hub().answer_timeout = answer_timeout
        self._answer_timeout = answer_timeout
        self._is_closed = False
        self._reset()
        at_fork.renew(self, SyncHub._on_fork)
        # A program may exit right after sending a message.
        atexit.register(self.close)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._hub: Hub | None = None
        self._connecting: asyncio.Task[Hub] | None = None

    def _on_fork(self) -> None:
        # In a forked child: another thread of the parent may have held the lock, and the thread of
        # the loop does not exist. The parent's objects are kept: they cannot be closed here.
        self._of_parent = (self._loop, self._thread, self._hub, self._connecting)
        self._reset()

    send_to_all = _sent(Hub.send_to_all)
    send_to_group = _sent(Hub.send_to_group)
    send_to_uid = _sent(Hub.send_to_uid)
    send_to_client = _sent(Hub.send_to_client)
    send_to_clients = _sent(Hub.send_to_clients)
    publish = _awaited(Hub.publish)
    history = _awaited(Hub.history)
    remove_history = _awaited(Hub.remove_history)
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
    presence = _awaited(Hub.presence)
    presence_stats = _awaited(Hub.presence_stats)
    uids_of_group = _awaited(Hub.uids_of_group)
    groups = _awaited(Hub.groups)
    group_sizes = _awaited(Hub.group_sizes)
    count_clients = _awaited(Hub.count_clients)
    count_group = _awaited(Hub.count_group)
    count_uids = _awaited(Hub.count_uids)

    def close(self) -> None:
        """
        Send what is pending, within a second, and close; does nothing if it is closed.

        Threads that wait for an answer get a HubError.
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

        if _is_on_loop_of_hub():
            # This process would have to answer, too.
            raise HubError(
                "a SyncHub waits, and would block the event loop of this worker: use gateman.hub,"
                " or for the hub of another service asyncio.to_thread"
            )
        # The lock keeps the loop open until it has this task.
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
        # Runs on the thread of the loop. All waiting threads share one attempt and its failure;
        # separate attempts would each wait for a timeout.
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
        # Threads that still wait get an error.
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
    finally:
        loop.close()


def _is_on_loop_of_hub() -> bool:
    try:
        return hub_of_process.local_node is not None
    except (HubError, WrongThread):
        return False


def _closed() -> HubError:
    return HubError("the hub is closed")
