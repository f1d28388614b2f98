"""
The master's loop: passes events to the supervisor, and executes its actions.

It decides nothing, and runs neither asyncio nor the user's code; signal handlers only write to a
pipe. It sleeps until a process, a command or a signal wakes it, or a deadline of the supervisor.
"""

import contextlib
import gc
import logging
import os
import random
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from msgspec.structs import replace

from .. import at_fork
from ..errors import ConfigError, ExitCode
from ..log import LogFile, is_json, logger
from . import channel, control_requests, events
from .assignment import Assignment
from .channel import FromProcess
from .control import ControlClient, ControlServer
from .events import SlotId, SupervisorAction, SupervisorEvent
from .file_restorer import FileRestorer
from .listeners import Listeners
from .plan import listen_of
from .router_process import RouterProcess
from .runtime_files import RuntimeFiles
from .script import Script
from .sd_notify import Notifier
from .selector_loop import run_once, wake_on_signals
from .spawn import STACK_SIGNAL, ChildProcess, spawn
from .status import StatusQueries
from .stderr_relay import StderrRelay
from .supervisor import Supervisor

if TYPE_CHECKING:
    from .certificate_orders import CertificateOrders
    from .metrics_endpoint import MetricsEndpoint

_STDERR = 2

# The longest message has a few of these.
_MAX_LAST_READS = 16

# The system limits timeouts, and those that a process declares may be longer.
_MAX_SLEEP = 3600.0  # seconds


