"""Which process gets which client's events, and what happens when one is gone."""

from gateman.cluster.names import ClientId, NodeId
from gateman.gateway.actions import (
    Log,
    Probe,
    Quarantine,
    Reply,
    ReplyToCommand,
    Resume,
    Send,
    StoreSession,
)
from gateman.gateway.dispatch import MAX_EVENTS, MAX_SIZE, MAX_TOTAL_SIZE, UNSERVED_AFTER
from gateman.gateway.liveness import RECONNECT_GRACE
from gateman.gateway.protocol import (
    EVENT_OVERHEAD,
    Begun,
    CloseEvent,
    ConnectEvent,
    Discover,
    Done,
    Events,
    HandshakeAnswer,
    Leave,
    MessageEvent,
    Offer,
    OpenEvent,
    Released,
    Result,
)
from gateman.gateway.send_window import CONGESTED_COUNT, MAX_BATCH_SIZE, WINDOW
from tests.support.dispatch_driver import HELLO, IP, DispatchDriver, adopt, message

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
ANN, BOB, CAT = ClientId("gate-1"), ClientId("gate-2"), ClientId("gate-3")
LEAVING = Offer(is_leaving=True, load=0)


# Who gets whom.


def test_it_looks_for_processes_and_says_good_bye() -> None:
    """Nobody has a registry: who is there says so."""
    driver = DispatchDriver()
    driver.dispatch.start()
    driver.dispatch.stop()

    assert driver.take() == [Send(None, Discover()), Send(None, Leave())]


def test_a_process_that_offers_itself_is_told_its_link() -> None:
    """Each time that it is new, another one; an offer of a known one changes nothing."""
    driver = DispatchDriver(A)
    assert driver.take() == [Send(A, Events(1, 0, 1, []))]

    driver.join(A)
    assert driver.take() == []

    driver.dispatch.receive(A, Leave(), 0)
    driver.join(A)
    assert driver.take() == [Send(A, Events(2, 0, 1, []))]


def test_clients_go_to_the_process_with_the_fewest_and_stay() -> None:
    """By this gateway's count, then by that of all gateways."""
    driver = DispatchDriver(A, B)
    driver.dispatch.receive(A, Offer(is_leaving=False, load=5), 0)
    driver.connect(ANN, BOB, CAT)
    driver.join(C)
    driver.send(ANN, b"x")

    assert driver.assignments() == {ANN: B, BOB: A, CAT: B}
    assert driver.sent() == [(B, [message(ANN, b"x")])]


def test_a_client_s_way_in() -> None:
    """It is asked for, let in, heard and seen off."""
    driver = DispatchDriver(A)
    driver.take()
    dispatch = driver.dispatch
    dispatch.connect(ANN, IP, 1, b"GET")
    assert driver.sent() == [(A, [ConnectEvent(ANN, 0, b"", IP, 1, b"GET")])]

    driver.done(A, 1, answer=HandshakeAnswer(0))
    assert driver.take() == [Reply(ANN, HandshakeAnswer(0))]

    dispatch.open(ANN)
    driver.send(ANN, b"x")
    dispatch.close(ANN, 1001, "bye", b"")
    assert driver.sent() == [
        (A, [OpenEvent(ANN), message(ANN, b"x"), CloseEvent(ANN, 0, None, 1001, "bye")])
    ]

    driver.done(A, 2, 3, 4)
    assert (driver.take(), dispatch.clients, dispatch.pending_count) == ([], {}, 0)


def test_a_refused_client_is_forgotten() -> None:
    """What happens to it then is nobody's."""
    driver = DispatchDriver(A)
    driver.dispatch.connect(ANN, IP, 1, b"GET")
    driver.done(A, 1, answer=HandshakeAnswer(403, "no"))
    assert driver.dispatch.clients == {}
    driver.dispatch.open(ANN)
    driver.dispatch.close(ANN, 1006, "", b"")

    assert driver.take() == [Reply(ANN, HandshakeAnswer(403, "no"))]
    assert driver.dispatch.clients == {}


def test_a_client_that_leaves_before_it_was_assigned_is_forgotten() -> None:
    """Nobody needs to know that somebody nearly came."""
    driver = DispatchDriver()
    driver.dispatch.connect(ANN, IP, 1, b"GET")
    driver.dispatch.close(ANN, 1006, "", b"")
    driver.join(A)

    assert driver.sent() == []
    assert (driver.dispatch.clients, driver.dispatch.pending_count) == ({}, 0)


