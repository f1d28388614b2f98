"""The ring of one channel."""

from gateman.history.base import HistoryLimits, StoredMessage
from gateman.history.channel_log import MESSAGE_OVERHEAD, ChannelLog

TEN = HistoryLimits(size=10, ttl=60)


def message(offset: int, size: int = 1) -> StoredMessage:
    """Make one."""
    return StoredMessage(offset, bytes(size))


def offsets(messages: list[StoredMessage]) -> list[int]:
    """Tell where they are."""
    return [one.offset for one in messages]


def filled(*, limits: HistoryLimits = TEN) -> ChannelLog:
    """Make one with messages at 3, 5, 8, and 13, one a second."""
    log = ChannelLog(2)
    for now, offset in enumerate((3, 5, 8, 13)):
        log.append(message(offset), limits, now)
    return log


def test_it_is_complete_from_its_floor_on() -> None:
    """That is where it began, until something is dropped."""
    log = filled()

    assert (log.floor, log.last, len(log), log.size) == (2, 13, 4, 4 * (1 + MESSAGE_OVERHEAD))


def test_it_is_searched_by_offset() -> None:
    """The offset itself is not among what follows it, nor among what is before it."""
    log = filled()

    assert [offsets(log.after(one, 2)) for one in (0, 3, 4, 8, 13, 99)] == [
        [3, 5],
        [5, 8],
        [5, 8],
        [13],
        [],
        [],
    ]
    assert [offsets(log.before(one, 2)) for one in (0, 3, 4, 8, 13, 99)] == [
        [],
        [],
        [3],
        [5, 3],
        [8, 5],
        [13, 8],
    ]
    assert log.after(0, 0) == log.before(99, 0) == []


def test_the_latest_limits_count() -> None:
    """A smaller size drops what is too much at once; a shorter time too."""
    log = filled()
    log.append(message(21), HistoryLimits(size=3, ttl=60), 4)

    assert (offsets(log.after(0, 9)), log.floor) == ([8, 13, 21], 5)

    log.append(message(22), HistoryLimits(size=3, ttl=1), 5)
    log.expire(5)

    assert (offsets(log.after(0, 9)), log.floor) == ([22], 21)


def test_a_message_expires_at_its_time() -> None:
    """Not before; what is left keeps its order when the clock is set back."""
    log = filled()
    log.append(message(14), TEN, -100)

    assert log.expires_at == 60
    log.expire(59.9)
    assert log.floor == 2
    log.expire(60)
    assert (log.floor, log.expires_at) == (3, 61)
    log.expire(62.5)
    assert offsets(log.after(0, 9)) == [13, 14]
    log.expire(63)
    assert (len(log), log.floor, log.last, log.size) == (0, 14, 14, 0)
    log.expire(1000)


def test_it_shrinks_from_its_beginning() -> None:
    """Until the rest fits, which may be nothing."""
    log = filled()
    log.append(message(14, 1000), TEN, 4)
    log.shrink(1000 + 3 * MESSAGE_OVERHEAD + 2)

    assert offsets(log.after(0, 9)) == [8, 13, 14]

    log.shrink(1000)

    assert (len(log), log.floor, log.size) == (0, 14, 0)


def test_it_is_cleared() -> None:
    """Who is at its end has everything."""
    log = filled()
    log.clear()
    log.clear()

    assert (len(log), log.floor, log.last, log.size) == (0, 13, 13, 0)
