"""Signs of life, in a time that only goes where a test wants it."""

from gateman.cluster.names import NodeId
from gateman.cluster.nodes import TIME_TO_LIVE, Nodes

ME, ANN, BOB = NodeId("me"), NodeId("ann"), NodeId("bob")


def test_whoever_speaks_is_there() -> None:
    """The first sign of life is told from the others, and one's own is none."""
    nodes = Nodes(ME)

    assert [nodes.hear(node, 0.0) for node in (ANN, BOB, ANN, ME)] == [True, True, False, False]
    assert nodes.names() == (ANN, BOB)
    assert (len(nodes), ANN in nodes, ME in nodes) == (2, True, False)


def test_whoever_is_silent_is_gone() -> None:
    """Silence is judged from the last sign."""
    nodes = Nodes(ME)
    nodes.hear(ANN, 0.0)
    nodes.hear(BOB, 0.0)
    nodes.hear(BOB, 5.0)

    assert nodes.expire(TIME_TO_LIVE) == []
    assert nodes.expire(TIME_TO_LIVE + 1) == [ANN]
    assert nodes.names() == (BOB,)


def test_whoever_says_goodbye_is_gone_at_once() -> None:
    """An ended process is not waited for."""
    nodes = Nodes(ME)
    nodes.hear(ANN, 0.0)

    assert (nodes.forget(ANN), nodes.forget(ANN)) == (True, False)
    assert nodes.names() == ()


def test_hearsay_is_believed_for_a_while() -> None:
    """Whom somebody else knows has to speak in time, and hearsay prolongs nothing."""
    nodes = Nodes(ME)
    nodes.hear_of([ANN, ME], 0.0)
    nodes.hear_of([ANN], 6.0)

    assert nodes.names() == (ANN,)
    assert nodes.expire(TIME_TO_LIVE + 0.1) == [ANN]


def test_nobody_is_judged_for_a_silence_of_the_bus() -> None:
    """When it is back, everybody has time again."""
    nodes = Nodes(ME)
    nodes.hear(ANN, 0.0)
    nodes.excuse(100.0)

    assert nodes.expire(100.0 + TIME_TO_LIVE) == []
    assert nodes.expire(101.0 + TIME_TO_LIVE) == [ANN]
