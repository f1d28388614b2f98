"""Envelopes: what is written is read, and nothing else is."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.cluster import envelope as e
from gateman.cluster.names import ClientId, Group, NodeId, Uid
from gateman.cluster.publication import ClientInfo, PackedPublication, pack
from gateman.errors import EnvelopeError

NODE = NodeId("0a1b2c3d4e5f")
CLIENT = ClientId("0a1b2c3d4e5f-7")
MAX_SIZE = 1 << 20

ACTIONS: list[e.HubAction] = [
    e.Join(CLIENT, Group("room")),
    e.Leave(CLIENT, Group("room")),
    e.Bind(CLIENT, Uid("42")),
    e.BindOnly(CLIENT, Uid("42"), 4409, "elsewhere"),
    e.Unbind(CLIENT),
    e.CloseClient(CLIENT, 4001, "bye"),
    e.SetSession(CLIENT, {"name": "Ann", "tags": ["a", 1, None, 1.5, b"\x00", {"x": True}]}),
    e.UpdateSession(CLIENT, {}),
    e.Dissolve(Group("room")),
    e.CloseUid(Uid("42"), 4001, "bye", (CLIENT,)),
]


def answer(part: int, problem: e.Problem, value: Any, *, is_last: bool) -> e.QueryReply:
    """Make an answer."""
    raw = e.encode_value(value)
    return e.QueryReply(NODE, 1, part=part, is_last=is_last, problem=problem, value=raw)


ENVELOPES: list[e.Envelope] = [
    e.Messages(NODE, 0, e.Target.ALL, (), [e.Item(kind=1, payload="grüße".encode())]),
    e.Messages(
        NODE,
        7,
        e.Target.GROUPS,
        ("room", "*.>"),
        [e.Item(kind=2, payload=b"\xff", exclude=(CLIENT,))] * 3,
    ),
    e.Messages(
        NODE,
        0,
        e.Target.GROUPS,
        ("room",),
        [
            e.Item(kind=3, payload=b'{"text":"hi"}'),
            e.Item(4, pack(PackedPublication(3, b"1", ClientInfo(CLIENT, "ann")))),
        ],
    ),
    e.SequenceMark(NODE, 12, e.Target.UIDS, ("42",)),
    *(e.Command(NODE, number, action) for number, action in enumerate(ACTIONS)),
    *(e.QueryRequest(NODE, 1, query, "room") for query in e.Query),
    answer(0, e.Problem.NONE, [1, "a"], is_last=True),
    answer(3, e.Problem.UNKNOWN_CLIENT, None, is_last=False),
    e.Hello(NODE, has_clients=True, is_new=False, was_away=True, nodes=(NodeId("n"), NodeId("m"))),
    e.Hello(NODE, True, True, False, (), away=1.5, clock=7, claims=3, service=("a.py",)),  # noqa: FBT003
    e.Claims(NODE, [e.Claim(CLIENT, Uid("42"), 7, 4409, "elsewhere")], 3),
    e.Bye(NODE),
    e.ExtensionMessage(NODE, b"theirs"),
    e.LeaseMessage(NODE, e.LeaseKind.HELD, [e.LeaseMark("chat: report", 5)]),
    e.PresenceChanges(
        NODE,
        Group("room"),
        7,
        0,
        2,
        [e.Joined(ClientInfo(CLIENT, "42", b"{}")), e.Left(CLIENT, 3.0)],
    ),
    e.PresenceRequest(NODE, 1, [Group("room")]),
    e.PresenceStates(
        NODE, 1, [e.ChannelState(Group("room"), 7, 2, is_last=True, infos=[ClientInfo(CLIENT)])]
    ),
    e.DirectMessages(NODE, 3, [e.DirectMessage(CLIENT, kind=1, payload=b"one")]),
]


def plain(envelope: e.Envelope) -> Any:
    """Compare by content; raw values compare by identity."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(envelope))


@pytest.mark.parametrize("envelope", ENVELOPES, ids=lambda one: type(one).__name__)
def test_envelopes_are_decoded_as_they_were_encoded(envelope: e.Envelope) -> None:
    """Every kind arrives as it was sent."""
    read = e.decode(e.encode(envelope), max_size=MAX_SIZE)

    assert type(read) is type(envelope)
    assert plain(read) == plain(envelope)


def test_every_kind_is_tried() -> None:
    """Whatever is added travels here too."""
    assert {type(one) for one in ENVELOPES} == set(get_args(e.Envelope))
    assert {type(one) for one in ACTIONS} == set(get_args(e.HubAction))


@pytest.mark.parametrize("envelope", ENVELOPES, ids=lambda one: type(one).__name__)
def test_a_part_is_refused(envelope: e.Envelope) -> None:
    """An envelope that was cut anywhere is none."""
    data = e.encode(envelope)
    for size in range(len(data)):
        with pytest.raises(EnvelopeError):
            e.decode(data[:size], max_size=MAX_SIZE)


