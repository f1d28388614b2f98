"""The bytes of the history, and what a router answers to them."""

import pytest
from msgspec import DecodeError

from gateman.history.base import HistoryLimits, StoredMessage
from gateman.history.service import answer
from gateman.history.store import HistoryStore
from gateman.history.wire import (
    Answer,
    Append,
    HistoryRequest,
    Live,
    Read,
    Remove,
    Since,
    decode_answer,
    encode,
    live,
    read_live,
)

LIMITS = HistoryLimits(size=100, ttl=300)


def ask(store: HistoryStore, request: HistoryRequest) -> tuple[Answer, bytes]:
    """Ask about one channel."""
    reply, message = answer(store, "history.room", encode(request), 0)
    return decode_answer(reply), message


def test_what_followers_receive_is_written_as_documented() -> None:
    """Each cut of it is refused, but for the payload's."""
    data = live(258, 259, b"hello", is_marker=True)

    assert data == b"\x01" + bytes(6) + b"\x01\x02" + bytes(6) + b"\x01\x03hello"
    assert read_live(data) == Live(is_marker=True, previous=258, offset=259, payload=b"hello")
    for end in range(17):
        with pytest.raises(ValueError, match="b'"):
            read_live(data[:end])


def test_a_router_answers() -> None:
    """Each request, and followers get what is appended."""
    store = HistoryStore("e")

    assert ask(store, Append(b"a", 10, 60, "")) == (Answer("e", 1), live(0, 1, b"a"))
    assert ask(store, Append(b"b", 10, 60, "k")) == (Answer("e", 2), live(1, 2, b"b"))
    assert ask(store, Append(b"b", 10, 60, "k")) == (Answer("e", 2), b"")
    both = [StoredMessage(1, b"a"), StoredMessage(2, b"b")]
    assert ask(store, Since("e", 0, 10)) == (Answer("e", 2, both), b"")
    assert ask(store, Since("e", 0, 1)) == (Answer("e", 2, is_complete=False), b"")
    assert ask(store, Since("", 0, 0)) == (Answer("e", 2), b"")
    assert ask(store, Read("", 0, 1, is_reverse=False)) == (Answer("e", 2, both[:1]), b"")
    assert ask(store, Read("", 0, 9, is_reverse=True)) == (Answer("e", 2, both[::-1]), b"")
    assert ask(store, Remove()) == (Answer("e", 2), b"")
    assert ask(store, Read("", 0, 9, is_reverse=False)) == (Answer("e", 2), b"")


def test_pages_are_bounded_in_bytes() -> None:
    """One message at least, and whether there are more."""
    store = HistoryStore("e")
    for size in (900_000, 200_000, 1_000_000, 10, 20):
        store.append("history.room", bytes(size), LIMITS, 0)
    pages = [ask(store, Since("e", offset, 100 - offset))[0] for offset in (0, 1, 2, 3)]

    assert [[one.offset for one in page.messages] for page in pages] == [
        [1],
        [2],
        [3, 4, 5],
        [4, 5],
    ]
    assert [page.has_more for page in pages] == [True, True, False, False]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"x" * 1000,
        encode([9]),
        encode([1]),
        encode(Append(b"", 0, 1, "")),
        encode(Append(b"", 1, 0, "")),
        encode(Append(b"", 1, float("nan"), "")),
        encode(Append(b"", 1, 1, "x" * 257)),
        encode(Since("e", -1, 1)),
        encode(Since("e", 1, -1)),
        encode(Read("e", 1, -1, is_reverse=False)),
    ],
)
def test_what_no_process_sends_is_refused(data: bytes) -> None:
    """As a ValueError, whatever it is."""
    assert issubclass(DecodeError, ValueError)
    with pytest.raises(DecodeError):
        answer(HistoryStore("e"), "history.room", data, 0)
