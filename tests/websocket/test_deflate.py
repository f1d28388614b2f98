"""permessage-deflate: negotiation, both halves, and their bounds."""

import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from itertools import product
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.frames import Frame, Opcode
from websockets.headers import build_extension, parse_extension

from gateman.errors import ConfigError, HandshakeError, ProtocolError
from gateman.websocket.deflate import Agreement, Deflate, Deflater, Inflater, negotiate

LIMIT = 1 << 20
TEXT = b"the quick brown fox jumps over the lazy dog, then the dog over the fox. " * 20

# RFC 7692, section 7.2.3, example by example.
HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")
HELLO_AGAIN = bytes.fromhex("f2 00 11 00 00")
HELLO_STORED = bytes.fromhex("00 05 00 fa ff 48 65 6c 6c 6f 00")
HELLO_FINAL = bytes.fromhex("f3 48 cd c9 c9 07 00 00")
HELLO_TWO_BLOCKS = bytes.fromhex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00")


def whole(inflater: Inflater, payload: bytes, limit: int = LIMIT) -> bytes:
    """Inflate a message of one frame."""
    return inflater.inflate(payload, fin=True, max_length=limit)


def error_of(inflater: Inflater, payload: bytes, limit: int = LIMIT) -> str:
    """Tell the error of a message of one frame."""
    with pytest.raises(ProtocolError) as caught:
        whole(inflater, payload, limit)
    return str(caught.value)


def compress(*messages: bytes, level: int = 9) -> Iterator[bytes]:
    """Compress messages with takeover, as RFC 7692, section 7.2.1 says."""
    stream = zlib.compressobj(level, wbits=-15)
    for message in messages:
        yield (stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"level": 0}, "level=0 cannot work: use a whole number from 1 to 9."),
        ({"level": 10}, "level=10 cannot work: use a whole number from 1 to 9."),
        ({"level": True}, "level=True cannot work: use a whole number from 1 to 9."),
        ({"level": 1.5}, "level=1.5 cannot work: use a whole number from 1 to 9."),
        ({"window_bits": 8}, "window_bits=8 cannot work: use a whole number from 9 to 15."),
        ({"window_bits": 16}, "window_bits=16 cannot work: use a whole number from 9 to 15."),
        ({"min_size": 0}, "min_size=0 cannot work: use a whole number from 1 up."),
        ({"max_ratio": 0}, "max_ratio=0 cannot work: use a whole number from 1 up."),
        ({"context_takeover": 1}, "context_takeover=1 is neither True nor False."),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(options: dict[str, int], text: str) -> None:
    """The sentence has the name, the value and what is possible."""
    with pytest.raises(ConfigError) as caught:
        Deflate(**options)  # type: ignore[arg-type]  # Wrong types are among the mistakes.

    assert str(caught.value) == f"Deflate.{text}"


PLAIN = "permessage-deflate"


