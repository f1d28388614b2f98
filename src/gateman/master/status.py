"""The answers to ``status`` and ``connections``; :mod:`.control` describes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from .channel import ArrivalsAnswer, ConnectionsAnswer, Report, ReportAnswer
from .events import SlotId
from .listeners import Listeners
from .slots import Process, ProcessState, Slot
from .spawn import ChildProcess
from .supervisor import Supervisor

_Answers = Mapping[int, ReportAnswer]


def describe(
    supervisor: Supervisor,
    children: Mapping[int, ChildProcess],
    answers: _Answers,
    *,
    workers: Sequence[Mapping[str, Any]],
    master: Mapping[str, Any],
    now: float,
) -> dict[str, Any]:
    state = "reloading" if supervisor.is_reloading else supervisor.phase.value
    return {
        "master": {**master, "state": state},
        "workers": list(workers),
        "slots": [
            {
                "worker": workers[slot.id.worker]["name"],
                "listen": workers[slot.id.worker]["listen"],
                "slot": slot.id.number,
                "state": _state(slot),
                "respawn_in": None
                if slot.respawn_at is None
                else round(max(slot.respawn_at - now, 0), 1),
                "restarts": slot.restarts,
                "last_exit": slot.last_exit or None,
                "last_lines": list(slot.last_lines),
                "processes": [
                    _describe_process(process, children.get(process.pid), answers, now)
                    for process in slot.processes
                ],
            }
            for slot in supervisor.slots
        ],
    }


def describe_worker(listeners: Listeners) -> dict[str, Any]:
    settings, declared = listeners.plan.settings, "-"
    if settings is not None:
        scheme = "ws" if settings.contexts is None else "wss"
        declared = f"{scheme}://{str(settings.listen).partition('://')[2]}"
    return {
        "name": listeners.plan.policy.name,
        "listen": ", ".join(listeners.urls) or declared,
        "count": listeners.plan.policy.count,
    }


def connections(
    supervisor: Supervisor,
    children: Mapping[int, ChildProcess],
    answers: Mapping[int, ConnectionsAnswer],
) -> dict[str, Any]:
    slots = {one.pid: one.slot_id for one in children.values()}
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


def arrivals(
    supervisor: Supervisor,
    children: Mapping[int, ChildProcess],
    answers: Mapping[int, ArrivalsAnswer],
) -> dict[str, Any]:
    """List what arrived while the doctor looked."""
    slots = {one.pid: one.slot_id for one in children.values()}
    names = {pid: {"pid": pid, "worker": _name(supervisor, slots.get(pid))} for pid in answers}
    return {
        "arrivals": [
            {**names[pid], **one} for pid, answer in answers.items() for one in answer.arrivals
        ],
        "causes": [
            {**names[pid], **one} for pid, answer in answers.items() for one in answer.causes
        ],
        "silent": sorted(pid for pid in children if pid not in answers),
    }


def _name(supervisor: Supervisor, slot_id: SlotId | None) -> str:
    return "" if slot_id is None else supervisor.policy(slot_id).name


def _state(slot: Slot) -> str:
    if slot.is_given_up:
        return "given_up"
    if slot.current is None:
        return "waiting"
    return "starting" if slot.current.state is ProcessState.STARTING else "running"


def _describe_process(
    process: Process, child: ChildProcess | None, answers: _Answers, now: float
) -> dict[str, Any]:
    answer = answers.get(process.pid)
    report = answer.report if answer is not None else child and child.report
    return {
        "pid": process.pid,
        "status": _status(process, child, has_answered=process.pid in answers),
        "uptime": round(now - process.spawned_at, 1),
        **(report or dict.fromkeys(Report.__annotations__)),
    }


def _status(process: Process, child: ChildProcess | None, *, has_answered: bool) -> str:
    if not has_answered and child is not None and child.is_stopped:
        return "stopped"
    if process.state is ProcessState.LEAVING:
        return "draining"
    if process.state is ProcessState.STARTING:
        return "starting"
    return "idle" if has_answered else "busy"