def test_a_big_message_goes_in_pieces() -> None:
    """Each of them an event that a bus can carry."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    payload = bytes(range(256)) * (MAX_BATCH_SIZE // 128) + b"end"
    driver.send(ANN, payload)
    pieces = [event for _, events in driver.sent() for event in events]

    assert [one.is_last for one in pieces if isinstance(one, MessageEvent)] == [False, False, True]
    assert b"".join(one.payload for one in pieces if isinstance(one, MessageEvent)) == payload


def test_what_waits_for_a_process_goes_to_the_first() -> None:
    """In order, as if it had been there."""
    driver = DispatchDriver()
    driver.dispatch.connect(ANN, IP, 1, b"GET")
    driver.dispatch.connect(BOB, IP, 1, b"GET")
    assert (driver.dispatch.has_business, driver.dispatch.pending_count) == (False, 2)

    driver.join(A)
    assert driver.dispatch.has_business
    assert driver.sent() == [
        (A, [ConnectEvent(ANN, 0, b"", IP, 1, b"GET"), ConnectEvent(BOB, 0, b"", IP, 1, b"GET")])
    ]


# Leaving.


def test_a_process_that_leaves_gives_its_clients_away() -> None:
    """
    At once those that have nothing there, the others with their last event.

    The process that leaves is told behind the one that takes over, so that a gateway that dies in
    between leaves no client that neither knows.
    """
    driver = DispatchDriver(A)
    driver.connect(ANN, BOB)
    driver.send(BOB, b"1")
    driver.join(B)
    driver.take()
    driver.dispatch.receive(A, LEAVING, 0)
    driver.send(BOB, b"2")

    assert driver.take() == [
        Send(B, Events(2, 0, 1, [adopt(ANN)])),
        Send(A, Released(1, 5, has_successor=True)),
        Send(A, Events(1, 4, 6, [])),
    ]
    assert (driver.assignments(), driver.dispatch.pending_count) == ({ANN: B, BOB: A}, 3)
    driver.done(A, 5)
    assert driver.take() == [
        Send(B, Events(2, 0, 2, [adopt(BOB), message(BOB, b"2")])),
        Send(A, Events(1, 5, 6, [])),
    ]


def test_a_process_that_leaves_hears_of_each_client_that_another_takes_over() -> None:
    """At once, also while it has others: if the gateway died, both would tell of an end."""
    driver = DispatchDriver(A)
    driver.connect(ANN, BOB)
    driver.send(ANN, b"1")
    driver.send(BOB, b"2")
    driver.join(B)
    driver.take()
    driver.dispatch.receive(A, LEAVING, 0)
    driver.take()
    driver.done(A, 5)

    assert driver.assignments() == {ANN: B, BOB: A}
    assert driver.take() == [
        Send(B, Events(2, 0, 1, [adopt(ANN)])),
        Send(A, Events(1, 5, 7, [])),
    ]


def test_a_process_that_leaves_is_told_whether_another_takes_over() -> None:
    """Without one it has to tell of the ends of its clients; it hears when that changes."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    driver.take()
    without, with_one = (
        Send(A, Released(1, 2, has_successor=has_successor)) for has_successor in (False, True)
    )

    driver.dispatch.receive(A, LEAVING, 0)
    assert driver.take() == [without, Send(A, Events(1, 2, 3, []))]
    driver.join(B)
    assert driver.take() == [
        Send(B, Events(2, 0, 1, [adopt(ANN)])),
        with_one,
        Send(B, Events(2, 0, 2, [])),
    ]
    driver.kill(B)
    assert driver.take()[1:] == [without]


def test_a_client_refused_by_a_leaving_process_gets_no_close_event() -> None:
    """What has waited for the answer goes to nobody."""
    driver = DispatchDriver(A)
    driver.dispatch.connect(ANN, IP, 1, b"GET")
    driver.take()
    driver.dispatch.receive(A, LEAVING, 0)
    driver.dispatch.close(ANN, 1006, "", b"")
    driver.join(B)
    driver.done(A, 1, answer=HandshakeAnswer(403))

    assert driver.sent() == []
    assert (driver.dispatch.clients, driver.dispatch.pending_count) == ({}, 0)


