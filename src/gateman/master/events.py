"""
What the supervisor is told, and what it answers. PURE.

Every instant is in monotonic seconds, every process is known by its pid.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from msgspec import Meta

# A process says its policy itself: what cannot be supervised is refused when it is read.
_Seconds = Annotated[float, Meta(ge=0, le=1e12)]
_Positive = Annotated[int, Meta(ge=1)]


class SlotId(NamedTuple):
    """
    A numbered place for a process.

    Attributes:
        worker: Which of the declared workers, from 0.
        number: Which of its processes, from 0.
    """

    worker: int
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """
    What a worker declared about its processes. See :class:`gateman.Worker` for the options.

    Attributes:
        name: For people.
        count: How many slots it has.
        is_shared: Whether its slots share one listening socket.
        start: Seconds that a process has until it serves.
        stall: Seconds without a sign of life after which a process counts as busy.
        shutdown: Seconds that a process has to stop.
        drain: Seconds that a process has to drain before it stops.
        ends_last: Whether its processes stop only when all that are not so have: others need them
            to the end.
        reloadable: Whether a reload that is not one of all renews its processes.
        restart_stalled: Whether a busy process is replaced.
        max_crashes: How many crashes in :data:`gateman.master.supervisor.CRASH_WINDOW` end the
            slot.
        max_messages: How many messages a process receives before it is replaced.
        max_lifetime: Seconds that a process serves before it is replaced.
        max_memory: Bytes of memory with which a process is replaced.
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


# What happens.


@dataclass(frozen=True, slots=True)
class Started:
    """The master starts: every slot gets its first process."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """The process that ``Spawn`` asked for exists."""

    slot_id: SlotId
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The system gave no process; ``problem`` says why."""

    slot_id: SlotId
    problem: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A process serves. Its script is newer than the master's, so it brings its own policy."""

    pid: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class Starting:
    """A process that does not serve yet lives, and says what it waits for."""

    pid: int
    waits_for: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A process lives: so many messages received, so many bytes of memory."""

    pid: int
    messages: int
    memory: int


@dataclass(frozen=True, slots=True)
class ChannelBroken:
    """A process writes to its channel what is not a message: it is told to drain, and no more."""

    pid: int


@dataclass(frozen=True, slots=True)
class Inspected:
    """What ``Inspect`` found: whether a silent process is stopped, by SIGSTOP or a debugger."""

    pid: int
    is_stopped: bool


@dataclass(frozen=True, slots=True)
class Exited:
    """A process ended: its exit code, or minus the signal; the last lines of its stderr."""

    pid: int
    status: int
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Everything is to end: at once, or by draining."""

    is_graceful: bool


@dataclass(frozen=True, slots=True)
class Signalled:
    """A process that serves got SIGTERM, or SIGQUIT to drain; it waits for what it is told."""

    pid: int
    is_graceful: bool


@dataclass(frozen=True, slots=True)
class StillDraining:
    """A process that was to drain has, and needs longer to tell what it has done."""

    pid: int


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    """
    Every slot is to get a new process; gently: a slot when the one before has drained.

    Unless it is of all, workers that are not ``reloadable`` keep theirs.
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


# What to do.


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process in a slot, and tell ``Spawned`` or ``SpawnFailed`` at once."""

    slot_id: SlotId


@dataclass(frozen=True, slots=True)
class Accept:
    """Have a process accept for exactly these slots of its worker."""

    pid: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """
    Have a process part from its connections bit by bit, and end.

    It goes on accepting where nobody else does: health checks get 503 then, and are not refused.
    """

    pid: int
    keeps_accepting: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Have a process close everything and end."""

    pid: int


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL."""

    pid: int


@dataclass(frozen=True, slots=True)
class Inspect:
    """Find out whether a process is stopped, and tell ``Inspected`` at once."""

    pid: int


@dataclass(frozen=True, slots=True)
class DumpStack:
    """Have the stack of a process's main thread written to the log."""

    pid: int


@dataclass(frozen=True, slots=True)
class CloseSockets:
    """
    Listen for a worker no more: clients are refused at once instead of waiting in vain.

    ``Spawn`` listens again.
    """

    worker: int


@dataclass(frozen=True, slots=True)
class Log:
    """Write a line to the log."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Serving:
    """Every slot has served, or was given up: what ``start`` began is done."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What ``ReloadAsked`` began is over; ``problem`` is why it failed, or empty."""

    problem: str = ""


@dataclass(frozen=True, slots=True)
class Exit:
    """The master ends, with this code; no process is left."""

    code: int


ProcessCommand = Accept | Drain | Stop | Kill | DumpStack
"""What a process is made to do."""

SupervisorAction = Spawn | ProcessCommand | Inspect | CloseSockets | Log | Serving | Reloaded | Exit
