"""Signs of life, and for how long their absence is forgiven."""

import pytest

from gateman.cluster.names import NodeId
from gateman.gateway.liveness import (
    BEAT_INTERVAL,
    RECONNECT_GRACE,
    SILENCE_OF_BUSINESS,
    SILENCE_OF_GATEWAY,
    SILENCE_WITH_WORK,
    TICK_INTERVAL,
    Liveness,
    grace_period,
)


@pytest.mark.parametrize(
    ("url", "seconds"),
    [
        ("local:/run/chat/bus", 0.0),
        ("nats://localhost:4222?name=chat", 1.5),
        ("tls://a:1,tls://b:1", 1.5),
    ],
)
def test_a_bus_of_many_servers_is_not_believed_at_once(url: str, seconds: float) -> None:
    """A process that has lost one server finds another; a machine has one router."""
    assert grace_period(url) == seconds


def test_it_is_looked_more_often_than_signs_come() -> None:
    """So that a silence is noticed soon after it is one."""
    assert TICK_INTERVAL < BEAT_INTERVAL


# Who is still there.

ANN, BOB = NodeId("ann"), NodeId("bob")


def test_a_silent_process_is_probed() -> None:
    """For as long as the caller forgives; a sign of life begins it anew."""
    liveness = Liveness(0)
    liveness.heard(ANN, 1.0)
    liveness.heard(BOB, 2.0)

    asked = [(node, liveness.should_probe(node, 3.5, 2.0)) for node in (ANN, BOB)]
    liveness.heard(ANN, 3.5)

    assert asked == [(ANN, True), (BOB, False)]
    assert not liveness.should_probe(ANN, 5.5, 2.0)
    assert liveness.should_probe(ANN, 5.5, 1.5)


def test_a_process_was_there_when_it_spoke_or_was_found() -> None:
    liveness = Liveness(1.5)
    liveness.heard(ANN, 1.0)
    told = [liveness.was_there(ANN, 1.0), liveness.was_there(ANN, 2.0)]
    liveness.probed(ANN, 3.0, is_connected=False)
    told.append(liveness.was_there(ANN, 2.0))
    liveness.probed(ANN, 4.0, is_connected=True)
    told += [liveness.was_there(ANN, 2.0), liveness.was_there(ANN, 5.0)]

    assert told == [True, False, False, True, False]


def test_the_bus_is_believed_when_it_says_so_for_long_enough() -> None:
    """Meanwhile it is asked again and again; it may change its mind, and the process may speak."""
    liveness = Liveness(1.5)
    liveness.heard(ANN, 0.0)
    told = [
        liveness.probed(ANN, 3.0, is_connected=False),
        liveness.probed(ANN, 4.4, is_connected=False),
    ]
    is_asked = liveness.should_probe(ANN, 4.4, 100.0)
    told += [
        liveness.probed(ANN, 4.5, is_connected=True),
        liveness.probed(ANN, 5.0, is_connected=False),
    ]
    liveness.heard(ANN, 6.0)
    told += [
        liveness.probed(ANN, 6.5, is_connected=False),
        liveness.probed(ANN, 7.9, is_connected=False),
    ]

    assert (told, is_asked) == ([False] * 6, True)
    assert liveness.probed(ANN, 8.0, is_connected=False)


def test_no_process_is_gone_while_others_may_reconnect_to_the_bus() -> None:
    """Neither is it asked; what it said before it was away counts no more."""
    liveness = Liveness(1.0)
    liveness.heard(ANN, 0.0)
    liveness.probed(ANN, 9.0, is_connected=False)
    liveness.returned(10.0)
    told = [
        liveness.probed(ANN, now, is_connected=False)
        for now in (10.0, 9.9 + RECONNECT_GRACE, 10.0 + RECONNECT_GRACE)
    ]

    assert told == [False] * 3
    assert not liveness.should_probe(ANN, 9.9 + RECONNECT_GRACE, 2.0)
    assert liveness.should_probe(ANN, 10.0 + RECONNECT_GRACE, 2.0)
    assert liveness.probed(ANN, 11.0 + RECONNECT_GRACE, is_connected=False)


# What docs/gateway.md promises: bus, silence after which the bus is asked, seconds.
PROMISES = [
    ("local:/bus", SILENCE_WITH_WORK, 0.5),
    ("nats://a", SILENCE_WITH_WORK, 2.5),
    ("local:/bus", SILENCE_OF_BUSINESS, 2.5),
    ("nats://a", SILENCE_OF_BUSINESS, 4.0),
    ("local:/bus", SILENCE_OF_GATEWAY, 1.5),
    ("nats://a", SILENCE_OF_GATEWAY, 3.5),
]


@pytest.mark.parametrize(("url", "silence", "promised"), PROMISES)
@pytest.mark.parametrize("is_away", [False, True], ids=["", "a server died"])
def test_a_dead_process_is_missed_in_the_promised_time(
    url: str, silence: float, promised: float, *, is_away: bool
) -> None:
    """It dies behind a sign of life, and it is looked at the worst of instants."""
    liveness = Liveness(grace_period(url))
    liveness.heard(ANN, 0.0)
    if is_away:
        # By then connections have come back.
        liveness.returned(1.0)
        promised = 8.0
    steps = (step * TICK_INTERVAL + 0.001 for step in range(1000))
    missed_at = next(
        now
        for now in steps
        if liveness.should_probe(ANN, now, silence)
        and liveness.probed(ANN, now, is_connected=False)
    )

    assert missed_at + TICK_INTERVAL < promised + 0.1


def test_a_forgotten_process_cannot_be_gone() -> None:
    """An answer may come late."""
    liveness = Liveness(0)
    liveness.heard(ANN, 0.0)
    liveness.forget(ANN)

    assert not liveness.probed(ANN, 9.0, is_connected=False)
