"""What is published: in order, together, within the bus's limit, and counted."""

from collections import Counter
from collections.abc import Callable

import pytest

from gateman.bus.subjects import Subject
from gateman.cluster.channels import EVERYBODY, Channel, node_channel, subject_of
from gateman.cluster.envelope import (
    OVERHEAD,
    Bye,
    Command,
    Dissolve,
    Envelope,
    Item,
    Messages,
    SequenceMark,
    SetSession,
    Target,
    decode,
)
from gateman.cluster.names import ClientId, Group, NodeId
from gateman.cluster.publisher import Publisher
from gateman.errors import BusError, HubError

ME = NodeId("me")
ROOM = Channel(Target.GROUPS, "room")
HALL = Channel(Target.GROUPS, "hall")
LIMIT = 4096


class Desk:
    """
    A post, with a bus that only takes note.

    Attributes:
        post: It.
        counts: What it counts.
        published: Subjects and envelopes.
        is_there: Whether the bus takes anything.
        is_small: Whether the bus finds everything too big.
        limit: What the bus says that it carries, in bytes.
        due: What is to be called at the end of the turn.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.published: list[tuple[str, Envelope]] = []
        self.is_there = True
        self.is_small = False
        self.limit = LIMIT
        self.due: list[Callable[[], None]] = []
        self.publisher = Publisher(
            ME,
            self.publish,
            max_payload_size=lambda: self.limit,
            call_soon=self.due.append,
            counts=self.counts,
        )
        self.publisher.open()

    def publish(self, subject: Subject, payload: bytes) -> bool:
        """Take note."""
        if self.is_small:
            raise BusError.too_big("memory://", len(payload), 0)
        if self.is_there:
            self.published.append((subject, decode(payload, max_size=LIMIT)))
        return self.is_there

    def send(self, channel: Channel, text: bytes) -> None:
        """Send a message to a group."""
        item = Item(kind=1, payload=text)
        self.publisher.send(channel, channel.target, (channel.name,), item)

    def end(self) -> None:
        """End the turn."""
        due, self.due[:] = self.due[:], []
        for call in due:
            call()


def messages(channel: Channel, number: int, *texts: bytes) -> tuple[str, Messages]:
    """Make what is published of messages to a group."""
    items = [Item(kind=1, payload=text) for text in texts]
    return subject_of(channel), Messages(ME, number, channel.target, (channel.name,), items)


def test_what_follows_travels_together() -> None:
    """Messages of one turn to the same clients are one envelope, numbered from the first."""
    desk = Desk()
    for text in (b"a", b"b", b"c"):
        desk.send(ROOM, text)
    assert (desk.published, len(desk.due)) == ([], 1)
    desk.end()
    desk.send(ROOM, b"d")
    desk.end()

    assert desk.published == [messages(ROOM, 0, b"a", b"b", b"c"), messages(ROOM, 3, b"d")]
    assert desk.counts == {"published": 4}


def test_order_is_kept_between_channels() -> None:
    """What was sent later is not published earlier, whatever it is."""
    desk = Desk()
    desk.send(ROOM, b"1")
    desk.send(HALL, b"2")
    desk.send(ROOM, b"3")
    desk.publisher.put(EVERYBODY, lambda: Bye(ME))
    desk.send(ROOM, b"4")
    desk.end()

    assert desk.published == [
        messages(ROOM, 0, b"1"),
        messages(HALL, 0, b"2"),
        messages(ROOM, 1, b"3"),
        ("all", Bye(ME)),
        messages(ROOM, 2, b"4"),
    ]


def test_names_and_scopes_are_told_apart() -> None:
    """On one channel there may be messages for different clients."""
    desk = Desk()
    item = Item(kind=1, payload=b"x")
    for target, names in [
        (Target.ALL, ()),
        (Target.GROUPS, ("a", "b")),
        (Target.GROUPS, ("a", "c")),
        (Target.UIDS, ("a", "c")),
    ]:
        desk.publisher.send(EVERYBODY, target, names, item)
    desk.end()

    envelopes = [envelope for _, envelope in desk.published]
    assert [
        (one.number, one.target, one.names) for one in envelopes if isinstance(one, Messages)
    ] == [
        (0, Target.ALL, ()),
        (1, Target.GROUPS, ("a", "b")),
        (2, Target.GROUPS, ("a", "c")),
        (3, Target.UIDS, ("a", "c")),
    ]


def test_an_envelope_is_never_too_big() -> None:
    """Messages that would not fit together go one after the other."""
    desk = Desk()
    texts = [bytes([message]) * 1000 for message in b"abcdefgh"]
    for text in texts:
        desk.send(ROOM, text)
    desk.end()

    assert [len(one.items) for _, one in desk.published if isinstance(one, Messages)] == [3, 3, 2]
    assert [one.number for _, one in desk.published if isinstance(one, Messages)] == [0, 3, 6]


def test_what_fits_is_known_before() -> None:
    """The largest message that is let through can be published, with the longest names."""
    desk = Desk()
    names = ("\N{GRINNING FACE}" * 63,)
    exclude = (ClientId("n" * 60 + "-1"),)
    room = LIMIT - OVERHEAD - 63 * 4 - 62 * 4 - 3 * 16
    payload = b"\xff" * room
    desk.publisher.check(payload, names, exclude)
    desk.publisher.send(
        EVERYBODY, Target.GROUPS, names, Item(kind=2, payload=payload, exclude=exclude)
    )
    desk.end()

    assert len(desk.published) == 1
    with pytest.raises(HubError) as caught:
        desk.publisher.check(payload + b"x", names, exclude)
    assert str(caught.value) == str(HubError.too_big(room + 1, LIMIT))


def test_the_limit_is_the_bus_s_of_now() -> None:
    """A NATS that comes back may have another, and its messages go together by that."""
    desk = Desk()
    desk.limit = OVERHEAD + 1000
    with pytest.raises(HubError) as caught:
        desk.publisher.check(b"x" * 1500, (), ())
    for _ in range(3):
        desk.send(ROOM, b"x" * 500)
    desk.limit = LIMIT
    desk.publisher.check(b"x" * 1500, (), ())
    desk.end()

    assert str(caught.value) == str(HubError.too_big(1500, OVERHEAD + 1000))
    assert len(desk.published) == 3


def test_a_command_that_is_too_big_is_told() -> None:
    """Whoever sets a session hears that it is too big to be sent."""
    desk = Desk()
    session = {"picture": b"x" * LIMIT}
    fits = Command(ME, 0, SetSession(ClientId("ann-1"), {"picture": b"x" * (LIMIT - 100)}))
    desk.publisher.check_command(fits)
    with pytest.raises(HubError, match=f"cannot go to other processes.* limit of {LIMIT} bytes"):
        desk.publisher.check_command(Command(ME, 0, SetSession(ClientId("ann-1"), session)))


def test_commands_that_the_bus_does_not_take_are_counted() -> None:
    """They are no messages, and yet somebody relies on them; a sign of life is said again."""
    desk = Desk()
    desk.is_there = False
    desk.publisher.put(EVERYBODY, lambda: Command(ME, 0, Dissolve(Group("room"))))
    desk.publisher.put(EVERYBODY, lambda: Bye(ME))
    desk.end()

    assert desk.counts == {"unsent_commands": 1}
    assert desk.publisher.unsent == 0


def test_a_long_turn_is_published_in_parts() -> None:
    """What waits is bounded, also where it is not messages."""
    desk = Desk()
    for _ in range(100):
        desk.send(ROOM, b"x" * 1000)
    assert len(desk.published) == 22
    published = len(desk.published)
    for _ in range(10_000):
        desk.publisher.put(EVERYBODY, lambda: Bye(ME))
    assert len(desk.published) > published


def test_what_the_bus_does_not_take_is_counted_and_has_no_number() -> None:
    """Others do not miss what was never sent: we know about it."""
    desk = Desk()
    desk.send(ROOM, b"a")
    desk.end()
    desk.is_there = False
    desk.send(ROOM, b"b")
    desk.send(ROOM, b"c")
    desk.end()
    desk.is_there = True
    desk.send(ROOM, b"d")
    desk.end()

    assert desk.published == [messages(ROOM, 0, b"a"), messages(ROOM, 1, b"d")]
    assert desk.counts == {"published": 2, "unsent": 2}
    assert desk.publisher.unsent == 2


def test_what_the_bus_finds_too_big_is_counted() -> None:
    """A NATS that was restarted with a smaller limit is no reason to fail."""
    desk = Desk()
    desk.is_small = True
    desk.send(ROOM, b"a")
    desk.publisher.put(EVERYBODY, lambda: Bye(ME))
    desk.end()

    assert desk.counts == {"unsendable": 2, "unsent": 1}


def test_marks_tell_how_far_we_have_come() -> None:
    """Of every channel, what was used last first."""
    desk = Desk()
    item = Item(kind=1, payload=b"x")
    desk.publisher.send(EVERYBODY, Target.ALL, (), item)
    desk.publisher.send(node_channel(NodeId("ann")), Target.CLIENTS, ("ann-1",), item)
    desk.send(ROOM, b"a")
    desk.send(ROOM, b"b")
    desk.end()
    desk.published.clear()
    desk.publisher.mark()

    assert desk.published == [
        ("group.room", SequenceMark(ME, 2, Target.GROUPS, ("room",))),
        ("node.ann", SequenceMark(ME, 1, Target.CLIENTS, ("ann",))),
        ("all", SequenceMark(ME, 1, Target.ALL, ())),
    ]


def test_payloads_that_may_be_lost_are_counted_in_messages() -> None:
    """A bus counts what it carries, and we what we sent."""
    desk = Desk()
    for count in (1, 2, 3):
        for _ in range(count):
            desk.send(ROOM, b"x")
        desk.end()
    desk.publisher.put(EVERYBODY, lambda: Bye(ME))
    desk.end()

    assert [desk.publisher.uncertain(count) for count in range(6)] == [0, 0, 3, 5, 6, 7]
