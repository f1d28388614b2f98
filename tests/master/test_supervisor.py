"""When processes are started, replaced, stopped and given up: tables of events and actions."""

import pytest
from msgspec.structs import replace

from gateman.master.events import (
    Accept,
    ChannelBroken,
    CloseSockets,
    Drain,
    DumpStack,
    Exit,
    Exited,
    Heartbeat,
    Inspect,
    Inspected,
    Kill,
    Policy,
    Ready,
    ReloadRequested,
    Serving,
    Signalled,
    Spawn,
    Spawned,
    SpawnFailed,
    Started,
    Starting,
    StillDraining,
    Stop,
    StopRequested,
    Tick,
)
from gateman.master.slots import MAX_DRAIN_EXTENSION
from gateman.master.supervisor import Phase, Supervisor
from tests.support.supervision import CHAT, PAIR, A, B, play, said, serving

# Starting.


def test_all_slots_start_at_once() -> None:
    """Processes start side by side, and those that serve stand in for those that do not yet."""
    play(
        Supervisor([PAIR]),
        (0, Started(), [Spawn(A), Spawn(B)]),
        (0, Spawned(A, 10), []),
        (0, Spawned(B, 11), []),
        (1, Ready(11, PAIR), [Accept(11, (1, 0))]),
        (2, Ready(10, PAIR), [Accept(11, (1,)), Serving()]),
    )


@pytest.mark.parametrize("code", [1, 4, 78])
def test_a_process_that_cannot_start_ends_the_first_start(code: int) -> None:
    """A script that fails is not tried again: everything ends with the exit code it gave."""
    supervisor = Supervisor([PAIR])
    play(
        supervisor,
        (0, Started(), [Spawn(A), Spawn(B)]),
        (0, Spawned(A, 10), []),
        (0, Spawned(B, 11), []),
        (1, Exited(10, code), [CloseSockets(0), Stop(11)]),
        (2, Exited(11, -15), [Exit(code)]),
    )

    assert supervisor.phase is Phase.STOPPING


def test_a_crash_at_the_first_start_is_tried_again() -> None:
    """A signal does not mean that the script is wrong."""
    play(
        Supervisor([CHAT]),
        (0, Started(), [Spawn(A)]),
        (0, Spawned(A, 10), []),
        (1, Exited(10, -11), [Spawn(A)]),
        (1, Spawned(A, 11), []),
        (2, Ready(11, CHAT), [Serving()]),
    )


def test_a_process_that_does_not_get_to_serve_is_killed() -> None:
    """``timeouts.start`` bounds a start, and what follows is a crash like others."""
    supervisor = Supervisor([CHAT])
    play(
        supervisor,
        (0, Started(), [Spawn(A)]),
        (0, Spawned(A, 10), []),
        (59, Tick(), []),
        (60, Tick(), [DumpStack(10)]),
        (60.4, Tick(), []),
        (60.5, Tick(), [Kill(10)]),
        (61, Tick(), []),
        (61, Exited(10, -9), [Spawn(A)]),
    )

    assert supervisor.slots[0].last_exit == (
        "did not serve within 60 s: its stack, logged above, shows why"
    )


def test_what_a_process_waits_for_that_does_not_get_to_serve() -> None:
    """The reason names what a process waits for; one that reported it long ago is stuck."""
    for said_at, exit_reason in [
        (59, "it waits for on_worker_start, at chat.py:7"),
        (50, "its stack, logged above, shows why"),
    ]:
        supervisor = Supervisor([CHAT])
        supervisor.handle(Started(), 0)
        supervisor.handle(Spawned(A, 10), 0)
        supervisor.handle(Starting(10, "on_worker_start, at chat.py:7"), said_at)
        done = [one for at in (60, 60.5) for one in supervisor.handle(Tick(), at)]
        supervisor.handle(Exited(10, -9), 61)

        assert done == ([Kill(10)] if said_at == 59 else [DumpStack(10), Kill(10)])
        assert supervisor.slots[0].last_exit == f"did not serve within 60 s: {exit_reason}"


