"""The fan-out: order, sharing and bounds, against members that only take note."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.cluster.fanout import MAX_TURN_SIZE, Fanout, Key


class EntryRecorder:
    """
    A way out that takes note of what is written, and when.

    Attributes:
        writes: What was written, each time.
        takes_frames: Whether the client reads.
        is_open: Whether it is there.
        key: What its frames are like; ``None`` for frames that nobody else's are like.
        encoded: How many frames it has made.
        on_write: Called once, when something is written.
    """

    def __init__(self, *, key: Key | None = ()) -> None:
        self.writes: list[bytes] = []
        self.takes_frames = True
        self.is_open = True
        self.key = key
        self.encoded = 0
        self.on_write: Callable[[], object] | None = None

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """Make a frame that is easy to read."""
        self.encoded += 1
        return b"%d%b;" % (opcode, payload)

    def write_frames(self, frames: bytes) -> None:
        """Take note."""
        assert self.takes_frames
        self.write(frames)

    def send(self, opcode: int, payload: bytes) -> None:
        """Take note, if it is there."""
        if self.is_open:
            self.write(self.encode(opcode, payload))

    def write(self, data: bytes) -> None:
        """Take note, and do what there is to do about it."""
        self.writes.append(data)
        if self.on_write is not None:
            on_write, self.on_write = self.on_write, None
            on_write()

    def close(self) -> None:
        """Take nothing any more."""
        self.is_open = self.takes_frames = False


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

    def send_directly(self, member: EntryRecorder, payload: bytes, opcode: int = 1) -> None:
        """Send to one, as a connection does."""
        if not (member.takes_frames and self.fanout.put(member, opcode, payload)):
            self.fanout.settle(member)
            member.send(opcode, payload)


def crowd(count: int, **options: Any) -> tuple[Turn, tuple[EntryRecorder, ...]]:
    """Make a fan-out and members for it."""
    return Turn(), tuple(EntryRecorder(**options) for _ in range(count))


def test_a_turn_is_one_write_of_the_same_bytes() -> None:
    """Whatever many get together is encoded once, joined once, and written once to each."""
    turn, members = crowd(3)
    for text in (b"a", b"b", b"c"):
        turn.fanout.send(members, 1, text)

    assert [member.writes for member in members] == [[], [], []]
    turn.end()
    assert [member.writes for member in members] == [[b"1a;1b;1c;"]] * 3
    assert members[0].writes[0] is members[1].writes[0] is members[2].writes[0]
    assert sum(member.encoded for member in members) == 3


def test_turns_do_not_mix() -> None:
    """The end of a turn is asked for once in each, and nothing is left behind."""
    turn, members = crowd(2)
    turn.fanout.send(members, 1, b"a")
    turn.fanout.send(members, 1, b"b")
    assert (len(turn.due), len(turn.fanout.turns)) == (1, 1)
    turn.end()
    assert not turn.fanout.turns
    turn.fanout.send(members, 2, b"c")
    turn.end()
    turn.end()
    turn.fanout.flush()

    assert [member.writes for member in members] == [[b"1a;1b;", b"2c;"]] * 2


def test_a_direct_message_keeps_its_place() -> None:
    """What the application sends to one client stays between what went to all."""
    turn, members = crowd(2)
    ann, bob = members
    turn.fanout.send(members, 1, b"a")
    turn.send_directly(ann, b"only ann")
    turn.send_directly(ann, b"\x00", 2)
    turn.fanout.send(members, 1, b"b")
    turn.end()
    turn.send_directly(ann, b"later")

    assert ann.writes == [b"1a;1only ann;2\x00;1b;", b"1later;"]
    assert bob.writes == [b"1a;1b;"]


def test_direct_messages_reach_clients_that_are_not_members() -> None:
    """Who is in no group has its direct messages with the end of the turn, in their order."""
    turn, members = crowd(2)
    stranger = EntryRecorder()
    turn.fanout.send(members, 1, b"a")
    turn.send_directly(stranger, b"b")
    turn.send_directly(stranger, b"c")
    turn.end()

    assert stranger.writes == [b"1b;1c;"]


def test_the_sender_may_be_left_out() -> None:
    """Who is excluded gets all but that message; who is no member is no concern."""
    turn, members = crowd(3)
    ann, bob, eve = members
    turn.fanout.send(members, 1, b"a", [ann])
    turn.fanout.send(members, 1, b"b", [bob, EntryRecorder()])
    turn.fanout.send(members, 1, b"c", members)
    turn.fanout.send(members, 1, b"d")
    turn.end()

    assert (ann.writes, bob.writes, eve.writes) == ([b"1b;1d;"], [b"1a;1d;"], [b"1a;1b;1d;"])


def test_everybody_may_be_left_out() -> None:
    """Nothing is written to who gets nothing."""
    turn, members = crowd(2)
    turn.fanout.send(members, 1, b"a", members)
    turn.end()

    assert [member.writes for member in members] == [[], []]


def test_one_member_needs_no_run() -> None:
    """A message to one waits for the end of the turn, too, or is for nobody."""
    turn, members = crowd(1)
    turn.fanout.send(members, 1, b"a")
    turn.fanout.send(members, 1, b"b", members)
    turn.fanout.send(members, 1, b"c")

    assert members[0].writes == []
    turn.end()
    assert members[0].writes == [b"1a;1c;"]


def test_no_members_get_no_message() -> None:
    """A group that is empty by now is no error."""
    turn = Turn()
    turn.fanout.send((), 1, b"a")
    turn.end()


def test_groups_that_overlap_keep_the_order() -> None:
    """Whoever is in both gets everything in the order in which it was sent."""
    turn, members = crowd(3)
    ann, both, eve = members
    room, hall = (ann, both), (both, eve)
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
    turn, members = crowd(4)
    room, hall = members[:2], members[2:]
    for _ in range(3):
        turn.fanout.send(room, 1, b"r")
        turn.fanout.send(hall, 1, b"h")
    turn.end()

    assert [member.writes for member in members] == [[b"1r;1r;1r;"]] * 2 + [[b"1h;1h;1h;"]] * 2
    assert sum(member.encoded for member in members) == 6


def test_every_kind_of_frames_is_made_once() -> None:
    """Clients with the same compression share, those with one of their own do not."""
    turn = Turn()
    members = tuple(EntryRecorder(key=key) for key in [(), (), (1, 12), (1, 12), None, None])
    turn.fanout.send(members, 1, b"a")
    turn.fanout.send(members, 1, b"b")
    turn.end()

    assert [member.encoded for member in members] == [2, 0, 2, 0, 2, 2]
    assert {b"".join(member.writes) for member in members} == {b"1a;1b;"}


def test_the_closed_are_left_out() -> None:
    """Who closes before the end of a turn gets nothing of it."""
    turn, members = crowd(3)
    gone, going, here = members
    gone.close()
    turn.fanout.send(members, 1, b"a")
    going.close()
    turn.fanout.send(members, 1, b"b")
    turn.end()

    assert (gone.writes, going.writes, here.writes) == ([], [], [b"1a;1b;"])


def test_a_slow_client_gets_its_messages_one_by_one() -> None:
    """Its outbox decides about each of them; the others notice nothing."""
    turn, members = crowd(2)
    slow, quick = members
    slow.takes_frames = False
    turn.fanout.send(members, 1, b"a")
    turn.fanout.send(members, 1, b"b")
    turn.end()

    assert (slow.writes, quick.writes) == ([b"1a;", b"1b;"], [b"1a;1b;"])


def test_a_direct_message_to_a_slow_client_is_decided_at_once() -> None:
    """Who sends is told what became of it, behind what came before."""
    turn, members = crowd(2)
    slow, quick = members
    turn.fanout.send(members, 1, b"a")
    slow.takes_frames = False
    turn.send_directly(slow, b"b")

    assert slow.writes == [b"1a;", b"1b;"]
    turn.fanout.send(members, 1, b"c")
    turn.end()
    assert (slow.writes, quick.writes) == ([b"1a;", b"1b;", b"1c;"], [b"1a;1c;"])


def test_one_may_be_written_to_before_the_others() -> None:
    """Who is about to close gets what was sent before, and the rest of the turn if it does not."""
    turn, members = crowd(3)
    early, other, _ = members
    turn.fanout.send(members, 1, b"a")
    turn.fanout.send((early, other), 1, b"b")
    turn.send_directly(early, b"c")
    turn.fanout.settle(early)
    turn.fanout.settle(early)

    assert early.writes == [b"1a;1b;1c;"]
    turn.fanout.send(members, 1, b"d")
    turn.end()
    turn.fanout.settle(early)
    assert (early.writes, other.writes) == ([b"1a;1b;1c;", b"1d;"], [b"1a;1b;1d;"])


def test_messages_sent_during_a_write_follow_it() -> None:
    """A callback that sends to many while many are being written to keeps everybody's order."""
    turn, members = crowd(3)
    members[0].on_write = lambda: turn.fanout.send(members, 1, b"late")
    turn.fanout.send(members, 1, b"a")
    turn.end()
    assert [member.writes for member in members] == [[b"1a;"]] * 3
    turn.end()

    assert [member.writes for member in members] == [[b"1a;", b"1late;"]] * 3


