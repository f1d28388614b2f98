"""The processes of a service on the event loop of a test: :func:`service`."""

import asyncio
import copy
import itertools
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from ..bus.memory import MemoryBroker
from ..cluster.hub import hub
from ..cluster.node import Node
from ..config.base import BaseWorker
from ..config.channels import kept_by
from ..config.worker import Worker
from ..connection import Connection
from ..errors import ConfigError, HubError
from ..gateway.bus_check import check_buses
from ..gateway.business import BusinessWorker
from ..gateway.gateway import Gateway
from ..runtime.timer import timers
from .clock import settle
from .errors import Collected
from .process import Process, running_process

_TEST_IS_DONE = (1001, "the test is done")


@asynccontextmanager
async def service(
    *workers: BaseWorker, processes: int | Mapping[Any, int] = 1
) -> AsyncIterator["Service"]:
    """
    Run workers, gateways and business workers on the test's event loop.

        async with testing.service(gateway, business, processes={business: 2}) as service:
            async with testing.connect(gateway) as client:
                await service.processes(business)[0].kill()

    Each process has a hub, timers and connections of its own, and a bus connects them, as in
    production. The global ``hub``, ``Timer`` and ``worker.connections`` are those of the process
    whose code runs. In the test itself, they are those of the first process that serves. Other
    globals are one for all: processes of a test do not share nothing.

    Args:
        workers: What to run, in the order in which it starts.
        processes: How many of each worker; a mapping names workers that have more than one.

    Raises:
        AssertionError: A callback raised an error that was not :func:`.expected`.
        ConfigError: An option of a worker cannot work, or something is served already.
        Exception: What ``on_worker_start`` raised.
    """
    for one in workers:
        if not isinstance(one, BaseWorker):
            raise ConfigError(f"{one!r} is not a worker", "write testing.service(worker, …)")
    check_buses(workers)
    counts = dict.fromkeys(workers, processes) if isinstance(processes, int) else processes
    if not workers or not all(one in workers and count > 0 for one, count in counts.items()):
        raise ConfigError(
            f"service({', '.join(one.name for one in workers)}) got processes={processes!r}",
            "give it the workers, and for each of them a number of processes, 1 or more",
        )
    if asyncio.get_running_loop() in _services:
        raise ConfigError(
            "a service or a client is there already, and an event loop has one hub",
            "give all workers to one service(), and connect clients in it",
        )
    async with joined() as served:
        served.is_complete = True
        for worker in workers:
            served.add(worker)
        for worker in workers:
            for number in range(counts.get(worker, 1)):
                await served.run(worker, copy.copy(worker), number)
        await settle()
        yield served


_services: dict[asyncio.AbstractEventLoop, "Service"] = {}


@asynccontextmanager
async def joined() -> AsyncIterator["Service"]:
    """Use the service of this event loop, which ends with its last user."""
    loop = asyncio.get_running_loop()
    served = _services.get(loop)
    if served is None:
        forget_metrics()
        served = _services[loop] = Service()
        try:
            served.open()
        except BaseException:
            del _services[loop]
            raise
    served.users += 1
    failure: BaseException | None = None
    try:
        yield served
    except BaseException as error:
        failure = error
        raise
    finally:
        served.users -= 1
        if not served.users:
            del _services[loop]
            await served.close(failure)


def forget_metrics() -> None:
    """Let the application's metrics begin at zero."""
    loaded = sys.modules.get("gateman.metrics")
    if loaded is not None:
        loaded.registry.clear()


