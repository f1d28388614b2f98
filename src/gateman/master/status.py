"""What ``status`` and ``connections`` answer, put together from what is known."""

from collections.abc import Mapping, Sequence
from typing import Any

from .channel import Listed, Report, Reported
from .events import Slot
from .listeners import Listeners
from .plan import Planned
from .slots import Process, ProcessState, SlotState
from .spawn import ChildProcess
from .supervisor import Supervisor

_Answers = Mapping[int, Reported]


def describe(
    supervisor: Supervisor,
    children: Mapping[int, ChildProcess],
    answers: _Answers,
    *,
    workers: Sequence[Mapping[str, Any]],
    master: Mapping[str, Any],
    now: float,
) -> dict[str, Any]:
    """Say how everything is."""
    state = "reloading" if supervisor.is_reloading else supervisor.phase.value
    return {
        "master": {**master, "state": state},
        "workers": list(workers),
        "slots": [
            {
                "worker": workers[slot_state.slot.worker]["name"],
                "listen": workers[slot_state.slot.worker]["listen"],
                "slot": slot_state.slot.number,
                "state": _state(slot_state),
                "respawn_in": _round(slot_state.respawn_at, now),
                "restarts": slot_state.restarts,
                "last_exit": slot_state.last_exit or None,
                "last_lines": list(slot_state.last_lines),
                "processes": [
                    _process(process, children.get(process.pid), answers, now)
                    for process in slot_state.processes
                ],
            }
            for slot_state in supervisor.slot_states
        ],
    }


def describe_worker(planned: Planned, listeners: Listeners) -> dict[str, Any]:
    """Say what a worker is."""
    settings, declared = planned.settings, "-"
    if settings is not None:
        scheme = "ws" if settings.contexts is None else "wss"
        declared = f"{scheme}://{str(settings.listen).partition('://')[2]}"
    return {
        "name": planned.policy.name,
        "listen": ", ".join(listeners.urls) or declared,
        "count": planned.policy.count,
    }


def connections(
    supervisor: Supervisor, children: Mapping[int, ChildProcess], answers: Mapping[int, Listed]
) -> dict[str, Any]:
    """List the connections."""
    slots = {one.pid: one.slot for one in children.values()}
    listed = [
        {
            "pid": pid,
            "worker": _name(supervisor, slots.get(pid)),
            "slot": slots[pid].number if pid in slots else None,
            **connection,
        }
        for pid, answer in answers.items()
        for connection in answer.connections
    ]
    return {
        "connections": listed,
        "total": sum(answer.total for answer in answers.values()),
        "silent": sorted(pid for pid in children if pid not in answers),
    }


def _name(supervisor: Supervisor, slot: Slot | None) -> str:
    return "" if slot is None else supervisor.policy(slot).name


def _state(slot_state: SlotState) -> str:
    if slot_state.is_given_up:
        return "given_up"
    if slot_state.current is None:
        return "waiting"
    return "starting" if slot_state.current.state is ProcessState.STARTING else "running"


def _process(
    process: Process, children: ChildProcess | None, answers: _Answers, now: float
) -> dict[str, Any]:
    answer = answers.get(process.pid)
    known = answer.report if answer is not None else children and children.report
    return {
        "pid": process.pid,
        "status": _status(process, children, has_answered=process.pid in answers),
        "uptime": round(now - process.spawned_at, 1),
        **(known or dict.fromkeys(Report.__annotations__)),
    }


def _status(process: Process, children: ChildProcess | None, *, has_answered: bool) -> str:
    if not has_answered and children is not None and children.is_stopped:
        return "stopped"
    if process.state is ProcessState.LEAVING:
        return "draining"
    if process.state is ProcessState.STARTING:
        return "starting"
    return "idle" if has_answered else "busy"


def _round(instant: float | None, now: float) -> float | None:
    return None if instant is None else round(max(instant - now, 0), 1)
