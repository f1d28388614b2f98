"""
The master's loop: does what the supervisor says, and tells it what happened.

Nothing here decides. There is no event loop of asyncio's and none of the user's code runs; signal
handlers only put a byte into a pipe. It sleeps until a process, a command or a signal wakes it,
or the supervisor waits for an instant.
"""

import contextlib
import logging
import os
import random
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, assert_never

from .. import at_fork
from ..errors import AlreadyRunning, ConfigError, ExitCode
from ..log import FORMAT_VARIABLE, LogFile, logger
from . import channel, control_requests, events, status
from .assignment import Assignment
from .channel import ArrivalsAnswer, ConnectionsAnswer, FromProcess, ReportAnswer
from .child_queries import AnyChildQuery, ChildQuery
from .control import ControlClient, ControlServer
from .events import SlotId, SupervisorAction, SupervisorEvent
from .listeners import Listeners
from .plan import WorkerPlan, listen_of
from .router_process import RouterProcess
from .runtime_files import RuntimeFiles
from .script import Script
from .sd_notify import Notifier
from .selector_loop import run_once
from .signal_wakeup import wake_on_signals
from .spawn import STACK_SIGNAL, ChildProcess, spawn
from .stderr_relay import StderrRelay
from .supervisor import Supervisor

# How long commands wait for processes that may be stuck.
_STATUS_TIMEOUT = 0.06  # seconds
_CONNECTIONS_TIMEOUT = 2.0  # seconds
_ARRIVALS_TIMEOUT = 0.5  # seconds

# Watched while what was written finds no room; it is a child's own, too.
_STDERR = 2

# How often it looks whether its files are still there. Commands do not find it until then.
_FILES_INTERVAL = 1.0  # seconds

_STDERR = 2

# Longer than this it does not sleep: what a process declares may be more than the system takes.
_MAX_SLEEP = 3600.0  # seconds

A = TypeVar("A", ReportAnswer, ConnectionsAnswer, ArrivalsAnswer)

_ReadyCallback = Callable[[], None]


