"""What a process has got and says of it; alone, and on a bus that loses and delays."""

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateman.cluster.names import ClientId, node_of
from gateman.gateway.protocol import (
    EVENT_OVERHEAD,
    AnyEvent,
    Done,
    Events,
    HandshakeAnswer,
    OpenEvent,
    Released,
    Result,
)
from gateman.gateway.receive_window import ReceiveWindow
from gateman.gateway.send_window import MAX_BATCH_SIZE, WINDOW
from tests.support.gateway_simulation import GatewayNode, World

ANN, BOB, EVE = (ClientId(f"gate-{number}") for number in range(3))

# On a busy machine a few seconds.
EXAMPLES = 3 * (settings.default or settings()).max_examples


def event(number: int) -> OpenEvent:
    """Make an event that can be told from others."""
    return OpenEvent(ClientId(f"gate-{number}"))


def events(first: int, last: int, *, heard: int = 0) -> Events:
    """Make a packet of the events with these numbers."""
    return Events(1, heard, first, [event(number) for number in range(first, last + 1)])


def take(receive_window: ReceiveWindow, packet: Events) -> list[tuple[int, AnyEvent]]:
    """Let a packet arrive."""
    return list(receive_window.accept(packet))


def done(receive_window: ReceiveWindow, *numbers: int) -> None:
    """Handle events."""
    for number in numbers:
        receive_window.done(Result(number))


def say(received: int, first: int, *numbers: int, has_gap: bool = False) -> list[Done]:
    """Make what is said."""
    return [Done(1, received, has_gap, first, [Result(number) for number in numbers])]


# Events.


def test_each_event_comes_once_and_in_order() -> None:
    """What is sent again is known by its number."""
    receive_window = ReceiveWindow(1)

    assert take(receive_window, events(1, 2)) == [(1, event(1)), (2, event(2))]
    assert take(receive_window, events(1, 2)) == []
    assert take(receive_window, events(2, 3)) == [(3, event(3))]
    assert take(receive_window, events(4, 3)) == []
    assert receive_window.received == 3


def test_what_is_missing_is_asked_for_once_and_then_with_each_sign() -> None:
    """What comes behind a hole waits at the gateway, which is not asked for each packet of it."""
    receive_window = ReceiveWindow(1)

    assert take(receive_window, events(3, 4)) == []
    assert list(receive_window.report()) == say(0, 1, has_gap=True)
    assert take(receive_window, events(5, 5)) == []
    assert list(receive_window.report()) == []
    assert list(receive_window.heartbeat()) == say(0, 1, has_gap=True)
    assert [number for number, _ in take(receive_window, events(1, 5))] == [1, 2, 3, 4, 5]
    assert list(receive_window.heartbeat()) == say(5, 1)


def test_a_sign_of_life_shows_that_the_last_packet_is_missing() -> None:
    """An empty packet has the number of the next event."""
    receive_window = ReceiveWindow(1)
    take(receive_window, events(1, 2))
    take(receive_window, events(5, 4))

    assert list(receive_window.report()) == say(2, 1, has_gap=True)


@pytest.mark.parametrize(
    "packet", [Events(1, 9**9, 9**9, []), Events(1, 9**9, 0, []), Events(1, 0, 0, [event(0)])]
)
def test_forged_numbers_do_nothing(packet: Events) -> None:
    """Nothing is skipped, nothing is taken for heard that was not said, and nothing loops."""
    receive_window = ReceiveWindow(1)
    take(receive_window, events(1, 2))
    done(receive_window, 1)

    assert take(receive_window, packet) == []
    assert receive_window.received == 2
    assert next(receive_window.report()).results == [Result(1)]


# Results.


def test_results_are_said_once_and_again_until_they_are_heard() -> None:
    """With the second sign of life after they were said: the gateway has had a second."""
    receive_window = ReceiveWindow(1)
    take(receive_window, events(1, 3))
    done(receive_window, 2, 1)

    assert list(receive_window.report()) == say(3, 1, 2, 1)
    assert list(receive_window.report()) == []
    assert list(receive_window.heartbeat()) == say(3, 3)
    done(receive_window, 3)
    assert list(receive_window.heartbeat()) == say(3, 1, 2, 1, 3)
    take(receive_window, events(4, 3, heard=2))
    assert list(receive_window.heartbeat()) == say(3, 3, 3)
    take(receive_window, events(4, 3, heard=3))
    assert list(receive_window.heartbeat()) == say(3, 4)