@pytest.mark.parametrize(
    ("offer", "response"),
    [
        (PLAIN, PLAIN),
        (f"{PLAIN}; client_max_window_bits", f"{PLAIN}; client_max_window_bits=12"),
        (f"{PLAIN}; client_max_window_bits=10", f"{PLAIN}; client_max_window_bits=10"),
        (f'{PLAIN}; client_max_window_bits="8"', f"{PLAIN}; client_max_window_bits=8"),
        (f"{PLAIN}; client_max_window_bits=15", f"{PLAIN}; client_max_window_bits=12"),
        (f"{PLAIN}; server_max_window_bits=9", f"{PLAIN}; server_max_window_bits=9"),
        (f"{PLAIN}; server_max_window_bits=15", f"{PLAIN}; server_max_window_bits=12"),
        (f"{PLAIN}; server_no_context_takeover", f"{PLAIN}; server_no_context_takeover"),
        (f"{PLAIN}; client_no_context_takeover", f"{PLAIN}; client_no_context_takeover"),
        (
            f"{PLAIN}; client_no_context_takeover; server_max_window_bits=11;"
            " client_max_window_bits; server_no_context_takeover",
            f"{PLAIN}; client_no_context_takeover; server_max_window_bits=11;"
            " client_max_window_bits=12; server_no_context_takeover",
        ),
        # Declined, each for one reason.
        (f"{PLAIN}; server_max_window_bits=8", None),
        (f"{PLAIN}; server_max_window_bits", None),
        (f"{PLAIN}; server_max_window_bits=16", None),
        (f"{PLAIN}; server_max_window_bits=7", None),
        (f"{PLAIN}; server_max_window_bits=010", None),
        (f"{PLAIN}; server_max_window_bits=1e1", None),
        (f"{PLAIN}; client_max_window_bits=16", None),
        (f"{PLAIN}; client_max_window_bits=7", None),
        (f"{PLAIN}; client_max_window_bits=+9", None),
        (f"{PLAIN}; server_no_context_takeover=true", None),
        (f"{PLAIN}; client_no_context_takeover=1", None),
        (f"{PLAIN}; mystery", None),
        (f"{PLAIN}; Client_max_window_bits", None),
        (f"{PLAIN}; server_no_context_takeover; server_no_context_takeover", None),
        (f"{PLAIN}; client_max_window_bits; client_max_window_bits=9", None),
        ("x-webkit-deflate-frame", None),
        # The first that can be accepted wins.
        (f"{PLAIN}; server_max_window_bits=8, {PLAIN}", PLAIN),
        (f"{PLAIN}; mystery, x-other; a=1, {PLAIN}; server_max_window_bits=9, {PLAIN}",
         f"{PLAIN}; server_max_window_bits=9"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("context_takeover", [False, True])
def test_offers(offer: str, response: str | None, context_takeover: bool) -> None:  # noqa: FBT001  # A table.
    """The answer has the offer's parameters, ours where they are smaller, and no other."""
    agreement = negotiate([offer], Deflate(window_bits=12, context_takeover=context_takeover))

    assert (agreement and agreement.response) == response


def test_offers_may_come_in_several_fields() -> None:
    """Fields are one list, in order; no field at all is no offer."""
    agreement = negotiate([f"{PLAIN}; mystery", PLAIN], Deflate())

    assert agreement is not None
    assert agreement.response == PLAIN
    assert negotiate([], Deflate()) is None


def test_a_malformed_header_fails_the_handshake() -> None:
    """RFC 6455, section 9.1: not declined, but refused, also behind a good offer."""
    with pytest.raises(HandshakeError, match="malformed"):
        negotiate([f"{PLAIN}, ;"], Deflate())


@pytest.mark.parametrize(
    ("offer", "takeover", "expected"),
    [
        # server takeover, client takeover, server bits, client bits
        (PLAIN, False, (False, True, 12, 15)),
        (PLAIN, True, (True, True, 12, 15)),
        (f"{PLAIN}; server_no_context_takeover", True, (False, True, 12, 15)),
        (f"{PLAIN}; client_no_context_takeover", True, (True, False, 12, 15)),
        (f"{PLAIN}; server_max_window_bits=9", True, (True, True, 9, 15)),
        (f"{PLAIN}; client_max_window_bits", True, (True, True, 12, 12)),
        (f"{PLAIN}; client_max_window_bits=8", False, (False, True, 12, 8)),
    ],
)
def test_what_is_agreed(offer: str, takeover: bool, expected: tuple[object, ...]) -> None:  # noqa: FBT001  # A table.
    """What was not answered holds in full for the client, and is our own business for us."""
    agreement = negotiate([offer], Deflate(window_bits=12, context_takeover=takeover))

    assert agreement is not None
    assert expected == (
        agreement.server_takeover,
        agreement.client_takeover,
        agreement.server_window_bits,
        agreement.client_window_bits,
    )


def agree(offer: str = PLAIN, **options: int) -> Agreement:
    """Agree to an offer that is acceptable."""
    agreement = negotiate([offer], Deflate(**options))  # type: ignore[arg-type]
    assert agreement is not None
    return agreement


def test_one_compressed_frame_serves_all_with_one_key() -> None:
    """The key has all that the bytes depend on, and what the client's half agreed has no part."""
    key = agree().shared_key

    assert key is not None
    assert agree(f"{PLAIN}; client_max_window_bits").shared_key == key
    assert agree(f"{PLAIN}; client_no_context_takeover").shared_key == key
    assert agree(f"{PLAIN}; server_no_context_takeover", context_takeover=True).shared_key == key
    assert agree(f"{PLAIN}; server_max_window_bits=9").shared_key != key
    assert agree(level=2).shared_key != key
    assert agree(min_size=2).shared_key != key
    assert agree(context_takeover=True).shared_key is None


def test_two_connections_with_one_key_make_the_same_bytes() -> None:
    """Which of them compresses does not matter."""
    first, second = (
        agree().make_deflater(),
        agree(f"{PLAIN}; client_max_window_bits").make_deflater(),
    )
    first.deflate(b"something else " * 100)

    assert first.deflate(TEXT) == second.deflate(TEXT)


@pytest.mark.parametrize(
    "payload", [HELLO, HELLO_STORED, HELLO_FINAL, HELLO_FINAL[:-1], HELLO_TWO_BLOCKS]
)
@pytest.mark.parametrize("context_takeover", [False, True])
def test_the_examples_of_the_rfc(payload: bytes, context_takeover: bool) -> None:  # noqa: FBT001  # A table.
    """Each form of "Hello", cut at each byte, and the message after it."""
    for at in range(len(payload) + 1):
        inflater = Inflater(context_takeover=context_takeover)
        head = inflater.inflate(payload[:at], fin=False, max_length=LIMIT)

        assert head + whole(inflater, payload[at:]) == b"Hello"
        assert whole(inflater, HELLO) == b"Hello"

    inflater = Inflater(context_takeover=context_takeover)
    pieces = [inflater.inflate(bytes([b]), fin=False, max_length=LIMIT) for b in payload]
    assert b"".join([*pieces, whole(inflater, b"")]) == b"Hello"


def test_takeover_keeps_the_window_and_its_absence_does_not() -> None:
    """The second "Hello" of RFC 7692, section 7.2.3.2 refers to the first."""
    inflater = Inflater()
    assert [whole(inflater, HELLO), whole(inflater, HELLO_AGAIN)] == [b"Hello", b"Hello"]

    inflater = Inflater(context_takeover=False)
    assert whole(inflater, HELLO) == b"Hello"
    assert error_of(inflater, HELLO_AGAIN) == "1002: the compressed data is corrupt"


@pytest.mark.parametrize("payload", [b"\x00", b"", b"\x03\x00", b"\x02\x00"])
def test_empty_messages(payload: bytes) -> None:
    """Each form of nothing is an empty message, and disturbs none after it."""
    inflater = Inflater()

    assert [whole(inflater, payload), whole(inflater, HELLO)] == [b"", b"Hello"]


@pytest.mark.parametrize("payload", [b"\xff", b"\x06", b"\x00\x05\x00\x00\x00Hello"])
def test_corrupt_data_is_a_protocol_error(payload: bytes) -> None:
    """What is no DEFLATE closes with 1002."""
    assert error_of(Inflater(), payload + b"\xff" * 8) == "1002: the compressed data is corrupt"


@pytest.mark.parametrize("bits", range(8, 16))
def test_windows_of_all_sizes_are_read(bits: int) -> None:
    """A client may use any window from 8 bits up; distances beyond its own are corrupt."""
    noise = bytes(range(256)) * 2
    stream = zlib.compressobj(9, wbits=-max(bits, 9))
    payload = (stream.compress(noise[: 1 << bits]) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]

    assert whole(Inflater(window_bits=bits), payload) == noise[: 1 << bits]


@pytest.mark.parametrize("limit", [0, 1, 5, 125, 65535, 65536])
def test_the_limit_is_exact(limit: int) -> None:
    """As much as the limit comes out, and one byte more is an error, also for a limit of 0."""
    (fits,), (exceeds,) = compress(bytes(limit)), compress(bytes(limit + 1))

    assert whole(Inflater(), fits or b"\0", limit) == bytes(limit)
    assert (
        error_of(Inflater(), exceeds, limit) == "1009: the message is too large when decompressed"
    )


def test_a_bomb_costs_its_limit() -> None:
    """64 MiB for a limit of 64 KiB: what is allocated is a small multiple of the limit."""
    (bomb,) = compress(bytes(64 << 20))
    inflater = Inflater()
    tracemalloc.start()
    try:
        error = error_of(inflater, bomb, 1 << 16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert error == "1009: the message is too large when decompressed"
    assert peak < 2 * (1 << 16) + len(bomb) + (64 << 10)


def test_the_ratio_bounds_what_is_beyond_the_first_mebibyte() -> None:
    """A message of zeros passes up to 1 MiB; beyond it, 200 bytes may come of one."""
    (small,), (large,) = compress(bytes(1 << 20)), compress(bytes((1 << 20) + 1))
    (dense,) = compress(b"".join(i.to_bytes(2, "big") * 60 for i in range(20000)))
    limit = 64 << 20

    assert len(whole(Inflater(max_ratio=200), small, limit)) == 1 << 20
    assert len(whole(Inflater(max_ratio=None), large, limit)) == (1 << 20) + 1
    assert error_of(Inflater(max_ratio=200), large, limit).startswith("1009: ")
    assert len(whole(Inflater(max_ratio=200), dense, limit)) == 2400000


def test_the_ratio_is_of_the_whole_message() -> None:
    """Fragments count together, and a new message starts anew."""
    (payload,) = compress(bytes((1 << 20) + 1))
    inflater = Inflater(max_ratio=200)
    limit = 64 << 20
    for _ in range(2):
        assert whole(inflater, next(compress(bytes(1 << 20))), limit) == bytes(1 << 20)
    size = len(inflater.inflate(payload[:-8], fin=False, max_length=limit))

    with pytest.raises(ProtocolError, match="1009"):
        inflater.inflate(payload[-8:], fin=True, max_length=limit - size)


def test_a_compressed_message_must_end() -> None:
    """Blocks of nothing are accepted up to twice the limit and 1 KiB, then closed with 1009."""
    nothing = bytes.fromhex("00 00 00 ff ff")
    inflater = Inflater()
    for _ in range((2 * 100 + 1024) // len(nothing)):
        assert inflater.inflate(nothing, fin=False, max_length=100) == b""

    assert error_of(inflater, nothing, 100) == "1009: the compressed message does not end"


def test_what_cannot_be_compressed_is_accepted_up_to_the_limit() -> None:
    """Stored blocks and a flush per 64 bytes stay within the bound on what comes in."""
    stream = zlib.compressobj(0, wbits=-15)
    inflater = Inflater()
    left = 1 << 16
    while left:
        payload = stream.compress(b"x" * 64) + stream.flush(zlib.Z_SYNC_FLUSH)
        left -= len(inflater.inflate(payload, fin=False, max_length=left))

    assert whole(inflater, b"\0", left) == b""


def test_work_is_counted() -> None:
    """Bytes that come out, and zlib objects: a message can need sixteen of them for 32 bytes."""
    inflater = Inflater()
    seen = []
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = (stream.compress(bytes(1000)) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
    final = zlib.compressobj(9, zlib.DEFLATED, -15).flush(zlib.Z_FINISH)
    for payload in (zeros, zeros, final * 16):
        before = inflater.work
        inflater.inflate(payload, fin=True, max_length=1000)
        seen.append(inflater.work - before)

    assert seen == [512 + 1000, 1000, 15 * 512]


def test_final_blocks_are_few() -> None:
    """Sixteen are allowed in a message; a megabyte of them costs no time."""
    block = HELLO_FINAL[:-1]
    inflater = Inflater()

    assert whole(inflater, block * 16) == b"Hello" * 16
    assert whole(inflater, block * 16) == b"Hello" * 16

    started_at = process_time()
    assert error_of(inflater, b"\x03\x00" * (1 << 19)) == "1002: too many final blocks"
    assert process_time() - started_at < 1


def test_zlib_objects_are_made_late_and_dropped_early() -> None:
    """Before the first message, and without takeover between two, a connection has none."""
    (payload,) = compress(TEXT)

    def held(*, context_takeover: bool, count: int) -> int:
        agreement = agree(
            PLAIN if context_takeover else f"{PLAIN}; client_no_context_takeover",
            context_takeover=context_takeover,
        )
        tracemalloc.start()
        try:
            halves = agreement.make_inflater(), agreement.make_deflater()
            for _ in range(count):
                whole(halves[0], payload)
                halves[1].deflate(TEXT)
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert held(context_takeover=True, count=0) < 1000
    assert held(context_takeover=False, count=0) < 1000
    assert held(context_takeover=False, count=3) < 1000
    assert 40000 < held(context_takeover=True, count=3) < 90000


def deflater(*, takeover: bool = False, min_size: int = 1, bits: int = 12) -> Deflater:
    """Make a deflater as an agreement would."""
    return Deflater(level=1, window_bits=bits, context_takeover=takeover, min_size=min_size)


@pytest.mark.parametrize("takeover", [False, True])
def test_small_messages_are_sent_as_they_are(takeover: bool) -> None:  # noqa: FBT001  # A table.
    """Below the bound nothing is compressed; at it, it is."""
    half = deflater(takeover=takeover, min_size=100)

    assert half.deflate(TEXT[:99]) is None
    assert half.deflate(b"a" * 100) is not None


def test_what_does_not_shrink_is_sent_as_it_is() -> None:
    """Without takeover we may change our mind; with it, the client's window must follow ours."""
    noise = zlib.compress(TEXT)

    assert deflater().deflate(noise) is None
    assert len(deflater(takeover=True).deflate(noise) or b"") > len(noise)


def test_takeover_makes_the_second_message_smaller() -> None:
    """It refers to the first; without takeover, both are the same."""
    half = deflater(takeover=True, bits=15)
    first, second = half.deflate(TEXT) or b"", half.deflate(TEXT) or b""
    assert len(second) < len(first) // 2

    half = deflater()
    assert half.deflate(TEXT) == half.deflate(TEXT)


def client_of(agreement: Agreement, factory: ClientPerMessageDeflateFactory) -> PerMessageDeflate:
    """Let websockets' client judge our response."""
    ((name, parameters),) = parse_extension(agreement.response)
    assert name == factory.name
    return factory.process_response_params(parameters, [])


def offers() -> Iterator[ClientPerMessageDeflateFactory]:
    """Make the offers that websockets' client can make."""
    for server_no, client_no, server_bits, client_bits in product(
        (False, True), (False, True), (None, 9, 12, 15), (None, True, 9, 12, 15)
    ):
        yield ClientPerMessageDeflateFactory(server_no, client_no, server_bits, client_bits)


def exchange(agreement: Agreement, client: PerMessageDeflate, messages: Sequence[bytes]) -> None:
    """Send messages both ways, the client's cut in three frames."""
    inflater, half = agreement.make_inflater(), agreement.make_deflater()
    for message in messages:
        payload = half.deflate(message)
        if payload is not None:
            frame = client.decode(Frame(Opcode.BINARY, payload, rsv1=True))
            assert frame.data == message
        third = len(message) // 3
        received = b""
        for opcode, fin, part in (
            (Opcode.BINARY, False, message[:third]),
            (Opcode.CONT, False, message[third : 2 * third]),
            (Opcode.CONT, True, message[2 * third :]),
        ):
            frame = client.encode(Frame(opcode, part, fin=fin))
            received += inflater.inflate(frame.data, fin=fin, max_length=LIMIT - len(received))
        assert received == message


@pytest.mark.parametrize("bits", [9, 12, 15])
@pytest.mark.parametrize("context_takeover", [False, True])
def test_websockets_client_agrees_and_understands(bits: int, context_takeover: bool) -> None:  # noqa: FBT001  # A table.
    """All its offers are accepted in words that it accepts, and messages pass both ways."""
    options = Deflate(
        window_bits=bits, context_takeover=context_takeover, min_size=1, max_ratio=None
    )
    messages = [TEXT, b"x", bytes(range(256)) * 200, TEXT, b"", TEXT[::-1]]
    for factory in offers():
        offer = build_extension([(factory.name, factory.get_request_params())])
        agreement = negotiate([offer], options)

        assert agreement is not None
        exchange(agreement, client_of(agreement, factory), messages)


@given(
    st.lists(st.binary(max_size=300) | st.sampled_from([TEXT, TEXT[:500]]), max_size=8),
    st.integers(9, 15),
    st.booleans(),
)
def test_arbitrary_messages_pass(messages: list[bytes], bits: int, takeover: bool) -> None:  # noqa: FBT001  # Drawn.
    """What the deflater makes, an inflater of the same window reads."""
    half = deflater(takeover=takeover, bits=bits)
    inflater = Inflater(window_bits=bits, context_takeover=takeover)
    for message in messages:
        payload = half.deflate(message)
        if payload is not None:
            assert whole(inflater, payload) == message


@given(st.lists(st.tuples(st.binary(max_size=40), st.booleans()), max_size=20), st.integers(0, 100))
def test_arbitrary_bytes_never_exceed_the_limit(
    frames: list[tuple[bytes, bool]], limit: int
) -> None:
    """What is no DEFLATE is a protocol error, and nothing returns more than it may."""
    inflater = Inflater(max_ratio=2)
    left = limit
    for payload, fin in frames:
        try:
            data = inflater.inflate(payload, fin=fin, max_length=left)
        except ProtocolError:
            return
        assert len(data) <= left
        left = limit if fin else left - len(data)


@given(
    st.lists(
        st.sampled_from(
            [PLAIN, "x", "; ", ", ", "=", "8", "12", '"12"', "client_max_window_bits",
             "server_max_window_bits", "server_no_context_takeover", "client_no_context_takeover"]
        ),
        max_size=14,
    ).map("".join)
)  # fmt: skip
def test_arbitrary_offers_are_answered_with_what_they_offered(offer: str) -> None:
    """Whatever is offered, no parameter is answered that was not."""
    try:
        agreement = negotiate([offer], Deflate())
    except HandshakeError:
        return
    if agreement is None:
        return
    ((_, answered),) = parse_extension(agreement.response)
    assert any(
        name == PLAIN and {key for key, _ in answered} == {key for key, _ in parameters}
        for name, parameters in parse_extension(offer)
    )
