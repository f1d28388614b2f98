"""What both wires have in common: what comes may be cut anywhere, and nothing crashes them."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.bus.nats_wire import NatsWire
from gateman.bus.router_wire import HELLO, FrameKind, RouterWire, dropped, frame
from gateman.bus.wire import (
    Broken,
    BrokerEvent,
    BrokerHello,
    BrokerRefusal,
    Control,
    Dropped,
    NoSubscribers,
    Wire,
)

ROUTER = (
    HELLO
    + frame(FrameKind.MESSAGE, b"group.room", b"hello")
    + frame(FrameKind.PONG)
    + frame(FrameKind.MESSAGE, b"x", b"")
    + frame(FrameKind.PING)
    + frame(FrameKind.NO_SUBSCRIBERS, payload=bytes(6) + b"\1\2")
    + dropped(7, 1.5)
)

ROUTER_EVENTS: list[BrokerEvent] = [
    BrokerHello({"speaks": "gateman-bus 3"}),
    ("group.room", b"hello"),
    Control.PONG,
    ("x", b""),
    Control.PING,
    NoSubscribers(258),
    Dropped(7, 1.5),
]

NATS = (
    b'INFO {"max_payload": 1048576, "auth_required": true}\r\n'
    b"MSG group.room 1 5\r\nhello\r\n"
    b"PONG\r\n"
    b"+OK\r\n"
    b"MSG x 22 0\r\n\r\n"
    b"PING\r\n"
    b"MSG group.room 1 _INBOX.x 8\r\n\r\nPING\r\n\r\n"
    b"HMSG =answers.7 2 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"HMSG group.room 1 =answers.1 33 33\r\nNATS/1.0\r\nGateman-Question: 1\r\n\r\n\r\n"
    b"HMSG group.room 1 23 28\r\nNATS/1.0\r\nare: read\r\n\r\nhello\r\n"
    b"-ERR 'Slow Consumer'\r\n"
)

NATS_EVENTS: list[BrokerEvent] = [
    BrokerHello({"max_payload": 1048576, "auth_required": True}),
    ("group.room", b"hello"),
    Control.PONG,
    ("x", b""),
    Control.PING,
    ("group.room", b"\r\nPING\r\n"),
    NoSubscribers(7),
    ("group.room", b"hello"),
    BrokerRefusal("Slow Consumer"),
]

WIRES: list[tuple[Callable[[], Wire], bytes, list[BrokerEvent]]] = [
    (RouterWire, ROUTER, ROUTER_EVENTS),
    (NatsWire, NATS, NATS_EVENTS),
]


@pytest.mark.parametrize(("make", "data", "events"), WIRES)
def test_it_is_read_in_one_piece(
    make: Callable[[], Wire], data: bytes, events: list[BrokerEvent]
) -> None:
    """Everything that came in one read is one list."""
    assert make().feed(data) == events


@pytest.mark.parametrize(("make", "data", "events"), WIRES)
def test_it_is_read_cut_at_every_byte(
    make: Callable[[], Wire], data: bytes, events: list[BrokerEvent]
) -> None:
    """Two reads, at any place, give the same as one."""
    for cut in range(len(data) + 1):
        wire = make()

        assert wire.feed(data[:cut]) + wire.feed(data[cut:]) == events


@pytest.mark.parametrize(("make", "data", "events"), WIRES)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_it_is_read_in_small_pieces(
    make: Callable[[], Wire], data: bytes, events: list[BrokerEvent], size: int
) -> None:
    """Many reads give the same as one."""
    wire = make()
    read: list[BrokerEvent] = []
    for start in range(0, len(data), size):
        read += wire.feed(data[start : start + size])

    assert read == events


@pytest.mark.parametrize("make", [RouterWire, NatsWire])
@given(data=st.binary(max_size=200))
def test_nothing_crashes_it(make: Callable[[], Wire], data: bytes) -> None:
    """Whatever comes is an event or is waited for, and what is broken comes last."""
    events = make().feed(data)

    assert not any(isinstance(event, Broken) for event in events[:-1])


# Lines that begin well and end anyhow; "²" is a digit to Python, and no number.
_HEADED = st.lists(
    st.sampled_from([b"HMSG", b"x", b"1", b"16", b"99", b"-1", b"9" * 30, b"\xb2", b"=answers.3"])
    | st.binary(max_size=5),
    max_size=7,
).map(b" ".join)


@given(line=_HEADED, rest=st.binary(max_size=40))
def test_no_head_crashes_it(line: bytes, rest: bytes) -> None:
    """A message whose sizes make no sense is broken, and what its head says is not believed."""
    events = NatsWire().feed(b"HMSG " + line + b"\r\n" + rest + b"\r\nPING\r\n")

    assert not any(isinstance(event, Broken) for event in events[:-1])


@pytest.mark.parametrize("make", [RouterWire, NatsWire])
def test_a_big_payload_in_many_pieces_is_read_in_little_time(make: Callable[[], Wire]) -> None:
    """A megabyte that comes in a thousand reads is put together once, not a thousand times."""
    payload = bytes(1 << 20)
    data = {
        RouterWire: frame(FrameKind.MESSAGE, b"x", payload),
        NatsWire: b"MSG x 1 1048576\r\n" + payload + b"\r\n",
    }[make]  # type: ignore[index]
    wire = make()
    read: list[BrokerEvent] = []
    for start in range(0, len(data), 1024):
        read += wire.feed(data[start : start + 1024])

    assert read == [("x", payload)]