def test_a_process_that_serves_at_the_last_moment_is_kept() -> None:
    """While its stack is written, nothing is decided."""
    supervisor = Supervisor([CHAT])
    play(
        supervisor,
        (0, Started(), [Spawn(A)]),
        (0, Spawned(A, 10), []),
        (60, Tick(), [DumpStack(10)]),
        (60.2, Ready(10, CHAT), [Serving()]),
        (61, Tick(), []),
        (61, Exited(10, -9), [Spawn(A)]),
    )

    assert supervisor.slots[0].last_exit == "was killed by SIGKILL after 61 s"


def test_no_process_at_all() -> None:
    """If the system starts no process, the next attempt is later, and this is not a crash."""
    supervisor = Supervisor([CHAT])
    play(
        supervisor,
        (0, Started(), [Spawn(A)]),
        (0, SpawnFailed(A, "too many processes"), []),
        (29, Tick(), []),
        (30, Tick(), [Spawn(A)]),
    )

    assert supervisor.slots[0].last_exit == "too many processes"
    assert supervisor.slots[0].restarts == 0


# Crashing.


def test_restarts_after_crashes_are_delayed_and_then_end() -> None:
    """The first costs no time, the next 0.5, 1, 2 s and so on; the last one ends the slot."""
    supervisor = serving(replace(CHAT, max_crashes=5))
    play(
        supervisor,
        (1.0, Exited(10, -9), [Spawn(A)]),
        (1.0, Spawned(A, 11), []),
        (2.0, Exited(11, 7), []),
        (2.4, Tick(), []),
        (2.5, Tick(), [Spawn(A)]),
        (2.5, Spawned(A, 12), []),
        (3.0, Exited(12, 7), []),
        (4.0, Tick(), [Spawn(A)]),
        (4.0, Spawned(A, 13), []),
        (5.0, Exited(13, 7), []),
        (7.0, Tick(), [Spawn(A)]),
        (7.0, Spawned(A, 14), []),
        (8.0, Exited(14, 7, ("Traceback", "ValueError: no")), [CloseSockets(0)]),
        (999.0, Tick(), []),
    )
    slot = supervisor.slots[0]

    assert slot.is_given_up
    assert slot.restarts == 4
    assert (slot.crashes.count(8.0), slot.crashes.count(400.0)) == (5, 0)
    assert slot.last_exit == "ended with exit code 7 after 1.0 s"
    assert slot.last_lines == ("Traceback", "ValueError: no")
    assert supervisor.next_at() is None


@pytest.mark.parametrize("code", [4, 78])
def test_a_process_that_has_served_has_loaded_its_script(code: int) -> None:
    """Whether it serves or drains: its exit code has no other meaning."""
    supervisor = serving(CHAT)
    assert said(supervisor, 2, Exited(10, code)) == [
        f"chat/0 (pid 10) ended with exit code {code} after 2.0 s; started again"
    ]

    supervisor = serving(CHAT)
    said(supervisor, 2, StopRequested(is_graceful=True))
    assert said(supervisor, 3, Exited(10, code)) == [f"chat/0 (pid 10) ended with exit code {code}"]


def test_the_log_says_why_a_slot_is_given_up() -> None:
    """What the process wrote last is in the line."""
    supervisor = serving(replace(CHAT, max_crashes=1))

    assert said(supervisor, 2, Exited(10, -11, ("Segmentation fault",))) == [
        "chat/0 (pid 10) was killed by SIGSEGV after 2.0 s; the slot is given up after 1 crashes"
        " within 0.0 s: `reload` tries again.\n    Segmentation fault"
    ]


def test_neighbours_accept_for_a_slot_without_a_process() -> None:
    """Clients do not wait for a process that is not there, and then not for two."""
    supervisor = serving(PAIR)
    play(
        supervisor,
        (1, Exited(10, -9), [Spawn(A), Accept(11, (1, 0))]),
        (1, Spawned(A, 12), []),
        (2, Ready(12, PAIR), [Accept(11, (1,))]),
    )


def test_slots_that_share_a_socket_need_no_neighbours() -> None:
    """On a unix socket all processes accept from one queue anyway."""
    supervisor = serving(replace(PAIR, is_shared=True))
    play(supervisor, (1, Exited(10, -9), [Spawn(A)]))


