"""A line of JSON at a time, however the bytes come in."""

import socket
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.master.channel import (
    MAX_LINE_SIZE,
    Accept,
    ArrivalReport,
    ArrivalsAnswer,
    CauseReport,
    ConnectionReport,
    ConnectionsAnswer,
    Drain,
    FromMaster,
    FromProcess,
    GetArrivals,
    GetConnections,
    GetReport,
    Heartbeat,
    Lines,
    Ready,
    Report,
    ReportAnswer,
    Signalled,
    StillDraining,
    Stop,
    decode,
    from_master,
    from_process,
    line,
    read,
)
from gateman.master.events import Policy

REPORT: Report = {
    "memory": 1 << 20,
    "connections": 3,
    "messages": 4,
    "qps": 0.5,
    "send_fail": 0,
    "timers": 1,
    "lag": 0.001,
    "counts": {"refused_431": 2},
    "hub": {"lost": 2},
    "certificate_days": None,
}
CONNECTION: ConnectionReport = {
    "id": 7,
    "client": "192.0.2.1:4711",
    "proxy": None,
    "state": "open",
    "unsent": 0,
    "received": 100,
    "sent": None,
    "messages": 2,
    "age": 1.5,
    "uid": "ann",
}
ARRIVAL: ArrivalReport = {
    "carriers": ["field", "query"],
    "begins_with": "http",
    "method": "GET",
    "path": "/",
    "version": "1.1",
    "fields": {"host": "example.com"},
    "peer": "127.0.0.1",
    "is_trusted": True,
    "source": None,
    "is_tls": False,
    "status": 101,
    "causes": [],
}
CAUSE: CauseReport = {"cause": "origin_refused", "count": 1, "message": "a page was refused"}
NONCE = "0123456789abcdef0123456789abcdef"

MESSAGES: list[bytes] = [b'{"do":"accept"}', "a\r\u2028Ω".encode(), b""]
WRITTEN = b"".join(message + b"\n" for message in MESSAGES)


@given(st.sets(st.integers(0, len(WRITTEN))))
def test_pieces_may_be_cut_anywhere(cuts: set[int]) -> None:
    """Lines come out whole, in order, and each as soon as it is complete."""
    slot_states = [0, *sorted(cuts), len(WRITTEN)]
    lines = Lines()
    read = [one for begin, end in pairwise(slot_states) for one in lines.feed(WRITTEN[begin:end])]

    assert read == MESSAGES


def test_a_message_is_one_line() -> None:
    """Line feeds in what is said are no ends of it, and what UTF-8 does not have is replaced."""
    assert line({"text": "a\nb\ud800", "n": [1, 2]}) == b'{"text":"a\\nb?","n":[1,2]}\n'


@pytest.mark.parametrize(
    "message",
    [
        Ready(Policy(name="chat", count=2, max_memory=1)),
        Heartbeat(REPORT),
        Signalled(is_graceful=True),
        StillDraining(),
        ReportAnswer(1, REPORT),
        ConnectionsAnswer(2, [CONNECTION], 7),
        ArrivalsAnswer(3, [ARRIVAL], [CAUSE]),
    ],
)
def test_messages_of_a_process_are_decoded(message: FromProcess) -> None:
    """It arrives as it was."""
    assert decode(from_process, line(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        Accept([0, 1]),
        Drain(keeps_accepting=True),
        Stop(),
        GetReport(3),
        GetConnections(4, 1000),
        GetArrivals(5, NONCE),
    ],
)
def test_messages_of_the_master_are_decoded(message: FromMaster) -> None:
    """It arrives as it was."""
    assert decode(from_master, line(message)) == message


DEEP = b"[" * 200_000
POLICY = b'{"say":"ready","policy":{"name":"chat","count":%s,"stall":%s}}'
GARBAGE = [
    b"nonsense",
    b"[]",
    b"1",
    b"null",
    b"",
    b"\xff\xfe",
    b'{"a":1',
    b"{}",
    b'{"say":"beat"}',
    b'{"say":"beat","report":{}}',
    b'{"say":"beat","report":null}',
    b'{"say":"ready"}',
    b'{"say":"ready","policy":[]}',
    b'{"say":"ready","policy":{"name":"chat"}}',
    b'{"say":"report","to":"1","report":null}',
    b'{"say":"connections","to":1,"connections":[{}],"total":1}',
    b'{"say":"connections","to":1,"connections":[],"total":-1}',
    b'{"say":["beat"]}',
    POLICY % (b"0", b"1"),
    POLICY % (b"-1", b"1"),
    POLICY % (b"1.5", b"1"),
    POLICY % (b"1", b"-1"),
    POLICY % (b"1", b"1e400"),
    POLICY % (b"1", b"NaN"),
    POLICY % (b"1", b"1e300"),
    DEEP,
    b'{"say":"beat","more":' + DEEP,
    b'{"more":' + DEEP,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: repr(garbage[:40]))
def test_garbage_is_refused(garbage: bytes) -> None:
    """Every invalid line raises the same kind of error."""
    with pytest.raises(ValueError, match=r".+"):
        read(from_process, [garbage])


def test_what_a_newer_process_adds_is_passed_over() -> None:
    """A reload may load a newer version than the master's."""
    written = POLICY % (b'1,"new":[1]', b"1")

    assert read(from_process, [b'{"say":"new","more":[{}]}', written]) == [
        Ready(Policy(name="chat", count=1, stall=1.0))
    ]
    assert read(from_master, [b'{"do":"new"}']) == []


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["open", "ended"])
def test_a_line_is_bounded(end: bytes) -> None:
    """Whether its end has come or not; that of a line before does not count."""
    longest = b"x" * 100

    assert Lines(100).feed(longest + b"\n" + longest) == [longest]
    with pytest.raises(ValueError, match="more than 100 bytes"):
        Lines(100).feed(longest + b" " + end)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        Lines(100).feed(b"{}\n" + longest + b" " + end)


def test_a_long_list_of_connections_fits() -> None:
    """One of the size that a process may send, over a real socket pair."""
    written = line(ConnectionsAnswer(1, [CONNECTION] * 40_000, 40_000))
    left = written
    ours, theirs = socket.socketpair()
    lines = Lines()
    read: list[bytes] = []
    with ours, theirs:
        ours.settimeout(0)
        while left:
            left = left[ours.send(left) :]
            read += lines.feed(theirs.recv(1 << 20))
        while not read:
            read += lines.feed(theirs.recv(1 << 20))

    assert read == [written[:-1]]
    assert len(written) < MAX_LINE_SIZE


def test_a_line_in_many_pieces_takes_no_longer() -> None:
    """A process that sends a long line a byte at a time keeps the master no longer than another."""
    lines = Lines()
    lines.feed(b"x" * (MAX_LINE_SIZE - 100_000))
    started_at = time.process_time()
    for _ in range(50_000):
        lines.feed(b"x")

    assert time.process_time() - started_at < 5
