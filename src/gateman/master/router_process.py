"""
The router of the local bus, which a master keeps up beside its processes.

Where more than one process serves and nobody named a bus, this is what connects their hubs: see
:mod:`gateman.bus.router`. The master owns the socket, so that processes which connect while the
router is being replaced wait, and are not refused.

With ``user=``, root's master makes the socket, and the router gives root up as the workers do. Its
socket is then its user's, 0600. Where workers have several users it is everybody's to connect to,
and the router refuses all who are neither root nor one of these.
"""

import contextlib
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from ..bus import unix_socket
from ..bus.router_wire import ADD_LISTENER, STOP
from ..log import logger
from ..net.socket_files import is_at
from .plan import WorkerPlan
from .privileges import Identity
from .script import interpreter_options
from .spawn import signals_blocked

# Seconds until a router that has ended is replaced: at once, and then not in a loop.
_RESTART_DELAYS = (0.0, 0.5, 2.0, 5.0)

# Seconds; a router that has run for so long has not failed because of what it began with.
_STABLE_TIME = 60.0

_STOP_TIMEOUT = 2.0  # seconds

# Sockets whose paths were removed and that processes may still hold.
_MAX_LISTENERS = 4


class RouterProcess:
    """A socket, and the process that serves it."""

    def __init__(
        self, path: Path, identities: Sequence[Identity] = (), *, max_drain_time: float = 0.0
    ) -> None:
        """
        Make the socket.

        Raises:
            ConfigError: There can be no socket.
        """
        self._identities = identities
        self._max_drain_time = max_drain_time
        self._listeners: deque[socket.socket] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._started_at = 0.0
        self._failures = 0
        self._due_at: float | None = 0.0
        self.listen(path)

    def listen(self, path: Path) -> None:
        """
        Make the socket at a path, where none is or this one's was removed.

        Those who are connected stay; those who hold the socket of before can connect to that.

        Raises:
            ConfigError: There can be no socket.
        """
        # Nobody but the router of a killed master listens there: that would take the claim.
        path.unlink(missing_ok=True)
        mode = 0o666 if len({one.uid for one in self._identities}) > 1 else 0o600
        owner = (self._identities[0].uid, self._identities[0].gid) if self._identities else None
        listener = unix_socket.listen(path, mode, owner)
        self._path, self._status = path, path.lstat()
        self._listeners.append(listener)
        if len(self._listeners) > _MAX_LISTENERS:
            self._listeners.popleft().close()
        if self._channel is not None:
            # If there is no room, or it has ended: the next router gets it.
            with contextlib.suppress(OSError):
                socket.send_fds(self._channel, [ADD_LISTENER], [listener.fileno()])

    @property
    def is_reachable(self) -> bool:
        """Whether the socket is where it was made."""
        return is_at(self._path, self._status)

    @property
    def path(self) -> Path:
        """The socket."""
        return self._path

    @property
    def descriptors(self) -> list[int]:
        """The descriptors that the master has of it."""
        files = [*self._listeners, *([] if self._channel is None else [self._channel])]
        return [file.fileno() for file in files]

    @property
    def due_at(self) -> float | None:
        """When :meth:`tick` has something to do, in monotonic seconds; ``None`` for never."""
        return self._due_at

    def tick(self, now: float) -> None:
        """Start the process, if that is due."""
        if self._due_at is None or now < self._due_at:
            return
        self._due_at = None
        self._started_at = now
        fds = [listener.fileno() for listener in self._listeners]
        our_end, their_end = socket.socketpair()
        our_end.setblocking(False)
        try:
            with their_end, signals_blocked():
                self._process = subprocess.Popen(  # noqa: S603 - ourselves
                    _command(fds, self._identities, self._max_drain_time),
                    pass_fds=fds,
                    stdin=their_end.fileno(),
                )
        except OSError as error:
            our_end.close()
            self._schedule_restart(
                now, f"cannot be started ({(error.strerror or str(error)).lower()})"
            )
        else:
            self._channel = our_end

    def reap(self, now: float) -> None:
        """Find out whether it has ended."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._close_channel()
            self._process = None
            self._schedule_restart(now, f"ended with {code}")

    def close(self) -> None:
        """End the process, and leave nothing behind; nobody needs it any more."""
        for listener in self._listeners:
            listener.close()
        if self._process is not None:
            self._close_channel(STOP)
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self.is_reachable:
            self._path.unlink(missing_ok=True)

    def _close_channel(self, word: bytes = b"") -> None:
        # It ignores signals, which the whole group may get.
        if self._channel is not None:
            with self._channel, contextlib.suppress(OSError):
                self._channel.send(word)
            self._channel = None

    def _schedule_restart(self, now: float, how: str) -> None:
        if now - self._started_at > _STABLE_TIME:
            self._failures = 0
        pause = _RESTART_DELAYS[min(self._failures, len(_RESTART_DELAYS) - 1)]
        self._failures += 1
        self._due_at = now + pause
        logger.error("the router of the bus %s: another one follows in %g seconds", how, pause)


def router_for(planned: Sequence[WorkerPlan], path: Path) -> RouterProcess | None:
    """
    Make the router of a service, where it needs one.

    Raises:
        ConfigError: There can be no socket.
    """
    users = [one for one in planned if one.worker.bus is None]
    if not users:
        return None
    found = (one.identity for one in users)
    identities = list(dict.fromkeys(one for one in found if one is not None))
    # Business workers begin to drain when gateways have.
    max_drain_time = 2 * max(one.policy.drain + one.policy.shutdown for one in users)
    return RouterProcess(path, identities, max_drain_time=max_drain_time)


def _command(
    fds: Sequence[int], identities: Sequence[Identity], max_drain_time: float
) -> list[str]:
    root = str(Path(__file__).parents[2])
    # Not -m: the script may have found gateman by changing sys.path.
    code = (
        f"import sys; sys.path.append({root!r});"
        " from gateman.bus.router import main; sys.exit(main())"
    )
    users = [f"--as={one.uid}:{one.gid}" for one in identities]
    options = interpreter_options(sys.orig_argv)
    # -P: a module of the working directory would run as the master's user, which may be root.
    return [
        sys.executable,
        *options,
        "-P",
        "-c",
        code,
        *(f"--fd={fd}" for fd in fds),
        f"--patience={max_drain_time}",
        *users,
    ]
