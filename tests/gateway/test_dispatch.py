"""Which process gets which client's events, and what happens when one is gone."""

from gateman.cluster.names import ClientId, NodeId
from gateman.gateway.actions import Log, Probe, Quarantine, Reply, Resume, Send, StoreSession
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
from tests.support.dispatch_driver import HELLO, IP, Talk, adopt, message

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
ANN, BOB, CAT = ClientId("gate-1"), ClientId("gate-2"), ClientId("gate-3")
LEAVING = Offer(is_leaving=True, load=0)


# Who gets whom.


def test_it_looks_for_processes_and_says_good_bye() -> None:
    """Nobody has a registry: who is there says so."""
    talk = Talk()
    talk.dispatch.start()
    talk.dispatch.stop()

    assert talk.take() == [Send(None, Discover()), Send(None, Leave())]


def test_a_process_that_offers_itself_is_told_its_link() -> None:
    """Each time that it is new, another one; an offer of a known one changes nothing."""
    talk = Talk(A)
    assert talk.take() == [Send(A, Events(1, 0, 1, []))]

    talk.join(A)
    assert talk.take() == []

    talk.dispatch.receive(A, Leave(), 0)
    talk.join(A)
    assert talk.take() == [Send(A, Events(2, 0, 1, []))]


def test_clients_go_to_who_has_the_fewest_and_stay() -> None:
    """By this gateway's count, then by that of all gateways."""
    talk = Talk(A, B)
    talk.dispatch.receive(A, Offer(is_leaving=False, load=5), 0)
    talk.come(ANN, BOB, CAT)
    talk.join(C)
    talk.say(ANN, b"x")

    assert talk.homes() == {ANN: B, BOB: A, CAT: B}
    assert talk.events() == [(B, [message(ANN, b"x")])]


def test_a_client_s_way_in() -> None:
    """It is asked for, let in, heard and seen off."""
    talk = Talk(A)
    talk.take()
    dispatch = talk.dispatch
    dispatch.connect(ANN, IP, 1, b"GET")
    assert talk.events() == [(A, [ConnectEvent(ANN, 0, b"", IP, 1, b"GET")])]

    talk.done(A, 1, answer=HandshakeAnswer(0))
    assert talk.take() == [Reply(ANN, HandshakeAnswer(0))]

    dispatch.open(ANN)
    talk.say(ANN, b"x")
    dispatch.close(ANN, 1001, "bye", b"")
    assert talk.events() == [
        (A, [OpenEvent(ANN), message(ANN, b"x"), CloseEvent(ANN, 0, None, 1001, "bye")])
    ]

    talk.done(A, 2, 3, 4)
    assert (talk.take(), dispatch.clients, dispatch.pending_count) == ([], {}, 0)


def test_who_is_refused_is_forgotten() -> None:
    """What happens to it then is nobody's."""
    talk = Talk(A)
    talk.dispatch.connect(ANN, IP, 1, b"GET")
    talk.done(A, 1, answer=HandshakeAnswer(403, "no"))
    assert talk.dispatch.clients == {}
    talk.dispatch.open(ANN)
    talk.dispatch.close(ANN, 1006, "", b"")

    assert talk.take() == [Reply(ANN, HandshakeAnswer(403, "no"))]
    assert talk.dispatch.clients == {}


def test_who_vanishes_unheard_is_forgotten() -> None:
    """Nobody needs to know that somebody nearly came."""
    talk = Talk()
    talk.dispatch.connect(ANN, IP, 1, b"GET")
    talk.dispatch.close(ANN, 1006, "", b"")
    talk.join(A)

    assert talk.events() == []
    assert (talk.dispatch.clients, talk.dispatch.pending_count) == ({}, 0)


