"""Slots and their processes, as the supervisor keeps them. PURE."""

from collections import deque
from collections.abc import Sequence
from enum import Enum

from . import formatting
from .events import Drain, Heartbeat, Policy, SlotId, Stop

# Crashes that are longer ago are forgiven.
CRASH_WINDOW = 300.0  # seconds

# The first crash costs no delay, the second half a second, each more twice as much.
_FIRST_DELAY = 0.5  # seconds
MAX_DELAY = 30.0  # seconds
"""Between two attempts, at most: a client's own back-off is about as long."""


# Processes say each second that they live.
SILENCE_LIMIT = 5.0  # seconds
"""After this, clients do not wait for a process any longer."""


# Seconds that a process may stay behind its time to drain, while it cannot tell what it has done.
MAX_DRAIN_EXTENSION = 600.0


class ProcessState(Enum):
    """Where a process is in its life; it only ever moves down this list."""

    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "leaving"


class ReplacementReason(Enum):
    """Why the process of a slot is replaced by another while it lives."""

    RELOAD = "reload"
    RECYCLE = "recycle"
    STALL = "stall"


class Process:
    """
    One process.

    Attributes:
        pid: Its id.
        state: Where it is in its life.
        policy: What its script declares; until it serves, what the last one did.
        spawned_at: When it was started.
        ready_at: Since when it serves.
        last_heard_at: When it last gave a sign of life.
        waits_for: What it said that it waits for, before it serves.
        is_silent: Whether that is too long ago for clients to wait for it.
        is_stopped: Whether it was found stopped, by SIGSTOP or a debugger.
        keeps_accepting: Whether it accepts while it leaves.
        command_at: When it is told to do what a signal asked of it.
        pending_command: What that is.
    """

    def __init__(self, pid: int, policy: Policy, now: float, recycle_factor: float) -> None:
        self.pid = pid
        self.policy = policy
        self.state = ProcessState.STARTING
        self.spawned_at = self.ready_at = self.last_heard_at = now
        self.waits_for = ""
        self.is_silent = False
        self.is_stopped = False
        self.recycle_factor = recycle_factor
        self.start_by: float | None = now + policy.start
        self.accepts_for: tuple[int, ...] = ()
        self.stall_at: float | None = None
        self.kill_at: float | None = None
        self.drain_limit_at = 0.0
        self.keeps_accepting = False
        self.command_at: float | None = None
        self.pending_command: Drain | Stop | None = None
        self.exit_reason = ""


class Crashes:
    """The crashes of a slot, as long as they count."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def add(self, now: float) -> int:
        """Note a crash."""
        self._times.append(now)
        while self._times[0] <= now - CRASH_WINDOW:
            self._times.popleft()
        return len(self._times)

    def delay(self, jitter: float) -> float:
        """Tell how long to wait after the crash that was noted last."""
        count = len(self._times)
        if count < 2:
            return 0.0
        return min(MAX_DELAY, _FIRST_DELAY * 2.0 ** (count - 2)) * (0.75 + 0.5 * jitter)

    @property
    def first_at(self) -> float:
        """When the first of them was."""
        return self._times[0]

    def clear(self) -> None:
        """Forgive all."""
        self._times.clear()


class Slot:
    """
    A slot, and the processes in it.

    Attributes:
        id: Which.
        current: The process that serves, or is to serve; ``None`` when there is none.
        incoming: The process that is to take its place.
        leaving: Processes that are on their way out.
        respawn_at: When the next process is started; ``None`` when none is due.
        is_given_up: Whether no process is started any more.
        has_served: Whether any process of it ever served.
        restarts: How many processes were started in place of one that had ended.
        last_exit: How the last process that failed ended, in words; empty for none.
        last_lines: The last lines of its standard error.
    """

    def __init__(self, slot_id: SlotId) -> None:
        self.id = slot_id
        self.current: Process | None = None
        self.incoming: Process | None = None
        self.leaving: list[Process] = []
        self.replacement_reason: ReplacementReason | None = None
        self.respawn_at: float | None = None
        self.recycle_at = 0.0
        self.crashes = Crashes()
        self.is_given_up = False
        self.has_served = False
        self.restarts = 0
        self.last_exit = ""
        self.last_lines: tuple[str, ...] = ()

    @property
    def processes(self) -> list[Process]:
        """All of its processes, the serving one first."""
        return [one for one in (self.current, self.incoming, *self.leaving) if one is not None]

    @property
    def deadlines(self) -> list[float | None]:
        """When something of it is due, in monotonic seconds; ``None`` for what never is."""
        deadlines = [self.respawn_at]
        for process in self.processes:
            deadlines.append(process.kill_at)
            if process.state is ProcessState.STARTING:
                deadlines.append(process.start_by)
            elif process.state is ProcessState.SERVING:
                deadlines += [process.stall_at, process.command_at]
                if not process.is_silent:
                    deadlines.append(process.last_heard_at + SILENCE_LIMIT)
        return deadlines

    @property
    def acceptor(self) -> Process | None:
        """The process that is able to accept; ``None`` when there is none."""
        one = self.current
        if one is not None and one.state is ProcessState.SERVING and not one.is_silent:
            return one
        return next((one for one in self.leaving if one.keeps_accepting), None)

    def process(self, pid: int) -> Process:
        """Find one of its processes."""
        return next(one for one in self.processes if one.pid == pid)


class Reload:
    """
    A reload that is going on.

    Attributes:
        waiting: The slots that wait for their new process.
        count: How many there were.
        is_gentle: Whether a slot waits until the one before has drained.
        place: The slot whose turn it is.
        draining_pid: The process that this one waits for.
    """

    def __init__(self, slots: Sequence[Slot], *, is_gentle: bool) -> None:
        self.waiting = deque(slots)
        self.count = len(slots)
        self.is_gentle = is_gentle
        self.slot: Slot | None = None
        self.draining_pid: int | None = None


def assign_acceptors(slots: Sequence[Slot]) -> list[tuple[Process, tuple[int, ...]]]:
    """Choose who accepts for whom: each for itself, and for slots without a process that serves."""
    acceptors = {
        slot.id.number: acceptor for slot in slots if (acceptor := slot.acceptor) is not None
    }
    numbers = {number: [number] for number in acceptors}
    unserved = [slot.id.number for slot in slots if slot.id.number not in acceptors]
    for index, unserved_number in enumerate(unserved if acceptors else []):
        numbers[list(acceptors)[index % len(acceptors)]].append(unserved_number)
    return [(process, tuple(numbers[number])) for number, process in acceptors.items()]


def recycle_reason(process: Process, beat: Heartbeat, now: float) -> str:
    """Tell why a process that serves is to be replaced."""
    policy = process.policy
    if policy.max_messages and beat.messages >= policy.max_messages * process.recycle_factor:
        return f"it has received {beat.messages} messages"
    if policy.max_memory and beat.memory >= policy.max_memory * process.recycle_factor:
        return f"it holds {formatting.size(beat.memory)}"
    if (
        policy.max_lifetime
        and now - process.ready_at >= policy.max_lifetime * process.recycle_factor
    ):
        return f"it has served for {formatting.duration(now - process.ready_at)}"
    return ""