def test_a_given_up_slot_leaves_the_others_alone() -> None:
    """The worker is listened for as long as one of its slots may serve."""
    supervisor = serving(replace(PAIR, max_crashes=1))
    play(
        supervisor,
        (1, Exited(10, -9), [Accept(11, (1, 0))]),
        (2, Exited(11, -9), [CloseSockets(0)]),
    )


# Stalling.


def test_a_silent_process_is_inspected() -> None:
    """After 5 s clients go elsewhere; after ``stall`` its stack is wanted; and it may come back."""
    supervisor = serving(PAIR)
    supervisor.handle(Heartbeat(10, 0, 0), 10)
    play(
        supervisor,
        (9, Heartbeat(11, 0, 0), []),
        (14, Tick(), [Accept(10, (0, 1))]),
        (14, Heartbeat(10, 0, 0), []),
        (38, Heartbeat(10, 0, 0), []),
        (39, Tick(), [Inspect(11)]),
        (39, Inspected(11, is_stopped=False), [DumpStack(11)]),
        (42, Heartbeat(10, 0, 0), []),
        (43, Heartbeat(11, 0, 0), [Accept(10, (0,))]),
    )


def test_a_process_s_own_policy_has_bounds() -> None:
    """It may be an attacker's: it neither fills the log nor keeps the master for ever."""
    policy = replace(CHAT, stall=0.0, shutdown=1e12, drain=1e12)
    supervisor = serving(policy)

    assert supervisor.next_at() == 0.1
    play(supervisor, (0.05, Tick(), []), (0.1, Tick(), [Inspect(10)]))
    supervisor.handle(StopRequested(is_graceful=True), 1)
    # 8 days, and what every process has beyond its own deadlines.
    play(
        supervisor,
        (1 + 8 * 86400 + 1.9, Tick(), []),
        (1 + 8 * 86400 + 2.1, Tick(), [Kill(10)]),
    )


def test_a_process_that_sends_an_invalid_message_has_its_time_to_drain() -> None:
    """It drains, and gets no other command: its neighbour accepts for it until it ends."""
    policy = replace(PAIR, drain=10.0, shutdown=5.0)
    play(
        serving(policy),
        (1, ChannelBroken(10), [Accept(11, (1, 0))]),
        (15, Heartbeat(11, 0, 0), []),
        (16.9, Tick(), []),
        (18, Tick(), [Kill(10)]),
        (18, Exited(10, -9), [Spawn(A)]),
    )


def test_a_stalled_process_is_replaced_where_that_is_wanted() -> None:
    """The stuck process keeps its place until another one serves, and is then killed."""
    policy = replace(CHAT, restart_stalled=True)
    supervisor = serving(policy)
    play(
        supervisor,
        (30, Tick(), [Inspect(10)]),
        (30, Inspected(10, is_stopped=False), [DumpStack(10), Spawn(A)]),
        (30, Spawned(A, 11), []),
        (31, Ready(11, policy), [Kill(10)]),
        (31, Exited(10, -9), []),
    )

    assert supervisor.slots[0].restarts == 1


def test_a_stopped_process_is_not_dead() -> None:
    """SIGSTOP and debuggers are said once, and have no other consequence."""
    supervisor = serving(replace(CHAT, restart_stalled=True))
    play(supervisor, (30, Tick(), [Inspect(10)]))

    assert said(supervisor, 30, Inspected(10, is_stopped=True)) == [
        "chat/0 (pid 10) was stopped by a signal 30 s ago"
    ]

    play(supervisor, (60, Tick(), [Inspect(10)]))

    assert said(supervisor, 60, Inspected(10, is_stopped=True)) == []
    assert said(supervisor, 75, Heartbeat(10, 0, 0)) == [
        "chat/0 (pid 10) responds again after 75 s"
    ]


# Replacing.


