"""The bytes between a process and its router."""

import struct

import pytest

from gateman.bus.router_wire import HELLO, MAX_FRAME_SIZE, FrameKind, RouterWire, frame
from gateman.bus.subjects import subject
from gateman.bus.wire import Broken, BrokerEvent, BrokerReply


def test_frames_are_written_as_documented() -> None:
    """A frame is its kind, two sizes, the subject and the payload."""
    wire = RouterWire()
    room = subject("group", "a b")

    assert wire.publish(room, b"hello") == b"\x01\x00\x0b\x00\x00\x00\x05group.a=20bhello"
    assert wire.subscribe(room) == b"\x02\x00\x0b\x00\x00\x00\x00group.a=20b"
    assert wire.unsubscribe(room) == b"\x03\x00\x0b\x00\x00\x00\x00group.a=20b"
    assert (
        wire.ask(room, 258) == b"\x08\x00\x0b\x00\x00\x00\x08group.a=20b" + bytes(6) + b"\x01\x02"
    )
    assert (wire.ping, wire.pong) == (b"\x04" + bytes(6), b"\x05" + bytes(6))
    assert HELLO == b"\x07\x00\x00\x00\x00\x00\x0dgateman-bus 3"


def test_requests_about_history_are_written_as_documented() -> None:
    """A number and the request; the answer has the same number."""
    written = RouterWire().history(subject("history", "room"), 258, b"request")

    assert written == b"\x0a\x00\x0c\x00\x00\x00\x0fhistory.room" + bytes(6) + b"\x01\x02request"
    assert RouterWire().feed(frame(FrameKind.HISTORY_REPLY, payload=bytes(7) + b"\x05answer")) == [
        BrokerReply(5, b"answer")
    ]


def test_what_is_published_is_what_arrives() -> None:
    """The router passes a frame on as it is."""
    room = subject("group", "room")

    assert RouterWire().feed(RouterWire().publish(room, b"hello")) == [("group.room", b"hello")]


@pytest.mark.parametrize(
    ("data", "event"),
    [
        (frame(FrameKind.DROPPED, payload=b"short"), Broken("a frame is of kind 6")),
        (frame(FrameKind.NO_SUBSCRIBERS, payload=b"short"), Broken("a frame is of kind 9")),
        (frame(FrameKind.HISTORY_REPLY, payload=bytes(7)), Broken("a frame is of kind 11")),
        (frame(FrameKind.HISTORY, b"x", bytes(8)), Broken("a frame is of kind 10")),
        (frame(FrameKind.QUERY, b"x", bytes(8)), Broken("a frame is of kind 8")),
        (struct.pack(">BHI", 99, 0, 0), Broken("a frame is of kind 99")),
        (struct.pack(">BHI", 1, 0, MAX_FRAME_SIZE + 1), Broken("a frame is too big")),
        (struct.pack(">BHI", 1, 1, MAX_FRAME_SIZE), Broken("a frame is too big")),
        (b"HTTP/1.1 400 Bad Request\r\n", Broken("a frame is too big")),
    ],
)
def test_what_no_router_says_is_broken(data: bytes, event: BrokerEvent) -> None:
    """Nothing is waited for that cannot come."""
    assert RouterWire().feed(data) == [event]


def test_the_biggest_frame_is_read() -> None:
    """The limit is on subject and payload together."""
    payload = bytes(MAX_FRAME_SIZE - 1)

    assert RouterWire().feed(frame(FrameKind.MESSAGE, b"x", payload)) == [("x", payload)]
