"""Crashes of a slot, acceptors of slots without a process, and limits of processes."""

import pytest
from msgspec.structs import replace

from gateman.master.events import Heartbeat, Policy, SlotId
from gateman.master.slots import (
    SILENCE_LIMIT,
    Crashes,
    Process,
    ProcessState,
    Slot,
    assign_acceptors,
    recycle_reason,
)

POLICY = Policy(name="chat", count=1)


def make_slots(*pids: int | None) -> list[Slot]:
    """Make the slots of a worker; a pid stands for a process that serves."""
    made: list[Slot] = []
    for number, pid in enumerate(pids):
        slot = Slot(SlotId(0, number))
        if pid is not None:
            slot.current = Process(pid, POLICY, 0.0, 1.0)
            slot.current.state = ProcessState.SERVING
        made.append(slot)
    return made


def shares(slots: list[Slot]) -> dict[int, tuple[int, ...]]:
    """Return which process accepts for which slots."""
    return {process.pid: numbers for process, numbers in assign_acceptors(slots)}


@pytest.mark.parametrize(
    ("pids", "expected"),
    [
        ([10, 11], {10: (0,), 11: (1,)}),
        ([10, None], {10: (0, 1)}),
        ([None, 11, None, None], {11: (1, 0, 2, 3)}),
        ([10, None, 12, None, None], {10: (0, 1, 4), 12: (2, 3)}),
        ([None, None], {}),
    ],
)
def test_processes_share_what_has_none(
    pids: list[int | None], expected: dict[int, tuple[int, ...]]
) -> None:
    """Each accepts for itself first; slots without a process are dealt out in turn."""
    assert shares(make_slots(*pids)) == expected


def test_silent_and_starting_processes_do_not_accept() -> None:
    """Only a process that answers is one to go to."""
    slots = make_slots(10, 11, 12)
    assert slots[0].current is not None
    assert slots[1].current is not None
    slots[0].current.is_silent = True
    slots[1].current.state = ProcessState.STARTING

    assert shares(slots) == {12: (2, 0, 1)}


def test_delays_double() -> None:
    """None at first, then from half a second to half a minute."""
    crashes = Crashes()
    delays: list[float] = []
    for _ in range(10):
        crashes.add(0.0)
        delays.append(crashes.delay(0.5))

    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize(("jitter", "delay"), [(0.0, 0.375), (0.5, 0.5), (1.0, 0.625)])
def test_delays_are_spread(jitter: float, delay: float) -> None:
    """Slots that crash together do not come back together."""
    crashes = Crashes()
    crashes.add(0.0)
    crashes.add(0.0)

    assert crashes.delay(jitter) == delay


def test_old_crashes_are_forgiven() -> None:
    """Five minutes later they do not count."""
    crashes = Crashes()

    assert [crashes.add(now) for now in (0.0, 1.0, 299.9, 300.0, 301.0)] == [1, 2, 3, 3, 3]
    assert crashes.first_at == 299.9
    crashes.clear()
    assert crashes.add(301.0) == 1


@pytest.mark.parametrize(
    ("policy", "beat", "now", "reason"),
    [
        (POLICY, Heartbeat(10, 1 << 40, 1 << 40), 1e9, ""),
        (replace(POLICY, max_messages=100), Heartbeat(10, 89, 0), 0, ""),
        (replace(POLICY, max_messages=100), Heartbeat(10, 90, 0), 0, "it has received 90 messages"),
        (replace(POLICY, max_memory=100 << 20), Heartbeat(10, 0, 89 << 20), 0, ""),
        (replace(POLICY, max_memory=100 << 20), Heartbeat(10, 0, 90 << 20), 0, "it holds 90.0 MiB"),
        (replace(POLICY, max_lifetime=100.0), Heartbeat(10, 0, 0), 89, ""),
        (replace(POLICY, max_lifetime=100.0), Heartbeat(10, 0, 0), 90, "it has served for 90 s"),
    ],
)
def test_limits_of_a_process(policy: Policy, beat: Heartbeat, now: float, reason: str) -> None:
    """Each limit counts, lowered by the spread of the process."""
    assert recycle_reason(Process(10, policy, 0.0, 0.9), beat, now) == reason


def test_a_slot_finds_its_processes() -> None:
    """The one that serves comes first."""
    (slot,) = make_slots(10)
    slot.incoming = Process(11, POLICY, 0.0, 1.0)
    slot.leaving = [Process(12, POLICY, 0.0, 1.0)]

    assert [process.pid for process in slot.processes] == [10, 11, 12]
    assert slot.process(11) is slot.incoming


def test_deadlines_depend_on_the_state_of_a_process() -> None:
    """To have begun to serve; to say that it lives; to have ended."""
    (slot,) = make_slots(10)
    current = slot.current
    assert current is not None
    current.state = ProcessState.STARTING
    deadlines = [slot.deadlines]
    current.state, current.stall_at = ProcessState.SERVING, 30.0
    deadlines.append(slot.deadlines)
    current.is_silent = True
    deadlines.append(slot.deadlines)
    current.state, current.kill_at, slot.respawn_at = ProcessState.LEAVING, 40.0, 7.0
    deadlines.append(slot.deadlines)

    assert deadlines == [
        [None, None, 60.0],
        [None, None, 30.0, None, SILENCE_LIMIT],
        [None, None, 30.0, None],
        [7.0, 40.0],
    ]