def test_what_waits_for_one_that_leaves_goes_on_when_it_dies() -> None:
    """Behind what it had."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    driver.send(ANN, b"1")
    driver.dispatch.receive(A, LEAVING, 0)
    driver.send(ANN, b"2")
    driver.join(B)
    driver.kill(A)

    assert driver.sent() == [(B, [adopt(ANN), message(ANN, b"1", 1), message(ANN, b"2")])]


def test_an_unknown_process_that_leaves_gets_no_clients() -> None:
    """It would give them away again."""
    driver = DispatchDriver()
    driver.dispatch.receive(A, LEAVING, 0)

    assert (driver.take(), driver.dispatch.windows) == ([], {})


def test_what_one_has_when_it_says_good_bye_is_another_s() -> None:
    """Without suspicion: it was cancelled."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    driver.send(ANN, b"1", b"2")
    driver.done(A, 3)
    driver.join(B)
    driver.take()
    driver.dispatch.receive(A, Leave(), 0)

    assert driver.sent() == [(B, [adopt(ANN), message(ANN, b"2")])]
    assert driver.dispatch.repeated_count == 0


def test_a_process_that_has_forgotten_this_gateway_begins_anew() -> None:
    """It had taken it for dead, and would wait for event 1 for ever."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    driver.send(ANN, b"1")
    driver.take()
    driver.dispatch.receive(A, Done(1, 0, has_gap=True, first=1, results=[]), 0)
    assert (driver.assignments(), driver.take()) == ({ANN: None}, [])

    driver.join(A)
    assert driver.sent() == [(A, [adopt(ANN), message(ANN, b"1")])]


def test_a_client_that_leaves_after_a_process_has_heard_of_it_has_an_end() -> None:
    """The process may have handled the handshake before it took the gateway for dead."""
    driver = DispatchDriver(A)
    driver.dispatch.connect(ANN, IP, 1, b"GET")
    driver.done(A)
    driver.dispatch.receive(A, Done(1, 0, has_gap=True, first=1, results=[]), 0)
    driver.dispatch.close(ANN, 1006, "", b"")
    driver.take()

    driver.join(A)
    assert driver.sent() == [
        (A, [ConnectEvent(ANN, 0, b"", IP, 1, b"GET"), CloseEvent(ANN, 0, None, 1006, "")])
    ]


# Dying.


def test_what_a_dead_process_had_is_sent_on_with_care() -> None:
    """In order, and behind whose client it is; a handshake needs nobody before it."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    driver.send(ANN, b"1", b"2")
    driver.dispatch.connect(BOB, IP, 1, b"GET")
    assert driver.kill(A) == [Log("warning", "the business process a is gone")]
    assert (driver.assignments(), driver.dispatch.pending_count) == ({ANN: None, BOB: None}, 3)

    driver.join(B)
    asked = ConnectEvent(BOB, 1, b"", IP, 1, b"GET")
    assert driver.sent() == [(B, [adopt(ANN), message(ANN, b"1", 1), message(ANN, b"2", 1), asked])]
    assert driver.dispatch.repeated_count == 3


def test_an_event_that_kills_twice_is_quarantined() -> None:
    """The only one with which the second had begun; the others go on."""
    driver = DispatchDriver(A, B)
    driver.connect(ANN)
    driver.send(ANN, b"1", b"killer", b"3")
    driver.kill(A)
    driver.done(B, 1, 2)
    driver.begin(B, 3)

    assert driver.kill(B)[1:] == [Quarantine(ANN, message(ANN, b"killer", 1))]
    driver.join(C)
    assert driver.sent() == [(C, [adopt(ANN), message(ANN, b"3", 1)])]


