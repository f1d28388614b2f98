"""
A process of a master: serves one worker, says how it is, and does what it is told.

It begins in :mod:`gateman.master.child_main`, and ends when its master says so, and when its
master is gone: then it drains, as nobody accepts with it, a business worker when all gateways
have. A signal, SIGTERM (at once) or SIGQUIT (by draining), it passes on to its master: where the
whole group got it, processes end in the master's order.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, assert_never, cast

from .. import at_fork
from ..bus import Bus
from ..bus.local import held_bus
from ..cluster.hub import hub
from ..config.base import BaseWorker, outline
from ..config.checks import make_bus
from ..errors import BusError, ConfigError, ExitCode
from ..gateway.bus_check import check_buses
from ..gateway.business import BusinessWorker
from ..gateway.factory import service_maker
from ..log import logger, write_to_stderr
from ..runtime import process
from ..runtime.lifecycle import place_of_start
from ..runtime.timer import timers
from ..tls.reload import INTERVAL, CertificateReload
from . import channel as say
from . import privileges
from .assignment import Assignment
from .channel import MAX_LINE_SIZE, FromMaster, FromProcess, Lines, from_master, line, read
from .orphan import Orphan, max_shutdown_time
from .plan import listen_of, policy_of
from .process_stats import ProcessStats
from .script import user_traceback

BEAT_INTERVAL = 1.0  # seconds

# Most processes serve before.
_FIRST_WORD = 0.2  # seconds

# RFC 6455's registry: 1012, service restart; clients come back.
_RESTART = (1012, "service restart")

# A master that reads nothing any more needs no more beats.
_MAX_UNSENT = 64 << 10  # bytes

# What else an answer says fits into the rest of the line.
_MAX_ANSWER_SIZE = MAX_LINE_SIZE - 1024  # bytes


class InheritedSockets:
    """
    The sockets that the master has handed down.

    Attributes:
        channel: To the master.
        slots: The listening sockets of each of the worker's processes.
        orphan: What it needs when the master is gone.
    """

    def __init__(self, assignment: Assignment) -> None:
        self.channel = _inherit(assignment.channel)
        self.orphan = Orphan(assignment.log, assignment.liveness_fd)
        # Sockets of their own, one list for each process, or one list that all share.
        lists = {
            fds: [_inherit(fd) for fd in fds]
            for fds in dict.fromkeys(map(tuple, assignment.sockets))
        }
        self.slots = {number: lists[tuple(fds)] for number, fds in enumerate(assignment.sockets)}


def _inherit(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fd)
    at_fork.give_up(sock)
    return sock


def run(
    workers: Sequence[BaseWorker], assignment: Assignment, inherited: InheritedSockets
) -> NoReturn:
    """
    Serve the worker that this process was assigned, until the end of the process.

    Raises:
        ConfigError: The worker cannot be served so; exit code 78.
        SystemExit: Otherwise.
    """
    worker = _assigned(workers, assignment)
    check_buses(workers)
    worker.id = assignment.number
    write_to_stderr(os.environ, f"{worker.name}/{worker.id}")
    make = service_maker(worker, now=time.time())
    process.allow_open_files()
    bus = _bus_of(worker, assignment)
    who = privileges.find(worker.user, worker.group)
    if who is not None:
        privileges.assume(who, os.environ)
        inherited.orphan.drop_root_log()
    channel = inherited.channel
    channel.setblocking(False)
    child = Child(worker, inherited, max_shutdown_time(map(policy_of, workers)))
    try:
        with asyncio.Runner(loop_factory=process.new_event_loop) as runner:
            runner.run(child.serve(make, channel, bus, outline(workers, assignment.path)))
    except BusError as error:
        logger.error("%s", error)
        sys.exit(int(ExitCode.CRASHED))
    except process.StartFailed as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from None
        if cause is not None:
            cause = cause.with_traceback(user_traceback(cause.__traceback__))
        logger.error("%s: on_worker_start failed", error.service, exc_info=cause)
        sys.exit(int(ExitCode.CRASHED))
    except asyncio.CancelledError:
        pass  # It was told to end while it still started.
    sys.exit(int(ExitCode.STOPPED))


def _bus_of(worker: BaseWorker, assignment: Assignment) -> Bus | None:
    """Make the bus, while this process may still reach the folder of the router's socket."""
    if worker.bus is not None:
        return make_bus(worker.bus)
    return held_bus(Path(assignment.bus)) if assignment.bus else None


def _assigned(workers: Sequence[BaseWorker], assignment: Assignment) -> BaseWorker:
    """Find the worker; a script that has changed too much for a reload is refused."""
    remedy = "`restart` makes the change"
    if len(workers) != assignment.worker_count:
        raise ConfigError(
            f"the script declares {len(workers)} workers, but {assignment.worker_count} are"
            " running",
            remedy,
        )
    worker = workers[assignment.worker]
    listen = listen_of(worker)
    if listen != assignment.listen:
        raise ConfigError(
            f"the script listens on {listen or 'nothing'}, but"
            f" {assignment.listen or 'a worker that listens nowhere'} is running",
            remedy,
        )
    return worker


