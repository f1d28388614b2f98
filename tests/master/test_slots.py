"""Crashes of a slot, who stands in for whom, and who has done their share."""

from dataclasses import replace

import pytest

from gateman.master.events import Beat, Policy, Slot
from gateman.master.slots import (
    SILENCE,
    Crashes,
    Process,
    ProcessState,
    SlotState,
    overdue,
    share_out,
)

POLICY = Policy(name="chat", count=1)


def slot_states(*pids: int | None) -> list[SlotState]:
    """Make the slots of a worker; a pid stands for a process that serves."""
    made: list[SlotState] = []
    for number, pid in enumerate(pids):
        slot_state = SlotState(Slot(0, number))
        if pid is not None:
            slot_state.current = Process(pid, POLICY, 0.0, 1.0)
            slot_state.current.state = ProcessState.SERVING
        made.append(slot_state)
    return made


def shares(slots: list[SlotState]) -> dict[int, tuple[int, ...]]:
    """Tell who accepts for which slots."""
    return {process.pid: numbers for process, numbers in share_out(slots)}


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
    assert shares(slot_states(*pids)) == expected


def test_who_is_silent_or_starts_serves_nobody() -> None:
    """Only a process that answers is one to go to."""
    slots = slot_states(10, 11, 12)
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
        (POLICY, Beat(10, 1 << 40, 1 << 40), 1e9, ""),
        (replace(POLICY, max_messages=100), Beat(10, 89, 0), 0, ""),
        (replace(POLICY, max_messages=100), Beat(10, 90, 0), 0, "it has received 90 messages"),
        (replace(POLICY, max_memory=100 << 20), Beat(10, 0, 89 << 20), 0, ""),
        (replace(POLICY, max_memory=100 << 20), Beat(10, 0, 90 << 20), 0, "it holds 90.0 MiB"),
        (replace(POLICY, max_lifetime=100.0), Beat(10, 0, 0), 89, ""),
        (replace(POLICY, max_lifetime=100.0), Beat(10, 0, 0), 90, "it has served for 90 s"),
    ],
)
def test_a_share_is_done(policy: Policy, beat: Beat, now: float, reason: str) -> None:
    """Each limit counts, lowered by the spread of the process."""
    assert overdue(Process(10, policy, 0.0, 0.9), beat, now) == reason


def test_a_slot_finds_its_processes() -> None:
    """The one that serves comes first."""
    (slot_state,) = slot_states(10)
    slot_state.incoming = Process(11, POLICY, 0.0, 1.0)
    slot_state.leaving = [Process(12, POLICY, 0.0, 1.0)]

    assert [process.pid for process in slot_state.processes] == [10, 11, 12]
    assert slot_state.process(11) is slot_state.incoming


def test_what_is_due_depends_on_where_a_process_is_in_its_life() -> None:
    """To have begun to serve; to say that it lives; to have ended."""
    (slot_state,) = slot_states(10)
    current = slot_state.current
    assert current is not None
    current.state = ProcessState.STARTING
    instants = [slot_state.instants]
    current.state, current.stall_at = ProcessState.SERVING, 30.0
    instants.append(slot_state.instants)
    current.is_silent = True
    instants.append(slot_state.instants)
    current.state, current.kill_at, slot_state.respawn_at = ProcessState.LEAVING, 40.0, 7.0
    instants.append(slot_state.instants)

    assert instants == [
        [None, None, 60.0],
        [None, None, 30.0, None, SILENCE],
        [None, None, 30.0, None],
        [7.0, 40.0],
    ]
