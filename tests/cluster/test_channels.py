"""Channels: which subject is whose, and how losses are counted."""

from gateman.cluster import channels as c
from gateman.cluster.envelope import Item, Messages, SequenceMark, Target
from gateman.cluster.names import NodeId

ME, ANN, BOB = NodeId("me"), NodeId("ann"), NodeId("bob")
ROOM = c.Channel(Target.GROUPS, "room")


def messages(number: int, count: int = 1, source: NodeId = ANN) -> Messages:
    """Make messages to the room."""
    return Messages(source, number, Target.GROUPS, ("room",), [Item(kind=1, payload=b"x")] * count)


def mark(number: int, source: NodeId = ANN) -> SequenceMark:
    """Make a mark in the room."""
    return SequenceMark(source, number, Target.GROUPS, ("room",))


def test_subjects() -> None:
    """Every channel has one, whatever its name is made of."""
    assert c.subject_of(c.EVERYBODY) == "all"
    assert c.subject_of(c.node_channel(ME)) == "node.me"
    assert c.subject_of(c.Channel(Target.UIDS, "42")) == "uid.42"
    assert c.subject_of(c.Channel(Target.GROUPS, "a b.>")) == "group.a=20b=2E=3E"


def test_messages_use_the_narrowest_channel() -> None:
    """One name goes to those who are interested, several go to all, who choose."""
    assert c.channel_of(Target.ALL, (), ME) == c.EVERYBODY
    assert c.channel_of(Target.GROUPS, ("room",), ME) == ROOM
    assert c.channel_of(Target.UIDS, ("42",), ME) == c.Channel(Target.UIDS, "42")
    assert c.channel_of(Target.GROUPS, ("room", "hall"), ME) == c.EVERYBODY
    assert c.channel_of(Target.UIDS, (), ME) == c.EVERYBODY
    assert c.channel_of(Target.CLIENTS, ("me-1", "me-2"), ME) == c.node_channel(ME)


def test_numbers_count_what_was_sent() -> None:
    """Each channel has its own."""
    sent = c.SentSequences()
    sent.add(ROOM, 3)
    sent.add(c.EVERYBODY, 1)
    sent.add(ROOM, 2)

    assert (sent.number(ROOM), sent.number(c.EVERYBODY), sent.number(c.node_channel(ME))) == (
        5,
        1,
        0,
    )
    assert sent.latest(5) == [(ROOM, 5), (c.EVERYBODY, 1)]
    assert sent.latest(1) == [(ROOM, 5)]


def test_the_channel_that_is_not_used_is_forgotten() -> None:
    """What a sender remembers is bounded, and what it uses is what it remembers."""
    sent = c.SentSequences()
    for number in range(2 * c.MAX_SENT):
        sent.add(c.Channel(Target.UIDS, str(number)), 1)
        if number % (c.MAX_SENT // 2) == 0:
            sent.add(ROOM, 1)
    last = c.Channel(Target.UIDS, str(number))

    assert sent.number(ROOM) == 4
    assert sent.number(c.Channel(Target.UIDS, "0")) == 0
    assert sent.latest(1) == [(last, 1)]
    assert c.MAX_SENT // 2 <= len(sent.latest(2 * c.MAX_SENT)) <= c.MAX_SENT + 1


def test_nothing_is_missing_of_consecutive_messages() -> None:
    """Nothing is missing between messages whose numbers follow one another."""
    received = c.ReceivedSequences()

    assert [received.messages(ROOM, messages(number)) for number in range(3)] == [0, 0, 0]
    assert received.messages(ROOM, messages(3, count=10)) == 0
    assert received.messages(ROOM, messages(13)) == 0


def test_a_late_subscriber_has_missed_nothing() -> None:
    """The first message tells where a receiver begins."""
    assert c.ReceivedSequences().messages(ROOM, messages(1000)) == 0


def test_a_gap_is_counted_once() -> None:
    """A number that is higher than expected tells how many are missing."""
    received = c.ReceivedSequences()
    received.messages(ROOM, messages(0))

    assert received.messages(ROOM, messages(5)) == 4
    assert received.messages(ROOM, messages(6)) == 0


def test_a_mark_reveals_losses_at_the_end() -> None:
    """Nothing has to follow a lost message for it to be counted."""
    received = c.ReceivedSequences()
    received.messages(ROOM, messages(0))

    assert received.mark(ROOM, mark(1)) == 0
    assert received.mark(ROOM, mark(4)) == 3
    assert received.mark(ROOM, mark(4)) == 0
    assert received.messages(ROOM, messages(4)) == 0


def test_a_sender_that_begins_anew_has_lost_nothing() -> None:
    """A lower number is a new beginning."""
    received = c.ReceivedSequences()
    received.messages(ROOM, messages(100))

    assert received.messages(ROOM, messages(0)) == 0
    assert received.messages(ROOM, messages(2)) == 1


def test_sequences_are_kept_per_sender_and_channel() -> None:
    """Each sender numbers each of its channels."""
    received = c.ReceivedSequences()
    received.messages(ROOM, messages(0))
    received.messages(ROOM, messages(7, source=BOB))

    assert received.messages(ROOM, messages(9, source=BOB)) == 1
    assert received.messages(c.EVERYBODY, messages(3)) == 0
    assert received.messages(ROOM, messages(1)) == 0


def test_a_channel_without_subscription_is_forgotten() -> None:
    """Who comes back to a group begins anew, and so does a process that ended."""
    received = c.ReceivedSequences()
    received.messages(ROOM, messages(0))
    received.messages(c.EVERYBODY, messages(0))
    received.messages(ROOM, messages(0, source=BOB))
    received.forget_channel(ROOM)
    received.forget_channel(ROOM)

    assert len(received) == 1
    assert received.messages(ROOM, messages(50)) == 0
    assert received.messages(ROOM, messages(5, source=BOB)) == 0
    assert received.messages(c.EVERYBODY, messages(5)) == 4
    received.forget_source(ANN)
    received.forget_source(ANN)
    assert len(received) == 1
    received.forget_channel(ROOM)
    assert len(received) == 0


def test_forgetting_a_channel_takes_constant_time() -> None:
    """Those that were not seen in a group are not looked at when its last client leaves."""

    class Counted(str):
        """A name that counts how often it is looked for."""

        __slots__ = ()
        looks = 0

        def __hash__(self) -> int:
            Counted.looks += 1
            return super().__hash__()

    received = c.ReceivedSequences()
    for number in range(1000):
        received.messages(c.EVERYBODY, messages(0, source=NodeId(Counted(f"n{number}"))))
    received.messages(ROOM, messages(0))
    Counted.looks = 0
    received.forget_channel(ROOM)

    assert (Counted.looks, len(received), len(received.senders())) == (0, 1000, 1000)
    received.forget_source(NodeId("n7"))
    assert (len(received), len(received.senders())) == (999, 999)


def test_received_sequences_are_bounded() -> None:
    """Of whom it has heard nothing for longest, it forgets."""
    received = c.ReceivedSequences()
    received.messages(ROOM, messages(0))
    for number in range(c.MAX_SEEN):
        received.messages(c.Channel(Target.UIDS, str(number)), messages(0))

    assert len(received) == c.MAX_SEEN
    assert received.messages(ROOM, messages(9)) == 0