class Child:
    """The event loop's side of a process."""

    def __init__(self, worker: BaseWorker, inherited: InheritedSockets, patience: float) -> None:
        self._worker = worker
        self._slots = inherited.slots
        self._orphan = inherited.orphan
        self._patience = patience
        self._is_orphan = False
        self._service: process.AnyService | None = None
        self._told = asyncio.Event()
        self._must_stop = asyncio.Event()
        self._keeps_accepting = False
        self._has_asked = False
        self._task: asyncio.Task[Any] | None = None
        self._link: _MasterConnection | None = None
        self._certificate_reload: CertificateReload | None = None

    async def serve(
        self,
        make: Callable[[], process.AnyService],
        channel: socket.socket,
        bus: Bus | None = None,
        declared: tuple[str, ...] = (),
    ) -> None:
        """
        Serve until told otherwise.

        Raises:
            BusError: The bus is not there, or refuses us.
            StartFailed: ``on_worker_start`` raised.
            CancelledError: It was told to end before it served.
        """
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for number, do in (
            (signal.SIGTERM, partial(self._signalled, is_graceful=False)),
            (signal.SIGQUIT, partial(self._signalled, is_graceful=True)),
            (signal.SIGHUP, self._renew),
            # Of Workerman's habit, meant for the master; so is SIGINT, which child_main.py takes
            # for longer than a loop would.
            (signal.SIGUSR1, _do_nothing),
        ):
            loop.add_signal_handler(number, do)
            at_fork.reset_signals({number})
        own = self._slots[self._worker.id]
        _, self._link = await loop.connect_accepted_socket(lambda: _MasterConnection(self), channel)
        has_clients = not isinstance(self._worker, BusinessWorker)
        loop.call_later(_FIRST_WORD, self._say_starting, "the bus" if bus is not None else "")
        try:
            async with process.serving(
                [own], [make], bus=bus, has_clients=has_clients, declared=declared
            ) as served:
                [service] = served
                self._service = service
                self._begin(service)
                await self._told.wait()
                # Another process may have begun in its place, and runs them from now on.
                timers.drain()
                if not self._keeps_accepting:
                    self._accept_no_more(service)
                if not self._must_stop.is_set():
                    await self._drain_until_stopped(service)
        finally:
            self._close_listeners()
            self._link.close()
            if self._is_orphan:
                logger.info("%s has ended, without a master", self._worker.name)
            self._orphan.close()

    def _say_starting(self, first: str) -> None:
        """Tell the master what the start waits for; one that is stuck says nothing."""
        if self._service is None and self._link is not None:
            slot_state = place_of_start()
            self._link.send(
                say.Starting(f"on_worker_start, at {slot_state}" if slot_state else first)
            )
            loop = asyncio.get_running_loop()
            loop.call_later(BEAT_INTERVAL, self._say_starting, first)

    def _begin(self, service: process.AnyService) -> None:
        """Tell the master that this process serves, and from now on each second that it lives."""
        loop = asyncio.get_running_loop()
        if self._link is None:
            raise RuntimeError("a process serves before it has a channel")
        stats = ProcessStats(service, timers, hub.counts)
        self._link.send(say.Ready(policy_of(self._worker)))
        self._link.stats = stats
        contexts = service.contexts
        if contexts is not None:
            self._certificate_reload = CertificateReload(
                str(service), contexts, warns_of_dates=self._worker.id == 0
            )
            loop.call_later(INTERVAL, self._look, self._certificate_reload)
            if self._worker.id == 0:
                self._warn(service)
        self._sample(stats, loop.time())

    def _warn(self, service: process.AnyService) -> None:
        contexts = service.contexts
        if contexts is None:
            return
        for warning in contexts.warnings:
            logger.warning("%s: %s", service, warning)
        for note in contexts.notes:
            logger.info("%s: %s", service, note)
        for path in privileges.unreadable(contexts.files):
            logger.warning(
                "%s: user %s may not read %s: when it is renewed, `reload` takes it up",
                service,
                self._worker.user,
                path,
            )

    def _sample(self, stats: ProcessStats, beat_at: float) -> None:
        """Look at the clock some times a second, and say at one of them that this lives."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        next_at = stats.sample(now)
        if now >= beat_at and self._link is not None:
            self._link.send(say.Heartbeat(stats.beat(now)), is_urgent=False)
            beat_at = max(beat_at + BEAT_INTERVAL, now)
        loop.call_at(next_at, self._sample, stats, beat_at)

    def _look(self, certificate_reload: CertificateReload) -> None:
        certificate_reload.look()
        asyncio.get_running_loop().call_later(INTERVAL, self._look, certificate_reload)

    # What it is told.

    def told(self, message: FromMaster) -> None:
        """Do what the master says."""
        match message:
            case say.Accept(numbers):
                is_accepting = self._keeps_accepting or not self._told.is_set()
                if self._service is not None and is_accepting:
                    self._service.accept([sock for one in numbers for sock in self._slots[one]])
            case say.Drain(keeps_accepting):
                self._keeps_accepting = keeps_accepting and not self._told.is_set()
                self._drain()
            case say.Stop():
                self._stop()
            case say.GetReport(number):
                if self._link is not None:
                    self._link.answer(number)
            case say.GetConnections(number, limit):
                if self._link is not None and self._service is not None:
                    self._link.send(describe(self._service, number, limit))
            case _:
                assert_never(message)

    def orphaned(self, reason: str, *, is_alone: bool = False) -> None:
        """Drain: nobody says any more what to do."""
        if is_alone:
            self._is_orphan = True
            self._orphan.redirect_output()
        # Another master may start, and needs the addresses.
        self._keeps_accepting = False
        if self._service is not None:
            self._accept_no_more(self._service)
        if self._told.is_set():
            return
        if is_alone and self._service is not None and policy_of(self._worker).ends_last:
            logger.error("%s: draining when all gateways of this machine have ended", reason)
            self._orphan.wait(self._drain, self._patience)
        else:
            logger.error("%s: draining", reason)
            self._drain()

    def _signalled(self, *, is_graceful: bool) -> None:
        """Ask the master what to do; for the second time, or while this starts, do it."""
        is_asking = self._service is not None and not self._told.is_set() and not self._has_asked
        if is_asking and self._link is not None and self._link.is_connected:
            self._has_asked = True
            self._link.send(say.Signalled(is_graceful))
        elif is_graceful:
            self._drain()
        else:
            self._stop()

    def _drain(self) -> None:
        if self._service is None and self._task is not None:
            self._task.cancel()
        self._told.set()

    def _stop(self) -> None:
        self._must_stop.set()
        self._drain()

    def _renew(self) -> None:
        if self._certificate_reload is not None:
            self._certificate_reload.reload()

    def _accept_no_more(self, service: process.AnyService) -> None:
        service.accept([])
        self._close_listeners()

    def _close_listeners(self) -> None:
        """Give the listening sockets up; open here, they would take clients and let them hang."""
        for sockets in self._slots.values():
            for sock in sockets:
                sock.close()

    async def _drain_until_stopped(self, service: process.AnyService) -> None:
        window = self._worker.drain_window
        drain = asyncio.ensure_future(
            service.drain(*_RESTART, window=window, may_stay=self._may_stay)
        )
        stop = asyncio.ensure_future(self._must_stop.wait())
        await asyncio.wait({drain, stop}, return_when=asyncio.FIRST_COMPLETED)
        for task in (drain, stop):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drain

    def _may_stay(self) -> bool:
        """Tell the master, if there is one, that this process needs longer than its window."""
        if self._link is None or not self._link.is_connected:
            return False
        self._link.send(say.StillDraining())
        return True


class _MasterConnection(asyncio.Protocol):
    """The channel to the master."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._lines = Lines()
        self._transport: asyncio.Transport | None = None
        self.stats: ProcessStats | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none to `isinstance`.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            messages = read(from_master, self._lines.feed(data))
        except ValueError:
            self.close()
            self._child.orphaned("something else than the master writes to its channel")
            return
        for message in messages:
            self._child.told(message)

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self._child.orphaned(
                "the master is gone" if error is None else f"the master cannot be heard ({error})",
                is_alone=True,
            )

    @property
    def is_connected(self) -> bool:
        """Whether the master hears."""
        return self._transport is not None

    def close(self) -> None:
        """Say and hear no more."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def answer(self, number: int) -> None:
        """Answer a question about how this process is."""
        if self.stats is not None:
            now = asyncio.get_running_loop().time()
            self.send(say.ReportAnswer(number, self.stats.report(now)))

    def send(self, message: FromProcess, *, is_urgent: bool = True) -> None:
        """Send a message; what is not urgent only to a master that reads."""
        transport = self._transport
        if transport is not None and (is_urgent or transport.get_write_buffer_size() < _MAX_UNSENT):
            transport.write(line(message))


def describe(
    service: process.AnyService, number: int, limit: int, *, max_size: int = _MAX_ANSWER_SIZE
) -> say.ConnectionsAnswer:
    """List a service's connections."""
    connections = cast("list[say.ConnectionReport]", service.describe(limit))
    answer = say.ConnectionsAnswer(number, connections, service.present_count)
    while answer.connections and len(line(answer)) > max_size:
        answer.connections = answer.connections[: len(answer.connections) // 2]
    return answer


def _do_nothing() -> None:
    """Stand in for what a signal would do: end the process."""