def test_one_of_many_is_not_blamed_for_the_first_death() -> None:
    """It has to kill two more processes alone, as somebody may just be killing processes."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    driver.send(ANN, *(b"%d" % number for number in range(9)))
    driver.kill(A)
    driver.join(B)
    driver.begin(B, 2)
    assert driver.kill(B)[1:] == []
    driver.join(C)
    assert [event.suspicion for _, events in driver.sent() for event in events] == [0, 2, *[1] * 8]
    driver.begin(C, 2)
    assert driver.kill(C)[1:] == [Quarantine(ANN, message(ANN, b"0", 2))]


def test_of_several_none_is_quarantined_until_it_was_alone() -> None:
    """They are handled one by one; what was not begun is no suspect."""
    driver = DispatchDriver(A)
    driver.connect(ANN, BOB, CAT)
    for client in (ANN, BOB, CAT):
        driver.send(client, b"x")
    driver.kill(A)
    driver.join(B)
    driver.begin(B, 2, 4)
    assert driver.kill(B)[1:] == []

    driver.join(C)
    cares = {event.client: event.suspicion for _, events in driver.sent() for event in events}
    assert cares == {ANN: 2, BOB: 2, CAT: 1}
    driver.begin(C, 4, 6)
    assert driver.kill(C)[1:] == [Quarantine(BOB, message(BOB, b"x", 2))]


def test_a_message_is_quarantined_with_all_its_pieces() -> None:
    """And no other that has pieces, too."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    driver.send(ANN, b"1" * (MAX_BATCH_SIZE + 1), b"2" * (MAX_BATCH_SIZE + 1))
    driver.kill(A)
    driver.join(B)
    driver.begin(B, 5)

    assert driver.kill(B)[1:] == [Quarantine(ANN, message(ANN, b"2", 1))]
    driver.join(C)
    left = [event for _, events in driver.sent() for event in events]
    assert [one.payload[:1] for one in left if isinstance(one, MessageEvent)] == [b"1", b"1"]


def test_a_handshake_that_kills_is_refused() -> None:
    """And the client has no end: it never was in."""
    driver = DispatchDriver(A)
    driver.dispatch.connect(ANN, IP, 1, b"GET")
    driver.kill(A)
    driver.join(B)
    driver.begin(B, 1)
    driver.dispatch.close(ANN, 1006, "", b"")
    killer = ConnectEvent(ANN, 1, b"", IP, 1, b"GET")

    assert driver.kill(B)[1:] == [
        Quarantine(ANN, killer),
        Reply(ANN, HandshakeAnswer(500, "internal error")),
    ]
    assert (driver.dispatch.clients, driver.dispatch.pending_count) == ({}, 0)


# Sessions.


def test_a_session_travels_when_it_is_news() -> None:
    """To who does not have it; what a handler made of it, it has."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    driver.send(ANN, b"1", session=b"s")
    driver.send(ANN, b"2", session=b"s")
    assert driver.sent() == [(A, [message(ANN, b"1", session=b"s"), message(ANN, b"2")])]

    driver.done(A, 3, session=b"t")
    assert driver.take() == [StoreSession(ANN, b"t")]
    driver.send(ANN, b"3", session=b"t")
    assert driver.sent() == [(A, [message(ANN, b"3")])]


def test_a_session_that_is_about_to_be_kept_is_the_newest() -> None:
    """A message that comes just before is no news of an older one."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    driver.send(ANN, b"1")
    driver.done(A, 3, session=b"t")
    driver.send(ANN, b"2", session=b"")

    assert driver.take() == [
        StoreSession(ANN, b"t"),
        Send(A, Events(1, 3, 4, [message(ANN, b"2")])),
    ]