def test_empty_results_of_consecutive_events_share_one() -> None:
    """Until they are reported, and only while no other result is between them."""
    receive_window = ReceiveWindow(1)
    take(receive_window, events(1, 8))
    for number in (1, 2, 4):
        receive_window.handled(number)
    receive_window.done(Result(5, b"session"))
    receive_window.handled(6)

    results = [Result(1, count=2), Result(4), Result(5, b"session"), Result(6)]
    assert list(receive_window.report()) == [Done(1, 8, has_gap=False, first=1, results=results)]
    receive_window.handled(7)
    assert next(receive_window.report()).results == [Result(7)]
    receive_window.handled(3)
    receive_window.handled(8)
    assert next(receive_window.report()).results == [Result(3), Result(8)]

    receive_window.release(Released(1, 8, has_successor=False))
    take(receive_window, events(9, 8, heard=6))
    assert not receive_window.is_idle
    take(receive_window, events(9, 8, heard=7))
    assert receive_window.is_idle


def test_one_slow_handler_keeps_no_other_result() -> None:
    """What was heard is forgotten, whatever is not done yet before it."""
    receive_window = ReceiveWindow(1)
    take(receive_window, events(1, 1000))
    results = [Result(number) for number in range(2, 1001)]
    references = [sys.getrefcount(result) for result in results]
    for result in results:
        receive_window.done(result)
    del result
    list(receive_window.report())
    list(receive_window.heartbeat())
    take(receive_window, events(1001, 1000, heard=999))

    assert list(receive_window.heartbeat()) == say(1000, 1000)
    assert [sys.getrefcount(result) for result in results] == references


def test_much_that_came_is_said_though_nothing_is_done() -> None:
    """The gateway's window opens again while slow handlers run."""
    receive_window = ReceiveWindow(1)
    count = WINDOW // 4 // EVENT_OVERHEAD
    take(receive_window, events(1, count))
    assert list(receive_window.report()) == []
    take(receive_window, events(count + 1, count + 1))

    assert list(receive_window.report()) == say(count + 1, 1)
    assert list(receive_window.report()) == []


