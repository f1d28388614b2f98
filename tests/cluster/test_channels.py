"""Channels: which subject is whose, and how losses are counted."""

from gateman.cluster import channels as c
from gateman.cluster.envelope import Item, Mark, Messages, Scope
from gateman.cluster.names import NodeId

ME, ANN, BOB = NodeId("me"), NodeId("ann"), NodeId("bob")
ROOM = c.Channel(Scope.GROUPS, "room")


def messages(number: int, count: int = 1, source: NodeId = ANN) -> Messages:
    """Make messages to the room."""
    return Messages(
        source, number, Scope.GROUPS, ("room",), [Item(is_text=True, payload=b"x")] * count
    )


def mark(number: int, source: NodeId = ANN) -> Mark:
    """Make a mark in the room."""
    return Mark(source, number, Scope.GROUPS, ("room",))


def test_subjects() -> None:
    """Every channel has one, whatever its name is made of."""
    assert c.subject_of(c.EVERYBODY) == "all"
    assert c.subject_of(c.node_channel(ME)) == "node.me"
    assert c.subject_of(c.Channel(Scope.UIDS, "42")) == "uid.42"
    assert c.subject_of(c.Channel(Scope.GROUPS, "a b.>")) == "group.a=20b=2E=3E"


def test_messages_travel_to_those_who_may_want_them() -> None:
    """One name goes to those who are interested, several go to all, who choose."""
    assert c.channel_of(Scope.ALL, (), ME) == c.EVERYBODY
    assert c.channel_of(Scope.GROUPS, ("room",), ME) == ROOM
    assert c.channel_of(Scope.UIDS, ("42",), ME) == c.Channel(Scope.UIDS, "42")
    assert c.channel_of(Scope.GROUPS, ("room", "hall"), ME) == c.EVERYBODY
    assert c.channel_of(Scope.UIDS, (), ME) == c.EVERYBODY
    assert c.channel_of(Scope.CLIENTS, ("me-1", "me-2"), ME) == c.node_channel(ME)


def test_numbers_count_what_was_sent() -> None:
    """Each channel has its own."""
    sent = c.Sent()
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
    sent = c.Sent()
    for number in range(2 * c.MAX_SENT):
        sent.add(c.Channel(Scope.UIDS, str(number)), 1)
        if number % (c.MAX_SENT // 2) == 0:
            sent.add(ROOM, 1)
    last = c.Channel(Scope.UIDS, str(number))

    assert sent.number(ROOM) == 4
    assert sent.number(c.Channel(Scope.UIDS, "0")) == 0
    assert sent.latest(1) == [(last, 1)]
    assert c.MAX_SENT // 2 <= len(sent.latest(2 * c.MAX_SENT)) <= c.MAX_SENT + 1


def test_what_comes_in_order_is_complete() -> None:
    """Nothing is missing between messages whose numbers follow one another."""
    seen = c.Seen()

    assert [seen.messages(ROOM, messages(number)) for number in range(3)] == [0, 0, 0]
    assert seen.messages(ROOM, messages(3, count=10)) == 0
    assert seen.messages(ROOM, messages(13)) == 0


def test_who_comes_late_has_missed_nothing() -> None:
    """The first message tells where a receiver begins."""
    assert c.Seen().messages(ROOM, messages(1000)) == 0


def test_a_gap_is_counted_once() -> None:
    """A number that is higher than expected tells how many are missing."""
    seen = c.Seen()
    seen.messages(ROOM, messages(0))

    assert seen.messages(ROOM, messages(5)) == 4
    assert seen.messages(ROOM, messages(6)) == 0


def test_a_mark_tells_what_is_missing_at_the_end() -> None:
    """Nothing has to follow a lost message for it to be counted."""
    seen = c.Seen()
    seen.messages(ROOM, messages(0))

    assert seen.mark(ROOM, mark(1)) == 0
    assert seen.mark(ROOM, mark(4)) == 3
    assert seen.mark(ROOM, mark(4)) == 0
    assert seen.messages(ROOM, messages(4)) == 0


def test_a_sender_that_begins_anew_has_lost_nothing() -> None:
    """A lower number is a new beginning."""
    seen = c.Seen()
    seen.messages(ROOM, messages(100))

    assert seen.messages(ROOM, messages(0)) == 0
    assert seen.messages(ROOM, messages(2)) == 1


def test_senders_and_channels_are_told_apart() -> None:
    """Each sender numbers each of its channels."""
    seen = c.Seen()
    seen.messages(ROOM, messages(0))
    seen.messages(ROOM, messages(7, source=BOB))

    assert seen.messages(ROOM, messages(9, source=BOB)) == 1
    assert seen.messages(c.EVERYBODY, messages(3)) == 0
    assert seen.messages(ROOM, messages(1)) == 0


def test_what_nobody_is_in_any_more_is_forgotten() -> None:
    """Who comes back to a group begins anew, and so does a process that ended."""
    seen = c.Seen()
    seen.messages(ROOM, messages(0))
    seen.messages(c.EVERYBODY, messages(0))
    seen.messages(ROOM, messages(0, source=BOB))
    seen.forget_channel(ROOM)
    seen.forget_channel(ROOM)

    assert len(seen) == 1
    assert seen.messages(ROOM, messages(50)) == 0
    assert seen.messages(ROOM, messages(5, source=BOB)) == 0
    assert seen.messages(c.EVERYBODY, messages(5)) == 4
    seen.forget_source(ANN)
    seen.forget_source(ANN)
    assert len(seen) == 1
    seen.forget_channel(ROOM)
    assert len(seen) == 0


def test_leaving_costs_the_same_however_many_senders_there_were() -> None:
    """Those that were not seen in a group are not looked at when its last client leaves."""

    class Counted(str):
        """A name that counts how often it is looked for."""

        __slots__ = ()
        looks = 0

        def __hash__(self) -> int:
            Counted.looks += 1
            return super().__hash__()

    seen = c.Seen()
    for number in range(1000):
        seen.messages(c.EVERYBODY, messages(0, source=NodeId(Counted(f"n{number}"))))
    seen.messages(ROOM, messages(0))
    Counted.looks = 0
    seen.forget_channel(ROOM)

    assert (Counted.looks, len(seen), len(seen.senders())) == (0, 1000, 1000)
    seen.forget_source(NodeId("n7"))
    assert (len(seen), len(seen.senders())) == (999, 999)


def test_what_a_receiver_remembers_is_bounded() -> None:
    """Of whom it has heard nothing for longest, it forgets."""
    seen = c.Seen()
    seen.messages(ROOM, messages(0))
    for number in range(c.MAX_SEEN):
        seen.messages(c.Channel(Scope.UIDS, str(number)), messages(0))

    assert len(seen) == c.MAX_SEEN
    assert seen.messages(ROOM, messages(9)) == 0