@pytest.mark.parametrize(
    ("policy", "beat", "now", "reason"),
    [
        (replace(CHAT, max_messages=100), Heartbeat(10, 90, 0), 5, "it has received 90 messages"),
        (replace(CHAT, max_memory=100 << 20), Heartbeat(10, 0, 90 << 20), 5, "it holds 90.0 MiB"),
        (replace(CHAT, max_lifetime=100.0), Heartbeat(10, 0, 0), 90, "it has served for 90 s"),
    ],
)
def test_a_process_at_its_limit_is_replaced(
    policy: Policy, beat: Heartbeat, now: float, reason: str
) -> None:
    """Another one takes over, and only then it drains; within the random spread."""
    supervisor = serving(policy)
    earlier = Heartbeat(beat.pid, beat.messages - 1, beat.memory - 1)
    play(supervisor, (now - 1, earlier, []))

    assert said(supervisor, now, beat) == [f"chat/0 (pid 10) is replaced: {reason}"]

    play(
        supervisor,
        (now, Spawned(A, 11), []),
        (now, beat, []),
        (now + 1, Ready(11, policy), [Drain(10)]),
        (now + 9, Exited(10, 0), []),
    )
    assert supervisor.slots[0].restarts == 0


def test_not_all_are_replaced_at_once() -> None:
    """A second process waits until the first has been replaced and has drained."""
    policy = replace(PAIR, max_messages=100)
    supervisor = serving(policy)
    play(
        supervisor,
        (3, Heartbeat(10, 100, 0), [Spawn(A)]),
        (3, Spawned(A, 12), []),
        (3, Heartbeat(11, 100, 0), []),
        (4, Ready(12, policy), [Drain(10)]),
        (4, Heartbeat(11, 100, 0), []),
        (5, Exited(10, 0), []),
        (6, Heartbeat(11, 100, 0), [Spawn(B)]),
    )


@pytest.mark.parametrize(("jitter", "count"), [(0.0, 100), (0.999, 81)])
def test_limits_are_spread(jitter: float, count: int) -> None:
    """Processes that started together do not reach their limits together."""
    policy = replace(CHAT, max_messages=100)
    supervisor = Supervisor([policy])
    supervisor.handle(Started(), 0)
    supervisor.handle(Spawned(A, 10), 0, jitter)
    supervisor.handle(Ready(10, policy), 0)
    play(supervisor, (1, Heartbeat(10, count - 1, 0), []), (2, Heartbeat(10, count, 0), [Spawn(A)]))


def test_a_successor_that_fails_is_tried_again_later() -> None:
    """The process that was to be replaced serves on."""
    supervisor = serving(replace(CHAT, max_messages=100))
    play(
        supervisor,
        (3, Heartbeat(10, 100, 0), [Spawn(A)]),
        (3, Spawned(A, 11), []),
        (4, Exited(11, 1), []),
        (5, Heartbeat(10, 100, 0), []),
        (34, Heartbeat(10, 100, 0), [Spawn(A)]),
    )


def test_a_process_that_dies_while_it_is_replaced_is_replaced_once() -> None:
    """Its successor is starting already."""
    supervisor = serving(replace(CHAT, max_messages=100))
    play(
        supervisor,
        (3, Heartbeat(10, 100, 0), [Spawn(A)]),
        (3, Spawned(A, 11), []),
        (4, Exited(10, -11), []),
        (5, Ready(11, CHAT), []),
    )

    assert supervisor.slots[0].restarts == 1


def test_a_process_has_its_own_time_to_drain() -> None:
    """What replaces it may be quicker; it was started with other words."""
    patient = replace(CHAT, drain=100, max_messages=100)
    supervisor = serving(patient)
    play(
        supervisor,
        (3, Heartbeat(10, 100, 0), [Spawn(A)]),
        (3, Spawned(A, 11), []),
        (4, Ready(11, CHAT), [Drain(10)]),
    )
    supervisor.handle(Heartbeat(11, 0, 0), 114)
    play(supervisor, (115.9, Tick(), []), (116, Tick(), [Kill(10)]))


# Stopping.


def test_stop() -> None:
    """Listening sockets are closed, all processes stop, and the last end ends the master."""
    play(
        serving(PAIR),
        (5, StopRequested(is_graceful=False), [CloseSockets(0), Stop(10), Stop(11)]),
        (6, Exited(10, 0), []),
        (6, StopRequested(is_graceful=False), []),
        (7, Exited(11, 0), [Exit(0)]),
    )