def test_a_report_is_cut_into_packets_that_a_bus_takes() -> None:
    """Sessions and answers may be big."""
    receive_window = ReceiveWindow(1)
    take(receive_window, events(1, 4))
    half = bytes(MAX_BATCH_SIZE // 2)
    results = [
        Result(1, half),
        Result(2, half),
        Result(3, None, HandshakeAnswer(403, "x" * (MAX_BATCH_SIZE // 8), {"a": "b"})),
        Result(4, b""),
    ]
    for result in results:
        receive_window.done(result)

    assert (
        list(receive_window.report())
        == [
            Done(1, 4, False, 1, results[:1]),  # noqa: FBT003
            Done(1, 4, False, 2, results[1:2]),  # noqa: FBT003
            Done(1, 4, False, 3, results[2:]),  # noqa: FBT003
        ]
    )


def test_a_process_can_go_when_everything_was_handled_and_heard() -> None:
    """Otherwise somebody would handle it again."""
    receive_window = ReceiveWindow(1)
    assert not receive_window.is_idle

    receive_window.release(Released(1, 1, has_successor=True))
    assert not receive_window.is_idle

    take(receive_window, events(1, 1))
    assert not receive_window.is_idle

    done(receive_window, 1)
    list(receive_window.report())
    assert not receive_window.is_idle

    take(receive_window, events(2, 0, heard=1))
    assert receive_window.is_idle

    receive_window.release(Released(1, 2, has_successor=True))
    assert not receive_window.is_idle


def test_a_client_is_another_s_when_its_gateway_knows_that_its_last_event_was_handled() -> None:
    """Until then, and without another process, this one has to tell of its end."""
    receive_window = ReceiveWindow(1)
    take(receive_window, Events(1, 0, 1, [OpenEvent(ANN), OpenEvent(BOB)]))
    released = Released(1, 2, has_successor=True)

    def handed_over() -> list[ClientId]:
        return receive_window.handed_over([ANN, BOB, EVE])

    done(receive_window, 2)
    list(receive_window.report())
    assert handed_over() == []
    receive_window.release(released)
    assert handed_over() == [EVE]
    take(receive_window, events(3, 0, heard=1))
    assert handed_over() == [BOB, EVE]
    receive_window.release(Released(1, 2, has_successor=False))
    assert handed_over() == []
    # Of what has not come, nobody knows whose it is.
    receive_window.release(Released(1, 3, has_successor=True))
    assert handed_over() == []


# With gateways, processes and a bus.

places = st.integers(0, 11)
counts = st.integers(1, 4)
steps = st.one_of(
    st.tuples(st.just("connect"), places),
    st.tuples(st.just("message"), places, counts),
    st.tuples(st.just("message"), places, counts),
    st.tuples(st.just("big message"), places),
    st.tuples(st.just("close"), places),
    st.tuples(st.just("deliver"), places, counts),
    st.tuples(st.just("deliver"), places, counts),
    st.tuples(st.just("run"), counts),
    st.tuples(st.just("run"), counts),
    st.tuples(st.just("work"), places, counts, st.booleans()),
    st.tuples(st.just("work"), places, counts, st.booleans()),
    st.tuples(st.just("tick"), counts),
    st.tuples(st.just("lose"), places, counts),
    st.tuples(st.just("join")),
    st.tuples(st.just("leave"), places),
)
accidents = st.one_of(
    st.tuples(st.just("kill"), places),
    st.tuples(st.just("cut"), places, st.booleans()),
)
worlds = st.builds(World, st.integers(1, 2), st.sampled_from([0.0, 1.5]))


def play(world: World, script: list[Any]) -> None:
    """Let things happen, as far as there is somebody for them."""
    gateways = list(world.gateways.values())
    world.join()
    for gateway_node in gateways:
        gateway_node.connect(is_refused=False)
    for _ in range(3):
        world.run()
    for name, *rest in script:
        match name:
            case "connect":
                gateways[rest[0] % len(gateways)].connect(is_refused=rest[0] > 9)
            case "deliver":
                world.deliver(*rest)
            case "lose":
                world.lose(*rest)
            case "tick" | "run":
                for _ in range(rest[0]):
                    getattr(world, name)()
            case "join":
                world.join()
            case "message" | "big message" | "close":
                play_client(gateways, name, *rest)
            case _ if world.processes:
                play_process(world, name, *rest)


def play_client(gateways: list[GatewayNode], name: str, place: int, count: int = 1) -> None:
    """Let a client do something."""
    clients = [
        (gateway_node, client) for gateway_node in gateways for client in gateway_node.sessions
    ]
    if name == "close":
        clients += [
            (gateway_node, client)
            for gateway_node in gateways
            for client in sorted(gateway_node.pending)
        ]
    if clients:
        gateway_node, client = clients[place % len(clients)]
        if name == "close":
            gateway_node.close(client)
        else:
            for _ in range(count):
                gateway_node.message(client, MAX_BATCH_SIZE + 1 if name == "big message" else 1)


def play_process(world: World, name: str, place: int, *rest: Any) -> None:
    """Let a process do something, or suffer it."""
    processes = list(world.processes.values())
    process = processes[place % len(processes)]
    match name:
        case "work":
            process.work(rest[0], is_said=rest[1])
        case "leave":
            process.is_leaving = True
        case "kill":
            world.kill(process)
        case "cut":
            gateways = list(world.gateways.values())
            world.cut(process, gateways[place % len(gateways)], from_here=rest[0])


def check(world: World) -> None:
    """Heal everything, and compare what was handled with what has happened."""
    world.heal()
    for client, happened in world.happened.items():
        quarantined, handlings = world.quarantine[client], world.handlings[client]
        # Who was refused has no end; it may get one from a process that was told of that only.
        vague = {*quarantined, "close"} if client in world.refused else {*quarantined}
        if "connect" in quarantined:
            vague.update(happened)
        due = [what for what in happened if what not in vague]
        firsts = list(dict.fromkeys(what for what, _ in handlings))
        steady = [what for what, node in handlings if node not in world.unsteady]
        messages = [what for what in due if isinstance(what, int)]
        assert [what for what in firsts if what not in vague] == due
        assert len(steady) == len(set(steady))
        assert int(world.final.get(client) or b"0") == len(messages)
    for gateway_node in world.gateways.values():
        assert gateway_node.left() == []


@settings(max_examples=EXAMPLES)
@given(worlds, st.lists(steps, min_size=10, max_size=60))
def test_everything_is_handled_exactly_once(world: World, script: list[Any]) -> None:
    """Whatever is lost and delayed, whichever process joins and leaves; in order per client."""
    play(world, script)
    check(world)

    assert not any(world.quarantine.values())


@settings(max_examples=EXAMPLES)
@given(worlds, st.lists(steps, min_size=10, max_size=60), places)
def test_each_client_of_a_gateway_that_dies_has_one_end(
    world: World, script: list[Any], place: int
) -> None:
    """Whichever process tells of it: one that stays, or one that leaves."""
    world.is_lossy = False
    play(world, script)
    for process in list(world.processes.values()):
        process.work(100, is_said=False)
    victim = list(world.gateways.values())[place % len(world.gateways)]
    # Nobody is left to tell of a client that has no process, or whose process has ended before the
    # gateway could give it to another one.
    homeless = {
        name
        for name, client in victim.dispatch.clients.items()
        if client.window is None or client.window.node not in world.processes
    }
    world.kill_gateway(victim)

    for client, handlings in world.handlings.items():
        if node_of(client) == victim.node and client not in world.refused:
            ends = [what for what, _ in handlings].count("close")
            assert ends == 1 or (ends == 0 and client in homeless)


@settings(max_examples=EXAMPLES)
@given(worlds, st.lists(st.one_of(steps, steps, steps, steps, accidents), min_size=10, max_size=60))
def test_everything_is_handled_when_processes_die(world: World, script: list[Any]) -> None:
    """In order; more than once only by a process that died or was cut off; or quarantined."""
    play(world, script)
    check(world)

    assert len(world.unsteady) > 1 or not any(world.quarantine.values())
