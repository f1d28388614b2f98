"""
The process of the local bus's router, which the master starts and restarts.

The router connects the hubs of the processes if the script declares no bus: see
:mod:`gateman.bus.router`. The master owns its socket. Processes that connect while the router
restarts wait, and are not refused.

With ``user=`` the router gives up root as the workers do, and its socket is that user's, 0600. If
workers have several users, every user can connect, and the router refuses all but root and these
users.
"""

import contextlib
import socket
import subprocess
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from ..bus import unix_socket
from ..bus.router_wire import ADD_LISTENER, HISTORY_REPORT, REPORT, STOP, HistoryReport
from ..config.service import ServiceOptions, history_file
from ..errors import ConfigError
from ..log import logger
from ..net.socket_files import is_at
from .plan import WorkerPlan
from .privileges import Identity
from .spawn import end, not_started, program, signals_blocked

# Delays of successive restarts.
_RESTART_DELAYS = (0.0, 0.5, 2.0, 5.0)  # seconds

# The delays begin anew after a router has run so long.
_STABLE_TIME = 60.0  # seconds

# Seconds; it may have to write a history to a slow disk.
_STOP_TIMEOUT = 5.0

# Of these, all but one were removed; processes with their descriptors may still connect.
_MAX_LISTENERS = 4


class RouterProcess:
    def __init__(
        self,
        path: Path,
        identities: Sequence[Identity] = (),
        *,
        max_drain_time: float = 0.0,
        options: Sequence[str] = (),
    ) -> None:
        self._identities = identities
        self._options = [f"--patience={max_drain_time}", *options]
        self._listeners: deque[socket.socket] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._started_at = 0.0
        self._failures = 0
        self._history_report = HistoryReport()
        # When to call `tick`, in monotonic seconds; None for never.
        self.due_at: float | None = 0.0
        self.listen(path)

    def listen(self, path: Path) -> None:
        """Make the socket, also after its path was removed; connected processes stay connected."""
        # Only the router of a killed master can listen there: any other would need the lock.
        path.unlink(missing_ok=True)
        mode = 0o666 if len({one.uid for one in self._identities}) > 1 else 0o600
        owner = (self._identities[0].uid, self._identities[0].gid) if self._identities else None
        listener = unix_socket.listen(path, mode, owner)
        self.path, self._status = path, path.lstat()
        self._listeners.append(listener)
        if len(self._listeners) > _MAX_LISTENERS:
            self._listeners.popleft().close()
        if self._channel is not None:
            # On a full channel, or after the router's end, the next router gets it.
            with contextlib.suppress(OSError):
                socket.send_fds(self._channel, [ADD_LISTENER], [listener.fileno()])

    @property
    def is_reachable(self) -> bool:
        """Whether the socket's path is still in place."""
        return is_at(self.path, self._status)

    @property
    def descriptors(self) -> list[int]:
        files = [*self._listeners, *([] if self._channel is None else [self._channel])]
        return [file.fileno() for file in files]

    def tick(self, now: float) -> None:
        """Start the process if that is due."""
        if self.due_at is None or now < self.due_at:
            return
        self.due_at = None
        self._started_at = now
        fds = [listener.fileno() for listener in self._listeners]
        channel, router_end = socket.socketpair()
        channel.setblocking(False)
        try:
            with router_end, signals_blocked():
                self._process = subprocess.Popen(  # noqa: S603 - this package
                    _command(fds, self._identities, self._options),
                    pass_fds=fds,
                    stdin=router_end.fileno(),
                )
        except OSError as error:
            channel.close()
            self._schedule_restart(now, not_started(error))
        else:
            self._channel = channel

    def reap(self, now: float) -> None:
        """Schedule a restart if the process has ended."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._close_channel()
            self._process = None
            self._history_report = HistoryReport()
            self._schedule_restart(now, f"ended with {code}")

    def ask(self) -> None:
        """Ask the router for what :attr:`history_report` returns a moment later."""
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.send(REPORT)

    @property
    def history_report(self) -> HistoryReport:
        """The last report of the router that runs; zeros before its first."""
        if self._channel is not None:
            with contextlib.suppress(OSError):
                while len(data := self._channel.recv(HISTORY_REPORT.size)) == HISTORY_REPORT.size:
                    self._history_report = HistoryReport(*HISTORY_REPORT.unpack(data))
        return self._history_report

    def close(self) -> None:
        """End the process, and remove the socket."""
        for listener in self._listeners:
            listener.close()
        if self._process is not None:
            self._close_channel(STOP)
            end(self._process, _STOP_TIMEOUT)
        if self.is_reachable:
            self.path.unlink(missing_ok=True)

    def _close_channel(self, word: bytes = b"") -> None:
        # A message, as the router ignores signals: the whole process group may get them.
        if self._channel is not None:
            with self._channel, contextlib.suppress(OSError):
                self._channel.send(word)
            self._channel = None

    def _schedule_restart(self, now: float, how: str) -> None:
        if now - self._started_at > _STABLE_TIME:
            self._failures = 0
        pause = _RESTART_DELAYS[min(self._failures, len(_RESTART_DELAYS) - 1)]
        self._failures += 1
        self.due_at = now + pause
        logger.error("the router of the bus %s: another one follows in %g seconds", how, pause)


def router_for(
    plans: Sequence[WorkerPlan], path: Path, service: ServiceOptions
) -> RouterProcess | None:
    """Return the router of a service; ``None`` if each of its workers has another bus."""
    check_history(plans, service)
    local = [plan for plan in plans if plan.worker.bus is None]
    if not local:
        return None
    identities = list(dict.fromkeys(plan.identity for plan in local if plan.identity is not None))
    # Business workers begin to drain when gateways have ended.
    max_drain_time = 2 * max(plan.policy.drain + plan.policy.shutdown for plan in local)
    options = [f"--history-memory={service.history_memory}"]
    file = history_file(service.history)
    if file is not None:
        options.append(f"--history={file}")
    return RouterProcess(path, identities, max_drain_time=max_drain_time, options=options)


def check_history(plans: Sequence[WorkerPlan], service: ServiceOptions) -> None:
    """Raise ConfigError if the file of the history cannot be made; its user is not this one."""
    file = history_file(service.history)
    if file is None:
        return
    if all(plan.worker.bus is not None for plan in plans):
        raise ConfigError(
            f"history={service.history!r} is for the router, and each worker has another bus",
            "leave it out: with NATS the history is in JetStream",
        )
    if not file.parent.is_dir():
        raise ConfigError(
            f"history={service.history!r} is in a folder that does not exist",
            "make it, for the user of the processes alone",
        )


def _command(
    fds: Sequence[int], identities: Sequence[Identity], router_options: Sequence[str]
) -> list[str]:
    return program(
        "import gc; gc.disable(); from gateman.bus.router import main;"
        " gc.freeze(); gc.enable(); sys.exit(main())",
        *(f"--fd={fd}" for fd in fds),
        *router_options,
        *(f"--as={one.uid}:{one.gid}" for one in identities),
    )
