"""
When to start, replace, stop and give up processes. PURE.

:class:`Supervisor` takes events with their time, and returns actions that the master executes. A
slot has at most one serving process. During a replacement a second process starts; once it serves,
the first one drains. Other processes of the worker accept for a slot without a serving process.
"""

from enum import Enum
from typing import assert_never

from msgspec.structs import replace

from . import events, formatting
from .events import Policy, SlotId, SupervisorAction, SupervisorEvent
from .slots import (
    MAX_DELAY,
    MAX_DRAIN_EXTENSION,
    SILENCE_LIMIT,
    Process,
    ProcessState,
    Reload,
    ReplacementReason,
    Slot,
    assign_acceptors,
    recycle_reason,
)

# A process is recycled up to this fraction early, so that not all are replaced at once.
_RECYCLE_SPREAD = 0.2

# Exit statuses of a process that was told to end: orderly, SIGTERM while starting, SIGKILL.
_ORDERLY_EXITS = (0, -15, -9)

# A starting process that reported what it waits for, and then nothing for this long, is stuck.
_START_SILENCE = 2.5  # seconds

# Time to write the stack before the kill.
_STACK_TIME = 0.5  # seconds

# If the whole process group got the signal, the master has received it too by then, and decides.
_SIGNAL_PAUSE = 0.1  # seconds

# Why there is no reload.
_STOPS = "the master stops"


class Phase(Enum):
    """The master moves down this list only."""

    STARTING = "starting"
    """Some slot has not served yet; a process that fails to load ends the master."""
    RUNNING = "running"
    """Processes that end are replaced."""
    STOPPING = "stopping"
    """Processes that end are not replaced."""


