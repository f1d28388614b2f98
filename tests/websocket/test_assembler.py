"""Frames to messages, and every way in which a sequence of frames can be wrong."""

import re
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from itertools import product
from struct import pack
from sys import getsizeof
from time import process_time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as OracleFrame
from websockets.protocol import State
from websockets.server import ServerProtocol

from gateman.errors import ProtocolError
from gateman.websocket.assembler import MAX_EMPTY_FRAGMENTS, Assembler, check_control
from gateman.websocket.deflate import Inflater

CONTINUATION, TEXT, BINARY = 0, 1, 2
RSV1 = 4
LIMIT = 1 << 20

Frame = tuple[int, bool, int, bytes]  # opcode, FIN, reserved bits, payload
Verdict = tuple[list[str | bytes], int | None]  # messages, code to close with


def verdict(
    frames: Sequence[Frame], limit: int = LIMIT, inflater: Inflater | None = None
) -> Verdict:
    """Feed frames, and tell what came of them."""
    assembler = Assembler(limit, inflater)
    messages: list[str | bytes] = []
    for frame in frames:
        try:
            message = assembler.feed(*frame)
        except ProtocolError as error:
            return messages, error.close_code
        if message is not None:
            messages.append(message)
    return messages, None


def feed_measured(assembler: Assembler, frame: Frame) -> tuple[int, int]:
    """Feed a frame that must fail, and tell its close code and the most memory it took."""
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError) as caught:
            assembler.feed(*frame)
        return caught.value.close_code, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def fragments(opcode: int, *payloads: bytes, rsv: int = 0) -> list[Frame]:
    """Make the frames of one message."""
    last = len(payloads) - 1
    return [
        (CONTINUATION if i else opcode, i == last, 0 if i else rsv, payload)
        for i, payload in enumerate(payloads)
    ]


def cuts(payload: bytes) -> Iterator[list[bytes]]:
    """Cut a payload in two at each byte, and into single bytes."""
    for at in range(len(payload) + 1):
        yield [payload[:at], payload[at:]]
    if payload:
        yield [bytes([byte]) for byte in payload]


def compress(data: bytes) -> bytes:
    """Compress a message as RFC 7692, section 7.2.1 says."""
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize(
    ("opcode", "payload", "message"),
    [
        (TEXT, b"", ""),
        (BINARY, b"", b""),
        (TEXT, b"hello", "hello"),
        (BINARY, b"\x00\xff\xc3", b"\x00\xff\xc3"),
        (TEXT, "aé€😀\U0010ffff\0\ufeff".encode(), "aé€😀\U0010ffff\0\ufeff"),
        (TEXT, b"x" * 65536, "x" * 65536),
    ],
)
def test_a_message_is_the_same_however_it_is_cut(
    opcode: int, payload: bytes, message: str | bytes
) -> None:
    """Text is str and binary is bytes, in one frame, in two cut anywhere, and byte by byte."""
    pieces = cuts(payload) if len(payload) < 100 else [[payload[:1], payload[1:]]]

    assert verdict([(opcode, True, 0, payload)]) == ([message], None)
    for cut in pieces:
        assert verdict(fragments(opcode, *cut)) == ([message], None)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([(CONTINUATION, True, 0, b"a")], ([], 1002)),
        ([(CONTINUATION, False, 0, b"a")], ([], 1002)),
        ([(TEXT, True, 0, b"a"), (CONTINUATION, True, 0, b"b")], (["a"], 1002)),
        ([(TEXT, False, 0, b"a"), (TEXT, True, 0, b"b")], ([], 1002)),
        ([(TEXT, False, 0, b"a"), (BINARY, False, 0, b"b")], ([], 1002)),
        ([*fragments(TEXT, b"a", b"b"), (CONTINUATION, True, 0, b"c")], (["ab"], 1002)),
        ([*fragments(TEXT, b"a", b"b"), *fragments(BINARY, b"c", b"")], (["ab", b"c"], None)),
    ],
)
def test_the_order_of_frames(frames: list[Frame], expected: Verdict) -> None:
    """A continuation continues something, a message ends before the next; else 1002."""
    assert verdict(frames) == expected