class Master:
    """One running master."""

    def __init__(
        self,
        script: Script,
        planned: Sequence[WorkerPlan],
        listeners: Sequence[Listeners],
        runtime_files: RuntimeFiles,
        *,
        router: RouterProcess | None = None,
        log_file: LogFile | None = None,
        is_detached: bool = False,
        on_serving: _ReadyCallback | None = None,
    ) -> None:
        self._script = script
        self._plans = planned
        self._listeners = listeners
        self._runtime_files = runtime_files
        self._router = router
        self._log_file = log_file
        self._is_detached = is_detached
        self._on_serving = on_serving
        self._started_at = time.monotonic()
        self._started_time = time.time()
        policies = [
            replace(one.policy, is_shared=slot.is_shared)
            for one, slot in zip(planned, listeners, strict=True)
        ]
        self._supervisor = Supervisor(policies)
        self._selector = selectors.DefaultSelector()
        self._stderr_relay = StderrRelay(
            self._selector, is_json=os.environ.get(FORMAT_VARIABLE) == "json"
        )
        self._children: dict[int, ChildProcess] = {}
        self._queries: dict[int, AnyChildQuery] = {}
        self._query_count = 0
        self._reload_clients: list[ControlClient] = []
        # Of those that end first and those that end last: see :mod:`.orphan`.
        self._liveness_sockets = socket.socketpair()
        self._notifier = Notifier(os.environ)
        self._watchdog_at = self._started_at
        # nohup(1): it goes on when the terminal is closed.
        self._has_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _has_terminal()
        self._files_due_at = self._started_at
        self._is_recovery_failing = False
        self._removed_sockets: set[str] = set()
        self._exit_code: int | None = None
        # A thread that the script has started here may fork, too.
        at_fork.give_up_all(self, Master._descriptors)

    def _descriptors(self) -> list[int]:
        if self._exit_code is not None:
            return []
        found = [self._runtime_files.fileno(), *(sock.fileno() for sock in self._liveness_sockets)]
        found += [fd for slot in self._listeners for fds in slot.descriptors for fd in fds]
        found += [key.fd for key in self._selector.get_map().values() if key.fd != _STDERR]
        if self._router is not None:
            found += self._router.descriptors
        return found

    def run(self) -> ExitCode | int:
        """Start processes, and keep them up until told to end."""
        control = ControlServer(self._runtime_files.listen(), self._selector, self._handle_request)
        self._files_due_at = time.monotonic() + _FILES_INTERVAL
        with wake_on_signals(self._selector, self._handle_signals):
            if self._router is not None:
                self._router.tick(time.monotonic())
            self._handle_event(events.Started())
            while self._exit_code is None:
                run_once(self._selector, self._select_timeout())
                self._handle_event(events.Tick())
                self._finish_queries()
                self._notify_watchdog()
                self._restore_files(control)
                if self._router is not None:
                    self._router.tick(time.monotonic())
        for listeners in self._listeners:
            listeners.close()
        if self._router is not None:
            self._router.close()
        self._stderr_relay.close()
        for sock in self._liveness_sockets:
            sock.close()
        self._runtime_files.release()
        control.close()
        self._selector.close()
        return self._exit_code

    def _select_timeout(self) -> float:
        deadlines = [query.due_at for query in self._queries.values()]
        deadlines.append(self._files_due_at)
        if self._notifier.alive_interval is not None:
            deadlines.append(self._watchdog_at)
        if self._router is not None and self._router.due_at is not None:
            deadlines.append(self._router.due_at)
        next_at = self._supervisor.next_at()
        if next_at is not None:
            deadlines.append(next_at)
        return min(max(min(deadlines) - time.monotonic(), 0), _MAX_SLEEP)

    def _restore_files(self, control: ControlServer) -> None:
        """Make anew what commands and processes find each other by, if somebody removed it."""
        now = time.monotonic()
        if now < self._files_due_at:
            return
        self._files_due_at = now + _FILES_INTERVAL
        removed = {listeners.removed for listeners in self._listeners} - {""}
        for path in sorted(removed - self._removed_sockets):
            logger.warning("%s was removed: no client can connect until a `reload`", path)
        self._removed_sockets = removed
        is_reachable = self._router is None or self._router.is_reachable
        if self._runtime_files.is_intact and is_reachable:
            return
        folder = self._runtime_files.files.folder
        try:
            if not self._runtime_files.is_intact:
                self._runtime_files.renew()
                control.replace(self._runtime_files.listen())
            if self._router is not None and not (
                self._router.is_reachable and self._router.path == self._runtime_files.files.bus
            ):
                self._router.listen(self._runtime_files.files.bus)
        except (AlreadyRunning, ConfigError) as error:
            if not self._is_recovery_failing:
                logger.error("files in %s were removed, and cannot be made anew: %s", folder, error)
            self._is_recovery_failing = True
            return
        self._is_recovery_failing = False
        logger.warning(
            "files in %s were removed: made anew in %s", folder, self._runtime_files.files.folder
        )

    def _notify_watchdog(self) -> None:
        now = time.monotonic()
        if self._notifier.alive_interval is not None and now >= self._watchdog_at:
            self._notifier.alive()
            self._watchdog_at = now + self._notifier.alive_interval

    # Telling the supervisor, and doing what it says.

    def _handle_event(self, event: SupervisorEvent) -> None:
        waiting = [event]
        while waiting:
            # The same event must not be told twice by what it causes.
            jitter = random.random()  # noqa: S311 - spreads load, hides nothing
            for action in self._supervisor.handle(waiting.pop(0), time.monotonic(), jitter):
                waiting += self._execute(action)

    def _execute(self, action: SupervisorAction) -> list[SupervisorEvent]:
        """Do one thing; gives what is known to have happened by it."""
        match action:
            case events.Spawn(slot_id):
                return [self._spawn(slot_id)]
            case events.Inspect(pid):
                child = self._children.get(pid)
                return [] if child is None else [events.Inspected(pid, child.is_stopped)]
            case (
                events.Accept()
                | events.Drain()
                | events.Stop()
                | events.Kill()
                | events.DumpStack()
            ):
                self._send_command(action)
            case events.CloseSockets(worker):
                self._listeners[worker].close()
            case events.Log(level, text):
                logger.log(getattr(logging, level.upper()), "%s", text)
            case events.Serving():
                self._all_serving()
            case events.Reloaded(problem):
                self._reload_finished(problem)
            case events.Exit(code):
                self._exit_code = code
            case _:
                assert_never(action)
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
                    # It may be busy with loading the script, and read nothing for long.
                    child.send_signal(signal.SIGTERM)
            case events.Kill():
                child.send_signal(signal.SIGKILL)
            case events.DumpStack():
                child.send_signal(STACK_SIGNAL)
            case _:
                assert_never(action)

    def _all_serving(self) -> None:
        for planned, listeners in zip(self._plans, self._listeners, strict=True):
            policy = planned.policy
            for url in listeners.urls:
                logger.info("%s listens on %s", policy.name, url)
            if planned.settings is not None and planned.settings.allowed_origins is None:
                logger.info(
                    "%s lets pages of every origin connect, and those of other hosts without the"
                    " user's cookies: allowed_origins is not set",
                    policy.name,
                )
            if planned.settings is None:
                processes = f"{policy.count} process{'es' * (policy.count > 1)}"
                logger.info("%s serves, %s", policy.name, processes)
        self._notifier.ready()
        if self._on_serving is not None:
            self._on_serving()

    def _reload_finished(self, problem: str) -> None:
        self._notifier.ready()
        for client in self._reload_clients:
            if problem:
                client.answer(error=problem)
            else:
                client.answer()
        self._reload_clients.clear()

    # Processes.

    def _spawn(self, slot_id: SlotId) -> SupervisorEvent:
        listeners = self._listeners[slot_id.worker]
        planned = self._plans[slot_id.worker]
        our_end, their_end = socket.socketpair()
        our_end.setblocking(False)
        log = _copy_of_stderr()
        try:
            with their_end:
                if not listeners.is_open:
                    listeners.open()
                elif listeners.removed:
                    listeners.renew()
                assignment = Assignment(
                    worker=slot_id.worker,
                    worker_count=len(self._plans),
                    number=slot_id.number,
                    listen=listen_of(planned.worker),
                    channel=their_end.fileno(),
                    sockets=listeners.descriptors,
                    path=str(self._script.path),
                    module=self._script.module,
                    argv=sys.argv[1:],
                    bus="" if self._router is None else str(self._router.path),
                    log=log,
                    liveness_fd=self._liveness_sockets[planned.policy.ends_last].fileno(),
                )
                child = spawn(
                    assignment,
                    our_end,
                    os.environ,
                    label=f"{self._script} {self._supervisor.name(slot_id)}",
                    has_terminal=not self._is_detached,
                )
        except (OSError, ConfigError) as error:
            our_end.close()
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            return events.SpawnFailed(slot_id, reason.removesuffix(".").lower())
        finally:
            if log >= 0:
                os.close(log)
        child.started_at = time.monotonic()
        self._children[child.pid] = child
        self._selector.register(our_end, selectors.EVENT_READ, partial(self._read_channel, child))
        self._stderr_relay.add(child, self._supervisor.name(slot_id))
        return events.Spawned(slot_id, child.pid)

    def _read_channel(self, child: ChildProcess) -> None:
        try:
            messages = child.read()
        except EOFError:
            # Its end is told by SIGCHLD; without a channel it drains, and is replaced.
            self._close_channel(child)
            return
        except ValueError as error:
            name = self._supervisor.name(child.slot_id)
            logger.error("%s (pid %d) garbles its channel: %s", name, child.pid, error)
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
            case channel.Ready(policy):
                child.is_ready = True
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
            case ReportAnswer() | ConnectionsAnswer() | ArrivalsAnswer():
                query = self._queries.get(message.to)
                if query is not None:
                    query.add_answer(child.pid, message)
            case _:
                assert_never(message)

    def _reap(self) -> None:
        for child in list(self._children.values()):
            code = child.poll()
            if code is not None:
                self._child_exited(child, code)
        if self._router is not None:
            self._router.reap(time.monotonic())
        if os.getpid() == 1:
            # PID 1 inherits orphans; they are none of ours, and need no more than this.
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass

    def _child_exited(self, child: ChildProcess, code: int) -> None:
        self._stderr_relay.remove(child)
        with contextlib.suppress(EOFError, ValueError):
            for message in child.read():
                self._handle_message(child, message)
        self._close_channel(child)
        del self._children[child.pid]
        child.close()
        for query in self._queries.values():
            query.forget(child.pid)
        self._handle_event(events.Exited(child.pid, code, child.last_lines))

    # Signals.

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
                        # It was closed, which says this: nobody watches any more.
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

    # Commands.

    def _handle_request(self, request: control_requests.Request, client: ControlClient) -> None:
        match request:
            case control_requests.GetStatus():
                self._query_children(
                    channel.GetReport,
                    ReportAnswer,
                    _STATUS_TIMEOUT,
                    partial(self._answer_status, client),
                )
            case control_requests.ListConnections(limit):
                self._query_children(
                    partial(channel.GetConnections, limit=limit),
                    ConnectionsAnswer,
                    _CONNECTIONS_TIMEOUT,
                    partial(self._answer_connections, client),
                )
            case control_requests.Stop(graceful):
                client.answer(pid=os.getpid())
                self._stop(is_graceful=graceful)
            case control_requests.Reload(gently, is_all):
                if self._supervisor.is_reloading:
                    client.answer(error="a reload is going on already.")
                else:
                    self._reload_clients.append(client)
                    self._reload(is_gentle=gently, is_all=is_all)
            case control_requests.GetBus():
                client.answer(bus=self._bus_url())
            case control_requests.HangUp():
                self._hang_up()
                client.answer()
            case control_requests.GetArrivals(nonce):
                self._query_children(
                    partial(channel.GetArrivals, nonce=nonce),
                    ArrivalsAnswer,
                    _ARRIVALS_TIMEOUT,
                    partial(self._answer_arrivals, client),
                )
            case _:
                assert_never(request)

    def _bus_url(self) -> Any:
        """The bus by which the hubs of the processes are reached; ``None`` if there is none."""
        if self._router is not None:
            return f"local://{self._router.path}"
        return next((one.worker.bus for one in self._plans if one.worker.bus is not None), None)

    def _query_children(
        self,
        make_message: Callable[[int], channel.FromMaster],
        kind: type[A],
        timeout: float,
        on_answers: Callable[[dict[int, A]], None],
    ) -> None:
        self._query_count += 1
        message = make_message(self._query_count)
        asked = {
            pid for pid, child in self._children.items() if child.is_ready and child.send(message)
        }
        self._queries[self._query_count] = ChildQuery(
            asked, time.monotonic() + timeout, kind, on_answers
        )

    def _finish_queries(self) -> None:
        now = time.monotonic()
        for number, query in list(self._queries.items()):
            if query.is_done(now):
                del self._queries[number]
                query.finish()

    def _answer_status(self, client: ControlClient, answers: dict[int, ReportAnswer]) -> None:
        client.answer(
            **status.describe(
                self._supervisor,
                self._children,
                answers,
                workers=[
                    status.describe_worker(planned, listeners)
                    for planned, listeners in zip(self._plans, self._listeners, strict=True)
                ],
                master={
                    "pid": os.getpid(),
                    "script": str(self._script.path),
                    "uptime": round(time.monotonic() - self._started_at, 1),
                    "started_time": self._started_time,
                },
                now=time.monotonic(),
            )
        )

    def _answer_connections(
        self, client: ControlClient, answers: dict[int, ConnectionsAnswer]
    ) -> None:
        client.answer(**status.connections(self._supervisor, self._children, answers))

    def _answer_arrivals(self, client: ControlClient, answers: dict[int, ArrivalsAnswer]) -> None:
        client.answer(**status.arrivals(self._supervisor, self._children, answers))


def _has_terminal() -> bool:
    """Tell whether a terminal controls this process; not any more, once it was closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _copy_of_stderr() -> int:
    """Copy where this process writes to; -1 if that is nowhere."""
    try:
        return os.dup(_STDERR)
    except OSError:
        return -1