class Supervisor:
    def __init__(self, policies: list[Policy]) -> None:
        self.phase = Phase.STARTING
        self._policies = list(policies)
        self.slots = [
            Slot(SlotId(worker, number))
            for worker, policy in enumerate(policies)
            for number in range(policy.count)
        ]
        self._by_pid: dict[int, Slot] = {}
        self._reload: Reload | None = None
        self._has_reported_serving = False
        self._is_graceful = False
        self._closed_workers: set[int] = set()
        # Processes that stop after all others.
        self._ending_last: list[Process] = []
        self._exit_code = 0
        self._actions: list[SupervisorAction] = []

    def handle(
        self, event: SupervisorEvent, now: float, jitter: float = 0.5
    ) -> list[SupervisorAction]:
        """Take an event; ``jitter`` is between 0 and 1."""
        self._dispatch(event, now, jitter)
        self._assign_acceptors()
        if self.phase is Phase.STOPPING:
            self._close_unserved_sockets()
        else:
            self._check_all_served()
        actions, self._actions = self._actions, []
        return actions

    def _dispatch(self, event: SupervisorEvent, now: float, jitter: float) -> None:
        match event:
            case events.Started():
                for slot in self.slots:
                    self._emit(events.Spawn(slot.id))
            case events.Spawned(slot_id, pid):
                self._spawned(slot_id, pid, now, jitter)
            case events.SpawnFailed(slot_id, problem):
                self._spawn_failed(slot_id, problem, now)
            case events.StopRequested(is_graceful):
                self._stop(now, is_graceful=is_graceful)
            case events.ReloadRequested():
                self._start_reload(event)
            case events.Tick():
                self._tick(now)
            case _ if (of_process := self._by_pid.get(event.pid)) is not None:
                process = of_process.process(event.pid)
                self._dispatch_of_process(event, of_process, process, now, jitter)
            case _:
                pass  # The master read the message after it had reaped the process.

    def _dispatch_of_process(
        self, event: events.ProcessEvent, slot: Slot, process: Process, now: float, jitter: float
    ) -> None:
        match event:
            case events.Ready(_, policy):
                self._ready(slot, process, policy, now)
            case events.Starting(_, waits_for):
                process.last_heard_at = now
                process.waits_for = waits_for
            case events.Heartbeat():
                self._heartbeat(slot, process, event, now)
            case events.StillDraining():
                if process.kill_at is not None and self.phase is not Phase.STOPPING:
                    latest = min(now, process.drain_limit_at) + process.policy.stop_limit
                    process.kill_at = max(process.kill_at, latest)
            case events.Signalled(pid, is_graceful):
                process.command_at = now + _SIGNAL_PAUSE
                process.pending_command = events.Drain(pid) if is_graceful else events.Stop(pid)
            case events.ChannelBroken():
                process.is_silent = True
                process.stall_at = None
                if process.kill_at is None:
                    # The master told it to drain and can send nothing else; it may not comply.
                    process.kill_at = now + process.policy.drain_limit
            case events.Inspected(_, is_stopped):
                self._inspected(slot, process, now, is_stopped=is_stopped)
            case events.Exited():
                del self._by_pid[event.pid]
                self._exited(slot, process, event, now, jitter)
            case _:
                assert_never(event)

    def next_at(self) -> float | None:
        """Return when the next ``Tick`` is due."""
        deadlines = (due_at for slot in self.slots for due_at in slot.deadlines)
        return min((due_at for due_at in deadlines if due_at is not None), default=None)

    @property
    def is_reloading(self) -> bool:
        return self._reload is not None

    def policy(self, slot_id: SlotId) -> Policy:
        return self._policies[slot_id.worker]

    def name(self, slot_id: SlotId) -> str:
        return f"{self._policies[slot_id.worker].name}/{slot_id.number}"

    def _label(self, slot: Slot, process: Process) -> str:
        return f"{self.name(slot.id)} (pid {process.pid})"

    def _spawned(self, slot_id: SlotId, pid: int, now: float, jitter: float) -> None:
        slot = self._find_slot(slot_id)
        process = Process(pid, self._policies[slot_id.worker], now, 1 - _RECYCLE_SPREAD * jitter)
        self._by_pid[pid] = slot
        if slot.current is None:
            slot.current = process
        else:
            slot.incoming = process

    def _spawn_failed(self, slot_id: SlotId, problem: str, now: float) -> None:
        slot = self._find_slot(slot_id)
        slot.last_exit, slot.last_lines = problem, ()
        if slot.current is None:
            # The system failed, not the script: this does not count as a crash.
            slot.respawn_at = now + MAX_DELAY
        else:
            slot.recycle_at = now + MAX_DELAY
        slot.replacement_reason = None
        description = f"{self.name(slot_id)} cannot be started: {problem}"
        self._log("error", description)
        self._fail_reload(slot, description)

    def _ready(self, slot: Slot, process: Process, policy: Policy, now: float) -> None:
        process.has_served = True
        if process.state is not ProcessState.STARTING:
            return  # It was told to stop in the meantime.
        policy = policy.bounded()
        self._adopt_policy(slot.id, policy)
        process.policy = policy
        process.state = ProcessState.SERVING
        process.exit_reason = ""
        process.ready_at = process.last_heard_at = now
        process.stall_at = now + policy.stall
        process.accepts_for = (slot.id.number,)
        slot.has_served = True
        replaced: Process | None = None
        if process is slot.incoming:
            replaced, slot.current, slot.incoming = slot.current, process, None
        if replaced is not None:
            if slot.replacement_reason is ReplacementReason.STALL:
                slot.restarts += 1
                replaced.exit_reason = "was stuck and replaced"
                slot.mark_leaving(replaced, None)
                self._emit(events.Kill(replaced.pid))
            else:
                self._drain(slot, replaced, now)
        slot.replacement_reason = None
        reload = self._reload
        if reload is not None and reload.slot is slot:
            if reload.is_gentle and replaced is not None:
                reload.draining_pid = replaced.pid
            else:
                self._continue_reload()

    def _adopt_policy(self, slot_id: SlotId, policy: Policy) -> None:
        old = self._policies[slot_id.worker]
        if policy.count != old.count and slot_id.number == 0:
            note = f"{old.name}: count={policy.count} needs a `restart`"
            self._log("warning", note)
            if self._reload is not None:
                self._reload.notes.append(note)
        self._policies[slot_id.worker] = replace(policy, count=old.count, is_shared=old.is_shared)

    def _check_all_served(self) -> None:
        """Report once that every slot has served or was given up."""
        is_settled = all(slot.has_served or slot.is_given_up for slot in self.slots)
        if is_settled and not self._has_reported_serving:
            self._has_reported_serving = True
            self.phase = Phase.RUNNING
            self._emit(events.Serving())

    def _heartbeat(self, slot: Slot, process: Process, beat: events.Heartbeat, now: float) -> None:
        if process.is_stopped or now - process.last_heard_at >= process.policy.stall:
            silence = formatting.duration(now - process.last_heard_at)
            self._log("info", f"{self._label(slot, process)} responds again after {silence}")
        process.last_heard_at = now
        process.is_silent = process.is_stopped = False
        process.stall_at = now + process.policy.stall
        if process is slot.current and process.state is ProcessState.SERVING:
            self._recycle_if_due(slot, process, beat, now)

    def _recycle_if_due(
        self, slot: Slot, process: Process, beat: events.Heartbeat, now: float
    ) -> None:
        reason = recycle_reason(process, beat, now)
        is_quiet = not any(
            other.incoming or other.leaving for other in self._slots_of(slot.id.worker)
        )
        if reason and is_quiet and self._reload is None and now >= slot.recycle_at:
            self._log("info", f"{self._label(slot, process)} is replaced: {reason}")
            self._replace(slot, ReplacementReason.RECYCLE)

    def _replace(self, slot: Slot, replacement_reason: ReplacementReason) -> None:
        slot.replacement_reason = replacement_reason
        self._emit(events.Spawn(slot.id))

    def _inspected(self, slot: Slot, process: Process, now: float, *, is_stopped: bool) -> None:
        name = self._label(slot, process)
        silence = formatting.duration(now - process.last_heard_at)
        if is_stopped:
            if not process.is_stopped:
                process.is_stopped = True
                self._log("warning", f"{name} was stopped by a signal {silence} ago")
            return
        self._log("warning", f"{name} is busy: it has been stuck in one callback for {silence}")
        self._emit(events.DumpStack(process.pid))
        if process.policy.restart_stalled and process is slot.current and slot.incoming is None:
            self._replace(slot, ReplacementReason.STALL)

    def _tick(self, now: float) -> None:
        for slot in self.slots:
            if slot.respawn_at is not None and now >= slot.respawn_at:
                slot.respawn_at = None
                self._emit(events.Spawn(slot.id))
            for process in slot.processes:
                self._check_process(slot, process, now)

    def _check_process(self, slot: Slot, process: Process, now: float) -> None:
        if process.kill_at is not None and now >= process.kill_at:
            process.kill_at = None
            self._log("warning", f"{self._label(slot, process)} does not end: killed")
            self._emit(events.Kill(process.pid))
        elif process.state is ProcessState.STARTING:
            if process.start_by is not None and now >= process.start_by:
                self._kill_late_starter(process, now)
        elif process.state is ProcessState.SERVING:
            if (
                process.command_at is not None
                and process.pending_command is not None
                and now >= process.command_at
            ):
                process.command_at = None
                self._emit(process.pending_command)
            if now >= process.last_heard_at + SILENCE_LIMIT:
                process.is_silent = True
            if process.stall_at is not None and now >= process.stall_at:
                process.stall_at = now + process.policy.stall
                self._emit(events.Inspect(process.pid))

    def _kill_late_starter(self, process: Process, now: float) -> None:
        """Kill a process that is late to serve; dump its stack first if it reports nothing."""
        limit = formatting.duration(process.policy.start)
        is_heard = process.waits_for and now < process.last_heard_at + _START_SILENCE
        if not process.exit_reason and not is_heard:
            process.exit_reason = (
                f"did not serve within {limit}: its stack, logged above, shows why"
            )
            process.start_by = now + _STACK_TIME
            self._emit(events.DumpStack(process.pid))
            return
        process.start_by = None
        if is_heard:
            process.exit_reason = f"did not serve within {limit}: it waits for {process.waits_for}"
        self._emit(events.Kill(process.pid))

    def _assign_acceptors(self) -> None:
        """Have serving processes accept for the slots that have none."""
        for worker, policy in enumerate(self._policies):
            if not policy.is_shared:
                for process, numbers in assign_acceptors(self._slots_of(worker)):
                    if numbers != process.accepts_for:
                        process.accepts_for = numbers
                        self._emit(events.Accept(process.pid, numbers))

    def _exited(
        self, slot: Slot, process: Process, exited: events.Exited, now: float, jitter: float
    ) -> None:
        how = process.exit_reason or formatting.exit_description(
            exited.status, has_served=process.has_served
        )
        if process.state is ProcessState.LEAVING:
            slot.leaving.remove(process)
            if exited.status not in _ORDERLY_EXITS:
                self._log("warning", f"{self._label(slot, process)} {how}")
            if self.phase is Phase.STOPPING:
                self._continue_stopping(now)
            elif self._reload is not None and self._reload.draining_pid == exited.pid:
                self._continue_reload()
            return
        if not process.exit_reason:
            how = f"{how} after {formatting.duration(now - process.spawned_at)}"
        slot.last_exit, slot.last_lines = how, exited.lines
        description = f"{self._label(slot, process)} {how}"
        if process is slot.incoming:
            slot.incoming = None
            slot.replacement_reason = None
            slot.recycle_at = now + MAX_DELAY
            self._log("error", f"{description}; the process that it should replace stays")
        else:
            slot.current, slot.incoming = slot.incoming, None
            is_final = process.state is ProcessState.STARTING and formatting.is_final(exited.status)
            if self.phase is Phase.STARTING and not slot.has_served and is_final:
                self._log("error", description)
                self._exit_code = exited.status
                self._stop(now, is_graceful=False)
                return
            if slot.current is None:
                self._crashed(slot, description, now, jitter)
            else:
                self._log("error", f"{description}; its successor is starting already")
                slot.restarts += 1
        if process.state is ProcessState.STARTING or slot.current is None:
            self._fail_reload(slot, description)

    def _crashed(self, slot: Slot, description: str, now: float, jitter: float) -> None:
        count = slot.crashes.add(now)
        if count >= self._policies[slot.id.worker].max_crashes:
            slot.is_given_up = True
            self._log(
                "error",
                f"{description}; the slot is given up after {count} crashes within"
                f" {formatting.duration(now - slot.crashes.first_at)}: `reload` tries again."
                f"{formatting.indented(slot.last_lines)}",
            )
            if all(other.is_given_up for other in self._slots_of(slot.id.worker)):
                self._emit(events.CloseSockets(slot.id.worker))
            return
        slot.restarts += 1
        if count == 1:
            self._log("error", f"{description}; started again")
            self._emit(events.Spawn(slot.id))
            return
        delay = slot.crashes.delay(jitter)
        slot.respawn_at = now + delay
        self._log("error", f"{description}; started again in {formatting.duration(delay)}")

    def _drain(
        self, slot: Slot, process: Process, now: float, *, keeps_accepting: bool = False
    ) -> None:
        policy = process.policy
        slot.mark_leaving(process, now + policy.drain_limit)
        process.keeps_accepting = keeps_accepting
        process.drain_limit_at = now + policy.drain + MAX_DRAIN_EXTENSION
        self._emit(events.Drain(process.pid, keeps_accepting))

    def _stop(self, now: float, *, is_graceful: bool) -> None:
        is_more_urgent = self._is_graceful and not is_graceful
        if self.phase is Phase.STOPPING and not is_more_urgent:
            return
        if not is_graceful:
            for worker in range(len(self._policies)):
                self._close_sockets(worker)
        self.phase = Phase.STOPPING
        self._is_graceful = is_graceful
        self._end_reload(_STOPS)
        for slot in self.slots:
            slot.respawn_at = None
            for process in slot.processes:
                is_serving = process.state is ProcessState.SERVING
                is_draining = is_graceful and process in slot.leaving
                if is_serving and process.policy.ends_last:
                    slot.mark_leaving(process, None)
                    self._ending_last.append(process)
                elif is_serving and is_graceful:
                    self._drain(slot, process, now, keeps_accepting=True)
                elif process not in self._ending_last and not is_draining:
                    self._stop_process(slot, process, now)
        self._continue_stopping(now)

    def _close_unserved_sockets(self) -> None:
        """Close the listening sockets of workers without an accepting process."""
        accepting = {slot.id.worker for slot in self.slots if slot.acceptor is not None}
        for worker in range(len(self._policies)):
            if worker not in accepting:
                self._close_sockets(worker)

    def _close_sockets(self, worker: int) -> None:
        if worker not in self._closed_workers:
            self._closed_workers.add(worker)
            self._emit(events.CloseSockets(worker))

    def _stop_process(self, slot: Slot, process: Process, now: float) -> None:
        slot.mark_leaving(process, now + process.policy.stop_limit)
        process.keeps_accepting = False
        self._emit(events.Stop(process.pid))

    def _continue_stopping(self, now: float) -> None:
        """Stop the processes that end last once they are alone; then the master exits."""
        if not self._by_pid:
            self._emit(events.Exit(self._exit_code))
        elif all(slot.process(pid) in self._ending_last for pid, slot in self._by_pid.items()):
            self._ending_last.clear()
            for pid, slot in self._by_pid.items():
                end = self._drain if self._is_graceful else self._stop_process
                end(slot, slot.process(pid), now)

    def _start_reload(self, request: events.ReloadRequested) -> None:
        if self.phase is Phase.STOPPING:
            self._log("warning", f"not reloaded: {_STOPS}")
            self._emit(events.Reloaded(_STOPS))
            return
        if self._reload is not None:
            # The running one may have loaded files that have changed since.
            self._log("info", "another reload follows this one")
            self._reload.request_next(request)
            return
        # A slot that was given up has no process to keep, so it is always renewed.
        slots = [
            slot
            for slot in self.slots
            if request.is_all or slot.is_given_up or self._policies[slot.id.worker].reloadable
        ]
        if not slots:
            problem = "no worker is reloadable: `reload --all` renews all processes"
            self._log("warning", problem)
            self._emit(events.Reloaded(problem))
            return
        self._reload = Reload(slots, is_gentle=request.is_gentle)
        self._log("info", "reloading")
        self._continue_reload()

    def _continue_reload(self) -> None:
        if (reload := self._reload) is None:
            return
        reload.draining_pid = None
        if not reload.waiting:
            self._log("info", "reloaded")
            self._end_reload()
            return
        slot = reload.slot = reload.waiting.popleft()
        slot.is_given_up = False
        slot.respawn_at = None
        slot.crashes.clear()
        if slot.incoming is not None:
            # It may have loaded the old code.
            self._emit(events.Kill(slot.incoming.pid))
            slot.mark_leaving(slot.incoming, None)
        self._replace(slot, ReplacementReason.RELOAD)

    def _fail_reload(self, slot: Slot, description: str) -> None:
        """End the reload if it was this slot's turn."""
        reload = self._reload
        if reload is None or reload.slot is not slot:
            return
        done = reload.count - len(reload.waiting) - 1
        rest = f"; {done} of {reload.count} slots run the new code" if done else ""
        self._log("error", f"the reload failed{rest}")
        self._end_reload(f"{description}{rest}{formatting.indented(slot.last_lines)}")

    def _end_reload(self, problem: str = "") -> None:
        """End the reload if there is one, and start the one that was asked for meanwhile."""
        if (reload := self._reload) is None:
            return
        self._reload = None
        self._emit(events.Reloaded(problem, tuple(reload.notes)))
        if reload.next_request is not None:
            self._start_reload(reload.next_request)

    def _slots_of(self, worker: int) -> list[Slot]:
        return [slot for slot in self.slots if slot.id.worker == worker]

    def _find_slot(self, slot_id: SlotId) -> Slot:
        return next(slot for slot in self.slots if slot.id == slot_id)

    def _emit(self, action: SupervisorAction) -> None:
        self._actions.append(action)

    def _log(self, level: str, text: str) -> None:
        self._emit(events.Log(level, text))
