"""What a reload does, by tables: the supervisor with its slots, and nothing real."""

from msgspec.structs import replace

from gateman.master.events import (
    Accept,
    CloseSockets,
    Drain,
    Exit,
    Exited,
    Heartbeat,
    Inspect,
    Kill,
    Policy,
    Ready,
    Reloaded,
    ReloadRequested,
    SlotId,
    Spawn,
    Spawned,
    SpawnFailed,
    Stop,
    StopRequested,
    Tick,
)
from gateman.master.supervisor import Supervisor
from tests.support.supervision import CHAT, PAIR, A, B, play, said, serving

GATEWAY = Policy(name="gateway", count=1, reloadable=False)
BUSINESS = Policy(name="business", count=2, is_shared=True)


def test_reload() -> None:
    """Slot by slot: a new process serves before the old one drains; nobody waits for that."""
    supervisor = serving(PAIR)
    play(
        supervisor,
        (1, ReloadRequested(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 12), []),
        (2, Ready(12, PAIR), [Drain(10), Spawn(B)]),
        (2, Spawned(B, 13), []),
        (3, Ready(13, PAIR), [Drain(11), Reloaded()]),
        (9, Exited(10, 0), []),
        (9, Exited(11, 0), []),
    )

    assert [slot.current is not None for slot in supervisor.slots] == [True, True]


def test_gentle_reload() -> None:
    """The next slot waits until the one before has drained."""
    supervisor = serving(PAIR)
    play(
        supervisor,
        (1, ReloadRequested(is_gentle=True), [Spawn(A)]),
        (1, Spawned(A, 12), []),
        (2, Ready(12, PAIR), [Drain(10)]),
        (8, Exited(10, 0), [Spawn(B)]),
        (8, Spawned(B, 13), []),
        (9, Ready(13, PAIR), [Drain(11)]),
        (15, Exited(11, 0), [Reloaded()]),
    )


def mixed() -> Supervisor:
    """Have a gateway (pid 10) and business workers (pids 11 and 12) that serve."""
    return serving(GATEWAY, BUSINESS)


def test_a_reload_leaves_alone_what_is_not_reloadable() -> None:
    """Business workers are renewed, and the gateway keeps its clients."""
    play(
        mixed(),
        (1, ReloadRequested(is_gentle=False), [Spawn(SlotId(1, 0))]),
        (1, Spawned(SlotId(1, 0), 13), []),
        (2, Ready(13, BUSINESS), [Drain(11), Spawn(SlotId(1, 1))]),
        (2, Spawned(SlotId(1, 1), 14), []),
        (3, Ready(14, BUSINESS), [Drain(12), Reloaded()]),
    )


def test_a_reload_of_all_renews_gateways_too() -> None:
    """The gateway drains as a worker does."""
    play(
        mixed(),
        (1, ReloadRequested(is_gentle=False, is_all=True), [Spawn(SlotId(0, 0))]),
        (1, Spawned(SlotId(0, 0), 13), []),
        (2, Ready(13, GATEWAY), [Drain(10), Spawn(SlotId(1, 0))]),
        (2, Spawned(SlotId(1, 0), 14), []),
        (3, Ready(14, BUSINESS), [Drain(11), Spawn(SlotId(1, 1))]),
        (3, Spawned(SlotId(1, 1), 15), []),
        (4, Ready(15, BUSINESS), [Drain(12), Reloaded()]),
    )


def test_a_reload_of_nothing_is_a_mistake() -> None:
    """Who asks for one is told what would do it."""
    problem = "no worker is reloadable: `reload --all` renews all processes"
    supervisor = serving(replace(GATEWAY, count=2))
    play(supervisor, (1, ReloadRequested(is_gentle=False), [Reloaded(problem)]))

    assert not supervisor.is_reloading
    assert said(supervisor, 2, ReloadRequested(is_gentle=True)) == [problem]


def test_a_slot_that_was_given_up_is_tried_again_whatever_it_is() -> None:
    """Nobody is disturbed by it; the other gateway is left alone."""
    fragile = replace(GATEWAY, count=2, max_crashes=1)
    play(
        serving(fragile),
        (1, Exited(10, 1), [Accept(11, (1, 0))]),
        (2, ReloadRequested(is_gentle=False), [Spawn(A)]),
        (2, Spawned(A, 12), []),
        (3, Ready(12, fragile), [Reloaded(), Accept(11, (1,))]),
    )


def test_what_is_reloadable_is_what_the_newest_code_says() -> None:
    """A worker that has just become so keeps the processes that it has from the next reload on."""
    fixed = replace(CHAT, reloadable=False)
    play(
        serving(CHAT),
        (1, ReloadRequested(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 11), []),
        (2, Ready(11, fixed), [Drain(10), Reloaded()]),
        (
            3,
            ReloadRequested(is_gentle=False),
            [Reloaded("no worker is reloadable: `reload --all` renews all processes")],
        ),
    )


def test_a_failed_reload_leaves_the_old_in_service() -> None:
    """The first new process that fails ends the reload, and the reason is told."""
    supervisor = serving(PAIR)
    play(
        supervisor,
        (1, ReloadRequested(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 12), []),
        (
            2,
            Exited(12, 4, ("SyntaxError",)),
            [Reloaded("chat/0 (pid 12) could not load the script after 1.0 s\n    SyntaxError")],
        ),
    )

    assert not supervisor.is_reloading
    assert [slot.current.pid for slot in supervisor.slots if slot.current] == [10, 11]