def test_stop_is_bounded() -> None:
    """A process that does not end within ``timeouts.shutdown`` is killed, a little later."""
    play(
        serving(),
        (5, StopRequested(is_graceful=False), [CloseSockets(0), Stop(10)]),
        (16.9, Tick(), []),
        (17, Tick(), [Kill(10)]),
        (18, Tick(), []),
        (18, Exited(10, -9), [Exit(0)]),
    )


def test_graceful_stop() -> None:
    """Processes drain, within the window and what a stop may take; a stop is still possible."""
    supervisor = serving(PAIR)
    play(
        supervisor,
        (5, StopRequested(is_graceful=True), [_drain(10), _drain(11)]),
        (6, StopRequested(is_graceful=True), []),
        (7, Exited(10, 0), [Accept(11, (1, 0))]),
        (8, StopRequested(is_graceful=False), [CloseSockets(0), Stop(11)]),
        (9, Exited(11, 0), [Exit(0)]),
    )


def _drain(pid: int) -> Drain:
    return Drain(pid, keeps_accepting=True)


def test_a_worker_is_listened_for_until_its_last_process_has_drained() -> None:
    """Health checks are answered for as long as anything of it is there."""
    play(
        serving(PAIR, CHAT),
        (5, StopRequested(is_graceful=True), [_drain(10), _drain(11), _drain(12)]),
        (6, Exited(12, 0), [CloseSockets(1)]),
        (7, Exited(11, 0), [Accept(10, (0, 1))]),
        (8, Exited(10, 0), [Exit(0), CloseSockets(0)]),
    )


def test_clients_of_a_worker_without_processes_are_refused() -> None:
    """A slot that waits for its next process has no process that could accept."""
    play(
        serving(),
        (1, Exited(10, -9), [Spawn(A)]),
        (1, Spawned(A, 11), []),
        (2, Exited(11, -9), []),
        (2.1, StopRequested(is_graceful=True), [Exit(0), CloseSockets(0)]),
    )


# Signals that processes get.


def test_a_process_that_gets_a_signal_gets_a_command() -> None:
    """A moment later, as the master may have got it, too."""
    play(
        serving(PAIR),
        (1, Signalled(10, is_graceful=False), []),
        (1, Signalled(11, is_graceful=True), []),
        (1.05, Tick(), []),
        (1.11, Tick(), [Stop(10), Drain(11)]),
        (2, Tick(), []),
        (2, Exited(10, 0), [Spawn(A), Accept(11, (1, 0))]),
    )


def test_a_signal_is_waited_for() -> None:
    """The master sleeps at most until the process has to be told."""
    supervisor = serving()
    supervisor.handle(Signalled(10, is_graceful=False), 1)

    assert supervisor.next_at() == 1.1


def test_what_the_whole_group_gets_ends_it_in_the_order_of_a_stop() -> None:
    """Those that others need wait for them, though each got the signal."""
    play(
        serving(CHAT, replace(CHAT, ends_last=True)),
        (5, Signalled(11, is_graceful=False), []),
        (5, StopRequested(is_graceful=False), [CloseSockets(0), CloseSockets(1), Stop(10)]),
        (5, Signalled(10, is_graceful=False), []),
        (5.2, Tick(), []),
        (6, Exited(10, 0), [Stop(11)]),
        (7, Exited(11, 0), [Exit(0)]),
    )


def test_a_process_that_drains_may_stay_longer() -> None:
    """As long as it reports this each second, and for ten minutes at most."""
    supervisor = serving(CHAT)
    supervisor.handle(ReloadRequested(is_gentle=False), 10)
    supervisor.handle(Spawned(A, 11), 10)
    assert Drain(10) in supervisor.handle(Ready(11, CHAT), 10)
    window, rest = CHAT.drain, CHAT.shutdown + 2

    killed_after = []
    for waited in range(int(window), int(window + 2 * MAX_DRAIN_EXTENSION)):
        supervisor.handle(StillDraining(10), 10 + waited)
        if Kill(10) in supervisor.handle(Tick(), 10 + waited):
            killed_after.append(waited)
    assert killed_after == [window + MAX_DRAIN_EXTENSION + rest]