def test_a_direct_message_sent_during_a_write_follows_it() -> None:
    """Also to those whose turn has not come yet."""
    turn, members = crowd(3)

    def send() -> None:
        for member in members:
            turn.send_directly(member, b"late")

    members[0].on_write = send
    turn.fanout.send(members, 1, b"a")
    turn.end()
    turn.end()

    assert [b"".join(member.writes) for member in members] == [b"1a;1late;"] * 3


def test_closing_during_a_write_sends_pending_messages_first() -> None:
    """Whoever is closed while others are written to gets everything once before its end."""
    turn, members = crowd(4)
    first, second, third, _ = members

    def close() -> None:
        for member in (first, second, third):
            turn.fanout.settle(member)
            member.close()

    second.on_write = close
    turn.fanout.send(members, 1, b"a")
    turn.fanout.send(members, 1, b"b")
    turn.end()

    assert [member.writes for member in members] == [[b"1a;1b;"]] * 4


def test_much_from_within_waits_for_its_turn() -> None:
    """What a callback sends is not written before what was sent before it, however much it is."""
    turn, members = crowd(3)
    big = b"x" * MAX_TURN_SIZE
    members[0].on_write = lambda: turn.fanout.send(members, 1, big)
    turn.fanout.send(members, 1, b"a")
    turn.end()
    turn.end()

    assert [member.writes for member in members] == [[b"1a;", b"1%b;" % big]] * 3