def test_a_reload_that_fails_half_way_says_so() -> None:
    """Which version runs where is not left to guess."""
    play(
        serving(PAIR),
        (1, ReloadRequested(is_gentle=False), [Spawn(A)]),
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
        (1, ReloadRequested(is_gentle=False), [Spawn(A)]),
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
        (2, Exited(11, -9), [CloseSockets(0)]),
        (5, ReloadRequested(is_gentle=False), [Spawn(A)]),
        (5, Spawned(A, 12), []),
        (6, Ready(12, CHAT), [Reloaded()]),
        (7, Exited(12, -9), [Spawn(A)]),
    )


def test_a_revived_slot_that_crashes_fails_the_reload() -> None:
    """The command does not wait for another attempt."""
    supervisor = serving(replace(CHAT, max_crashes=1))
    play(
        supervisor,
        (1, Exited(10, -9), [CloseSockets(0)]),
        (5, ReloadRequested(is_gentle=False), [Spawn(A)]),
        (5, Spawned(A, 11), []),
        (
            6,
            Exited(11, -9),
            [CloseSockets(0), Reloaded("chat/0 (pid 11) was killed by SIGKILL after 1.0 s")],
        ),
    )


def test_reload_discards_a_process_that_may_have_the_old_code() -> None:
    """A successor that was starting before is killed, and another one started."""
    policy = replace(CHAT, max_messages=100)
    supervisor = serving(policy)
    play(
        supervisor,
        (3, Heartbeat(10, 100, 0), [Spawn(A)]),
        (3, Spawned(A, 11), []),
        (4, ReloadRequested(is_gentle=False), [Kill(11), Spawn(A)]),
        (4, Spawned(A, 12), []),
        (4, Exited(11, -9), []),
        (5, Ready(12, policy), [Drain(10), Reloaded()]),
    )


def test_a_second_reload_follows_the_first() -> None:
    """The files may have changed since a slot was renewed; further requests are one with it."""
    supervisor = serving(PAIR, replace(CHAT, reloadable=False))
    gateway = SlotId(1, 0)
    play(
        supervisor,
        (1, ReloadRequested(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 13), []),
        (2, ReloadRequested(is_gentle=False, is_all=True), []),
        (2, ReloadRequested(is_gentle=True), []),
        (3, Ready(13, PAIR), [Drain(10), Spawn(B)]),
        (3, Spawned(B, 14), []),
        (4, Ready(14, PAIR), [Drain(11), Reloaded(), Spawn(A)]),
        (4, Spawned(A, 15), []),
        # Gently, and all of them.
        (5, Ready(15, PAIR), [Drain(13)]),
        (6, Exited(13, 0), [Spawn(B)]),
        (6, Spawned(B, 16), []),
        (7, Ready(16, PAIR), [Drain(14)]),
        (8, Exited(14, 0), [Spawn(gateway)]),
        (8, Spawned(gateway, 17), []),
        (9, Ready(17, replace(CHAT, reloadable=False)), [Drain(12)]),
        (10, Exited(12, 0), [Reloaded()]),
    )
    assert not supervisor.is_reloading


def test_a_second_reload_follows_one_that_failed() -> None:
    """It may load what was corrected."""
    play(
        serving(),
        (1, ReloadRequested(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 11), []),
        (2, ReloadRequested(is_gentle=False), []),
        (
            3,
            Exited(11, 1),
            [Reloaded("chat/0 (pid 11) ended with exit code 1 after 2.0 s"), Spawn(A)],
        ),
        (3, Spawned(A, 12), []),
        (4, Ready(12, CHAT), [Drain(10), Reloaded()]),
    )


def test_stop_ends_a_reload() -> None:
    """Who waits for one is told, and nothing new is started."""
    stopped = Reloaded("the master stops")
    play(
        serving(PAIR),
        (1, ReloadRequested(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 12), []),
        (1, ReloadRequested(is_gentle=False), []),
        (
            2,
            StopRequested(is_graceful=False),
            [CloseSockets(0), stopped, stopped, Stop(10), Stop(12), Stop(11)],
        ),
        (3, ReloadRequested(is_gentle=False), [stopped]),
        (3, Exited(10, 0), []),
        (3, Exited(11, 0), []),
        (3, Exited(12, -15), [Exit(0)]),
    )


def test_a_crash_in_a_reload_is_answered_by_it() -> None:
    """The old process dies while the new one starts: that one just takes the place."""
    supervisor = serving()
    play(
        supervisor,
        (1, ReloadRequested(is_gentle=False), [Spawn(A)]),
        (1, Spawned(A, 11), []),
        (2, Exited(10, -9), []),
        (3, Ready(11, CHAT), [Reloaded()]),
    )


def test_new_code_brings_its_own_policy() -> None:
    """The limits are those of the script that runs; the number of slots is the master's."""
    supervisor = serving(PAIR)
    supervisor.handle(ReloadRequested(is_gentle=False), 1)
    supervisor.handle(Spawned(A, 12), 1)
    supervisor.handle(Ready(12, Policy(name="talk", count=7, shutdown=3)), 2)

    assert supervisor.policy(A) == Policy(name="talk", count=2, shutdown=3)


def test_more_processes_take_a_restart() -> None:
    """A reload keeps the slots that there are, and says so once."""
    supervisor = serving(PAIR)
    supervisor.handle(ReloadRequested(is_gentle=False), 1)
    supervisor.handle(Spawned(A, 12), 1)

    assert said(supervisor, 2, Ready(12, replace(PAIR, count=4))) == [
        "chat: count=4 needs a `restart`"
    ]
    supervisor.handle(Spawned(B, 13), 2)
    actions = supervisor.handle(Ready(13, replace(PAIR, count=4)), 3)
    assert Reloaded("", ("chat: count=4 needs a `restart`",)) in actions
