"""Protocols on a byte stream: how packets are cut, wherever the stream is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.errors import PacketError
from gateman.protocols.base import PacketProtocol, PacketReader
from gateman.protocols.built_in import BUILT_IN, make_reader
from gateman.protocols.frame import Frame
from gateman.protocols.raw import Raw
from gateman.protocols.text import Text

LINES = st.text(max_size=8).filter(lambda text: "\n" not in text and "\r" not in text)


def read_cut(protocol: PacketProtocol, stream: bytes, cut: int) -> list[object]:
    """Read a stream that arrives in two parts."""
    reader = make_reader(protocol, 1 << 20)
    messages = [*reader.feed(stream[:cut]), *reader.feed(stream[cut:])]
    assert not reader.is_incomplete
    return messages


@given(st.lists(LINES, max_size=3))
def test_lines_survive_every_cut(lines: list[str]) -> None:
    text = Text()
    stream = b"".join(map(text.encode, lines))
    for cut in range(len(stream) + 1):
        assert read_cut(text, stream, cut) == lines


@given(st.lists(st.binary(max_size=8), max_size=3))
def test_frames_survive_every_cut(payloads: list[bytes]) -> None:
    frame = Frame()
    stream = b"".join(map(frame.encode, payloads))
    for cut in range(len(stream) + 1):
        assert read_cut(frame, stream, cut) == payloads


def test_text_and_bytes_go_out_in_the_form_of_each_protocol() -> None:
    """So that a message to a group reaches the members of all protocols."""
    for message in ("ä", "ä".encode()):
        assert {name: protocol.encode(message) for name, protocol in BUILT_IN.items()} == {
            "tcp": b"\xc3\xa4",
            "text": b"\xc3\xa4\n",
            "frame": b"\0\0\0\x06\xc3\xa4",
        }


def test_bytes_are_passed_as_they_arrive() -> None:
    assert read_cut(Raw(), b"abcdef", 2) == [b"ab", b"cdef"]
    assert (Raw().encode("ä"), Raw().encode(memoryview(b"x"))) == (b"\xc3\xa4", b"x")


def test_a_line_of_windows_ends_before_its_carriage_return() -> None:
    assert list(make_reader(Text(), 100).feed(b"one\r\ntwo\n\r\n")) == ["one", "two", ""]


def test_messages_before_a_faulty_packet_are_delivered() -> None:
    """Whether they have arrived with it or before it."""
    messages = make_reader(Text(), 100).feed(b"one\ntwo\n\xff\nfour\n")
    assert [next(messages), next(messages)] == ["one", "two"]
    with pytest.raises(PacketError, match="a line is not UTF-8"):
        next(messages)


def test_what_frame_makes_is_what_workerman_reads() -> None:
    """Four bytes, big-endian: the length of all, themselves included."""
    assert Frame().encode(b"hello") == b"\x00\x00\x00\x09hello"


@pytest.mark.parametrize(
    ("protocol", "stream", "cause"),
    [
        (Text(), b"x" * 11, "too_big"),
        (Text(), b"x" * 10 + b"\n", "too_big"),
        (Text(), b"\xff\n", "not_utf8"),
        (Frame(), b"\x00\x00\x00\x0b", "too_big"),
        (Frame(), b"\xff\xff\xff\xff", "too_big"),
        (Frame(), b"\x00\x00\x00\x03abc", "malformed"),
        (Frame(), b"\x00\x00\x00\x00", "malformed"),
    ],
)
def test_what_is_no_packet_is_refused_before_it_is_stored(
    protocol: PacketProtocol, stream: bytes, cause: str
) -> None:
    with pytest.raises(PacketError) as refused:
        list(make_reader(protocol, 10).feed(stream))
    assert refused.value.cause == cause


class _Stuck(Raw):
    def packet_size(self, data: bytearray) -> int:
        return -len(data)


def test_a_protocol_that_makes_no_progress_ends_the_connection() -> None:
    with pytest.raises(PacketError, match="a packet of -3 bytes"):
        list(PacketReader(_Stuck(), 10).feed(b"abc"))


@pytest.mark.parametrize(
    ("protocol", "message", "problem"),
    [
        (Text(), "one\ntwo", "a line cannot contain a line break"),
        (Text(), "one\rtwo", "a line cannot contain a line break"),
        (Text(), b"\xff", "a line is text, and these bytes are not UTF-8"),
        (Text(), 5, "a line is text, and this is of type int"),
        (Frame(), 5, "a packet is bytes, and this is of type int"),
        (Raw(), None, "only bytes can be sent, and not NoneType"),
    ],
)
def test_what_a_protocol_cannot_carry_is_not_sent(
    protocol: PacketProtocol, message: object, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        protocol.encode(message)


@given(
    st.lists(
        st.sampled_from([b"a", b"\n", b"\r", b"\xc3", b"\xa4", b"bc\n", b"\xff"]), max_size=12
    ),
    st.integers(1, 6),
)
def test_lines_are_read_as_the_protocol_says(parts: list[bytes], max_size: int) -> None:
    """The reader of lines is only faster: the same messages, and then the same error."""
    readers = [make_reader(Text(), max_size), PacketReader(Text(), max_size)]
    found: list[list[object]] = [[], []]
    for reader, messages in zip(readers, found, strict=True):
        try:
            for part in parts:
                # A line is decoded when it is read, and not before.
                messages.extend(reader.feed(part))
        except PacketError as error:
            messages.append(error.cause)
        else:
            messages.append(bytes(reader.data))

    assert found[0] == found[1]