def test_a_session_that_was_set_meanwhile_wins() -> None:
    """Its process got it behind the event whose handler made another."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    driver.send(ANN, b"1")
    driver.send(ANN, b"2", session=b"set")
    driver.done(A, 3, session=b"t")

    assert driver.take() == []
    assert driver.dispatch.clients[ANN].session == b"set"


# Budgets.


def test_a_client_that_floods_is_paused_until_half_of_it_is_done() -> None:
    """By number, and by size; nobody else is."""
    for payload, limit in ((b"", MAX_EVENTS), (bytes(MAX_SIZE // 4), 4)):
        driver = DispatchDriver(A)
        driver.connect(ANN, BOB)
        driver.send(BOB, b"")
        driver.send(ANN, *[payload] * (limit - 1))
        assert not driver.dispatch.clients[ANN].is_paused

        driver.send(ANN, payload)
        assert driver.dispatch.clients[ANN].is_paused
        driver.take()
        assert driver.dispatch.paused_count == 1
        half = limit // 2 if payload == b"" else 3
        driver.done(A, *range(6, 5 + half))
        assert driver.take() == []
        driver.done(A, 5 + half)
        assert driver.take() == [Resume(ANN)]
        assert driver.dispatch.paused_count == 0


def test_in_a_crowd_each_has_one() -> None:
    """A client that sends is paused until that is done."""
    driver = DispatchDriver(A)
    names = [ClientId(f"gate-{number}") for number in range(CONGESTED_COUNT + 2)]
    driver.connect(*names[:2])
    for name in names[2:]:
        driver.dispatch.connect(name, IP, 1, b"")
    driver.send(names[0], b"x")
    last = driver.dispatch.windows[A].last
    assert driver.dispatch.clients[names[0]].is_paused
    driver.take()

    driver.dispatch.close(names[0], 1000, "", b"")
    assert driver.dispatch.paused_count == 0
    while driver.dispatch.windows[A].acknowledged <= last:
        driver.done(A)
    driver.done(A, last, last + 1)
    assert (names[0] in driver.dispatch.clients, driver.dispatch.paused_count) == (False, 0)


def test_of_all_clients_together_so_much_waits() -> None:
    """Then none is to be read from, also those that have said nothing, until half is done."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    assert driver.dispatch.size == 0
    driver.send(ANN, bytes(100))
    assert driver.dispatch.size == EVENT_OVERHEAD + 100

    driver.dispatch.count_backlog(MAX_TOTAL_SIZE - driver.dispatch.size)
    assert not driver.dispatch.is_full
    driver.dispatch.count_backlog(1)
    assert driver.dispatch.is_full
    driver.dispatch.count_backlog(-MAX_TOTAL_SIZE // 2)
    assert driver.dispatch.is_full
    driver.dispatch.count_backlog(-1)
    assert not driver.dispatch.is_full


# Silence.


def test_signs_of_life_and_questions() -> None:
    """Each second a sign; who is silent is asked about, sooner if something is on its way."""
    driver = DispatchDriver(A)
    driver.take()
    sign = Send(A, Events(1, 0, 1, []))
    for now, actions in [
        (1.0, [sign]),
        (1.5, []),
        (2.0, [sign]),
        (2.25, [Probe(A)]),
        (3.0, [Probe(A), sign]),
    ]:
        driver.dispatch.tick(now)
        assert driver.take() == actions

    driver.dispatch.receive(A, HELLO, 3.0)
    driver.dispatch.connect(ANN, IP, 1, b"")
    driver.take()
    driver.dispatch.tick(3.1)
    assert driver.take() == []
    driver.dispatch.tick(3.25)
    assert driver.take() == [Probe(A)]


def test_a_gateway_without_business_processes_serves_no_client() -> None:
    """Until the first is there, and a while after the last was; one that leaves is none."""
    driver = DispatchDriver()
    assert driver.dispatch.is_unserved(0.0)
    driver.join(A)
    assert not driver.dispatch.is_unserved(0.0)
    driver.dispatch.receive(A, HELLO, 100.0)
    driver.dispatch.receive(A, LEAVING, 101.0)

    assert not driver.dispatch.is_unserved(100.0 + UNSERVED_AFTER)
    assert driver.dispatch.is_unserved(100.1 + UNSERVED_AFTER)
    driver.join(B)
    assert not driver.dispatch.is_unserved(200.0)


def test_a_bus_is_believed_after_a_while() -> None:
    """If it says so for so long, and the process nothing."""
    driver = DispatchDriver(A, grace_period=1.5)
    dispatch = driver.dispatch
    for now, is_connected in [(0, False), (1, True), (2, False), (3.4, False)]:
        dispatch.probed(A, now, is_connected=is_connected)
        assert list(dispatch.windows) == [A]
    dispatch.receive(A, HELLO, 3.4)
    dispatch.probed(A, 3.5, is_connected=False)
    dispatch.probed(A, 4.9, is_connected=False)
    assert list(dispatch.windows) == [A]
    dispatch.probed(A, 5.0, is_connected=False)
    dispatch.probed(A, 5.0, is_connected=False)
    assert dispatch.windows == {}


def test_a_bus_that_was_away_is_not_believed() -> None:
    """Others find back to it later."""
    driver = DispatchDriver(A)
    driver.take()
    driver.dispatch.returned(10)
    driver.dispatch.probed(A, 10, is_connected=False)
    driver.dispatch.tick(9 + RECONNECT_GRACE)
    assert driver.take() == [Send(None, Discover()), Send(A, Events(1, 0, 1, []))]

    driver.dispatch.probed(A, 10 + RECONNECT_GRACE, is_connected=False)
    assert driver.dispatch.windows == {}


# What is late, or another's.


def test_a_window_opens_with_what_has_arrived() -> None:
    """What is lost is asked for, and sent again."""
    driver = DispatchDriver(A)
    names = [ClientId(f"gate-{number}") for number in range(2 * WINDOW // MAX_BATCH_SIZE)]
    driver.connect(*names)
    before = driver.dispatch.windows[A].last
    for name in names:
        driver.send(name, bytes(MAX_BATCH_SIZE))
    assert len(driver.sent()) == WINDOW // MAX_BATCH_SIZE

    driver.dispatch.receive(A, Done(1, before + 1, has_gap=True, first=1, results=[]), 0)
    assert driver.sent()[0] == (A, [message(names[1], bytes(MAX_BATCH_SIZE))])


def test_results_of_another_link_or_of_no_client_are_ignored() -> None:
    """Nothing is done by it, and nothing raised."""
    driver = DispatchDriver(A)
    driver.connect(ANN)
    driver.send(ANN, b"x")
    driver.take()
    results = [Result(number) for number in range(9)]
    for packet in (
        Done(2, 9, has_gap=True, first=3, results=results),
        Done(1, 9**9, has_gap=False, first=3, results=[Result(9**9), Result(1)]),
        Begun(2, 3),
        Begun(1, 9**9),
        Discover(),
        Events(1, 0, 1, []),
        Released(1, 1, has_successor=True),
    ):
        driver.dispatch.receive(A, packet, 0)
        driver.dispatch.receive(B, packet, 0)
    driver.dispatch.probed(B, 0, is_connected=False)
    driver.dispatch.open(BOB)
    driver.dispatch.close(BOB, 1000, "", b"")

    assert (driver.take(), driver.dispatch.pending_count) == ([], 1)


def test_one_result_is_for_several_events() -> None:
    """However many it names, only events that the process has received are handled."""
    driver = DispatchDriver(A)
    driver.connect(ANN, BOB)
    driver.send(ANN, b"1", b"2")
    driver.send(BOB, b"3")
    driver.take()
    window = driver.dispatch.windows[A]
    last = window.last
    results = [Result(last - 2, count=9**9)]
    driver.dispatch.receive(A, Done(1, last - 1, has_gap=False, first=5, results=results), 0)

    assert [pending.event for pending in window.pending.values()] == [message(BOB, b"3")]
    assert (driver.dispatch.pending_count, driver.dispatch.size) == (1, EVENT_OVERHEAD + 1)


# Commands of SDK clients.


def test_answers_to_commands_are_told_once() -> None:
    driver = DispatchDriver(A)
    driver.connect(ANN)
    driver.send(ANN, b"question")
    window = driver.dispatch.windows[A]

    driver.done(A, window.last, reply=b"answer")

    assert ReplyToCommand(ANN, b"answer") in driver.take()
    assert driver.take() == []


def test_all_pieces_of_a_command_say_so() -> None:
    """Only messages of a gateway with SDK clients are commands."""
    size = MAX_BATCH_SIZE + 1
    for has_commands in (False, True):
        driver = DispatchDriver(A, has_commands=has_commands)
        driver.connect(ANN)
        driver.send(ANN, b"x" * size)
        pending = [one.event for one in driver.dispatch.clients[ANN].pending]

        assert [
            (event.is_last, event.is_command)
            for event in pending
            if isinstance(event, MessageEvent)
        ] == [(False, has_commands), (True, has_commands)]


def test_which_callbacks_may_answer() -> None:
    """As long as nobody is known, a callback may come."""
    driver = DispatchDriver()
    assert driver.dispatch.may_answer("on_rpc")

    driver.join(A)
    assert not driver.dispatch.may_answer("on_rpc")

    driver.dispatch.receive(B, Offer(is_leaving=False, load=0, callbacks=["on_rpc"]), 0)
    assert driver.dispatch.may_answer("on_rpc")
    assert not driver.dispatch.may_answer("on_publish")