def test_a_long_turn_is_written_in_parts() -> None:
    """What waits is bounded, whoever sends it, and in whatever way."""
    turn, members = crowd(2)
    ann, bob = members
    message = b"x" * (MAX_TURN_SIZE // 4)
    for _ in range(8):
        turn.fanout.send(members, 1, message)
    assert [len(member.writes) for member in members] == [2, 2]
    turn.fanout.send(members, 1, b"a")
    for _ in range(4):
        turn.send_directly(ann, message)

    assert [len(member.writes) for member in members] == [3, 3]
    assert b"".join(ann.writes) == b"1%b;" % message * 8 + b"1a;" + b"1%b;" % message * 4
    assert b"".join(bob.writes) == b"1%b;" % message * 8 + b"1a;"


def test_a_failure_leaves_nothing_behind() -> None:
    """What a fault of ours costs is one turn."""
    turn, members = crowd(2)

    def fail() -> None:
        raise RuntimeError("a fault")

    members[0].on_write = fail
    turn.fanout.send(members, 1, b"a")
    with pytest.raises(RuntimeError):
        turn.end()
    assert not turn.fanout.turns
    turn.fanout.send(members, 1, b"b")
    turn.end()
    assert [member.writes[-1] for member in members] == [b"1b;"] * 2


MANY = 4
SETS = [
    indices for size in range(1, MANY + 1) for indices in itertools.combinations(range(MANY), size)
]

member = st.integers(0, MANY - 1)
step = st.one_of(
    st.tuples(st.just("many"), st.sampled_from(SETS), st.sets(member, max_size=2)),
    st.tuples(st.just("one"), member),
    st.tuples(st.just("settle"), member),
    st.tuples(st.just("close"), member),
    st.tuples(st.just("slow"), member),
    st.tuples(st.just("quick"), member),
    st.tuples(st.just("end")),
)


@given(
    st.lists(step, max_size=40),
    st.lists(st.sampled_from([(), (1,), None]), min_size=MANY, max_size=MANY),
)
def test_all_members_get_messages_in_order(
    steps: list[tuple[Any, ...]], keys: list[Key | None]
) -> None:
    """However messages, ends of turns, closings and slowness follow one another."""
    turn = Turn()
    members = [EntryRecorder(key=key) for key in keys]
    tuples = {indices: tuple(members[index] for index in indices) for indices in SETS}
    expected: list[list[bytes]] = [[] for _ in members]

    def note(index: int, payload: bytes) -> None:
        if members[index].is_open:
            expected[index].append(b"1%b;" % payload)

    for number, (kind, *query) in enumerate(steps):
        payload = b"%d" % number
        match kind:
            case "many":
                indices, excluded = query
                turn.fanout.send(tuples[indices], 1, payload, [members[one] for one in excluded])
                for index in set(indices) - excluded:
                    note(index, payload)
            case "one":
                turn.send_directly(members[query[0]], payload)
                note(query[0], payload)
            case "settle":
                turn.fanout.settle(members[query[0]])
            case "close":
                turn.fanout.settle(members[query[0]])
                members[query[0]].close()
            case "slow" | "quick":
                one = members[query[0]]
                one.takes_frames = one.is_open and kind == "quick"
            case _:
                turn.end()
    turn.end()
    written = [b"".join(one.writes) for one in members]

    assert written == [b"".join(messages) for messages in expected]
    assert not turn.fanout.turns


@pytest.mark.parametrize("count", [2, 100])
def test_the_cost_does_not_grow_with_members_times_messages(count: int) -> None:
    """A thousand messages to the same members are one write to each."""
    turn, members = crowd(count)
    for number in range(1000):
        turn.fanout.send(members, 1, b"%d" % number)
    turn.end()

    assert [len(member.writes) for member in members] == [1] * count
    assert sum(member.encoded for member in members) == 1000