@pytest.mark.parametrize("rsv", range(1, 8))
def test_reserved_bits_need_an_extension(rsv: int) -> None:
    """Without an extension, no reserved bit is allowed on any frame."""
    for opcode, fin in product((TEXT, BINARY), (True, False)):
        assert verdict([(opcode, fin, rsv, b"a")]) == ([], 1002)
    assert verdict([(TEXT, False, 0, b"a"), (CONTINUATION, True, rsv, b"b")]) == ([], 1002)


@pytest.mark.parametrize("rsv", [1, 2, 3, 5, 6, 7])
def test_compression_uses_one_reserved_bit_only(rsv: int) -> None:
    """With permessage-deflate, RSV2 and RSV3 still mean nothing."""
    assert verdict([(TEXT, True, rsv, compress(b"a"))], inflater=Inflater()) == ([], 1002)


def test_control_frames_without_reserved_bits_pass() -> None:
    """Nothing is wrong with them."""
    check_control(0)


@pytest.mark.parametrize("rsv", range(1, 8))
def test_control_frames_have_no_reserved_bits(rsv: int) -> None:
    """Also with permessage-deflate, which does not touch control frames."""
    with pytest.raises(ProtocolError) as caught:
        check_control(rsv)

    assert str(caught.value) == "1002: reserved bits in a control frame"


def test_the_assembler_shows_whether_a_message_is_under_way() -> None:
    """The flag is true from the first frame of several to the last."""
    assembler = Assembler(LIMIT)
    seen = [assembler.in_message]
    for frame in [(TEXT, True, 0, b"a"), *fragments(TEXT, b"a", b"b", b"c")]:
        assembler.feed(*frame)
        seen.append(assembler.in_message)

    assert seen == [False, False, True, True, False]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("inflater", [None, Inflater()])
def test_a_payload_may_change_after_the_call(opcode: int, inflater: Inflater | None) -> None:
    """The engine's buffer is used again for the next frame."""
    assembler = Assembler(LIMIT, inflater)
    raw = b"first second" if inflater is None else compress(b"first second")
    buffer = bytearray(8)
    message: str | bytes | None = None
    for frame_opcode, fin, rsv, payload in fragments(
        opcode, raw[:8], raw[8:], rsv=RSV1 if inflater else 0
    ):
        buffer[: len(payload)] = payload
        with memoryview(buffer) as view, view[: len(payload)] as part:
            message = assembler.feed(frame_opcode, fin, rsv, part)
        buffer[:] = b"\xff" * 8

    assert message == ("first second" if opcode == TEXT else b"first second")


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ([(CONTINUATION, True, 0, b"")], "1002: continuation of no message"),
        ([(TEXT, False, 0, b""), (TEXT, True, 0, b"")], "1002: new message inside another one"),
        ([(TEXT, True, 1, b"")], "1002: reserved bits without an extension"),
        (
            [(TEXT, False, 0, b""), (CONTINUATION, True, 4, b"")],
            "1002: reserved bits on a continuation frame",
        ),
        ([(TEXT, True, 0, b"\xff")], "1007: the text is not UTF-8"),
        ([(TEXT, False, 0, b"\xff")], "1007: the text is not UTF-8"),
        ([(BINARY, True, 0, b"12345")], "1009: a message may have 4 bytes"),
        ([(BINARY, False, 0, b"12345")], "1009: a message may have 4 bytes"),
        (
            [(BINARY, False, 0, b""), *[(0, False, 0, b"")] * 128],
            "1008: too many empty fragments",
        ),
    ],
)
def test_errors_say_what_is_wrong(frames: list[Frame], text: str) -> None:
    """The reason is for the peer's log and carries nothing of the payload."""
    assembler = Assembler(4)
    for frame in frames[:-1]:
        assembler.feed(*frame)
    with pytest.raises(ProtocolError) as caught:
        assembler.feed(*frames[-1])

    assert str(caught.value) == text


