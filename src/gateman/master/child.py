"""
A process of a master: serves one worker, reports its state, and obeys the master.

:mod:`gateman.master.child_main` starts it. If its master is gone it drains, a business worker after
all gateways. It reports SIGTERM and SIGQUIT to the master: if the whole process group got the
signal, the master ends its processes in order.
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
from typing import TYPE_CHECKING, Any, NoReturn, assert_never

import msgspec

from .. import at_fork
from ..bus import Bus
from ..bus.local import held_bus
from ..cluster.hub import hub
from ..cluster.node_channels import NOTHING_KEPT, Kept
from ..config.base import BaseWorker, outline
from ..config.channels import kept_by
from ..config.checks import make_bus
from ..config.worker import Worker, certificates_of
from ..errors import ApplicationNotStarted, BusError, ConfigError, ExitCode
from ..gateway.bus_check import check_buses
from ..gateway.business import BusinessWorker
from ..gateway.factory import service_maker
from ..log import log_to_stderr, logger
from ..runtime import process
from ..runtime.lifecycle import place_of_start
from ..runtime.timer import timers
from ..runtime.worker_service import WorkerService
from ..websocket.close import SERVICE_RESTART
from . import channel, privileges
from .assignment import Assignment
from .channel import FromMaster
from .master_connection import MasterConnection, describe
from .orphan import Orphan, inherited_socket, max_shutdown_time
from .plan import acme_places, check_declared, listen_of, policy_of
from .process_stats import ProcessStats
from .script import user_traceback

if TYPE_CHECKING:
    from ..acme.options import AcmeOptions
    from ..runtime.challenge_listener import ChallengeListener
    from .certificate_watch import CertificateWatch
    from .child_metrics import Measurements, ProcessMetrics

HEARTBEAT_INTERVAL = 1.0  # seconds

# Most processes serve earlier, and report nothing.
_FIRST_START_REPORT = 0.2  # seconds

# The arrivals of a business worker, which has no connections.
_NO_ARRIVALS: dict[str, Any] = {"arrivals": [], "causes": []}


class InheritedSockets:
    """The sockets that the process inherits from its master."""

    def __init__(self, assignment: Assignment) -> None:
        self.channel = inherited_socket(assignment.channel)
        self.orphan = Orphan(assignment.log, assignment.liveness_fd)
        # A list for each process, or one list that all processes share.
        lists = {
            fds: [inherited_socket(fd) for fd in fds]
            for fds in dict.fromkeys(map(tuple, assignment.sockets))
        }
        self.http = [inherited_socket(fd) for fd in assignment.http]
        self.sockets = {number: lists[tuple(fds)] for number, fds in enumerate(assignment.sockets)}


def run(
    workers: Sequence[BaseWorker], assignment: Assignment, inherited: InheritedSockets
) -> NoReturn:
    """Serve the assigned worker, and exit."""
    worker = _assigned(workers, assignment)
    check_buses(workers)
    worker.id = assignment.number
    log_to_stderr(os.environ, f"{worker.name}/{worker.id}")
    measurements = None
    if assignment.metrics:
        # Imported here: a service without metrics does not need it.
        from .child_metrics import Measurements

        measurements = Measurements()
    make = service_maker(worker, now=time.time(), measurements=measurements)
    process.allow_open_files()
    bus = _bus_of(worker, assignment)
    kept = kept_by(workers)
    if kept:
        _import_history(bus)
    identity = privileges.find(worker.user, worker.group)
    if identity is not None:
        privileges.switch_to(identity, os.environ)
        inherited.orphan.drop_root_log()
    inherited.channel.setblocking(False)
    # The sockets of HTTP-01 are shared by all workers.
    certificates = [
        one
        for each in workers
        if inherited.http and isinstance(each, Worker)
        for one in certificates_of(each)
    ]
    shutdown_time = max_shutdown_time(map(policy_of, workers))
    child = ChildRuntime(worker, inherited, shutdown_time, certificates, measurements)
    # The router's bus is this script's alone: another outline there is another version of it.
    declared = outline(workers, assignment.path) if worker.bus is not None else ()
    try:
        with asyncio.Runner(loop_factory=process.new_event_loop) as runner:
            runner.run(child.serve(make, inherited.channel, bus, declared, kept))
    except BusError as error:
        logger.error("%s", error)
        sys.exit(int(ExitCode.CRASHED))
    except process.StartFailed as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from None
        if isinstance(cause, ApplicationNotStarted):
            logger.error("%s: %s", error.service, cause)
            sys.exit(int(ExitCode.CRASHED))
        if cause is not None:
            cause = cause.with_traceback(user_traceback(cause.__traceback__))
        logger.error("%s: on_worker_start failed", error.service, exc_info=cause)
        sys.exit(int(ExitCode.CRASHED))
    except asyncio.CancelledError:
        pass  # The master told it to end before it served.
    sys.exit(int(ExitCode.STOPPED))


def _bus_of(worker: BaseWorker, assignment: Assignment) -> Bus | None:
    """Make the bus before this process gives up root, and with it the folder of the socket."""
    if worker.bus is not None:
        return make_bus(worker.bus)
    return held_bus(Path(assignment.bus)) if assignment.bus else None


def _import_history(bus: Bus | None) -> None:
    """Import what a node needs, while this package is in a folder that can be read."""
    from ..cluster import history_channels  # noqa: F401

    if bus is not None:
        _ = bus.history


def _assigned(workers: Sequence[BaseWorker], assignment: Assignment) -> BaseWorker:
    """Return the worker; refuse a script that has changed more than a reload allows."""
    remedy = "`restart` makes the change"
    check_declared(workers)
    if len(workers) != assignment.worker_count:
        raise ConfigError(
            f"the script declares {len(workers)} worker{'s' * (len(workers) > 1)}, and declared"
            f" {assignment.worker_count} when the service started",
            remedy,
        )
    worker = workers[assignment.worker]
    metrics = BaseWorker.service.metrics or ""
    if metrics != assignment.metrics:
        raise ConfigError(
            f"the script shows metrics at {metrics or 'no address'}, but the master shows them at"
            f" {assignment.metrics or 'none'}",
            remedy,
        )
    listen = listen_of(worker)
    if listen != assignment.listen:
        raise ConfigError(
            f"the script listens on {listen or 'nothing'}, but"
            f" {assignment.listen or 'a worker without an address'} is running",
            remedy,
        )
    certificates = certificates_of(worker) if isinstance(worker, Worker) else ()
    if acme_places(certificates) != assignment.acme_places:
        raise ConfigError(
            "the storage or http of acme in the script is not what it was when the service started",
            remedy,
        )
    return worker


class ChildRuntime:
    """A process in its event loop."""

    def __init__(
        self,
        worker: BaseWorker,
        inherited: InheritedSockets,
        gateway_timeout: float,
        certificates: "Sequence[AcmeOptions]" = (),
        measurements: "Measurements | None" = None,
    ) -> None:
        self._worker = worker
        self._sockets = inherited.sockets
        self._http_sockets = inherited.http
        self._certificates = certificates
        self._challenge_listener: ChallengeListener | None = None
        self._orphan = inherited.orphan
        self._gateway_timeout = gateway_timeout
        self._is_orphan = False
        self._service: process.AnyService | None = None
        self._must_drain = asyncio.Event()
        self._must_stop = asyncio.Event()
        self._keeps_accepting = False
        self._has_reported_signal = False
        self._task: asyncio.Task[Any] | None = None
        self._master = MasterConnection(self._handle, self._master_lost)
        self._certificate_watch: CertificateWatch | None = None
        self._measurements = measurements
        self._metrics: ProcessMetrics | None = None

    async def serve(
        self,
        make: Callable[[], process.AnyService],
        sock: socket.socket,
        bus: Bus | None = None,
        declared: tuple[str, ...] = (),
        kept: Kept = NOTHING_KEPT,
    ) -> None:
        """Serve until the master says otherwise; CancelledError is raised if it says so earlier."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for number, do in (
            (signal.SIGTERM, partial(self._handle_signal, is_graceful=False)),
            (signal.SIGQUIT, partial(self._handle_signal, is_graceful=True)),
            (signal.SIGHUP, self._reload_certificates),
            # SIGUSR1 and SIGINT are for the master. child_main.py ignores SIGINT already.
            (signal.SIGUSR1, _do_nothing),
        ):
            loop.add_signal_handler(number, do)
            at_fork.reset_signals({number})
        own = self._sockets[self._worker.id]
        await loop.connect_accepted_socket(lambda: self._master, sock)
        has_clients = not isinstance(self._worker, BusinessWorker)
        loop.call_later(
            _FIRST_START_REPORT, self._report_starting, "the bus" if bus is not None else ""
        )
        try:
            async with process.serving(
                [own],
                [make],
                bus=bus,
                has_clients=has_clients,
                declared=declared,
                kept=kept,
            ) as served:
                [service] = served
                self._service = service
                self._start_reporting(service)
                await self._must_drain.wait()
                # The process that replaces this one may already run the same timers.
                timers.drain()
                if self._challenge_listener is not None:
                    self._challenge_listener.stop()
                if not self._keeps_accepting:
                    self._stop_accepting(service)
                if not self._must_stop.is_set():
                    await self._drain_until_stopped(service)
        finally:
            if self._challenge_listener is not None:
                self._challenge_listener.close()
            self._close_listeners()
            if self._metrics is not None:
                last = channel.MetricsAnswer(channel.AT_END, self._metrics.encoded())
                await self._master.send_last(last)
            self._master.close()
            if self._is_orphan:
                logger.info("%s has ended without a master", self._worker.name)
            self._orphan.close()

    def _report_starting(self, first: str) -> None:
        """Report what the start waits for; a stuck process cannot do so."""
        if self._service is None:
            self._master.send(channel.Starting(place_of_start() or first))
            loop = asyncio.get_running_loop()
            loop.call_later(HEARTBEAT_INTERVAL, self._report_starting, first)

    def _start_reporting(self, service: process.AnyService) -> None:
        """Report that this process serves, and start the heartbeats."""
        loop = asyncio.get_running_loop()
        measurements = self._measurements
        stats = ProcessStats(
            service,
            timers,
            hub.counts,
            on_lag=None if measurements is None else measurements.loop_was_late,
        )
        certificates = service.settings.acme if isinstance(service, WorkerService) else ()
        self._master.send(channel.Ready(policy_of(self._worker), msgspec.to_builtins(certificates)))
        self._master.stats = stats
        contexts = service.contexts
        if contexts is not None:
            # Imported here: only a service with TLS needs it.
            from .certificate_watch import CertificateWatch

            self._certificate_watch = CertificateWatch(
                str(service), contexts, user=self._worker.user, is_first=self._worker.id == 0
            )
        if self._http_sockets and isinstance(service, WorkerService):
            self._listen_for_challenges(service)
        if measurements is not None:
            from .child_metrics import ProcessMetrics

            watch = self._certificate_watch
            certificate_reload = None if watch is None else watch.certificate_reload
            self._metrics = ProcessMetrics(
                self._worker, service, stats, measurements, certificate_reload
            )
        self._sample_stats(stats, loop.time())

    def _listen_for_challenges(self, service: WorkerService) -> None:
        # Imported here: only a service with acme needs it.
        from ..runtime.challenge_listener import ChallengeListener, https_port

        settings = service.settings
        name = self._sockets[self._worker.id][0].getsockname()
        http_port = self._http_sockets[0].getsockname()[1]
        self._challenge_listener = ChallengeListener(
            self._http_sockets,
            self._certificates,
            port=https_port(name[1] if isinstance(name, tuple) else 443, http_port),
            limits=settings.limits,
            timeouts=settings.timeouts,
            events=service,
        )
        self._challenge_listener.start()

    def _sample_stats(self, stats: ProcessStats, heartbeat_at: float) -> None:
        """Measure the lag several times a second, and send a heartbeat each second."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        next_at = stats.sample(now)
        if now >= heartbeat_at:
            self._master.send(channel.Heartbeat(stats.heartbeat(now)), is_urgent=False)
            heartbeat_at = max(heartbeat_at + HEARTBEAT_INTERVAL, now)
        loop.call_at(next_at, self._sample_stats, stats, heartbeat_at)

    def _handle(self, message: FromMaster) -> None:
        match message:
            case channel.Accept(numbers):
                is_accepting = self._keeps_accepting or not self._must_drain.is_set()
                if self._service is not None and is_accepting:
                    self._service.accept([sock for one in numbers for sock in self._sockets[one]])
            case channel.Drain(keeps_accepting):
                self._keeps_accepting = keeps_accepting and not self._must_drain.is_set()
                self._drain()
            case channel.Stop():
                self._stop()
            case channel.GetReport(number):
                self._master.answer(number)
            case channel.GetMetrics(number):
                if self._metrics is not None:
                    self._master.send(channel.MetricsAnswer(number, self._metrics.encoded()))
            case channel.GetConnections(number, limit):
                if self._service is not None:
                    self._master.send(describe(self._service, number, limit))
            case channel.GetArrivals(number, nonce):
                service, found = self._service, _NO_ARRIVALS
                if isinstance(service, WorkerService):
                    found = service.arrivals(nonce)
                self._master.send(channel.ArrivalsAnswer(number, **found))
            case _:
                assert_never(message)

    def _master_lost(self, reason: str, *, is_master_gone: bool = False) -> None:
        """Drain, as no master will tell this process to."""
        if is_master_gone:
            self._is_orphan = True
            self._orphan.redirect_output()
        # The next master needs the addresses.
        self._keeps_accepting = False
        if self._service is not None:
            self._stop_accepting(self._service)
        if self._must_drain.is_set():
            return
        if is_master_gone and self._service is not None and policy_of(self._worker).ends_last:
            logger.error("%s: draining when all gateways of this machine have ended", reason)
            self._orphan.wait(self._drain, self._gateway_timeout)
        else:
            logger.error("%s: draining", reason)
            self._drain()

    def _handle_signal(self, *, is_graceful: bool) -> None:
        """Report a signal to the master; obey a second one, and one before this process serves."""
        is_asking = (
            self._service is not None
            and not self._must_drain.is_set()
            and not self._has_reported_signal
        )
        if is_asking and self._master.is_connected:
            self._has_reported_signal = True
            self._master.send(channel.Signalled(is_graceful))
        elif is_graceful:
            self._drain()
        else:
            self._stop()

    def _drain(self) -> None:
        # Once: a second cancellation would interrupt the cleanup.
        if self._service is None and self._task is not None and not self._must_drain.is_set():
            self._task.cancel()
        self._must_drain.set()

    def _stop(self) -> None:
        self._must_stop.set()
        self._drain()

    def _reload_certificates(self) -> None:
        if self._certificate_watch is not None:
            self._certificate_watch.certificate_reload.reload()

    def _stop_accepting(self, service: process.AnyService) -> None:
        service.accept([])
        self._close_listeners()

    def _close_listeners(self) -> None:
        """Close the listening sockets; the system would queue clients that are never accepted."""
        for sockets in (*self._sockets.values(), self._http_sockets):
            for sock in sockets:
                sock.close()

    async def _drain_until_stopped(self, service: process.AnyService) -> None:
        window = self._worker.drain_window
        drain = asyncio.ensure_future(
            service.drain(*SERVICE_RESTART, window=window, may_stay=self._extend_drain)
        )
        stop = asyncio.ensure_future(self._must_stop.wait())
        await asyncio.wait({drain, stop}, return_when=asyncio.FIRST_COMPLETED)
        for task in (drain, stop):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drain

    def _extend_drain(self) -> bool:
        """Report that this process needs longer than its window; return False without a master."""
        self._master.send(channel.StillDraining())
        return self._master.is_connected


def _do_nothing() -> None:
    """Replace a signal's default action, which is to end the process."""
