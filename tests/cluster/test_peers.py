"""Signs of life, in a time that only goes where a test wants it."""

from gateman.cluster.names import NodeId
from gateman.cluster.peers import TIME_TO_LIVE, Peers, PeerState

ME, ANN, BOB = NodeId("me"), NodeId("ann"), NodeId("bob")
LATE = TIME_TO_LIVE + 1


def test_a_process_that_sends_is_alive() -> None:
    """The first sign of life is told from the others, and one's own is none."""
    nodes = Peers(ME)

    assert [nodes.heard_from(node, 0.0) for node in (ANN, BOB, ANN, ME)] == [
        True,
        True,
        False,
        False,
    ]
    assert nodes.names() == (ANN, BOB)
    assert (len(nodes), ANN in nodes, ME in nodes) == (2, True, False)


def test_a_process_that_is_silent_and_not_connected_is_gone() -> None:
    """Silence is counted from the last sign, and the bus has the last word."""
    nodes = Peers(ME)
    nodes.heard_from(ANN, 0.0)
    nodes.heard_from(BOB, 0.0)
    nodes.heard_from(BOB, 5.0)

    assert nodes.silent(TIME_TO_LIVE) == []
    assert nodes.silent(LATE) == [ANN]
    assert nodes.names() == (ANN, BOB)
    assert nodes.on_probe(ANN, LATE, is_connected=False) is PeerState.GONE
    assert nodes.on_probe(BOB, LATE, is_connected=False) is None
    assert (nodes.names(), ANN in nodes) == ((BOB,), False)
    assert nodes.on_probe(ANN, LATE, is_connected=False) is None


def test_a_process_that_was_heard_while_the_bus_was_asked_is_there() -> None:
    """What it has said came before the answer: this process had not read it."""
    nodes = Peers(ME)
    nodes.heard_from(ANN, 0.0)

    assert nodes.silent(LATE) == [ANN]
    nodes.heard_from(ANN, LATE)
    assert nodes.on_probe(ANN, LATE, is_connected=False) is None
    assert nodes.names() == (ANN,)


def test_a_process_that_is_silent_but_connected_is_known_and_not_asked() -> None:
    """Until it speaks again; then it may be silent once more."""
    nodes = Peers(ME)
    nodes.heard_from(ANN, 0.0)

    assert nodes.on_probe(ANN, LATE, is_connected=True) is PeerState.BLOCKED
    assert nodes.on_probe(ANN, LATE, is_connected=True) is None
    assert (nodes.names(), ANN in nodes, nodes.silent(LATE)) == ((), True, [ANN])
    assert nodes.heard_from(ANN, LATE) is False
    assert nodes.names() == (ANN,)
    assert nodes.on_probe(ANN, 2 * LATE, is_connected=True) is PeerState.BLOCKED
    assert nodes.on_probe(ANN, 2 * LATE, is_connected=False) is PeerState.GONE
    nodes.heard_from(ANN, 2 * LATE)
    assert nodes.names() == (ANN,)


def test_where_no_bus_can_tell_silence_decides() -> None:
    """After it was asked a few times, in which what had come was read."""
    nodes = Peers(ME)
    nodes.heard_from(ANN, 0.0)
    verdicts = [nodes.on_probe(ANN, LATE, is_connected=None) for _ in range(3)]
    assert verdicts == [PeerState.BLOCKED, None, PeerState.GONE]

    nodes.heard_from(ANN, 0.0)
    nodes.on_probe(ANN, LATE, is_connected=None)
    nodes.on_probe(ANN, LATE, is_connected=None)
    nodes.heard_from(ANN, LATE)
    assert nodes.on_probe(ANN, 2 * LATE, is_connected=None) is PeerState.BLOCKED


def test_a_process_that_says_goodbye_is_gone_at_once() -> None:
    """An ended process is not waited for."""
    nodes = Peers(ME)
    nodes.heard_from(ANN, 0.0)

    assert (nodes.forget(ANN), nodes.forget(ANN)) == (True, False)
    assert nodes.names() == ()


def test_hearsay_is_believed_for_a_while() -> None:
    """Whom somebody else knows has to speak in time, and hearsay prolongs nothing."""
    nodes = Peers(ME)
    nodes.heard_of([ANN, ME], 0.0)
    nodes.heard_of([ANN], 6.0)

    assert nodes.names() == (ANN,)
    assert nodes.silent(TIME_TO_LIVE + 0.1) == [ANN]


def test_a_process_without_clients_is_watched_and_not_listed() -> None:
    """Nobody is asked there, and its end is noticed, also if it only ever sent something."""
    nodes = Peers(ME)
    nodes.heard_from(ANN, 0.0, has_clients=False)
    nodes.watch_senders([ANN, BOB, ME], 1.0)

    assert (nodes.names(), len(nodes), ANN in nodes) == ((), 0, False)
    assert nodes.silent(1.0 + TIME_TO_LIVE) == [ANN]
    assert nodes.on_probe(ANN, 1.0 + TIME_TO_LIVE, is_connected=True) == PeerState.BLOCKED
    assert (nodes.names(), nodes.blocked()) == ((), ())
    assert nodes.on_probe(ANN, 1.0 + TIME_TO_LIVE, is_connected=False) == PeerState.GONE
    nodes.heard_from(BOB, 9.0)
    assert nodes.names() == (BOB,)
    nodes.heard_of([ANN], 9.0)
    assert nodes.names() == (BOB, ANN)


def test_no_process_is_judged_for_a_silence_of_the_bus() -> None:
    """When it is back, everybody has time again."""
    nodes = Peers(ME)
    nodes.heard_from(ANN, 0.0)
    nodes.on_probe(ANN, LATE, is_connected=True)
    nodes.restart_timeouts(100.0)

    assert (nodes.names(), nodes.silent(100.0 + TIME_TO_LIVE)) == ((ANN,), [])
    assert nodes.silent(101.0 + TIME_TO_LIVE) == [ANN]
