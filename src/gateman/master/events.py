"""
The supervisor's events and actions. PURE.

Times are in monotonic seconds. A process is identified by its pid.
"""

from typing import Annotated, NamedTuple

from msgspec import Meta, Struct
from msgspec.structs import replace

# A process sends its own policy: values that cannot be supervised are refused when it is read.
_Seconds = Annotated[float, Meta(ge=0, le=1e12)]
_Positive = Annotated[int, Meta(ge=1)]

# A process is killed this long after its own deadlines.
_GRACE = 2.0  # seconds

# A process sends its own policy and may be compromised. The master bounds the policy, so that the
# process can neither delay the master's end for ever nor flood its log.
_MIN_STALL = 0.1  # seconds
_MAX_DRAIN = 7 * 86400.0  # seconds
_MAX_SHUTDOWN = 86400.0  # seconds


class SlotId(NamedTuple):
    worker: int  # index of the declared worker, from 0
    number: int  # of the process, from 0


class Policy(Struct, frozen=True, kw_only=True):
    """How a worker's processes are supervised: seconds and bytes; see the options of a Worker."""

    name: Annotated[str, Meta(max_length=4096)]
    count: _Positive
    is_shared: bool = False
    start: _Seconds = 60.0
    stall: _Seconds = 30.0
    shutdown: _Seconds = 10.0
    drain: _Seconds = 10.0
    ends_last: bool = False  # stops when all others have stopped, which need it until then
    reloadable: bool = True
    restart_stalled: bool = False
    max_crashes: _Positive = 10
    max_messages: _Positive | None = None
    max_lifetime: _Seconds | None = None
    max_memory: _Positive | None = None

    @property
    def stop_limit(self) -> float:
        """Seconds after which a process that was told to stop is killed."""
        return self.shutdown + _GRACE

    @property
    def drain_limit(self) -> float:
        """Seconds after which a process that was told to drain is killed."""
        return self.drain + self.stop_limit

    def bounded(self) -> "Policy":
        return replace(
            self,
            stall=max(self.stall, _MIN_STALL),
            drain=min(self.drain, _MAX_DRAIN),
            shutdown=min(self.shutdown, _MAX_SHUTDOWN),
        )


# Events.


class Started(Struct, frozen=True):
    """The master starts; every slot gets its first process."""


class Spawned(Struct, frozen=True):
    """The process that ``Spawn`` asked for exists."""

    slot_id: SlotId
    pid: int


class SpawnFailed(Struct, frozen=True):
    """The system could not start a process."""

    slot_id: SlotId
    problem: str


class Ready(Struct, frozen=True):
    """A process serves. Its script may be newer than the master's, so it sends its own policy."""

    pid: int
    policy: Policy


class Starting(Struct, frozen=True):
    """A process that does not serve yet reports what it waits for."""

    pid: int
    waits_for: str


class Heartbeat(Struct, frozen=True):
    pid: int
    messages: int  # received so far
    memory: int  # bytes


class ChannelBroken(Struct, frozen=True):
    """A process wrote something else than messages to its channel; the master told it to drain."""

    pid: int


class Inspected(Struct, frozen=True):
    """The result of ``Inspect``: whether SIGSTOP or a debugger stopped the process."""

    pid: int
    is_stopped: bool


class Exited(Struct, frozen=True):
    pid: int
    status: int  # exit code, or minus the signal
    lines: tuple[str, ...] = ()  # the last ones of its standard error


class StopRequested(Struct, frozen=True):
    """Stop the service: at once, or by draining."""

    is_graceful: bool


class Signalled(Struct, frozen=True):
    """A serving process got SIGTERM, or SIGQUIT to drain; it waits for the master's decision."""

    pid: int
    is_graceful: bool


class StillDraining(Struct, frozen=True):
    """A process has drained, and needs longer to deliver its results."""

    pid: int


class ReloadRequested(Struct, frozen=True):
    """Replace the process of every slot; gently: each slot after the previous one has drained."""

    is_gentle: bool
    is_all: bool = False  # also the workers that are not ``reloadable``


class Tick(Struct, frozen=True):
    """Time has passed."""


ProcessEvent = (
    Ready | Starting | Heartbeat | ChannelBroken | Inspected | Signalled | StillDraining | Exited
)

SupervisorEvent = (
    Started | Spawned | SpawnFailed | StopRequested | ReloadRequested | Tick | ProcessEvent
)


# Actions.


class Spawn(Struct, frozen=True):
    """Start a process in a slot, and report ``Spawned`` or ``SpawnFailed`` at once."""

    slot_id: SlotId


class Accept(Struct, frozen=True):
    """A process accepts for exactly these slots of its worker."""

    pid: int
    numbers: tuple[int, ...]


class Drain(Struct, frozen=True):
    """A process closes its connections over time, and ends."""

    pid: int
    # If no other process does: health checks get 503, and are not refused.
    keeps_accepting: bool = False


class Stop(Struct, frozen=True):
    """A process closes everything and ends."""

    pid: int


class Kill(Struct, frozen=True):
    """SIGKILL."""

    pid: int


class Inspect(Struct, frozen=True):
    """Find out whether a process is stopped by a signal, and report ``Inspected`` at once."""

    pid: int


class DumpStack(Struct, frozen=True):
    """Write the stack of a process's main thread to the log."""

    pid: int


class CloseSockets(Struct, frozen=True):
    """Stop listening for a worker: the system refuses clients at once; ``Spawn`` listens again."""

    worker: int


class Log(Struct, frozen=True):
    level: str
    text: str


class Serving(Struct, frozen=True):
    """Every slot has served or was given up: the start is complete."""


class Reloaded(Struct, frozen=True):
    """A reload is complete; ``problem`` is empty, or says why it failed."""

    problem: str = ""
    notes: tuple[str, ...] = ()  # what was declared and is not in effect


class Exit(Struct, frozen=True):
    """No process is left; the master ends with this code."""

    code: int


ProcessCommand = Accept | Drain | Stop | Kill | DumpStack

SupervisorAction = Spawn | ProcessCommand | Inspect | CloseSockets | Log | Serving | Reloaded | Exit
