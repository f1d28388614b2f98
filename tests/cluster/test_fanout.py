"""The fan-out: order, sharing and bounds, against outboxes that only take note."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.cluster.fanout import Fanout, Key, Member
from gateman.net.outbox import MAX_HELD_SIZE


class Notebook:
    """
    A way out that takes note of what is written, and when.

    Attributes:
        writes: What was written, each time.
        is_direct: Whether the client reads.
        is_open: Whether it is there.
        key: What its frames are like; ``None`` for frames that nobody else's are like.
    """

    def __init__(self, *, key: Key | None = ()) -> None:
        self.writes: list[bytes] = []
        self.is_direct = True
        self.is_open = True
        self.key = key
        self.encoded = 0
        self.on_write: Callable[[], object] | None = None
        self._held: Member | None = None

    def hold(self, held: Member) -> bool:
        """Let it wait."""
        assert self._held is None
        self._held = held if self.is_open else None
        return self.is_open

    def release(self) -> bool:
        """Write it."""
        held, self._held = self._held, None
        if held is None:
            return False
        if self.is_direct:
            self.write(held.take(self.key, self.encode))
        else:
            for opcode, payload in held.take_messages():
                self.write(self.encode(opcode, payload))
        return True

    def send(self, opcode: int, payload: bytes) -> None:
        """Send now."""
        if self._held is not None:
            self._held(opcode, payload)
        elif self.is_open:
            self.write(self.encode(opcode, payload))

    def write(self, data: bytes) -> None:
        """Take note."""
        self.writes.append(data)
        if self.on_write is not None:
            on_write, self.on_write = self.on_write, None
            on_write()

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """Make a frame that is easy to read."""
        self.encoded += 1
        return b"%d%b;" % (opcode, payload)

    def close(self) -> None:
        """Take nothing any more."""
        self.is_open = False
        self._held = None


class Turn:
    """
    A fan-out, and the turns of its loop.

    Attributes:
        fanout: It.
        due: What is to be called at the end of this turn.
    """

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []
        self.fanout = Fanout(self.due.append)

    def end(self) -> None:
        """End this turn."""
        due, self.due[:] = self.due[:], []
        for call in due:
            call()

    def members(self, *outboxes: Notebook) -> tuple[Member, ...]:
        """Make members of ways out."""
        nobody: Any = None
        return tuple(Member(self.fanout, nobody, outbox) for outbox in outboxes)


def crowd(count: int, **options: Any) -> tuple[Turn, list[Notebook], tuple[Member, ...]]:
    """Make a fan-out and members for it."""
    turn = Turn()
    outboxes = [Notebook(**options) for _ in range(count)]
    return turn, outboxes, turn.members(*outboxes)


def test_a_turn_is_one_write_of_the_same_bytes() -> None:
    """Whatever many get together is encoded once, joined once, and written once to each."""
    turn, outboxes, members = crowd(3)
    for text in (b"a", b"b", b"c"):
        turn.fanout.send(members, 1, text)

    assert [outbox.writes for outbox in outboxes] == [[], [], []]
    turn.end()
    assert [outbox.writes for outbox in outboxes] == [[b"1a;1b;1c;"]] * 3
    assert outboxes[0].writes[0] is outboxes[1].writes[0] is outboxes[2].writes[0]
    assert sum(outbox.encoded for outbox in outboxes) == 3


def test_turns_do_not_mix() -> None:
    """The end of a turn is asked for once in each, and nothing is left behind."""
    turn, [outbox, _], members = crowd(2)
    turn.fanout.send(members, 1, b"a")
    turn.fanout.send(members, 1, b"b")
    assert len(turn.due) == 1
    turn.end()
    turn.fanout.send(members, 2, b"c")
    turn.end()
    turn.end()

    assert outbox.writes == [b"1a;1b;", b"2c;"]


def test_a_direct_message_comes_where_it_was_sent() -> None:
    """What the application sends to one client stays between what went to all."""
    turn, [ann, bob], members = crowd(2)
    turn.fanout.send(members, 1, b"a")
    ann.send(1, b"only ann")
    ann.send(2, b"\x00")
    turn.fanout.send(members, 1, b"b")
    turn.end()
    ann.send(1, b"later")

    assert ann.writes == [b"1a;1only ann;2\x00;1b;", b"1later;"]
    assert bob.writes == [b"1a;1b;"]


def test_a_direct_message_may_be_text() -> None:
    """The connection hands over what the application wrote."""
    turn, [ann, _], members = crowd(2)
    turn.fanout.send(members, 1, b"a")
    members[0](1, "grüße")
    turn.end()

    assert ann.writes == ["1a;1grüße;".encode()]


def test_the_sender_may_be_left_out() -> None:
    """Who is excluded gets all but that message; who is no member is no concern."""
    turn, [ann, bob, eve], members = crowd(3)
    others = turn.members(Notebook())
    turn.fanout.send(members, 1, b"a", [members[0]])
    turn.fanout.send(members, 1, b"b", [members[1], *others])
    turn.fanout.send(members, 1, b"c", members)
    turn.fanout.send(members, 1, b"d")
    turn.end()

    assert (ann.writes, bob.writes, eve.writes) == ([b"1b;1d;"], [b"1a;1d;"], [b"1a;1b;1d;"])


def test_one_member_needs_no_run() -> None:
    """A message to one waits for the end of the turn, too, or is for nobody."""
    turn, [outbox], members = crowd(1)
    turn.fanout.send(members, 1, b"a")
    turn.fanout.send(members, 1, b"b", members)
    turn.fanout.send(members, 1, b"c")

    assert outbox.writes == []
    turn.end()
    assert outbox.writes == [b"1a;1c;"]


def test_nobody_gets_nothing() -> None:
    """A group that is empty by now is no error."""
    turn = Turn()
    turn.fanout.send((), 1, b"a")
    turn.end()


def test_groups_that_overlap_keep_the_order() -> None:
    """Whoever is in both gets everything in the order in which it was sent."""
    turn, [ann, both, eve], (a, b, e) = crowd(3)
    room, hall = (a, b), (b, e)
    for target, text in [(room, b"1"), (hall, b"2"), (room, b"3"), (room, b"4"), (hall, b"5")]:
        turn.fanout.send(target, 1, text)
    turn.end()

    assert (ann.writes, both.writes, eve.writes) == (
        [b"11;13;14;"],
        [b"11;12;13;14;15;"],
        [b"12;15;"],
    )


def test_groups_that_do_not_overlap_are_joined_all_the_same() -> None:
    """Two rooms that talk by turns cost each member one write, and each message one encoding."""
    turn, outboxes, (a, b, c, d) = crowd(4)
    room, hall = (a, b), (c, d)
    for _ in range(3):
        turn.fanout.send(room, 1, b"r")
        turn.fanout.send(hall, 1, b"h")
    turn.end()

    assert [outbox.writes for outbox in outboxes] == [[b"1r;1r;1r;"]] * 2 + [[b"1h;1h;1h;"]] * 2
    assert sum(outbox.encoded for outbox in outboxes) == 6


def test_every_kind_of_frames_is_made_once() -> None:
    """Clients with the same compression share, those with one of their own do not."""
    turn = Turn()
    outboxes = [Notebook(key=key) for key in [(), (), (1, 12), (1, 12), None, None]]
    members = turn.members(*outboxes)
    turn.fanout.send(members, 1, b"a")
    turn.fanout.send(members, 1, b"b")
    turn.end()

    assert [outbox.encoded for outbox in outboxes] == [2, 0, 2, 0, 2, 2]
    assert {b"".join(outbox.writes) for outbox in outboxes} == {b"1a;1b;"}


def test_the_closed_are_left_out() -> None:
    """Who closes between two messages gets neither, and keeps nothing."""
    turn, [gone, going, here], members = crowd(3)
    gone.close()
    turn.fanout.send(members, 1, b"a")
    going.close()
    turn.fanout.send(members, 1, b"b")
    turn.end()
    turn.fanout.send(members, 1, b"c")
    turn.end()

    assert (gone.writes, going.writes, here.writes) == ([], [], [b"1a;1b;", b"1c;"])
    assert not members[1].is_held
    assert members[1].take_messages() == []


def test_a_slow_client_gets_its_messages_one_by_one() -> None:
    """Its outbox decides about each of them; the others notice nothing."""
    turn, [slow, quick], members = crowd(2)
    slow.is_direct = False
    turn.fanout.send(members, 1, b"a")
    turn.fanout.send(members, 1, b"b")
    turn.end()

    assert (slow.writes, quick.writes) == ([b"1a;", b"1b;"], [b"1a;1b;"])


def test_a_direct_message_to_a_slow_client_is_decided_at_once() -> None:
    """Who sends is told what became of it, behind what came before."""
    turn, [slow, quick], members = crowd(2)
    turn.fanout.send(members, 1, b"a")
    slow.is_direct = False
    slow.send(1, b"b")

    assert slow.writes == [b"1a;", b"1b;"]
    turn.fanout.send(members, 1, b"c")
    turn.end()
    assert (slow.writes, quick.writes) == ([b"1a;", b"1b;", b"1c;"], [b"1a;1c;"])


def test_a_member_may_be_released_early() -> None:
    """Who is about to close gets what was sent before, and the rest of the turn if it does not."""
    turn, [early, other], members = crowd(2)
    turn.fanout.send(members, 1, b"a")
    early.release()

    assert early.writes == [b"1a;"]
    turn.fanout.send(members, 1, b"b")
    turn.end()
    assert (early.writes, other.writes) == ([b"1a;", b"1b;"], [b"1a;1b;"])


def test_what_a_write_causes_comes_after_it() -> None:
    """A callback that sends to many while many are being written to keeps everybody's order."""
    turn, outboxes, members = crowd(3)
    outboxes[0].on_write = lambda: turn.fanout.send(members, 1, b"late")
    turn.fanout.send(members, 1, b"a")
    turn.end()
    turn.end()

    assert [b"".join(outbox.writes) for outbox in outboxes] == [b"1a;1late;"] * 3


