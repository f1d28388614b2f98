"""
Finds out when a node knows all nodes that were on the bus before it.

Nodes that start later say so themselves. Those that were there answer a new node's hello, but one
that is slow may answer late. So a node that knows all others subscribes to a subject: if the bus
says that nobody does, there is none to wait for. Otherwise one of them answers, and names all that
it knows. Several nodes that start, or are back, at the same time do not wait for each other.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from ..bus import Bus
from ..bus.interest import answered
from ..bus.subjects import subject

_SUBJECT = subject("informed")


class InformedNodes:
    """The subject to which nodes with clients subscribe when they know all others."""

    def __init__(self, bus: Bus | None) -> None:
        self._bus = bus

    def exist(self) -> Awaitable[bool | None]:
        """Ask the bus; ``None`` if it does not know."""
        if self._bus is None:
            return answered(has_subscriber=None)
        return self._bus.has_subscriber(_SUBJECT)

    def join(self) -> None:
        if self._bus is not None:
            self._bus.subscribe(_SUBJECT, _ignore)

    def leave(self) -> None:
        if self._bus is not None:
            self._bus.unsubscribe(_SUBJECT)


def _ignore(_payload: bytes) -> None:
    """Ignore what is published: nothing is."""


class Discovery:
    """Waits until this node knows all others, at least for ``patience`` seconds."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[bool | None]],
        *,
        greet: Callable[[], object],
        on_informed: Callable[[], object],
        is_connected: Callable[[], bool],
        patience: float,
    ) -> None:
        self._ask = ask
        self._greet = greet
        self._on_informed = on_informed
        self._is_connected = is_connected
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._informed = asyncio.Event()
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Find out: this node has started, or its bus is back."""
        self.stop()
        self._informed.clear()
        self._over.clear()
        self._task = self._loop.create_task(self._find_out())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def end(self) -> None:
        """Expect nobody else."""
        self.stop()
        self.informed()
        self._over.set()

    def informed(self) -> None:
        """Note that all others are known: a node that knows them has named them."""
        if not self._informed.is_set():
            self._informed.set()
            self._on_informed()

    @property
    def is_informed(self) -> bool:
        return self._informed.is_set()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    async def wait(self, deadline: float) -> None:
        """Wait until it is over, or for the deadline."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._over.wait()

    async def _find_out(self) -> None:
        # Also if it is informed at once, as nodes of earlier versions do not subscribe, and servers
        # of a cluster learn late who does.
        until = self._loop.time() + self._patience
        while not self._informed.is_set():
            if not await self._ask():
                if not self._is_connected():
                    # The return of the bus begins this anew.
                    return
                self.informed()
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self._informed.wait()
            if not self._informed.is_set():
                self._greet()
        await asyncio.sleep(max(until - self._loop.time(), 0))
        self._over.set()
