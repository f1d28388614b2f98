"""
The supervisor's events and actions. PURE.

Times are in monotonic seconds. A process is identified by its pid.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from msgspec import Meta

# A process sends its own policy: values that cannot be supervised are refused when it is read.
_Seconds = Annotated[float, Meta(ge=0, le=1e12)]
_Positive = Annotated[int, Meta(ge=1)]


class SlotId(NamedTuple):
    worker: int  # index of the declared worker, from 0
    number: int  # of the process, from 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """
    How a worker's processes are supervised; :class:`gateman.Worker` explains the options.

    Durations are in seconds, ``max_memory`` is in bytes. Processes with ``ends_last`` stop when all
    others have stopped, which need them until then.
    """

    name: Annotated[str, Meta(max_length=4096)]
    count: _Positive
    is_shared: bool = False
    start: _Seconds = 60.0
    stall: _Seconds = 30.0
    shutdown: _Seconds = 10.0
    drain: _Seconds = 10.0
    ends_last: bool = False
    reloadable: bool = True
    restart_stalled: bool = False
    max_crashes: _Positive = 10
    max_messages: _Positive | None = None
    max_lifetime: _Seconds | None = None
    max_memory: _Positive | None = None


# Events.


@dataclass(frozen=True, slots=True)
class Started:
    """The master starts; every slot gets its first process."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """The process that ``Spawn`` asked for exists."""

    slot_id: SlotId
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The system could not start a process."""

    slot_id: SlotId
    problem: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A process serves. Its script may be newer than the master's, so it sends its own policy."""

    pid: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class Starting:
    """A process that does not serve yet reports what it waits for."""

    pid: int
    waits_for: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    pid: int
    messages: int  # received so far
    memory: int  # bytes


@dataclass(frozen=True, slots=True)
class ChannelBroken:
    """A process wrote something else than messages to its channel; the master told it to drain."""

    pid: int


@dataclass(frozen=True, slots=True)
class Inspected:
    """The result of ``Inspect``: whether SIGSTOP or a debugger stopped the process."""

    pid: int
    is_stopped: bool


@dataclass(frozen=True, slots=True)
class Exited:
    pid: int
    status: int  # exit code, or minus the signal
    lines: tuple[str, ...] = ()  # the last ones of its standard error


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Stop the service: at once, or by draining."""

    is_graceful: bool


@dataclass(frozen=True, slots=True)
class Signalled:
    """A serving process got SIGTERM, or SIGQUIT to drain; it waits for the master's decision."""

    pid: int
    is_graceful: bool


@dataclass(frozen=True, slots=True)
class StillDraining:
    """A process has drained, and needs longer to deliver its results."""

    pid: int


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    """
    Replace the process of every slot; gently: each slot after the previous one has drained.

    Without ``is_all``, workers that are not ``reloadable`` keep their processes.
    """

    is_gentle: bool
    is_all: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


SupervisorEvent = (
    Started
    | Spawned
    | SpawnFailed
    | Ready
    | Starting
    | Heartbeat
    | ChannelBroken
    | Inspected
    | Exited
    | StopRequested
    | Signalled
    | StillDraining
    | ReloadRequested
    | Tick
)


# Actions.


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process in a slot, and report ``Spawned`` or ``SpawnFailed`` at once."""

    slot_id: SlotId


@dataclass(frozen=True, slots=True)
class Accept:
    """A process accepts for exactly these slots of its worker."""

    pid: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """
    A process closes its connections over time, and ends.

    It keeps accepting if no other process does, so that health checks get 503 and are not refused.
    """

    pid: int
    keeps_accepting: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """A process closes everything and ends."""

    pid: int


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL."""

    pid: int


@dataclass(frozen=True, slots=True)
class Inspect:
    """Find out whether a process is stopped by a signal, and report ``Inspected`` at once."""

    pid: int


@dataclass(frozen=True, slots=True)
class DumpStack:
    """Write the stack of a process's main thread to the log."""

    pid: int


@dataclass(frozen=True, slots=True)
class CloseSockets:
    """
    Stop listening for a worker: the system refuses clients at once, they do not wait in vain.

    ``Spawn`` listens again.
    """

    worker: int


@dataclass(frozen=True, slots=True)
class Log:
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Serving:
    """Every slot has served or was given up: the start is complete."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A reload is complete; ``problem`` is empty, or says why it failed."""

    problem: str = ""


@dataclass(frozen=True, slots=True)
class Exit:
    """No process is left; the master ends with this code."""

    code: int


ProcessCommand = Accept | Drain | Stop | Kill | DumpStack

SupervisorAction = Spawn | ProcessCommand | Inspect | CloseSockets | Log | Serving | Reloaded | Exit