class Service:
    """The processes that :func:`service` runs."""

    def __init__(self) -> None:
        self.users = 0
        # Whether all its workers are known; otherwise clients bring theirs.
        self.is_complete = False
        self._errors = Collected()
        self._folder = TemporaryDirectory()
        self._broker = MemoryBroker()
        self._processes: dict[BaseWorker, list[Process]] = {}
        self._connections: dict[Worker, dict[int, Connection]] = {}
        self._numbers = itertools.count()

    def processes(self, worker: BaseWorker) -> list[Process]:
        """
        List the processes of a worker that serve, by their numbers.

        Args:
            worker: One of those that were given to :func:`service`.

        Raises:
            ConfigError: It is not one of them.
        """
        serving = [one for one in self._processes_of(worker) if one.is_serving]
        return sorted(serving, key=lambda process: process.number)

    async def start(self, worker: BaseWorker) -> Process:
        """
        Start a process, as the supervision does after a crash.

        Args:
            worker: One of those that were given to :func:`service`.

        Returns:
            The process, which serves already. Its number is the lowest that is free.

        Raises:
            ConfigError: The worker is not one of them.
            Exception: What ``on_worker_start`` raised.
        """
        taken = {one.number for one in self.processes(worker)}
        free = next(number for number in itertools.count() if number not in taken)
        process = await self.run(worker, copy.copy(worker), free)
        await settle()
        return process

    # For gateman's own modules.

    def open(self) -> None:
        """Make the global hub that of the process whose code runs."""
        if hub._local_node is not None and not hub._local_node.is_closed:  # noqa: SLF001 - no user may do this
            raise HubError("the hub runs already: a test of handlers has it for itself")
        BaseWorker.is_run = True
        _set_node(cast("Node", _NodeInContext(self)))
        # Those that the test adds, or its module.
        timers.start()
        self._errors.begin()

    async def close(self, failure: BaseException | None) -> None:
        """Stop all processes, and report what callbacks have raised."""
        try:
            await timers.stop()
            await self._stop()
        finally:
            _set_node(None)
            self._folder.cleanup()
            self._errors.end(failure)

    def add(self, worker: BaseWorker) -> None:
        """Expect processes of a worker."""
        self._processes[worker] = []
        if isinstance(worker, Worker):
            self._connections[worker] = worker.connections
            worker.connections = cast("dict[int, Connection]", _Connections(self, worker))

    async def run(self, worker: BaseWorker, own: BaseWorker, number: int) -> Process:
        """Start a process, which serves ``own``: the worker, or a copy of it."""
        if own is not worker:
            own.id, own.callbacks = number, dict(worker.callbacks)
            if isinstance(own, Worker):
                own.connections = {}
        path = Path(self._folder.name, f"{next(self._numbers)}.sock")
        kept = kept_by(list(self._processes))
        process = Process(own, worker, self._broker, path, self._renew, kept=kept)
        self._processes[worker].append(process)
        await process.start()
        return process

    async def _renew(self, old: Process) -> Process:
        return await self.run(old.declared, copy.copy(old.declared), old.number)

    async def next_process(self, worker: Worker) -> Process:
        """Select the process that gets the next client: each in turn."""
        if worker not in self._processes and not self.is_complete:
            if isinstance(worker, Gateway):
                raise ConfigError(
                    f"{worker.name} is a gateway, and nothing handles its clients",
                    "write `async with testing.service(gateway, business):` around it",
                )
            self._processes[worker] = []
            return await self.run(worker, worker, 0)
        serving = self.processes(worker)
        if not serving:
            raise ConfigError(f"no process of {worker.name} serves", "start one")
        return serving[next(self._numbers) % len(serving)]

    def process_of(self, worker: BaseWorker | None = None) -> Process | None:
        """Find the process whose code runs; for the test itself, the first one that serves."""
        running = running_process.get()
        if running is not None:
            return running if worker is None or running.declared is worker else None
        mine = self._processes.values() if worker is None else [self._processes[worker]]
        return next((one for one in itertools.chain(*mine) if one.is_serving), None)

    def _processes_of(self, worker: BaseWorker) -> list[Process]:
        if worker not in self._processes:
            raise ConfigError(
                f"{worker!r} is not a worker of this service", "give it to service(), too"
            )
        return self._processes[worker]

    async def _stop(self) -> None:
        # Business workers last: `on_close` of all clients runs there.
        known = list(itertools.chain(*self._processes.values()))
        for is_business in (False, True):
            await asyncio.gather(
                *(
                    process.end(*_TEST_IS_DONE)
                    for process in known
                    if isinstance(process.worker, BusinessWorker) is is_business
                )
            )
        for worker, connections in self._connections.items():
            worker.connections = connections


class _NodeInContext:
    """The node of the process whose code runs, for the global hub."""

    def __init__(self, served: Service) -> None:
        object.__setattr__(self, "_served", served)

    def _node(self) -> Node:
        process = self._served.process_of()
        if process is None:
            raise HubError("no process of the service serves any more")
        node: Node = process.hub.local_node
        return node

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._node(), name, value)


class _Connections(Mapping[int, Connection]):
    """The connections of a worker in the process whose code runs."""

    def __init__(self, served: Service, worker: Worker) -> None:
        self._served = served
        self._worker = worker

    def _mine(self) -> dict[int, Connection]:
        process = self._served.process_of(self._worker)
        return process.worker.connections if process and isinstance(process.worker, Worker) else {}

    def __getitem__(self, number: int) -> Connection:
        return self._mine()[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._mine())

    def __len__(self) -> int:
        return len(self._mine())


def _set_node(node: "Node | None") -> None:
    hub._local_node = node  # noqa: SLF001 - no user may do this