def test_a_big_message_goes_in_pieces() -> None:
    """Each of them an event that a bus can carry."""
    talk = Talk(A)
    talk.come(ANN)
    payload = bytes(range(256)) * (MAX_BATCH_SIZE // 128) + b"end"
    talk.say(ANN, payload)
    pieces = [event for _, events in talk.events() for event in events]

    assert [one.is_last for one in pieces if isinstance(one, MessageEvent)] == [False, False, True]
    assert b"".join(one.payload for one in pieces if isinstance(one, MessageEvent)) == payload


def test_what_waits_for_a_process_goes_to_the_first() -> None:
    """In order, as if it had been there."""
    talk = Talk()
    talk.dispatch.connect(ANN, IP, 1, b"GET")
    talk.dispatch.connect(BOB, IP, 1, b"GET")
    assert (talk.dispatch.has_business, talk.dispatch.pending_count) == (False, 2)

    talk.join(A)
    assert talk.dispatch.has_business
    assert talk.events() == [
        (A, [ConnectEvent(ANN, 0, b"", IP, 1, b"GET"), ConnectEvent(BOB, 0, b"", IP, 1, b"GET")])
    ]


# Leaving.


def test_a_process_that_leaves_gives_its_clients_away() -> None:
    """
    At once those that have nothing there, the others with their last event.

    The process that leaves is told behind the one that takes over, so that a gateway that dies in
    between leaves no client that neither knows.
    """
    talk = Talk(A)
    talk.come(ANN, BOB)
    talk.say(BOB, b"1")
    talk.join(B)
    talk.take()
    talk.dispatch.receive(A, LEAVING, 0)
    talk.say(BOB, b"2")

    assert talk.take() == [
        Send(B, Events(2, 0, 1, [adopt(ANN)])),
        Send(A, Released(1, 5, has_successor=True)),
        Send(A, Events(1, 4, 6, [])),
    ]
    assert (talk.homes(), talk.dispatch.pending_count) == ({ANN: B, BOB: A}, 3)
    talk.done(A, 5)
    assert talk.take() == [
        Send(B, Events(2, 0, 2, [adopt(BOB), message(BOB, b"2")])),
        Send(A, Events(1, 5, 6, [])),
    ]


def test_a_process_that_leaves_hears_of_each_client_that_another_takes_over() -> None:
    """At once, also while it has others: if the gateway died, both would tell of an end."""
    talk = Talk(A)
    talk.come(ANN, BOB)
    talk.say(ANN, b"1")
    talk.say(BOB, b"2")
    talk.join(B)
    talk.take()
    talk.dispatch.receive(A, LEAVING, 0)
    talk.take()
    talk.done(A, 5)

    assert talk.homes() == {ANN: B, BOB: A}
    assert talk.take() == [
        Send(B, Events(2, 0, 1, [adopt(ANN)])),
        Send(A, Events(1, 5, 7, [])),
    ]


def test_a_process_that_leaves_is_told_whether_another_takes_over() -> None:
    """Without one it has to tell of the ends of its clients; it hears when that changes."""
    talk = Talk(A)
    talk.come(ANN)
    talk.take()
    without, with_one = (
        Send(A, Released(1, 2, has_successor=has_successor)) for has_successor in (False, True)
    )

    talk.dispatch.receive(A, LEAVING, 0)
    assert talk.take() == [without, Send(A, Events(1, 2, 3, []))]
    talk.join(B)
    assert talk.take() == [
        Send(B, Events(2, 0, 1, [adopt(ANN)])),
        with_one,
        Send(B, Events(2, 0, 2, [])),
    ]
    talk.die(B)
    assert talk.take()[1:] == [without]


def test_who_is_refused_by_one_that_leaves_has_no_end() -> None:
    """What has waited for the answer goes to nobody."""
    talk = Talk(A)
    talk.dispatch.connect(ANN, IP, 1, b"GET")
    talk.take()
    talk.dispatch.receive(A, LEAVING, 0)
    talk.dispatch.close(ANN, 1006, "", b"")
    talk.join(B)
    talk.done(A, 1, answer=HandshakeAnswer(403))

    assert talk.events() == []
    assert (talk.dispatch.clients, talk.dispatch.pending_count) == ({}, 0)


def test_what_waits_for_one_that_leaves_goes_on_when_it_dies() -> None:
    """Behind what it had."""
    talk = Talk(A)
    talk.come(ANN)
    talk.say(ANN, b"1")
    talk.dispatch.receive(A, LEAVING, 0)
    talk.say(ANN, b"2")
    talk.join(B)
    talk.die(A)

    assert talk.events() == [(B, [adopt(ANN), message(ANN, b"1", 1), message(ANN, b"2")])]


def test_a_stranger_that_leaves_gets_nobody() -> None:
    """It would give them away again."""
    talk = Talk()
    talk.dispatch.receive(A, LEAVING, 0)

    assert (talk.take(), talk.dispatch.windows) == ([], {})


def test_what_one_has_when_it_says_good_bye_is_another_s() -> None:
    """Without suspicion: it was cancelled."""
    talk = Talk(A)
    talk.come(ANN)
    talk.say(ANN, b"1", b"2")
    talk.done(A, 3)
    talk.join(B)
    talk.take()
    talk.dispatch.receive(A, Leave(), 0)

    assert talk.events() == [(B, [adopt(ANN), message(ANN, b"2")])]
    assert talk.dispatch.repeated_count == 0


def test_who_has_forgotten_this_gateway_begins_anew() -> None:
    """It had taken it for dead, and would wait for event 1 for ever."""
    talk = Talk(A)
    talk.come(ANN)
    talk.say(ANN, b"1")
    talk.take()
    talk.dispatch.receive(A, Done(1, 0, has_gap=True, first=1, results=[]), 0)
    assert (talk.homes(), talk.take()) == ({ANN: None}, [])

    talk.join(A)
    assert talk.events() == [(A, [adopt(ANN), message(ANN, b"1")])]


# Dying.


def test_what_a_dead_process_had_is_sent_on_with_care() -> None:
    """In order, and behind whose client it is; a handshake needs nobody before it."""
    talk = Talk(A)
    talk.come(ANN)
    talk.say(ANN, b"1", b"2")
    talk.dispatch.connect(BOB, IP, 1, b"GET")
    assert talk.die(A) == [Log("warning", "the business process a is gone")]
    assert (talk.homes(), talk.dispatch.pending_count) == ({ANN: None, BOB: None}, 3)

    talk.join(B)
    asked = ConnectEvent(BOB, 1, b"", IP, 1, b"GET")
    assert talk.events() == [(B, [adopt(ANN), message(ANN, b"1", 1), message(ANN, b"2", 1), asked])]
    assert talk.dispatch.repeated_count == 3


def test_an_event_that_kills_twice_is_quarantined() -> None:
    """The only one with which the second had begun; the others go on."""
    talk = Talk(A, B)
    talk.come(ANN)
    talk.say(ANN, b"1", b"killer", b"3")
    talk.die(A)
    talk.done(B, 1, 2)
    talk.begin(B, 3)

    assert talk.die(B)[1:] == [Quarantine(ANN, message(ANN, b"killer", 1))]
    talk.join(C)
    assert talk.events() == [(C, [adopt(ANN), message(ANN, b"3", 1)])]


def test_one_of_many_is_not_blamed_for_the_first_death() -> None:
    """It has to kill two more processes alone, as somebody may just be killing processes."""
    talk = Talk(A)
    talk.come(ANN)
    talk.say(ANN, *(b"%d" % number for number in range(9)))
    talk.die(A)
    talk.join(B)
    talk.begin(B, 2)
    assert talk.die(B)[1:] == []
    talk.join(C)
    assert [event.suspicion for _, events in talk.events() for event in events] == [0, 2, *[1] * 8]
    talk.begin(C, 2)
    assert talk.die(C)[1:] == [Quarantine(ANN, message(ANN, b"0", 2))]


def test_of_several_none_is_quarantined_until_it_was_alone() -> None:
    """They are handled one by one; what was not begun is no suspect."""
    talk = Talk(A)
    talk.come(ANN, BOB, CAT)
    for client in (ANN, BOB, CAT):
        talk.say(client, b"x")
    talk.die(A)
    talk.join(B)
    talk.begin(B, 2, 4)
    assert talk.die(B)[1:] == []

    talk.join(C)
    cares = {event.client: event.suspicion for _, events in talk.events() for event in events}
    assert cares == {ANN: 2, BOB: 2, CAT: 1}
    talk.begin(C, 4, 6)
    assert talk.die(C)[1:] == [Quarantine(BOB, message(BOB, b"x", 2))]


def test_a_message_is_quarantined_with_all_its_pieces() -> None:
    """And no other that has pieces, too."""
    talk = Talk(A)
    talk.come(ANN)
    talk.say(ANN, b"1" * (MAX_BATCH_SIZE + 1), b"2" * (MAX_BATCH_SIZE + 1))
    talk.die(A)
    talk.join(B)
    talk.begin(B, 5)

    assert talk.die(B)[1:] == [Quarantine(ANN, message(ANN, b"2", 1))]
    talk.join(C)
    left = [event for _, events in talk.events() for event in events]
    assert [one.payload[:1] for one in left if isinstance(one, MessageEvent)] == [b"1", b"1"]


def test_a_handshake_that_kills_is_refused() -> None:
    """And the client has no end: it never was in."""
    talk = Talk(A)
    talk.dispatch.connect(ANN, IP, 1, b"GET")
    talk.die(A)
    talk.join(B)
    talk.begin(B, 1)
    talk.dispatch.close(ANN, 1006, "", b"")
    killer = ConnectEvent(ANN, 1, b"", IP, 1, b"GET")

    assert talk.die(B)[1:] == [
        Quarantine(ANN, killer),
        Reply(ANN, HandshakeAnswer(500, "internal error")),
    ]
    assert (talk.dispatch.clients, talk.dispatch.pending_count) == ({}, 0)


# Sessions.


def test_a_session_travels_when_it_is_news() -> None:
    """To who does not have it; what a handler made of it, it has."""
    talk = Talk(A)
    talk.come(ANN)
    talk.say(ANN, b"1", session=b"s")
    talk.say(ANN, b"2", session=b"s")
    assert talk.events() == [(A, [message(ANN, b"1", session=b"s"), message(ANN, b"2")])]

    talk.done(A, 3, session=b"t")
    assert talk.take() == [StoreSession(ANN, b"t")]
    talk.say(ANN, b"3", session=b"t")
    assert talk.events() == [(A, [message(ANN, b"3")])]


def test_a_session_that_is_about_to_be_kept_is_the_newest() -> None:
    """A message that comes just before is no news of an older one."""
    talk = Talk(A)
    talk.come(ANN)
    talk.say(ANN, b"1")
    talk.done(A, 3, session=b"t")
    talk.say(ANN, b"2", session=b"")

    assert talk.take() == [
        StoreSession(ANN, b"t"),
        Send(A, Events(1, 3, 4, [message(ANN, b"2")])),
    ]


def test_a_session_that_was_set_meanwhile_wins() -> None:
    """Its process got it behind the event whose handler made another."""
    talk = Talk(A)
    talk.come(ANN)
    talk.say(ANN, b"1")
    talk.say(ANN, b"2", session=b"set")
    talk.done(A, 3, session=b"t")

    assert talk.take() == []
    assert talk.dispatch.clients[ANN].session == b"set"


# Budgets.


def test_a_client_that_floods_is_paused_until_half_of_it_is_done() -> None:
    """By number, and by size; nobody else is."""
    for payload, limit in ((b"", MAX_EVENTS), (bytes(MAX_SIZE // 4), 4)):
        talk = Talk(A)
        talk.come(ANN, BOB)
        talk.say(BOB, b"")
        talk.say(ANN, *[payload] * (limit - 1))
        assert not talk.dispatch.clients[ANN].is_paused

        talk.say(ANN, payload)
        assert talk.dispatch.clients[ANN].is_paused
        talk.take()
        assert talk.dispatch.paused_count == 1
        half = limit // 2 if payload == b"" else 3
        talk.done(A, *range(6, 5 + half))
        assert talk.take() == []
        talk.done(A, 5 + half)
        assert talk.take() == [Resume(ANN)]
        assert talk.dispatch.paused_count == 0


def test_in_a_crowd_each_has_one() -> None:
    """Whoever sends is paused until that is done."""
    talk = Talk(A)
    names = [ClientId(f"gate-{number}") for number in range(CONGESTED_COUNT + 2)]
    talk.come(*names[:2])
    for name in names[2:]:
        talk.dispatch.connect(name, IP, 1, b"")
    talk.say(names[0], b"x")
    last = talk.dispatch.windows[A].last
    assert talk.dispatch.clients[names[0]].is_paused
    talk.take()

    talk.dispatch.close(names[0], 1000, "", b"")
    assert talk.dispatch.paused_count == 0
    while talk.dispatch.windows[A].acknowledged <= last:
        talk.done(A)
    talk.done(A, last, last + 1)
    assert (names[0] in talk.dispatch.clients, talk.dispatch.paused_count) == (False, 0)


def test_of_all_clients_together_so_much_waits() -> None:
    """Then none is to be read from, also those that have said nothing, until half is done."""
    talk = Talk(A)
    talk.come(ANN)
    assert talk.dispatch.size == 0
    talk.say(ANN, bytes(100))
    assert talk.dispatch.size == EVENT_OVERHEAD + 100

    talk.dispatch.count_backlog(MAX_TOTAL_SIZE - talk.dispatch.size)
    assert not talk.dispatch.is_full
    talk.dispatch.count_backlog(1)
    assert talk.dispatch.is_full
    talk.dispatch.count_backlog(-MAX_TOTAL_SIZE // 2)
    assert talk.dispatch.is_full
    talk.dispatch.count_backlog(-1)
    assert not talk.dispatch.is_full


# Silence.


def test_signs_of_life_and_questions() -> None:
    """Each second a sign; who is silent is asked about, sooner if something is on its way."""
    talk = Talk(A)
    talk.take()
    sign = Send(A, Events(1, 0, 1, []))
    for now, actions in [
        (1.0, [sign]),
        (1.5, []),
        (2.0, [sign]),
        (2.25, [Probe(A)]),
        (3.0, [Probe(A), sign]),
    ]:
        talk.dispatch.tick(now)
        assert talk.take() == actions

    talk.dispatch.receive(A, HELLO, 3.0)
    talk.dispatch.connect(ANN, IP, 1, b"")
    talk.take()
    talk.dispatch.tick(3.1)
    assert talk.take() == []
    talk.dispatch.tick(3.25)
    assert talk.take() == [Probe(A)]


def test_a_gateway_without_business_processes_serves_nobody() -> None:
    """Until the first is there, and a while after the last was; one that leaves is none."""
    talk = Talk()
    assert talk.dispatch.is_unserved(0.0)
    talk.join(A)
    assert not talk.dispatch.is_unserved(0.0)
    talk.dispatch.receive(A, HELLO, 100.0)
    talk.dispatch.receive(A, LEAVING, 101.0)

    assert not talk.dispatch.is_unserved(100.0 + UNSERVED_AFTER)
    assert talk.dispatch.is_unserved(100.1 + UNSERVED_AFTER)
    talk.join(B)
    assert not talk.dispatch.is_unserved(200.0)


def test_a_bus_is_believed_after_a_while() -> None:
    """If it says so for so long, and the process nothing."""
    talk = Talk(A, grace_period=1.5)
    dispatch = talk.dispatch
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
    talk = Talk(A)
    talk.take()
    talk.dispatch.returned(10)
    talk.dispatch.probed(A, 10, is_connected=False)
    talk.dispatch.tick(9 + RECONNECT_GRACE)
    assert talk.take() == [Send(None, Discover()), Send(A, Events(1, 0, 1, []))]

    talk.dispatch.probed(A, 10 + RECONNECT_GRACE, is_connected=False)
    assert talk.dispatch.windows == {}


# What is late, or another's.


def test_a_window_opens_with_what_has_arrived() -> None:
    """What is lost is asked for, and sent again."""
    talk = Talk(A)
    names = [ClientId(f"gate-{number}") for number in range(2 * WINDOW // MAX_BATCH_SIZE)]
    talk.come(*names)
    before = talk.dispatch.windows[A].last
    for name in names:
        talk.say(name, bytes(MAX_BATCH_SIZE))
    assert len(talk.events()) == WINDOW // MAX_BATCH_SIZE

    talk.dispatch.receive(A, Done(1, before + 1, has_gap=True, first=1, results=[]), 0)
    assert talk.events()[0] == (A, [message(names[1], bytes(MAX_BATCH_SIZE))])


def test_what_is_of_another_link_or_nobody_s_is_ignored() -> None:
    """Nothing is done by it, and nothing raised."""
    talk = Talk(A)
    talk.come(ANN)
    talk.say(ANN, b"x")
    talk.take()
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
        talk.dispatch.receive(A, packet, 0)
        talk.dispatch.receive(B, packet, 0)
    talk.dispatch.probed(B, 0, is_connected=False)
    talk.dispatch.open(BOB)
    talk.dispatch.close(BOB, 1000, "", b"")

    assert (talk.take(), talk.dispatch.pending_count) == ([], 1)


def test_one_result_is_for_several_events() -> None:
    """However many it names, only events that the process has received are handled."""
    talk = Talk(A)
    talk.come(ANN, BOB)
    talk.say(ANN, b"1", b"2")
    talk.say(BOB, b"3")
    talk.take()
    window = talk.dispatch.windows[A]
    last = window.last
    results = [Result(last - 2, count=9**9)]
    talk.dispatch.receive(A, Done(1, last - 1, has_gap=False, first=5, results=results), 0)

    assert [pending.event for pending in window.pending.values()] == [message(BOB, b"3")]
    assert (talk.dispatch.pending_count, talk.dispatch.size) == (1, EVENT_OVERHEAD + 1)
