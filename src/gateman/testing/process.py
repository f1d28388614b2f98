"""
One of several processes of a service, on the event loop of a test.

A context variable says which process runs a piece of code: its callbacks, tasks and timers inherit
it. The global hub, timers and ``worker.connections`` are those of that process.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from pathlib import Path
from typing import Any

from ..bus.memory import MemoryBroker, MemoryBus
from ..cluster.hub import Hub
from ..cluster.hub import hub as global_hub
from ..cluster.membership import ConnectionMembership
from ..cluster.node_channels import Kept
from ..config.base import BaseWorker
from ..config.worker import Worker
from ..gateway.business import BusinessWorker
from ..listen import ListenAddress
from ..net import sockets as listening
from ..runtime.timer import Timers, add_timers, timers_of_context
from ..websocket.close import GOING_AWAY, SERVICE_RESTART
from .clock import settle
from .service_maker import make_service
from .services import MortalService, MortalWorker

running_process: ContextVar["Process | None"] = ContextVar("process", default=None)
"""The process whose code runs; ``None`` in the test itself."""


class Process:
    """
    One process of a worker; see :func:`service`.

    Attributes:
        worker: The worker as this process has it: a copy, with its own ``id`` and
            ``connections``.
        hub: The hub of this process, for the test.
    """

    def __init__(
        self,
        worker: BaseWorker,
        declared: BaseWorker,
        broker: MemoryBroker,
        path: Path,
        renew: Callable[["Process"], Awaitable["Process"]],
        *,
        kept: Kept,
    ) -> None:
        self.worker = worker
        self.declared = declared
        self.hub = Hub()
        self.hub.on_gap, self.hub.answer_timeout = global_hub.on_gap, global_hub.answer_timeout
        self.path = path
        self._renew = renew
        self._kept = kept
        self._timers = Timers()
        self._context = copy_context()
        self._context.run(running_process.set, self)
        self._context.run(timers_of_context.set, self._timers)
        self._bus = _Bus(broker, self._context.copy())
        self._service: MortalService | None = None
        self._sockets: list[socket.socket] = []
        self._draining: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def number(self) -> int:
        """The number among the processes of its worker, from 0: ``worker.id``."""
        return self.worker.id

    @property
    def is_serving(self) -> bool:
        """Whether new clients come here: it has neither ended, nor does it drain."""
        return self._service is not None and self._draining is None and self._stopping is None

    @property
    def is_ready(self) -> bool:
        """Whether health checks get 200: it does not drain, and ``on_health`` does not fail."""
        service = self._service
        if self._stopping is not None or service is None:
            return False
        return not service.problem if isinstance(service, MortalWorker) else self.is_serving

    @property
    def has_ended(self) -> bool:
        """Whether it was killed, or has stopped."""
        return self._stopping is not None and self._stopping.done()

    async def start(self) -> None:
        """Run ``on_worker_start``, then serve."""
        await self._task(self._start())

    async def _start(self) -> None:
        worker = self.worker
        has_clients = not isinstance(worker, BusinessWorker)
        await self.hub.start(self._bus, has_clients=has_clients, kept=self._kept)
        try:
            # All others have answered by then: nothing has to wait for them.
            await settle()
            self.hub.local_node.liveness.discovery.end()
            service = make_service(worker, self.path)
            if isinstance(worker, Worker):
                self._sockets = listening.bind(ListenAddress.parse(f"websocket+unix://{self.path}"))
            add_timers(worker)
            await service.start(self._sockets, ConnectionMembership(self.hub.local_node))
        except BaseException:
            await self._timers.stop()
            await self.hub.stop()
            listening.release(self._sockets)
            raise
        self._service = service
        self._timers.start(self.hub.local_node.leases)

    async def kill(self) -> None:
        """
        End it as SIGKILL does, or a crash.

        No callback is called, running ones are cancelled, and its clients get no Close. The other
        processes learn of it from the bus. :meth:`Service.start` starts another one, as the
        supervision does.
        """
        if self._service is not None and self._stopping is None:
            await self._bus.stop()
            self._service.die()
        await self.stop()

    async def stop(self) -> None:
        """End it in order, as ``gateman stop`` does: clients are closed, then it stops."""
        await self.end(*GOING_AWAY)

    async def end(self, code: int, reason: str) -> None:
        """End it in order, once."""
        if self._stopping is None:
            self._stopping = self._task(self._stop(code, reason))
        # The drain may be the caller, and is cancelled then.
        await asyncio.shield(self._stopping)

    async def _stop(self, code: int, reason: str) -> None:
        if self._draining is not None:
            self._draining.cancel()
        await self._timers.stop()
        if self._service is not None:
            await self._service.stop(code, reason)
        await self.hub.stop()
        listening.release(self._sockets)

    async def reload(self) -> "Process":
        """
        Replace it by a new process, as ``gateman reload`` does.

        It takes no more clients, and closes those it has with 1012 during ``drain_window``: move
        the clock with :func:`advance`. The callbacks of a business worker have that time to end,
        and other processes get its clients. Then it stops.

        Returns:
            The new process, which serves already.

        Raises:
            Exception: What ``on_worker_start`` of the new process raised; the old one continues.
        """
        new = await self._renew(self)
        if self._service is not None and self.is_serving:
            self._service.accept([])
            self._timers.drain()
            self._draining = self._task(self._drain(self._service))
            await settle()
        return new

    async def _drain(self, service: MortalService) -> None:
        await service.drain(*SERVICE_RESTART, window=self.worker.drain_window)
        await self.stop()

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, context=self._context)

    def __repr__(self) -> str:
        state = "" if self.is_serving else ", ended" if self.has_ended else ", ending"
        return f"<Process {self.worker.name}/{self.number}{state}>"


class _Bus(MemoryBus):
    """The bus of one process. What it delivers runs as that process, and not as the sender."""

    def __init__(self, broker: MemoryBroker, context: Context) -> None:
        super().__init__(broker=broker)
        self._context = context

    @property
    def url(self) -> str:
        # As between the processes of one machine: it knows at once who has died.
        return "local://testing"

    def put(self, subject: str, payload: bytes) -> None:
        self._context.run(super().put, subject, payload)
