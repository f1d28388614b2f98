"""A line of JSON at a time, however the bytes come in."""

import socket
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.master.channel import MAX_LINE_SIZE, Lines, line

MESSAGES: list[dict[str, Any]] = [
    {"do": "accept", "numbers": [0, 1]},
    {"say": "answer", "to": 1, "text": "a\nb\r\u2028Ω\ud800"},
    {},
]


@given(st.sets(st.integers(0, len(b"".join(map(line, MESSAGES))))))
def test_pieces_may_be_cut_anywhere(cuts: set[int]) -> None:
    """Messages come out whole, in order, and each as soon as it is complete."""
    written = b"".join(map(line, MESSAGES))
    places = [0, *sorted(cuts), len(written)]
    lines = Lines()
    read = [
        message for begin, end in pairwise(places) for message in lines.feed(written[begin:end])
    ]

    assert read == MESSAGES


def test_a_message_is_one_line() -> None:
    """Line feeds in what is said are no ends of it."""
    assert line({"text": "a\nb", "n": [1, 2]}) == b'{"text":"a\\nb","n":[1,2]}\n'


def test_it_is_read_as_it_completes() -> None:
    """The rest is kept for later; nothing is nothing."""
    lines = Lines()

    assert lines.feed(b"") == []
    assert lines.feed(b'{"a":1}\n{"b"') == [{"a": 1}]
    assert lines.feed(b":2}") == []
    assert lines.feed(b"\n") == [{"b": 2}]


@pytest.mark.parametrize(
    "garbage",
    [b"nonsense\n", b"[]\n", b"1\n", b"null\n", b"\n", b"\xff\xfe\n", b'{"a":1\n', b"{}\n[]\n"],
)
def test_garbage_is_refused(garbage: bytes) -> None:
    """What is no JSON object is no message."""
    with pytest.raises(ValueError, match=r".+"):
        Lines().feed(garbage)


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["open", "ended"])
def test_a_line_is_bounded(end: bytes) -> None:
    """Whether its end has come or not; that of a line before does not count."""
    longest = b'{"a":"' + b"x" * 92 + b'"}'

    assert Lines(100).feed(longest + b"\n" + longest) == [{"a": "x" * 92}]
    with pytest.raises(ValueError, match="more than 100 bytes"):
        Lines(100).feed(longest + b" " + end)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        Lines(100).feed(b"{}\n" + longest + b" " + end)


def test_a_long_list_of_connections_fits() -> None:
    """One of the size that a process may send, over a real socket pair."""
    message = {"say": "answer", "connections": ["x" * 1000] * 4000}
    written = line(message)
    ours, theirs = socket.socketpair()
    lines = Lines()
    read: list[dict[str, Any]] = []
    with ours, theirs:
        ours.settimeout(0)
        while written:
            written = written[ours.send(written) :]
            read += lines.feed(theirs.recv(1 << 20))
        while not read:
            read += lines.feed(theirs.recv(1 << 20))

    assert read == [message]
    assert len(line(message)) < MAX_LINE_SIZE