def test_a_process_that_serves_or_has_to_stop_has_no_longer() -> None:
    """The reload does not wait for it then."""
    supervisor = serving(CHAT)
    supervisor.handle(StillDraining(10), 1)
    assert supervisor.slots[0].processes[0].kill_at is None
    supervisor.handle(StopRequested(is_graceful=True), 2)
    before = supervisor.slots[0].processes[0].kill_at
    supervisor.handle(StillDraining(10), 11)
    assert supervisor.slots[0].processes[0].kill_at == before


def test_graceful_stop_is_bounded() -> None:
    """The deadline is hard."""
    play(
        serving(),
        (5, StopRequested(is_graceful=True), [_drain(10)]),
        (26.9, Tick(), []),
        (27, Tick(), [Kill(10)]),
    )


def test_stop_while_starting() -> None:
    """A process that does not serve yet has nothing to drain."""
    play(
        Supervisor([CHAT]),
        (0, Started(), [Spawn(A)]),
        (0, Spawned(A, 10), []),
        (1, StopRequested(is_graceful=True), [Stop(10), CloseSockets(0)]),
        (2, Ready(10, CHAT), []),
        (3, Exited(10, -15), [Exit(0)]),
    )


def test_stop_without_processes() -> None:
    """Nothing is waited for when every slot waits or was given up."""
    supervisor = serving(replace(CHAT, max_crashes=1))
    play(
        supervisor,
        (1, Exited(10, -9), [CloseSockets(0)]),
        (2, StopRequested(is_graceful=False), [CloseSockets(0), Exit(0)]),
    )


def test_processes_that_end_last_are_stopped_last() -> None:
    """Others part from their clients first, however it ends; a stop may become harder."""
    both = [CHAT, replace(PAIR, ends_last=True)]
    play(
        serving(*both),
        (5, StopRequested(is_graceful=False), [CloseSockets(0), CloseSockets(1), Stop(10)]),
        (6, Exited(12, -9), []),
        (7, Exited(10, 0), [Stop(11)]),
        (8, Exited(11, 0), [Exit(0)]),
    )
    play(
        serving(*both),
        (5, StopRequested(is_graceful=True), [_drain(10), CloseSockets(1)]),
        (6, StopRequested(is_graceful=False), [CloseSockets(0), Stop(10)]),
        (7, Exited(10, 0), [Stop(11), Stop(12)]),
    )
    play(
        serving(*both),
        (5, StopRequested(is_graceful=True), [_drain(10), CloseSockets(1)]),
        (7, Exited(10, 0), [Drain(11), Drain(12), CloseSockets(0)]),
        (8, StopRequested(is_graceful=False), [Stop(11), Stop(12)]),
        (20, Tick(), [Kill(11), Kill(12)]),
    )


def test_an_orphan_does_not_wait_for_missing_processes() -> None:
    """Processes that would end last end at once if they are alone."""
    play(
        serving(replace(PAIR, ends_last=True)),
        (5, StopRequested(is_graceful=True), [Drain(10), Drain(11), CloseSockets(0)]),
    )


# Time, and the rest.


def test_only_heartbeats_are_due() -> None:
    """An idle master is woken by its processes, and by nothing else."""
    supervisor = serving()

    assert supervisor.next_at() == 5
    supervisor.handle(Heartbeat(10, 0, 0), 1)

    assert supervisor.next_at() == 6


def test_messages_of_ended_processes_are_ignored() -> None:
    """Messages may be read after their process was reaped."""
    supervisor = serving()
    supervisor.handle(Exited(10, -9), 1)

    play(
        supervisor,
        (1, Heartbeat(10, 1, 1), []),
        (1, Ready(10, CHAT), []),
        (1, Inspected(10, is_stopped=True), []),
        (1, Exited(10, 0), []),
    )


def test_an_unexpected_end_of_a_draining_process_is_logged() -> None:
    """A crash of a draining process loses nothing, but it is logged."""
    supervisor = serving()
    supervisor.handle(StopRequested(is_graceful=True), 1)

    assert said(supervisor, 2, Exited(10, -11)) == ["chat/0 (pid 10) was killed by SIGSEGV"]
