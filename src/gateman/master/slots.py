"""Slots and their processes, as the supervisor keeps them. PURE."""

from collections import deque
from collections.abc import Sequence
from enum import Enum

from . import formatting
from .events import Drain, Heartbeat, Policy, ReloadRequested, SlotId, Stop

# Older crashes do not count.
CRASH_WINDOW = 300.0  # seconds

# No delay after the first crash; after the second this one, doubled for each more.
_FIRST_DELAY = 0.5  # seconds
MAX_DELAY = 30.0  # seconds
"""A client's own back-off is about as long."""

# Processes send a heartbeat each second.
SILENCE_LIMIT = 5.0  # seconds
"""After this without a heartbeat, other processes accept for a process."""

# A draining process may wait this much longer to deliver its results.
MAX_DRAIN_EXTENSION = 600.0  # seconds


class ProcessState(Enum):
    """A process moves down this list only."""

    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "leaving"


class ReplacementReason(Enum):
    """Why a living process is replaced."""

    RELOAD = "reload"
    RECYCLE = "recycle"
    STALL = "stall"


class Process:
    """What the supervisor knows of one process; times are in monotonic seconds."""

    def __init__(self, pid: int, policy: Policy, now: float, recycle_factor: float) -> None:
        self.pid = pid
        self.policy = policy
        self.state = ProcessState.STARTING
        self.has_served = False
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
    """The recent crashes of a slot."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def add(self, now: float) -> int:
        """Record a crash; return how many count now."""
        self._times.append(now)
        return self.count(now)

    def count(self, now: float) -> int:
        """Return how many count now."""
        while self._times and self._times[0] <= now - CRASH_WINDOW:
            self._times.popleft()
        return len(self._times)

    def delay(self, jitter: float) -> float:
        """Return how long to wait after the latest crash, in seconds."""
        count = len(self._times)
        if count < 2:
            return 0.0
        return min(MAX_DELAY, _FIRST_DELAY * 2.0 ** (count - 2)) * (0.75 + 0.5 * jitter)

    @property
    def first_at(self) -> float:
        return self._times[0]

    def clear(self) -> None:
        self._times.clear()


class Slot:
    """A numbered place for a process, and the processes in it."""

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
        """The current process first."""
        return [one for one in (self.current, self.incoming, *self.leaving) if one is not None]

    @property
    def deadlines(self) -> list[float | None]:
        """When something is due in this slot, in monotonic seconds; ``None`` for never."""
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
        """The process that can accept connections, if there is one."""
        one = self.current
        if one is not None and one.state is ProcessState.SERVING and not one.is_silent:
            return one
        return next((one for one in self.leaving if one.keeps_accepting), None)

    def process(self, pid: int) -> Process:
        return next(one for one in self.processes if one.pid == pid)

    def mark_leaving(self, process: Process, kill_at: float | None) -> None:
        if process.state is not ProcessState.LEAVING:
            self.leaving.append(process)
        if process is self.current:
            self.current = None
        if process is self.incoming:
            self.incoming = None
        process.state = ProcessState.LEAVING
        process.kill_at = kill_at


class Reload:
    def __init__(self, slots: Sequence[Slot], *, is_gentle: bool) -> None:
        self.waiting = deque(slots)
        self.count = len(slots)
        self.is_gentle = is_gentle
        self.slot: Slot | None = None
        self.draining_pid: int | None = None
        self.next_request: ReloadRequested | None = None
        self.notes: list[str] = []  # what a reload does not change

    def request_next(self, request: ReloadRequested) -> None:
        """Remember one reload that follows, which does what all that ask for it want."""
        if (other := self.next_request) is not None:
            request = ReloadRequested(
                request.is_gentle or other.is_gentle, request.is_all or other.is_all
            )
        self.next_request = request


def assign_acceptors(slots: Sequence[Slot]) -> list[tuple[Process, tuple[int, ...]]]:
    """Choose for which slots each process accepts: its own, and a share of those without one."""
    acceptors = {
        slot.id.number: acceptor for slot in slots if (acceptor := slot.acceptor) is not None
    }
    numbers = {number: [number] for number in acceptors}
    unserved = [slot.id.number for slot in slots if slot.id.number not in acceptors]
    for index, unserved_number in enumerate(unserved if acceptors else []):
        numbers[list(acceptors)[index % len(acceptors)]].append(unserved_number)
    return [(process, tuple(numbers[number])) for number, process in acceptors.items()]


def recycle_reason(process: Process, beat: Heartbeat, now: float) -> str:
    """Return why a process is due for replacement, or an empty text."""
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
