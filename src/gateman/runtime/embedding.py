"""Serves workers on the event loop of another program."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..bus import Bus
from ..config import environment
from ..config.base import BaseWorker
from ..config.channels import kept_by
from ..config.checks import make_bus
from ..config.worker import Worker, certificates_of
from ..errors import ConfigError
from ..listen import ListenAddress
from ..net import sockets as listening
from . import process
from .service_maker import service_maker

# Options of processes, which only `run_all` starts, and the value that asks for nothing.
_OF_PROCESSES: dict[str, Any] = {"count": 1, "user": None, "group": None}

_RUN_ALL = "`Worker.run_all()` runs it in processes of its own"


@dataclass(frozen=True, slots=True)
class Serving:
    """
    What :func:`serve` gives to the body of its ``async with``.

    Attributes:
        urls: Where clients connect to, such as ``("ws://127.0.0.1:8282",)``: of all workers, in
            their order. Port 0 is replaced by the port that the system chose. A Unix socket is
            ``"ws+unix:///path"``.
    """

    urls: tuple[str, ...]


@contextlib.asynccontextmanager
async def serve(*workers: Worker[Any]) -> AsyncIterator[Serving]:
    """
    Serve workers on the running event loop, as long as the body of an ``async with`` runs.

        async with serve(worker) as serving:
            print(serving.urls)
            await asyncio.Event().wait()

    It is for scripts, notebooks, tests and the startup of another framework. In production
    :meth:`gateman.Worker.run_all` gives more: several processes, supervision, reload, commands.

    Args:
        workers: What to serve, all of it in one call. Gateways and business workers are processes
            of their own and need ``run_all``.

    Raises:
        ConfigError: Something declared cannot work, or needs ``run_all``; nothing listens then.
        HubError: ``serve`` is running already in this process.
        BusError: The bus refuses the connection. While it cannot be reached, the workers serve,
            and the hub keeps trying.
        Exception: What ``on_worker_start`` raised.

    Guarantees:
        Signals, the event loop and its policy stay the program's. At the end of the body, clients
        are closed with 1001, ``on_close`` and ``on_worker_stop`` have run, and nothing listens.
        After that, the same workers may be served again.
    """
    _check_kinds(workers)
    BaseWorker.is_run = True
    environment.apply(workers, os.environ)
    makers = [service_maker(_checked(worker), now=time.time()) for worker in workers]
    kept = kept_by(workers)
    bus = _bus_of(workers)
    loop = asyncio.get_running_loop()
    previous = loop.get_exception_handler()
    bound: list[list[socket.socket]] = []
    async with contextlib.AsyncExitStack() as stack:
        for worker in workers:
            bound.append(listening.bind(ListenAddress.parse(worker.listen)))
            stack.callback(listening.release, bound[-1])
        stack.callback(loop.set_exception_handler, previous)
        try:
            await stack.enter_async_context(
                process.serving(
                    bound,
                    makers,
                    bus=bus,
                    kept=kept,
                    exception_handler=previous or _handle_by_default,
                )
            )
        except process.StartFailed as error:
            raise (error.__cause__ or error) from None
        yield Serving(
            tuple(
                listening.url_of(
                    sock,
                    ListenAddress.parse(worker.listen).protocol,
                    is_secure=worker.transport == "ssl",
                )
                for worker, sockets in zip(workers, bound, strict=True)
                for sock in sockets
            )
        )


def _handle_by_default(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    loop.default_exception_handler(context)


def _check_kinds(workers: Sequence[object]) -> None:
    if not workers:
        raise ConfigError("serve() got nothing to serve", "write serve(worker)")
    for worker in workers:
        if type(worker) is not Worker:
            raise ConfigError(
                f"serve() got {type(worker).__name__!r}, and it serves workers only",
                "`run_all` runs gateways and business workers, each in processes of its own"
                if isinstance(worker, BaseWorker)
                else "write serve(worker), or serve(one, other)",
            )


def _checked(worker: Worker) -> Worker:
    for name, default in _OF_PROCESSES.items():
        if getattr(worker, name) != default:
            raise ConfigError(
                f"{worker.name!r} has {name}={getattr(worker, name)!r}, and serve() runs in this"
                " process only",
                f"leave {name}= out; {_RUN_ALL}",
            )
    if certificates_of(worker):
        raise ConfigError(
            f"{worker.name!r} has acme, and serve() starts no process that orders certificates",
            f"give it a certificate in a file; {_RUN_ALL}",
        )
    return worker


def _bus_of(workers: Sequence[Worker]) -> Bus | None:
    declared = [worker.bus for worker in workers]
    if any(one != declared[0] for one in declared):
        raise ConfigError(
            "the workers have different buses, and one process has one hub",
            "give all of them the same bus=, or none",
        )
    return make_bus(declared[0]) if declared and declared[0] is not None else None