# RFC 3629, section 4, written down: the characters, and the beginnings of characters.
CHARACTER = (
    rb"[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]"
    rb"|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
BEGINNING = (
    rb"[\xc2-\xdf]"
    rb"|\xe0[\xa0-\xbf]?|[\xe1-\xec\xee\xef][\x80-\xbf]?|\xed[\x80-\x9f]?"
    rb"|\xf0([\x90-\xbf][\x80-\xbf]?)?|[\xf1-\xf3][\x80-\xbf]{0,2}|\xf4([\x80-\x8f][\x80-\xbf]?)?"
)
is_utf8 = re.compile(b"(?:%s)*+" % CHARACTER).fullmatch
may_become_utf8 = re.compile(b"(?:%s)*+(?:%s)?" % (CHARACTER, BEGINNING)).fullmatch


def fatal_index(data: bytes) -> int | None:
    """Find the first byte after which no continuation makes the data UTF-8."""
    for end in range(1, len(data) + 1):
        if may_become_utf8(data[:end]) is None:
            return end - 1
    return None


@pytest.mark.parametrize(
    ("payload", "fatal"),
    [
        (b"\x80", 0),
        (b"a\xff", 1),
        (b"\xc0\x80", 0),
        (b"\xc1\xbf", 0),
        (b"\xe0\x80\x80", 1),
        (b"\xe0\x9f\xbf", 1),
        (b"\xf0\x80\x80\x80", 1),
        (b"\xf0\x8f\xbf\xbf", 1),
        (b"\xed\xa0\x80", 1),
        (b"\xed\xbf\xbf", 1),
        (b"\xf4\x90\x80\x80", 1),
        (b"\xf5\x80\x80\x80", 0),
        (b"\xe2\x82a", 2),
        (b"\xf0\x9fa\x80", 2),
        (b"\xf0\x9f\x98a", 3),
        (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80\x65\x64", 12),
    ],
)
def test_invalid_text_fails_at_its_first_wrong_byte(payload: bytes, fatal: int) -> None:
    """Cut anywhere, the error comes with the frame that holds the fatal byte, and no later."""
    assert fatal_index(payload) == fatal
    assert verdict([(TEXT, True, 0, payload)]) == ([], 1007)
    for at in range(len(payload) + 1):
        head = [(TEXT, False, 0, payload[:at])]
        assert verdict(head) == ([], 1007 if at > fatal else None)
        assert verdict([*head, (CONTINUATION, False, 0, payload[at:])]) == ([], 1007)
    one_by_one = [(CONTINUATION if i else TEXT, False, 0, payload[i : i + 1]) for i in range(fatal)]
    assert verdict(one_by_one) == ([], None)
    assert verdict([*one_by_one, (int(not fatal), False, 0, payload[fatal : fatal + 1])]) == (
        [],
        1007,
    )


@pytest.mark.parametrize("payload", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"ok\xf4\x8f"])
def test_text_may_not_end_inside_a_character(payload: bytes) -> None:
    """Incomplete is fine between frames, and 1007 at the end of the message."""
    assert verdict([(TEXT, True, 0, payload)]) == ([], 1007)
    for cut in cuts(payload):
        assert verdict(fragments(TEXT, *cut)) == ([], 1007)
        assert verdict(fragments(TEXT, *cut, b"")) == ([], 1007)
    assert verdict([(TEXT, False, 0, payload)]) == ([], None)


def test_all_pairs_of_bytes_fail_as_early_as_they_can() -> None:
    """For each of the 65536 beginnings of a text, exactly the hopeless ones fail."""
    for data in map(bytes, product(range(256), repeat=2)):
        expected = None if may_become_utf8(data) else 1007

        assert verdict([(TEXT, False, 0, data)])[1] == expected


@given(
    st.lists(
        st.sampled_from([b"a", b"\xc3", b"\xa9", b"\xe2\x82", b"\xf0\x9f", b"\x98\x80", b"\xed"])
    )
)
def test_text_is_accepted_exactly_if_it_is_utf8(pieces: list[bytes]) -> None:
    """Of arbitrary pieces in frames of their own, those that RFC 3629 allows pass."""
    data = b"".join(pieces)
    expected = ([data.decode()], None) if is_utf8(data) else ([], 1007)

    assert verdict(fragments(TEXT, *pieces, b"")) == expected


def test_compressed_text_is_checked_as_early() -> None:
    """What is wrong in the decompressed text fails with its frame, not at the end."""
    stream = zlib.compressobj(wbits=-15)
    first = stream.compress(b"fine \xed") + stream.flush(zlib.Z_SYNC_FLUSH)
    second = stream.compress(b"\xa0") + stream.flush(zlib.Z_SYNC_FLUSH)
    frames = [(TEXT, False, RSV1, first), (CONTINUATION, False, 0, second)]

    assert verdict(frames[:1], inflater=Inflater()) == ([], None)
    assert verdict(frames, inflater=Inflater()) == ([], 1007)
    assert verdict([(TEXT, True, RSV1, compress(b"\xff"))], inflater=Inflater()) == ([], 1007)


@pytest.mark.parametrize("limit", [1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("inflated", [False, True])
def test_a_message_may_be_as_large_as_the_limit(*, limit: int, inflated: bool) -> None:
    """Exactly the limit passes and one byte more is 1009, whole and in fragments."""
    for size, code in ((limit, None), (limit + 1, 1009)):
        payload = b"x" * size
        messages: list[str | bytes] = [] if code else [payload]
        raw = compress(payload) if inflated else payload
        rsv = RSV1 if inflated else 0
        for pieces in ([raw], [raw[:1], raw[1:]], [raw[:-1], b"", raw[-1:]], [b"", raw, b""]):
            frames = fragments(BINARY, *pieces, rsv=rsv)

            assert verdict(frames, limit, Inflater() if inflated else None) == (messages, code)


def test_the_limit_is_for_one_message() -> None:
    """Each message starts anew."""
    frames = [*fragments(BINARY, b"ab", b"cd"), (BINARY, True, 0, b"efgh")]

    assert verdict(frames * 3, 4) == ([b"abcd", b"efgh"] * 3, None)


def test_what_is_too_big_is_not_buffered() -> None:
    """The frame that crosses the limit costs no memory."""
    payload = bytes(LIMIT)
    assembler = Assembler(LIMIT)
    assembler.feed(*fragments(BINARY, payload[: LIMIT // 2], b"")[0])

    code, peak = feed_measured(assembler, (CONTINUATION, False, 0, payload))

    assert code == 1009
    assert peak < 4096


@pytest.mark.parametrize("inflater", [None, Inflater()])
def test_empty_fragments_are_counted(inflater: Inflater | None) -> None:
    """128 are allowed in one message, with anything between them; the next one is 1008."""
    rsv, data = (RSV1, compress(b"a")) if inflater else (0, b"a")
    begin: list[Frame] = [(BINARY, False, rsv, b"")]
    empties: list[Frame] = [(CONTINUATION, False, 0, b"")] * (MAX_EMPTY_FRAGMENTS - 1)
    end: list[Frame] = [(CONTINUATION, False, 0, data), (CONTINUATION, True, 0, b"")]

    assert verdict([*begin, *empties, *end] * 2, inflater=inflater) == ([b"a"] * 2, None)
    assert verdict([*begin, *empties, end[0], empties[0]], inflater=inflater) == ([], 1008)


def test_a_bomb_in_one_frame_stays_within_the_limit() -> None:
    """64 MiB in 64 KiB: the peak is a small multiple of the limit, then 1009."""
    bomb = compress(bytes(64 << 20))

    code, peak = feed_measured(Assembler(LIMIT, Inflater()), (BINARY, True, RSV1, bomb))

    assert code == 1009
    assert peak < 2 * LIMIT + len(bomb) + (64 << 10)


def test_a_bomb_after_a_full_message_is_not_inflated() -> None:
    """
    A message that has reached the limit exactly leaves a bound of nothing, not none.

    zlib takes a maximum of 0 for "no limit": elsewhere, a fragment of 306 KB behind a full message
    grew the process by 601 MB.
    """
    stream = zlib.compressobj(wbits=-15)
    full = stream.compress(bytes(LIMIT)) + stream.flush(zlib.Z_SYNC_FLUSH)
    bomb = stream.compress(bytes(64 << 20)) + stream.flush(zlib.Z_SYNC_FLUSH)
    assembler = Assembler(LIMIT, Inflater())
    assembler.feed(*fragments(BINARY, full, b"", rsv=RSV1)[0])

    code, peak = feed_measured(assembler, (CONTINUATION, False, 0, bomb))

    assert code == 1009
    assert peak < 2 * len(bomb) + (64 << 10)


def test_an_idle_assembler_is_small() -> None:
    """Between messages there is nothing but four fields."""
    assert getsizeof(Assembler(LIMIT, Inflater())) <= 96


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_time_is_linear_in_the_fragments(opcode: int) -> None:
    """Sixteen times the fragments of 64 bytes take far less than 16 squared times the time."""

    def cost(count: int) -> float:
        frames = fragments(opcode, *[b"x" * 64] * count)
        best = float("inf")
        for _ in range(3):
            started_at = process_time()
            verdict(frames)
            best = min(best, process_time() - started_at)
        return best

    assert cost(16384) < 64 * cost(1024)


def on_the_wire(frame: Frame) -> bytes:
    """Encode a client's frame, masked with zeros."""
    opcode, fin, rsv, payload = frame
    first = fin << 7 | rsv << 4 | opcode
    size = len(payload)
    head = pack("!BB", first, 128 | size) if size < 126 else pack("!BBH", first, 254, size)
    return head + bytes(4) + payload


def oracle(frames: Sequence[Frame], limit: int = LIMIT, *, deflate: bool = False) -> Verdict:
    """Ask websockets' Sans-I/O server, which leaves joining and UTF-8 to its caller."""
    protocol = ServerProtocol(state=State.OPEN, max_size=limit)
    if deflate:
        protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]  # noqa: FBT003
    messages: list[str | bytes] = []
    opcode, data = BINARY, b""
    for frame in frames:
        protocol.receive_data(on_the_wire(frame))
        for event in protocol.events_received():
            assert isinstance(event, OracleFrame)
            opcode = event.opcode or opcode
            data += event.data
            if opcode == TEXT and not (is_utf8(data) if event.fin else may_become_utf8(data)):
                return messages, 1007
            if event.fin:
                messages.append(data.decode() if opcode == TEXT else data)
                data = b""
        if protocol.close_sent is not None:
            return messages, protocol.close_sent.code
    return messages, None


payloads = st.one_of(
    st.just(b""),
    st.binary(max_size=8),
    st.text(max_size=4).map(str.encode),
    st.sampled_from([b"\xc3", b"\xa9", b"\xf0\x9f", b"\x98\x80", b"x" * 125, b"x" * 126]),
)
rsvs = st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 7])
arbitrary = st.tuples(st.integers(0, 2), st.booleans(), rsvs, payloads)


@given(st.lists(arbitrary, max_size=20))
@example([(TEXT, False, 0, b"\xc3"), (CONTINUATION, True, 0, b"\xa9")])
def test_arbitrary_frames_get_the_oracles_verdict(frames: list[Frame]) -> None:
    """On arbitrary sequences, websockets and we deliver the same and close with the same."""
    assert verdict(frames) == oracle(frames)


@st.composite
def sequences(draw: st.DrawFn, *, is_compressed: bool = False) -> list[Frame]:
    """Make legal messages in fragments; only sizes, UTF-8 and reserved bits may be wrong."""
    frames: list[Frame] = []
    stream = zlib.compressobj(wbits=-15)
    for _ in range(draw(st.integers(1, 4))):
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        data = b"".join(draw(st.lists(payloads, max_size=4)))
        rsv = draw(st.sampled_from([0, RSV1])) if is_compressed else 0
        if rsv:
            data = (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4] or b"\0"
        at = sorted(draw(st.lists(st.integers(0, len(data)), max_size=5)))
        pieces = [data[i:j] for i, j in zip([0, *at], [*at, len(data)], strict=True)]
        frames += fragments(opcode, *pieces, rsv=rsv)
    if is_compressed and draw(st.booleans()):
        at_frame = draw(st.integers(0, len(frames) - 1))
        opcode, fin, rsv, payload = frames[at_frame]
        frames[at_frame] = (opcode, fin, rsv | draw(st.sampled_from([1, 2])), payload)
    return frames


@given(sequences(), st.integers(1, 300))
def test_sizes_get_the_oracles_verdict(frames: list[Frame], limit: int) -> None:
    """On legal sequences with a small limit, websockets and we cut at the same frame."""
    assert verdict(frames, limit) == oracle(frames, limit)


@given(sequences(is_compressed=True))
def test_compressed_messages_get_the_oracles_verdict(frames: list[Frame]) -> None:
    """On compressed and plain messages mixed, websockets and we agree."""
    assert verdict(frames, inflater=Inflater()) == oracle(frames, deflate=True)


@given(st.lists(arbitrary, max_size=20), st.integers(1, 64))
def test_nothing_but_a_protocol_error_comes_out(frames: list[Frame], limit: int) -> None:
    """Arbitrary bytes as compressed data end in messages within the limit, or in a close code."""
    messages, code = verdict(frames, limit, Inflater())

    assert code in {None, 1002, 1007, 1009}
    assert all(len(m.encode() if isinstance(m, str) else m) <= limit for m in messages)
