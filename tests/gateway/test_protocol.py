"""Parcels: what is written is read, and nothing else is."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.cluster.names import ClientId
from gateman.errors import EnvelopeError
from gateman.gateway import protocol as p

CLIENT = ClientId("0a1b2c3d4e5f-7")

EVENTS: list[p.AnyEvent] = [
    p.AdoptEvent(CLIENT, 0, b"\x80", "2001:db8::1", 443),
    p.ConnectEvent(CLIENT, 1, None, "10.0.0.1", 0, b"GET / HTTP/1.1\r\n\r\n"),
    p.OpenEvent(CLIENT),
    p.MessageEvent(CLIENT, 2, b"", is_text=True, payload=b"\xff", is_last=False),
    p.MessageEvent(CLIENT, is_text=False, payload=bytes(300)),
    p.CloseEvent(CLIENT, 0, None, 4999, "grüße"),
]

PARCELS: list[p.Packet] = [
    p.Offer(is_leaving=True, load=7),
    p.Discover(),
    p.Events(3, 2, 17, EVENTS),
    p.Events(1, 0, 1, []),
    p.Done(
        3,
        17,
        has_gap=True,
        first=9,
        results=[
            p.Result(1),
            p.Result(2, b"\x80"),
            p.Result(3, None, p.HandshakeAnswer(403, "no", {"Retry-After": "1"})),
        ],
    ),
    p.Begun(3, 17),
    p.Released(3, 17, has_successor=True),
    p.Leave(),
]


@pytest.mark.parametrize("packet", PARCELS, ids=lambda one: type(one).__name__)
def test_what_is_written_is_read(packet: p.Packet) -> None:
    """Every kind arrives as it was sent."""
    assert p.decode(p.encode(packet)) == packet


def test_every_kind_is_tried() -> None:
    """Whatever is added travels here too."""
    assert {type(one) for one in PARCELS} == set(get_args(p.Packet))
    assert {type(one) for one in EVENTS} == set(get_args(p.AnyEvent))


@pytest.mark.parametrize("packet", PARCELS, ids=lambda one: type(one).__name__)
def test_a_part_is_refused(packet: p.Packet) -> None:
    """A packet that was cut anywhere is none."""
    data = p.encode(packet)
    for size in range(len(data)):
        with pytest.raises(EnvelopeError):
            p.decode(data[:size])


FORGED: list[Any] = [
    None,
    7,
    "s",
    {},
    [],
    ["?"],
    ["s", "more"],
    ["o"],
    ["o", 1, 0],
    ["o", True, -1],
    ["o", True, 1.5],
    ["b", 1, -1],
    ["b", 1],
    ["r", "1", 1],
    ["e", 1, 0, 1],
    ["e", 1, 0, 1, None],
    ["e", 1, 0, 1, [["?", "n-1", 0, None]]],
    ["e", 1, 0, 1, [["o"]]],
    ["e", 1, 0, 1, [["o", "n1", 0, None]]],
    ["e", 1, 0, 1, [["o", "n" * 65, 0, None]]],
    ["e", 1, 0, 1, [["o", "n-1", 3, None]]],
    ["e", 1, 0, 1, [["o", "n-1", -1, None]]],
    ["e", 1, 0, 1, [["o", "n-1", 0, "text"]]],
    ["e", 1, 0, 1, [["o", "n-1", 0, None, "more"]]],
    ["e", 1, 0, 1, [["a", "n-1", 0, None, 7]]],
    ["e", 1, 0, 1, [["a", "n-1", 0, None, "10.0.0.1", -1]]],
    ["e", 1, 0, 1, [["m", "n-1", 0, None, 1, b""]]],
    ["e", 1, 0, 1, [["m", "n-1", 0, None, True, "text"]]],
    ["e", 1, 0, 1, [["x", "n-1", 0, None, 999]]],
    ["e", 1, 0, 1, [["x", "n-1", 0, None, 5000]]],
    ["e", 1, 0, 1, [["x", "n-1", 0, None, 1000, "r" * 124]]],
    ["d", 1, 0, False, 1],
    ["d", 1, 0, 0, 1, []],
    ["d", 1, 0, False, 1, [[-1]]],
    ["d", 1, 0, False, 1, [[1, "text"]]],
    ["d", 1, 0, False, 1, [[1, None, [-1]]]],
    ["d", 1, 0, False, 1, [[1, None, [403, "", {"a": 1}]]]],
]


@pytest.mark.parametrize("value", FORGED, ids=repr)
def test_what_is_forged_is_refused(value: Any) -> None:
    """Kind, number, type and length of everything are checked before anybody acts."""
    with pytest.raises(EnvelopeError) as caught:
        p.decode(msgspec.msgpack.encode(value))

    assert str(caught.value).startswith(
        "a packet between gateway and business worker is malformed ("
    )


def test_depth_is_bounded() -> None:
    """Lists in lists do not exhaust the stack."""
    with pytest.raises(EnvelopeError):
        p.decode(b"\x91" * 200_000)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_packet_or_refused(data: bytes) -> None:
    """Nothing else is ever raised."""
    try:
        p.decode(data)
    except EnvelopeError:
        return


@given(st.sampled_from(PARCELS), st.data())
def test_a_changed_byte_is_a_packet_or_refused(packet: p.Packet, data: st.DataObject) -> None:
    """A damaged packet means something that can be, or nothing."""
    encoded = bytearray(p.encode(packet))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] = data.draw(st.integers(0, 255))
    try:
        p.decode(bytes(encoded))
    except EnvelopeError:
        return
