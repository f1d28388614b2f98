"""When processes are started, replaced, stopped and given up: tables of events and actions."""

from dataclasses import replace

import pytest

from gateman.master.events import (
    Accept,
    Action,
    Beat,
    Close,
    Drain,
    DumpStack,
    Event,
    Exit,
    Exited,
    Inspect,
    Inspected,
    Kill,
    Policy,
    Ready,
    ReloadAsked,
    Reloaded,
    Say,
    Serving,
    Slot,
    Spawn,
    Spawned,
    SpawnFailed,
    Started,
    Stop,
    StopAsked,
    Tick,
)
from gateman.master.supervisor import Phase, Supervisor

CHAT = Policy(name="chat", count=1)
PAIR = Policy(name="chat", count=2)

A, B = Slot(0, 0), Slot(0, 1)

Row = tuple[float, Event, list[Action]]


def play(supervisor: Supervisor, *rows: Row) -> None:
    """Tell events at their instants, and compare what is to be done but for what is said."""
    for now, event, expected in rows:
        done = [one for one in supervisor.handle(event, now) if not isinstance(one, Say)]

        assert (now, event, done) == (now, event, expected)


def said(supervisor: Supervisor, now: float, event: Event) -> list[str]:
    """Tell an event, and give what is said."""
    return [one.text for one in supervisor.handle(event, now) if isinstance(one, Say)]


def serving(policy: Policy = CHAT) -> Supervisor:
    """Make a supervisor all of whose processes serve, since 0; their pids are 10, 11 and so on."""
    supervisor = Supervisor([policy])
    supervisor.handle(Started(), 0)
    for number in range(policy.count):
        supervisor.handle(Spawned(Slot(0, number), 10 + number), 0)
    for number in range(policy.count):
        supervisor.handle(Ready(10 + number, policy), 0)
    return supervisor


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
        (1, Exited(10, code), [Close(0), Stop(11)]),
        (2, Exited(11, -15), [Exit(code)]),
    )

    assert supervisor.phase is Phase.STOPPING


def test_a_crash_at_the_first_start_is_tried_again() -> None:
    """A signal is no verdict on the script."""
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
        (60, Tick(), [Kill(10)]),
        (61, Tick(), []),
        (61, Exited(10, -9), [Spawn(A)]),
    )

    assert supervisor.places[0].last_exit == "did not serve within 60 s after 61 s"


def test_no_process_at_all() -> None:
    """When the system gives no process, it is asked again later, and this is no crash."""
    supervisor = Supervisor([CHAT])
    play(
        supervisor,
        (0, Started(), [Spawn(A)]),
        (0, SpawnFailed(A, "too many processes"), []),
        (29, Tick(), []),
        (30, Tick(), [Spawn(A)]),
    )

    assert supervisor.places[0].last_exit == "too many processes"
    assert supervisor.places[0].restarts == 0


# Crashing.


def test_crashes_are_answered_ever_more_slowly_and_then_no_more() -> None:
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
        (8.0, Exited(14, 7, ("Traceback", "ValueError: no")), [Close(0)]),
        (999.0, Tick(), []),
    )
    place = supervisor.places[0]

    assert place.is_given_up
    assert place.restarts == 4
    assert place.last_exit == "ended with exit code 7 after 1.0 s"
    assert place.last_lines == ("Traceback", "ValueError: no")
    assert supervisor.next_at() is None


def test_the_log_says_why_a_slot_is_given_up() -> None:
    """What the process wrote last is in the line."""
    supervisor = serving(replace(CHAT, max_crashes=1))

    assert said(supervisor, 2, Exited(10, -11, ("Segmentation fault",))) == [
        "chat/0 (pid 10) was killed by SIGSEGV after 2.0 s; the slot is given up after 1 crashes"
        " within 0.0 s: `reload` tries again.\n    Segmentation fault"
    ]