def test_another_version_is_refused() -> None:
    """What a later gateman says may mean something else."""
    data = e.encode(e.Bye(NODE))
    with pytest.raises(EnvelopeError) as caught:
        e.decode(bytes([4]) + data[1:], max_size=MAX_SIZE)

    assert str(caught.value) == "an envelope has version 4, and this process knows 3."


def test_nothing_has_no_version() -> None:
    """An empty payload is no envelope."""
    with pytest.raises(EnvelopeError) as caught:
        e.decode(b"", max_size=MAX_SIZE)

    assert str(caught.value) == "an envelope has no version, and this process knows 3."


def test_a_long_one_is_not_looked_at() -> None:
    """What is longer than the bus allows was forged."""
    with pytest.raises(EnvelopeError) as caught:
        e.decode(bytes(101), max_size=100)

    assert str(caught.value) == "an envelope of 101 bytes is longer than 100 bytes."


FORGED: list[Any] = [
    None,
    7,
    "m",
    {},
    [],
    ["?"],
    ["m"],
    ["y", ""],
    ["y", "n" * 33],
    ["y", 7],
    ["y", "n", "more"],
    ["m", "n", -1, "a", [], []],
    ["m", "n", 0, "z", [], []],
    ["m", "n", 0, "g", [""], []],
    ["m", "n", 0, "g", ["x" * 256], []],
    ["m", "n", 0, "a", [], [["true", b"x", []]]],
    ["m", "n", 0, "a", [], [[True, "x", []]]],
    ["m", "n", 0, "a", [], [[True, b"\xff", []]]],
    ["m", "n", 0, "a", [], [[True, b"\xed\xa0\x80", []]]],
    ["m", "n", 0, "a", [], [[True, b"x", [7]]]],
    ["c", "n", 0, ["?"]],
    ["c", "n", 0, ["x", "n-1", 999, ""]],
    ["c", "n", 0, ["x", "n-1", 1005, ""]],
    ["c", "n", 0, ["x", "n-1", 5000, ""]],
    ["c", "n", 0, ["x", "n-1", 1000, "r" * 124]],
    ["c", "n", 0, ["x", "n-1", 1000, "ü" * 62]],
    ["c", "n", 0, ["s", "n-1", [1]]],
    ["c", "n", 0, ["s", "n-1", {1: 2}]],
    ["q", "n", 1, "everything", ""],
    ["a", "n", 1, 0, True, "why", None],
    ["h", "n", True, False, False, ["n" * 40]],
]


@pytest.mark.parametrize("value", FORGED, ids=repr)
def test_forged_envelopes_are_refused(value: Any) -> None:
    """Kind, number, type, length and UTF-8 of everything are checked before anybody acts."""
    data = bytes([e.VERSION]) + msgspec.msgpack.encode(value)
    with pytest.raises(EnvelopeError) as caught:
        e.decode(data, max_size=MAX_SIZE)

    assert str(caught.value).startswith("an envelope is malformed (")


def test_depth_is_bounded() -> None:
    """A session of lists in lists does not exhaust the stack."""
    nested = b"\x01" + b"\x91" * 200_000
    with pytest.raises(EnvelopeError):
        e.decode(nested, max_size=MAX_SIZE)
    session = b"\x01\x94\xa1c\xa1n\x00\x93\xa1s\xa3n-1\x81\xa1k" + b"\x91" * 200_000 + b"\xc0"
    with pytest.raises(EnvelopeError):
        e.decode(session, max_size=MAX_SIZE)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_envelope_or_refused(data: bytes) -> None:
    """Nothing else is ever raised."""
    for candidate in (data, b"\x01" + data):
        try:
            e.decode(candidate, max_size=MAX_SIZE)
        except EnvelopeError:
            continue


@given(st.sampled_from(ENVELOPES), st.data())
def test_a_changed_byte_is_an_envelope_or_refused(
    envelope: e.Envelope, data: st.DataObject
) -> None:
    """A damaged envelope means something that can be, or nothing."""
    encoded = bytearray(e.encode(envelope))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] = data.draw(st.integers(0, 255))
    try:
        e.decode(bytes(encoded), max_size=MAX_SIZE)
    except EnvelopeError:
        return


@pytest.mark.parametrize("value", [object(), {1: object()}, "\ud800", 1 << 70])
def test_values_that_cannot_be_encoded_are_refused(value: Any) -> None:
    """A session with a socket in it is noticed where it is set."""
    with pytest.raises(EnvelopeError, match=r"^this cannot be sent to another process \("):
        e.encode_value(value)
    with pytest.raises(EnvelopeError):
        e.encode(e.Command(NODE, 0, e.SetSession(CLIENT, {"key": value})))


def test_values_are_decoded_with_their_type() -> None:
    """An answer of another type is none."""
    raw = e.encode_value(["a", "b"])

    assert e.decode_value(raw, list[str]) == ["a", "b"]
    with pytest.raises(EnvelopeError, match=r"^an answer is malformed \("):
        e.decode_value(raw, int)
