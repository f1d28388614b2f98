"""What ``status`` and ``connections`` answer, put together from what is known."""

from collections.abc import Mapping, Sequence
from typing import Any

from .channel import Listed, Report, Reported
from .events import Slot
from .listeners import Listeners
from .places import Place, Process, State
from .plan import Planned
from .spawn import Offspring
from .supervisor import Supervisor

_Answers = Mapping[int, Reported]


def describe(
    supervisor: Supervisor,
    offspring: Mapping[int, Offspring],
    answers: _Answers,
    *,
    workers: Sequence[Mapping[str, Any]],
    master: Mapping[str, Any],
    now: float,
) -> dict[str, Any]:
    """
    Say how everything is.

    Args:
        supervisor: Knows the slots.
        offspring: The processes, by pid.
        answers: What they said when they were asked just now; a busy one has not.
        workers: What :func:`describe_worker` says of each.
        master: What the master says of itself.
        now: Monotonic seconds.

    Returns:
        The answer to ``status``; see :mod:`gateman.master.control`.
    """
    state = "reloading" if supervisor.is_reloading else supervisor.phase.value
    return {
        "master": {**master, "state": state},
        "workers": list(workers),
        "slots": [
            {
                "worker": workers[place.slot.worker]["name"],
                "listen": workers[place.slot.worker]["listen"],
                "slot": place.slot.number,
                "state": _state(place),
                "respawn_in": _round(place.respawn_at, now),
                "restarts": place.restarts,
                "last_exit": place.last_exit or None,
                "last_lines": list(place.last_lines),
                "processes": [
                    _process(process, offspring.get(process.pid), answers, now)
                    for process in place.processes
                ],
            }
            for place in supervisor.places
        ],
    }


def describe_worker(planned: Planned, listeners: Listeners) -> dict[str, Any]:
    """
    Say what a worker is.

    Args:
        planned: What was declared.
        listeners: Where it is listened for.

    Returns:
        One of ``workers``.
    """
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
    supervisor: Supervisor, offspring: Mapping[int, Offspring], answers: Mapping[int, Listed]
) -> dict[str, Any]:
    """
    List the connections.

    Args:
        supervisor: Knows the slots.
        offspring: The processes, by pid.
        answers: What they said when they were asked.

    Returns:
        The answer to ``connections``; see :mod:`gateman.master.control`.
    """
    slots = {one.pid: one.slot for one in offspring.values()}
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
        "silent": sorted(pid for pid in offspring if pid not in answers),
    }


def _name(supervisor: Supervisor, slot: Slot | None) -> str:
    return "" if slot is None else supervisor.policy(slot).name


def _state(place: Place) -> str:
    if place.is_given_up:
        return "given_up"
    if place.current is None:
        return "waiting"
    return "starting" if place.current.state is State.STARTING else "running"


def _process(
    process: Process, offspring: Offspring | None, answers: _Answers, now: float
) -> dict[str, Any]:
    answer = answers.get(process.pid)
    known = answer.report if answer is not None else offspring and offspring.report
    return {
        "pid": process.pid,
        "status": _status(process, offspring, has_answered=process.pid in answers),
        "uptime": round(now - process.spawned_at, 1),
        **(known or dict.fromkeys(Report.__annotations__)),
    }


def _status(process: Process, offspring: Offspring | None, *, has_answered: bool) -> str:
    if not has_answered and offspring is not None and offspring.is_stopped:
        return "stopped"
    if process.state is State.LEAVING:
        return "draining"
    if process.state is State.STARTING:
        return "starting"
    return "idle" if has_answered else "busy"


def _round(instant: float | None, now: float) -> float | None:
    return None if instant is None else round(max(instant - now, 0), 1)