@pytest.mark.parametrize(("jitter", "due_at"), [(0.0, 2.375), (0.5, 2.5), (0.999, 2.6)])
def test_delays_are_spread(jitter: float, due_at: float) -> None:
    """Slots that crash together do not come back together."""
    supervisor = serving()
    supervisor.handle(Exited(10, -9), 1, jitter)
    supervisor.handle(Spawned(A, 11), 1, jitter)
    supervisor.handle(Exited(11, -9), 2, jitter)

    assert supervisor.next_at() == pytest.approx(due_at, abs=0.03)


def test_old_crashes_are_forgiven() -> None:
    """What happened more than five minutes ago costs no delay."""
    supervisor = serving()
    play(
        supervisor,
        (1, Exited(10, -9), [Spawn(A)]),
        (1, Spawned(A, 11), []),
        (2, Ready(11, CHAT), []),
        (301, Exited(11, -9), [Spawn(A)]),
    )


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
    """On a unix socket everybody accepts from one queue anyway."""
    supervisor = serving(replace(PAIR, is_shared=True))
    play(supervisor, (1, Exited(10, -9), [Spawn(A)]))


def test_a_given_up_slot_leaves_the_others_alone() -> None:
    """The worker is listened for as long as one of its slots may serve."""
    supervisor = serving(replace(PAIR, max_crashes=1))
    play(
        supervisor,
        (1, Exited(10, -9), [Accept(11, (1, 0))]),
        (2, Exited(11, -9), [Close(0)]),
    )


# Stalling.


