"""The account of messages: it sees what was lost, repeated or out of order."""

from dataclasses import replace

import pytest

from tests.support.sdk_fleet import Account, Part, Received, faults

MESSAGES = [(1, "a 0"), (2, "b 0"), (5, "a 1")]
PART = Part("x", 0, MESSAGES)
ANN = Received("ann", "fleet:1", [PART])
BOB = Received("bob", "fleet:1", [PART])
ACCOUNT = Account([ANN, BOB], [("fleet:1", text) for _, text in MESSAGES], [])


def received(*parts: Part, ended: tuple[str, int, str] | None = None) -> list[str]:
    """Tell the faults if Bob has received this, and Ann everything."""
    return faults(replace(ACCOUNT, received=[ANN, Received("bob", "fleet:1", parts, ended)]))


def test_all_is_well() -> None:
    """Everything came once and in order; another channel is another account."""
    other = Received("cid", "fleet:2", [Part("y", 7, [(8, "c 0")])])
    account = replace(ACCOUNT, received=[ANN, BOB, other])
    actual = faults(replace(account, acknowledged=[*account.acknowledged, ("fleet:2", "c 0")]))

    assert actual == []


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        (Part("x", 0, MESSAGES[:2]), "bob: 1 messages of fleet:1 are missing: 5…"),
        (Part("x", 0, [MESSAGES[0], MESSAGES[2]]), "bob: 1 messages of fleet:1 are missing: 2…"),
        (Part("x", 0, MESSAGES[1:]), "bob: 1 messages of fleet:1 are missing: 1…"),
        (Part("x", 0, [*MESSAGES, MESSAGES[2]]), "bob: fleet:1 [5] came again or too early"),
        (Part("x", 1, MESSAGES), "bob: fleet:1 [1] came again or too early"),
        (
            Part("x", 0, [MESSAGES[1], MESSAGES[0], MESSAGES[2]]),
            "bob: fleet:1 is out of order",
        ),
        (Part("x", 0, [*MESSAGES[:2], (5, "a 2")]), "fleet:1: offset 5 is 'a 2' and 'a 1'"),
    ],
)
def test_a_fault(part: Part, fault: str) -> None:
    """Each of them is told."""
    assert fault in received(part)


def test_a_client_that_was_told_of_a_gap() -> None:
    """What is between two parts may be missing; what is within one may not."""
    assert received(Part("x", 0, MESSAGES[:1]), Part("x", 2, MESSAGES[2:])) == []
    assert received(Part("x", 0, MESSAGES[1:2]), Part("x", 2, MESSAGES[2:])) == [
        "bob: 1 messages of fleet:1 are missing: 1…"
    ]


def test_a_client_that_ended() -> None:
    """A final code is a fault: nothing in the account is a reason for one."""
    actual = received(PART, ended=("disconnected", 3500, "bye"))

    assert actual == ["bob ended: ('disconnected', 3500, 'bye')"]


def test_a_client_that_was_never_subscribed() -> None:
    """It has lost everything."""
    assert received() == ["bob was never subscribed"]


def test_a_message_that_came_to_nobody() -> None:
    """It was acknowledged, and somebody was told of no gap."""
    lost = replace(ACCOUNT, acknowledged=[*ACCOUNT.acknowledged, ("fleet:1", "b 1")])
    told = [Received(one.name, one.channel, [PART, Part("z", 0, [])]) for one in (ANN, BOB)]

    assert faults(lost) == ["fleet:1: 'b 1' came to nobody"]
    assert faults(replace(lost, received=told)) == []
    assert replace(lost, received=told).gaps == 2


def test_a_message_that_was_published_twice() -> None:
    """It has two offsets."""
    part = Part("x", 0, [*MESSAGES, (6, "a 1")])
    twice = [Received(one.name, one.channel, [part]) for one in (ANN, BOB)]

    assert faults(replace(ACCOUNT, received=twice)) == ["fleet:1: 'a 1' came 2 times"]


def test_a_message_whose_answer_was_lost() -> None:
    """It may have come or not; one that nobody has sent may not."""
    known = replace(ACCOUNT, acknowledged=ACCOUNT.acknowledged[:2])

    assert faults(known) == ["fleet:1: 'a 1' was not published"]
    assert faults(replace(known, uncertain=[("fleet:1", "a 1"), ("fleet:1", "a 2")])) == []
