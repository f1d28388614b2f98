"""Tables of events, instants and actions for the supervisor."""

from gateman.master.events import (
    Log,
    Policy,
    Ready,
    SlotId,
    Spawned,
    Started,
    SupervisorAction,
    SupervisorEvent,
)
from gateman.master.supervisor import Supervisor

CHAT = Policy(name="chat", count=1)
PAIR = Policy(name="chat", count=2)

A, B = SlotId(0, 0), SlotId(0, 1)

Row = tuple[float, SupervisorEvent, list[SupervisorAction]]


def play(supervisor: Supervisor, *rows: Row) -> None:
    """Tell events at their instants, and compare what is to be done but for what is said."""
    for now, event, expected in rows:
        done = [one for one in supervisor.handle(event, now) if not isinstance(one, Log)]

        assert (now, event, done) == (now, event, expected)


def said(supervisor: Supervisor, now: float, event: SupervisorEvent) -> list[str]:
    """Tell an event, and give what is said."""
    return [one.text for one in supervisor.handle(event, now) if isinstance(one, Log)]


def serving(*policies: Policy) -> Supervisor:
    """
    Make a supervisor all of whose processes serve, since 0; their pids are 10, 11 and so on.

    Args:
        policies: Its workers'; one that is ``CHAT`` if there are none.
    """
    declared = policies or (CHAT,)
    supervisor = Supervisor(list(declared))
    supervisor.handle(Started(), 0)
    pids = range(10, 10 + len(supervisor.slots))
    for pid, slot in zip(pids, supervisor.slots, strict=True):
        supervisor.handle(Spawned(slot.id, pid), 0)
    for pid, slot in zip(pids, supervisor.slots, strict=True):
        supervisor.handle(Ready(pid, declared[slot.id.worker]), 0)
    return supervisor