def test_a_process_that_says_nothing_is_looked_at() -> None:
    """After 5 s clients go elsewhere; after ``stall`` its stack is wanted; and it may come back."""
    supervisor = serving(PAIR)
    supervisor.handle(Beat(10, 0, 0), 10)
    play(
        supervisor,
        (9, Beat(11, 0, 0), []),
        (14, Tick(), [Accept(10, (0, 1))]),
        (14, Beat(10, 0, 0), []),
        (38, Beat(10, 0, 0), []),
        (39, Tick(), [Inspect(11)]),
        (39, Inspected(11, is_stopped=False), [DumpStack(11)]),
        (42, Beat(10, 0, 0), []),
        (43, Beat(11, 0, 0), [Accept(10, (0,))]),
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

    assert supervisor.places[0].restarts == 1


def test_a_stopped_process_is_not_dead() -> None:
    """SIGSTOP and debuggers are said once, and have no other consequence."""
    supervisor = serving(replace(CHAT, restart_stalled=True))
    play(supervisor, (30, Tick(), [Inspect(10)]))

    assert said(supervisor, 30, Inspected(10, is_stopped=True)) == [
        "chat/0 (pid 10) was stopped by a signal 30 s ago"
    ]

    play(supervisor, (60, Tick(), [Inspect(10)]))

    assert said(supervisor, 60, Inspected(10, is_stopped=True)) == []
    assert said(supervisor, 75, Beat(10, 0, 0)) == ["chat/0 (pid 10) lives again after 75 s"]


# Replacing.


@pytest.mark.parametrize(
    ("policy", "beat", "now", "reason"),
    [
        (replace(CHAT, max_messages=100), Beat(10, 90, 0), 5, "it has received 90 messages"),
        (replace(CHAT, max_memory=100 << 20), Beat(10, 0, 90 << 20), 5, "it holds 90.0 MiB"),
        (replace(CHAT, max_lifetime=100.0), Beat(10, 0, 0), 90, "it has served for 90 s"),
    ],
)
def test_a_process_that_has_done_its_share_is_replaced(
    policy: Policy, beat: Beat, now: float, reason: str
) -> None:
    """Another one takes over, and only then it drains; half the spread before the limit."""
    supervisor = serving(policy)
    earlier = replace(beat, messages=beat.messages - 1, memory=beat.memory - 1)
    play(supervisor, (now - 1, earlier, []))

    assert said(supervisor, now, beat) == [f"chat/0 (pid 10) is replaced: {reason}"]

    play(
        supervisor,
        (now, Spawned(A, 11), []),
        (now, beat, []),
        (now + 1, Ready(11, policy), [Drain(10)]),
        (now + 9, Exited(10, 0), []),
    )
    assert supervisor.places[0].restarts == 0


def test_not_all_are_replaced_at_once() -> None:
    """A second process waits until the first has been replaced and has drained."""
    policy = replace(PAIR, max_messages=100)
    supervisor = serving(policy)
    play(
        supervisor,
        (3, Beat(10, 100, 0), [Spawn(A)]),
        (3, Spawned(A, 12), []),
        (3, Beat(11, 100, 0), []),
        (4, Ready(12, policy), [Drain(10)]),
        (4, Beat(11, 100, 0), []),
        (5, Exited(10, 0), []),
        (6, Beat(11, 100, 0), [Spawn(B)]),
    )


@pytest.mark.parametrize(("jitter", "count"), [(0.0, 100), (0.999, 81)])
def test_limits_are_spread(jitter: float, count: int) -> None:
    """Processes that started together do not reach their limits together."""
    policy = replace(CHAT, max_messages=100)
    supervisor = Supervisor([policy])
    supervisor.handle(Started(), 0)
    supervisor.handle(Spawned(A, 10), 0, jitter)
    supervisor.handle(Ready(10, policy), 0)
    play(supervisor, (1, Beat(10, count - 1, 0), []), (2, Beat(10, count, 0), [Spawn(A)]))


def test_a_successor_that_fails_is_tried_again_later() -> None:
    """The process that was to be replaced serves on."""
    supervisor = serving(replace(CHAT, max_messages=100))
    play(
        supervisor,
        (3, Beat(10, 100, 0), [Spawn(A)]),
        (3, Spawned(A, 11), []),
        (4, Exited(11, 1), []),
        (5, Beat(10, 100, 0), []),
        (34, Beat(10, 100, 0), [Spawn(A)]),
    )


def test_a_process_that_dies_while_it_is_replaced_is_replaced_once() -> None:
    """Its successor is starting already."""
    supervisor = serving(replace(CHAT, max_messages=100))
    play(
        supervisor,
        (3, Beat(10, 100, 0), [Spawn(A)]),
        (3, Spawned(A, 11), []),
        (4, Exited(10, -11), []),
        (5, Ready(11, CHAT), []),
    )

    assert supervisor.places[0].restarts == 1


# Stopping.


def test_stop() -> None:
    """Nobody is listened for, everybody is told, and the last to go ends the master."""
    play(
        serving(PAIR),
        (5, StopAsked(is_graceful=False), [Close(0), Stop(10), Stop(11)]),
        (6, Exited(10, 0), []),
        (6, StopAsked(is_graceful=False), []),
        (7, Exited(11, 0), [Exit(0)]),
    )


def test_stop_is_bounded() -> None:
    """Who does not end within ``timeouts.shutdown`` is killed, a little later."""
    play(
        serving(),
        (5, StopAsked(is_graceful=False), [Close(0), Stop(10)]),
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
        (5, StopAsked(is_graceful=True), [Close(0), Drain(10), Drain(11)]),
        (6, StopAsked(is_graceful=True), []),
        (7, Exited(10, 0), []),
        (8, StopAsked(is_graceful=False), [Stop(11)]),
        (9, Exited(11, 0), [Exit(0)]),
    )


def test_graceful_stop_is_bounded() -> None:
    """The deadline is hard."""
    play(
        serving(),
        (5, StopAsked(is_graceful=True), [Close(0), Drain(10)]),
        (26.9, Tick(), []),
        (27, Tick(), [Kill(10)]),
    )


def test_stop_while_starting() -> None:
    """A process that does not serve yet has nothing to drain."""
    play(
        Supervisor([CHAT]),
        (0, Started(), [Spawn(A)]),
        (0, Spawned(A, 10), []),
        (1, StopAsked(is_graceful=True), [Close(0), Stop(10)]),
        (2, Ready(10, CHAT), []),
        (3, Exited(10, -15), [Exit(0)]),
    )


def test_stop_without_processes() -> None:
    """Nothing is waited for when every slot waits or was given up."""
    supervisor = serving(replace(CHAT, max_crashes=1))
    play(
        supervisor,
        (1, Exited(10, -9), [Close(0)]),
        (2, StopAsked(is_graceful=False), [Close(0), Exit(0)]),
    )


# Reloading.


def test_reload() -> None:
    """Slot by slot: a new process serves before the old one drains; nobody waits for that."""
    supervisor = serving(PAIR)
    play(
        supervisor,
        (1, ReloadAsked(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 12), []),
        (2, Ready(12, PAIR), [Drain(10), Spawn(B)]),
        (2, Spawned(B, 13), []),
        (3, Ready(13, PAIR), [Drain(11), Reloaded()]),
        (9, Exited(10, 0), []),
        (9, Exited(11, 0), []),
    )

    assert [place.current is not None for place in supervisor.places] == [True, True]


def test_gentle_reload() -> None:
    """The next slot waits until the one before has drained."""
    supervisor = serving(PAIR)
    play(
        supervisor,
        (1, ReloadAsked(is_gentle=True), [Spawn(A)]),
        (1, Spawned(A, 12), []),
        (2, Ready(12, PAIR), [Drain(10)]),
        (8, Exited(10, 0), [Spawn(B)]),
        (8, Spawned(B, 13), []),
        (9, Ready(13, PAIR), [Drain(11)]),
        (15, Exited(11, 0), [Reloaded()]),
    )


def test_a_failed_reload_leaves_the_old_in_service() -> None:
    """The first new process that fails ends the reload, and the reason is told."""
    supervisor = serving(PAIR)
    play(
        supervisor,
        (1, ReloadAsked(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 12), []),
        (
            2,
            Exited(12, 4, ("SyntaxError",)),
            [Reloaded("chat/0 (pid 12) could not load the script after 1.0 s\n    SyntaxError")],
        ),
    )

    assert not supervisor.is_reloading
    assert [place.current.pid for place in supervisor.places if place.current] == [10, 11]


def test_a_reload_that_fails_half_way_says_so() -> None:
    """Which version runs where is not left to guess."""
    play(
        serving(PAIR),
        (1, ReloadAsked(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 12), []),
        (2, Ready(12, PAIR), [Drain(10), Spawn(B)]),
        (2, Spawned(B, 13), []),
        (
            3,
            Exited(13, 1),
            [
                Reloaded(
                    "chat/1 (pid 13) ended with exit code 1 after 1.0 s; 1 of 2 slots run the new"
                    " code"
                )
            ],
        ),
    )


def test_a_reload_that_gets_no_process_fails() -> None:
    """What the system says is told."""
    play(
        serving(),
        (1, ReloadAsked(is_gentle=False), [Spawn(A)]),
        (1, SpawnFailed(A, "no memory"), [Reloaded("chat/0 cannot be started: no memory")]),
        (31, Tick(), [Inspect(10)]),
    )


def test_reload_revives_what_was_given_up() -> None:
    """New code gets a new chance, with all its crashes before it."""
    supervisor = serving(replace(CHAT, max_crashes=2))
    play(
        supervisor,
        (1, Exited(10, -9), [Spawn(A)]),
        (1, Spawned(A, 11), []),
        (2, Exited(11, -9), [Close(0)]),
        (5, ReloadAsked(is_gentle=False), [Spawn(A)]),
        (5, Spawned(A, 12), []),
        (6, Ready(12, CHAT), [Reloaded()]),
        (7, Exited(12, -9), [Spawn(A)]),
    )


def test_a_revived_slot_that_crashes_fails_the_reload() -> None:
    """The command does not wait for another attempt."""
    supervisor = serving(replace(CHAT, max_crashes=1))
    play(
        supervisor,
        (1, Exited(10, -9), [Close(0)]),
        (5, ReloadAsked(is_gentle=False), [Spawn(A)]),
        (5, Spawned(A, 11), []),
        (
            6,
            Exited(11, -9),
            [Close(0), Reloaded("chat/0 (pid 11) was killed by SIGKILL after 1.0 s")],
        ),
    )


def test_reload_discards_a_process_that_may_have_the_old_code() -> None:
    """A successor that was starting before is killed, and another one started."""
    policy = replace(CHAT, max_messages=100)
    supervisor = serving(policy)
    play(
        supervisor,
        (3, Beat(10, 100, 0), [Spawn(A)]),
        (3, Spawned(A, 11), []),
        (4, ReloadAsked(is_gentle=False), [Kill(11), Spawn(A)]),
        (4, Spawned(A, 12), []),
        (4, Exited(11, -9), []),
        (5, Ready(12, policy), [Drain(10), Reloaded()]),
    )


def test_one_reload_at_a_time() -> None:
    """A second one is not begun; the first goes on."""
    supervisor = serving()
    play(
        supervisor,
        (1, ReloadAsked(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 11), []),
        (2, ReloadAsked(is_gentle=True), []),
        (3, Ready(11, CHAT), [Drain(10), Reloaded()]),
    )


def test_stop_ends_a_reload() -> None:
    """Who waits for the reload is told, and nothing new is started."""
    play(
        serving(PAIR),
        (1, ReloadAsked(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 12), []),
        (
            2,
            StopAsked(is_graceful=False),
            [Close(0), Reloaded("the master stops"), Stop(10), Stop(12), Stop(11)],
        ),
        (3, ReloadAsked(is_gentle=False), []),
        (3, Exited(10, 0), []),
        (3, Exited(11, 0), []),
        (3, Exited(12, -15), [Exit(0)]),
    )


def test_a_crash_in_a_reload_is_answered_by_it() -> None:
    """The old process dies while the new one starts: that one just takes the place."""
    supervisor = serving()
    play(
        supervisor,
        (1, ReloadAsked(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 11), []),
        (2, Exited(10, -9), []),
        (3, Ready(11, CHAT), [Reloaded()]),
    )


def test_new_code_brings_its_own_policy() -> None:
    """The limits are those of the script that runs; the number of slots is the master's."""
    supervisor = serving(PAIR)
    supervisor.handle(ReloadAsked(is_gentle=False), 1)
    supervisor.handle(Spawned(A, 12), 1)
    supervisor.handle(Ready(12, Policy(name="talk", count=7, shutdown=3)), 2)

    assert supervisor.policy(A) == Policy(name="talk", count=2, shutdown=3)


# Time, and the rest.


def test_nothing_is_due_but_signs_of_life() -> None:
    """An idle master is woken by its processes, and by nothing else."""
    supervisor = serving()

    assert supervisor.next_at() == 5
    supervisor.handle(Beat(10, 0, 0), 1)

    assert supervisor.next_at() == 6


def test_what_the_dead_have_said_is_ignored() -> None:
    """Messages may be read after their process was reaped."""
    supervisor = serving()
    supervisor.handle(Exited(10, -9), 1)

    play(
        supervisor,
        (1, Beat(10, 1, 1), []),
        (1, Ready(10, CHAT), []),
        (1, Inspected(10, is_stopped=True), []),
        (1, Exited(10, 0), []),
    )


def test_how_a_draining_process_ends_is_said_if_it_is_not_as_told() -> None:
    """A crash on the way out is nobody's loss, but it is a crash."""
    supervisor = serving()
    supervisor.handle(StopAsked(is_graceful=True), 1)

    assert said(supervisor, 2, Exited(10, -11)) == ["chat/0 (pid 10) was killed by SIGSEGV"]