def test_a_long_turn_is_written_in_parts() -> None:
    """What waits is bounded, whoever sends it, and in whatever way."""
    turn, [ann, bob], members = crowd(2)
    message = b"x" * (MAX_HELD_SIZE // 4)
    for _ in range(8):
        turn.fanout.send(members, 1, message)
    assert [len(outbox.writes) for outbox in (ann, bob)] == [2, 2]
    turn.fanout.send(members, 1, b"a")
    for _ in range(4):
        ann.send(1, message)

    assert [len(outbox.writes) for outbox in (ann, bob)] == [3, 3]
    assert b"".join(ann.writes) == b"1%b;" % message * 8 + b"1a;" + b"1%b;" % message * 4
    assert b"".join(bob.writes) == b"1%b;" % message * 8 + b"1a;"


MANY = 4
SETS = [
    indices for size in range(1, MANY + 1) for indices in itertools.combinations(range(MANY), size)
]

step = st.one_of(
    st.tuples(
        st.just("many"), st.sampled_from(SETS), st.sets(st.integers(0, MANY - 1), max_size=2)
    ),
    st.tuples(st.just("one"), st.integers(0, MANY - 1)),
    st.tuples(st.just("release"), st.integers(0, MANY - 1)),
    st.tuples(st.just("close"), st.integers(0, MANY - 1)),
    st.tuples(st.just("slow"), st.integers(0, MANY - 1)),
    st.tuples(st.just("quick"), st.integers(0, MANY - 1)),
    st.tuples(st.just("end")),
)


@given(st.lists(step, max_size=40), st.lists(st.sampled_from([(), (1,), None]), min_size=MANY))
def test_everybody_gets_what_was_sent_in_its_order(
    steps: list[tuple[Any, ...]], keys: list[Key | None]
) -> None:
    """However messages, ends of turns, closings and slowness follow one another."""
    turn = Turn()
    outboxes = [Notebook(key=key) for key in keys[:MANY]]
    members = turn.members(*outboxes)
    tuples = {indices: tuple(members[index] for index in indices) for indices in SETS}
    expected: list[list[bytes]] = [[] for _ in range(MANY)]

    def note(index: int, payload: bytes) -> None:
        if outboxes[index].is_open:
            expected[index].append(b"1%b;" % payload)

    for number, (kind, *what) in enumerate(steps):
        payload = b"%d" % number
        if kind == "many":
            turn.fanout.send(tuples[what[0]], 1, payload, [members[index] for index in what[1]])
            for index in set(what[0]) - what[1]:
                note(index, payload)
        elif kind == "one":
            outboxes[what[0]].send(1, payload)
            note(what[0], payload)
        elif kind == "release":
            outboxes[what[0]].release()
        elif kind == "close":
            outboxes[what[0]].release()
            outboxes[what[0]].close()
        elif kind in {"slow", "quick"}:
            outboxes[what[0]].is_direct = kind == "quick"
        else:
            turn.end()
    turn.end()
    written = [b"".join(outbox.writes) for outbox in outboxes]

    assert written == [b"".join(messages) for messages in expected]
    assert [member.is_held for member in members] == [False] * MANY


@pytest.mark.parametrize("count", [2, 100])
def test_the_cost_does_not_grow_with_members_times_messages(count: int) -> None:
    """A thousand messages to the same members hold each of them once."""
    turn, outboxes, members = crowd(count)
    for number in range(1000):
        turn.fanout.send(members, 1, b"%d" % number)
    turn.end()

    assert [len(outbox.writes) for outbox in outboxes] == [1] * count
    assert sum(outbox.encoded for outbox in outboxes) == 1000
