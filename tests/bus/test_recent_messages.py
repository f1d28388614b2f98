"""What was read lately: runs without a gap, in bounds."""

from gateman.bus.jetstream_wire import LogMessage
from gateman.bus.recent_messages import RecentMessages
from gateman.history.base import HistoryLimits

LIMITS = HistoryLimits(size=1, ttl=1)


def run(*numbers: int, size: int = 0) -> list[LogMessage]:
    """Make messages."""
    return [
        LogMessage(number, 0, bytes(size), LIMITS, is_marker=False, until=None)
        for number in numbers
    ]


def numbers(messages: list[LogMessage]) -> list[int]:
    """Tell where they are."""
    return [message.number for message in messages]


def test_a_run_is_known_from_its_messages_on() -> None:
    """Not from numbers in between, which are those of other channels."""
    recent = RecentMessages()
    recent.put("a", run(3, 5, 9))
    ends = [recent.end("a", number) for number in range(11)]

    assert [index for index, end in enumerate(ends) if end is not None] == [3, 5, 9]
    assert {end.number for end in ends if end is not None} == {9}
    assert [numbers(recent.after("a", number)) for number in (3, 5, 9)] == [[5, 9], [9], []]
    assert recent.end("b", 3) is None


def test_what_continues_a_run_is_joined_to_it() -> None:
    """Anything else replaces it: there may be a gap."""
    recent = RecentMessages()
    recent.put("a", run(3, 5))
    recent.put("a", run(5, 9))
    joined = numbers(recent.after("a", 3))
    recent.put("a", run(11, 12))

    assert joined == [5, 9]
    assert recent.end("a", 9) is None
    assert numbers(recent.after("a", 11)) == [12]


def test_it_is_bounded() -> None:
    """In bytes of all, where the run that was not used goes first, and in messages of one."""
    recent = RecentMessages(max_size=3000)
    for channel in "abc":
        recent.put(channel, run(1, size=600))
    assert recent.end("a", 1) is not None
    recent.put("d", run(1, size=600))
    left = [channel for channel in "abcd" if recent.end(channel, 1) is not None]
    recent.put("e", run(1, size=10_000))
    after = [channel for channel in "abcde" if recent.end(channel, 1) is not None]
    large = RecentMessages()
    large.put("a", run(*range(5000)))

    assert (left, after) == (["a", "c", "d"], [])
    assert large.end("a", 3999) is None
    assert len(large.after("a", 4000)) == 999


def test_it_is_forgotten_with_the_stream() -> None:
    """Its numbers mean something else in the next one."""
    recent = RecentMessages()
    recent.put("a", run(1))
    recent.clear()

    assert recent.end("a", 1) is None