class Master:
    def __init__(
        self,
        script: Script,
        listeners: Sequence[Listeners],
        runtime_files: RuntimeFiles,
        *,
        router: RouterProcess | None = None,
        orders: "CertificateOrders | None" = None,
        log_file: LogFile | None = None,
        is_detached: bool = False,
        on_serving: Callable[[], None] | None = None,
        metrics: "MetricsEndpoint | None" = None,
    ) -> None:
        self._script = script
        self._metrics = metrics
        self._listeners = listeners
        self._runtime_files = runtime_files
        self._router = router
        self._orders = orders
        self._programs = [one for one in (orders, router) if one is not None]
        self._log_file = log_file
        self._is_detached = is_detached
        self._on_serving = on_serving
        self._supervisor = Supervisor(
            [replace(one.plan.policy, is_shared=one.is_shared) for one in listeners]
        )
        self._selector = selectors.DefaultSelector()
        self._stderr_relay = StderrRelay(self._selector, is_json=is_json())
        self._children: dict[int, ChildProcess] = {}
        self._queries = StatusQueries(
            str(script.path),
            self._supervisor,
            self._children,
            listeners,
            orders=orders,
            router=router,
        )
        # Those that wait for the reload that runs, and for the one that follows it.
        self._reload_clients: list[ControlClient] = []
        self._next_reload_clients: list[ControlClient] = []
        # One for the processes that end first, one for those that end last: see :mod:`.orphan`.
        self._liveness_sockets = socket.socketpair()
        self._notifier = Notifier(os.environ)
        self._watchdog_at = time.monotonic()
        # With nohup(1), the service continues after its terminal is closed.
        self._has_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _has_terminal()
        self._exit_code: int | None = None
        # A thread of the script in this process may fork.
        at_fork.give_up_all(self, Master._descriptors)

    def _descriptors(self) -> list[int]:
        if self._exit_code is not None:
            return []
        found = [self._runtime_files.fileno(), *(sock.fileno() for sock in self._liveness_sockets)]
        found += [fd for one in self._listeners for fds in one.descriptors for fd in fds]
        # The relay watches standard error; a child keeps its own.
        found += [key.fd for key in self._selector.get_map().values() if key.fd != _STDERR]
        return found + [fd for one in self._programs for fd in one.descriptors]

    def run(self) -> ExitCode | int:
        """Run the service until it is stopped; return the exit code."""
        # The modules stay: no collection need look at them, nor those at the end of the process.
        gc.freeze()
        control = ControlServer(self._runtime_files.listen(), self._selector, self._handle_request)
        restorer = FileRestorer(self._runtime_files, control, self._router, self._listeners)
        if self._metrics is not None:
            self._metrics.open(
                self._selector, self._queries, self._supervisor, self._children, self._orders
            )
        with wake_on_signals(self._selector, self._handle_signals):
            if self._router is not None:
                # First: processes connect to it.
                self._router.tick(time.monotonic())
            self._handle_event(events.Started())
            while self._exit_code is None:
                run_once(self._selector, self._select_timeout(restorer.due_at))
                self._handle_event(events.Tick())
                self._queries.finish()
                if self._metrics is not None:
                    self._metrics.end_overdue()
                self._notify_watchdog()
                restorer.check()
                for program in self._programs:
                    program.tick(time.monotonic())
        for listeners in self._listeners:
            listeners.close()
        for program in self._programs:
            program.close()
        if self._metrics is not None:
            self._metrics.close()
        self._stderr_relay.close()
        for sock in self._liveness_sockets:
            sock.close()
        self._runtime_files.release()
        control.close()
        self._selector.close()
        return self._exit_code

    def _select_timeout(self, files_due_at: float) -> float:
        deadlines = [files_due_at, *self._queries.deadlines, self._supervisor.next_at()]
        deadlines += [one.due_at for one in self._programs]
        if self._metrics is not None:
            deadlines += self._metrics.deadlines
        if self._notifier.alive_interval is not None:
            deadlines.append(self._watchdog_at)
        next_at = min(due_at for due_at in deadlines if due_at is not None)
        return min(max(next_at - time.monotonic(), 0), _MAX_SLEEP)

    def _notify_watchdog(self) -> None:
        now = time.monotonic()
        if self._notifier.alive_interval is not None and now >= self._watchdog_at:
            self._notifier.alive()
            self._watchdog_at = now + self._notifier.alive_interval

    def _handle_event(self, event: SupervisorEvent) -> None:
        # An action that is executed at once causes the next event.
        pending = [event]
        while pending:
            jitter = random.random()  # noqa: S311 - spreads load, hides nothing
            for action in self._supervisor.handle(pending.pop(0), time.monotonic(), jitter):
                pending += self._execute(action)

    def _execute(self, action: SupervisorAction) -> list[SupervisorEvent]:
        """Execute an action; return the events that it causes at once."""
        match action:
            case events.Spawn(slot_id):
                return [self._spawn(slot_id)]
            case events.Inspect(pid):
                child = self._children.get(pid)
                return [] if child is None else [events.Inspected(pid, child.is_stopped)]
            case events.CloseSockets(worker):
                self._listeners[worker].close()
            case events.Log(level, text):
                logger.log(getattr(logging, level.upper()), "%s", text)
            case events.Serving():
                self._all_serving()
            case events.Reloaded(problem, notes):
                self._reload_finished(problem, notes)
            case events.Exit(code):
                self._exit_code = code
            case _:
                self._send_command(action)
        return []

    def _send_command(self, action: events.ProcessCommand) -> None:
        child = self._children.get(action.pid)
        if child is None:
            return
        match action:
            case events.Accept(_, numbers):
                child.send(channel.Accept(list(numbers)))
            case events.Drain(_, keeps_accepting):
                child.send(channel.Drain(keeps_accepting))
            case events.Stop():
                child.send(channel.Stop())
                if not child.is_ready:
                    # A process that is still loading the script may not read for long.
                    child.send_signal(signal.SIGTERM)
            case events.Kill():
                child.send_signal(signal.SIGKILL)
            case events.DumpStack():
                child.send_signal(STACK_SIGNAL)
            case _:
                assert_never(action)

    def _all_serving(self) -> None:
        for listeners in self._listeners:
            policy, settings = listeners.plan.policy, listeners.plan.settings
            for url in listeners.urls:
                logger.info("%s listens on %s", policy.name, url)
            if settings is None:
                processes = f"{policy.count} process{'es' * (policy.count > 1)}"
                logger.info("%s serves, %s", policy.name, processes)
            elif settings.listen.is_websocket and settings.allowed_origins is None:
                logger.info(
                    "%s lets pages of every origin connect, and those of other hosts without the"
                    " user's cookies: allowed_origins is not set",
                    policy.name,
                )
            if settings is not None and settings.tokens is not None and settings.tokens.weakness:
                logger.warning("%s: %s", policy.name, settings.tokens.weakness)
        if self._metrics is not None:
            self._metrics.log_addresses()
        self._notifier.ready()
        if self._orders is not None:
            self._orders.begin()
        if self._on_serving is not None:
            self._on_serving()

    def _reload_finished(self, problem: str, notes: Sequence[str]) -> None:
        if not self._supervisor.is_reloading:
            self._notifier.ready()
            if self._orders is not None:
                self._orders.apply()
        if self._metrics is not None:
            self._metrics.reloaded(problem)
        for client in self._reload_clients:
            client.answer(**({"error": problem} if problem else {"notes": list(notes)}))
        self._reload_clients, self._next_reload_clients = self._next_reload_clients, []

    def _spawn(self, slot_id: SlotId) -> SupervisorEvent:
        listeners = self._listeners[slot_id.worker]
        master_end, child_end = socket.socketpair()
        master_end.setblocking(False)
        log = _copy_of_stderr()
        try:
            with child_end:
                if not listeners.is_open:
                    listeners.open()
                elif listeners.removed:
                    listeners.renew()
                assignment = Assignment(
                    worker=slot_id.worker,
                    worker_count=len(self._listeners),
                    number=slot_id.number,
                    listen=listen_of(listeners.plan.worker),
                    channel=child_end.fileno(),
                    sockets=listeners.descriptors,
                    path=str(self._script.path),
                    module=self._script.module,
                    argv=sys.argv[1:],
                    http=self._orders.http_descriptors(slot_id.worker) if self._orders else [],
                    acme_places=listeners.plan.acme_places,
                    bus="" if self._router is None else str(self._router.path),
                    log=log,
                    liveness_fd=self._liveness_sockets[listeners.plan.policy.ends_last].fileno(),
                    metrics="" if self._metrics is None else self._metrics.address,
                )
                child = spawn(
                    assignment,
                    master_end,
                    os.environ,
                    label=f"{self._script} {self._supervisor.name(slot_id)}",
                    has_terminal=not self._is_detached,
                )
        except (OSError, ConfigError) as error:
            master_end.close()
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            return events.SpawnFailed(slot_id, reason.removesuffix(".").lower())
        finally:
            if log >= 0:
                os.close(log)
        self._children[child.pid] = child
        self._selector.register(
            master_end, selectors.EVENT_READ, partial(self._read_channel, child)
        )
        self._stderr_relay.add(child, self._supervisor.name(slot_id))
        return events.Spawned(slot_id, child.pid)

    def _read_channel(self, child: ChildProcess) -> None:
        try:
            messages = child.read()
        except EOFError:
            # SIGCHLD reports its end; a process without a channel drains, and is replaced.
            self._close_channel(child)
            return
        except ValueError as error:
            name = self._supervisor.name(child.slot_id)
            logger.error("%s (pid %d) sent an invalid message: %s", name, child.pid, error)
            child.send(channel.Drain())
            self._close_channel(child)
            self._handle_event(events.ChannelBroken(child.pid))
            return
        for message in messages:
            self._handle_message(child, message)

    def _close_channel(self, child: ChildProcess) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(child.channel)
        child.channel.close()

    def _handle_message(self, child: ChildProcess, message: FromProcess) -> None:
        match message:
            case channel.Ready(policy, certificates):
                child.is_ready = True
                if self._orders is not None:
                    self._orders.declare(child.slot_id.worker, certificates)
                    # During a reload, the other processes do not know a new name yet.
                    if not self._supervisor.is_reloading:
                        self._orders.apply()
                self._handle_event(events.Ready(child.pid, policy))
            case channel.Starting(waits_for):
                self._handle_event(events.Starting(child.pid, waits_for))
            case channel.Heartbeat(report):
                child.report = report
                self._handle_event(
                    events.Heartbeat(child.pid, report["messages"], report["memory"])
                )
            case channel.StillDraining():
                self._handle_event(events.StillDraining(child.pid))
            case channel.Signalled(is_graceful):
                self._handle_event(events.Signalled(child.pid, is_graceful))
            case _:
                if self._metrics is not None and isinstance(message, channel.MetricsAnswer):
                    self._metrics.reported(child.pid, message)
                self._queries.take(child.pid, message)

    def _reap(self) -> None:
        for child in list(self._children.values()):
            code = child.poll()
            if code is not None:
                self._child_exited(child, code)
        for program in self._programs:
            program.reap(time.monotonic())
        if os.getpid() == 1:
            # PID 1 also reaps orphans of other programs.
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass

    def _child_exited(self, child: ChildProcess, code: int) -> None:
        self._stderr_relay.remove(child)
        with contextlib.suppress(EOFError, ValueError):
            # Up to the end, or to a message that is not complete.
            for _ in range(_MAX_LAST_READS):
                for message in child.read():
                    self._handle_message(child, message)
        if self._metrics is not None:
            self._metrics.ended(child.pid)
        self._close_channel(child)
        del self._children[child.pid]
        child.close()
        self._queries.forget(child.pid)
        self._handle_event(events.Exited(child.pid, code, child.last_lines))

    def _handle_signals(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            match signal.Signals(number):
                case signal.SIGCHLD:
                    self._reap()
                case signal.SIGTERM | signal.SIGINT:
                    self._stop(is_graceful=False)
                case signal.SIGQUIT:
                    self._stop(is_graceful=True)
                case signal.SIGUSR1 | signal.SIGUSR2 as which:
                    self._reload(is_gentle=which == signal.SIGUSR2)
                case signal.SIGHUP:
                    if self._has_terminal and not _has_terminal():
                        # The terminal was closed.
                        self._stop(is_graceful=False)
                    else:
                        self._hang_up()
                case _:
                    pass

    def _stop(self, *, is_graceful: bool) -> None:
        self._notifier.stopping()
        logger.info("draining, then stopping" if is_graceful else "stopping")
        self._handle_event(events.StopRequested(is_graceful))

    def _reload(self, *, is_gentle: bool, is_all: bool = False) -> None:
        self._notifier.reloading()
        self._handle_event(events.ReloadRequested(is_gentle, is_all))

    def _hang_up(self) -> None:
        """Re-read certificates, and reopen logs."""
        if self._log_file is not None:
            self._log_file.reopen()
        logger.info("re-reading certificates")
        for child in self._children.values():
            if child.is_ready:
                child.send_signal(signal.SIGHUP)

    def _handle_request(self, request: control_requests.Request, client: ControlClient) -> None:
        match request:
            case control_requests.GetStatus():
                self._queries.answer_status(client)
            case control_requests.ListConnections(limit):
                self._queries.answer_connections(client, limit)
            case control_requests.Stop(graceful):
                client.answer(pid=os.getpid())
                self._stop(is_graceful=graceful)
            case control_requests.Reload(gently, is_all):
                if self._supervisor.is_reloading:
                    self._next_reload_clients.append(client)
                else:
                    self._reload_clients.append(client)
                self._reload(is_gentle=gently, is_all=is_all)
            case control_requests.GetBus():
                client.answer(bus=self._bus_url())
            case control_requests.HangUp():
                self._hang_up()
                client.answer()
            case control_requests.GetArrivals(nonce):
                self._queries.answer_arrivals(client, nonce)
            case control_requests.RenewCertificates(name):
                self._renew(name, client)
            case _:
                assert_never(request)

    def _renew(self, name: str, client: ControlClient) -> None:
        if self._orders is None:
            client.answer(error="no worker has certificates by acme.")
        else:
            self._orders.renew(name, client.answer)

    def _bus_url(self) -> Any:
        """The bus of the processes' hubs, for commands; ``None`` if they have none."""
        if self._router is not None:
            return f"local://{self._router.path}"
        buses = (one.plan.worker.bus for one in self._listeners)
        return next((bus for bus in buses if bus is not None), None)


def _has_terminal() -> bool:
    """Return whether this process has a terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _copy_of_stderr() -> int:
    """Return a new descriptor of standard error; -1 if that is closed."""
    try:
        return os.dup(_STDERR)
    except OSError:
        return -1
