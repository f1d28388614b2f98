"""
The attack list, rows 23 to 35: frames and messages that are wrong, over real sockets.

Memory is what Python's allocators were asked for, the frame engine's among them (``tracemalloc``);
client and server are in one process, so what the client sends is made before the count begins.
"""

import zlib
from itertools import product

import pytest

from gateman import Deflate
from tests.support.attacks import DEFLATE, MIB, both, echo, expect_failure, fragments, most_memory
from tests.support.counted_server import serve_counted
from tests.support.loop import on_loop, turns
from tests.support.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    close_payload,
    frame,
    handshake,
)
from tests.support.server import Journal


@both
@on_loop
async def test_unmasked_frames(*, secure: bool) -> None:
    """Row 23: a client masks, or a cache on the way could be made to keep what it sends."""
    await expect_failure(frame(TEXT, b"plain", mask=None), 1002, secure=secure)


@pytest.mark.parametrize("rsv", [1, 2, 4, 7])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
@on_loop
async def test_reserved_bits(opcode: int, rsv: int) -> None:
    """Row 24: without an extension they mean nothing, and what they cover is not delivered."""
    payload = close_payload(1000) if opcode == CLOSE else b"payload"
    await expect_failure(frame(opcode, payload, rsv=rsv), 1002)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@on_loop
async def test_reserved_opcodes(opcode: int) -> None:
    """Row 25: nobody knows what they would mean."""
    await expect_failure(frame(opcode, b"payload"), 1002)


@pytest.mark.parametrize(
    "attack",
    [
        b"\x82\xfe\x00\x7dmask" + bytes(125),
        b"\x82\xff" + bytes(6) + b"\x00\x7dmask" + bytes(125),
        b"\x82\xff" + bytes(6) + b"\xff\xffmask" + bytes(65535),
        b"\x82\xff\xff" + bytes(7) + b"mask",
        b"\x82\xff\x80" + bytes(6) + b"\x01mask" + b"x",
        b"\x82\xff" + b"\xff" * 8 + b"mask",
    ],
    ids=["125 in 16 bits", "125 in 64", "65535 in 64", "2**63", "highest bit", "2**64-1"],
)
@both
@on_loop
async def test_lengths_that_are_wrong(attack: bytes, *, secure: bool) -> None:
    """Row 26: not the shortest form, or the highest bit set, which killed older engines."""
    await expect_failure(attack, 1002, secure=secure)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@on_loop
async def test_control_frames_that_are_wrong(opcode: int) -> None:
    """Row 27: they have at most 125 bytes and are not fragmented."""
    await expect_failure(frame(opcode, bytes(126)), 1002)
    await expect_failure(frame(opcode, bytes(65536)), 1002)
    await expect_failure(frame(opcode, b"", fin=False), 1002)


@pytest.mark.parametrize(
    "attack",
    [
        frame(CONTINUATION, b"of nothing"),
        frame(CONTINUATION, b"of nothing", fin=False),
        frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
        frame(TEXT, b"a", fin=False) + frame(BINARY, b"b", fin=False),
    ],
    ids=["continuation", "open continuation", "text in text", "binary in text"],
)
@both
@on_loop
async def test_fragments_out_of_order(attack: bytes, *, secure: bool) -> None:
    """Row 28: a continuation continues something, a message ends before the next begins."""
    await expect_failure(attack, 1002, secure=secure)


@both
@on_loop
async def test_control_frames_between_fragments(*, secure: bool) -> None:
    """Row 29: they are answered at once, however long the message takes; also a Close."""
    journal = Journal()
    async with serve_counted(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        await client.send_frame(TEXT, b"begin", fin=False)
        for number in range(3):
            await client.send_frame(PING, b"%d" % number)
            assert await client.read_frame() == Frame(PONG, b"%d" % number)
            await client.send_frame(CONTINUATION, b"-", fin=False)
        await client.send_frame(CONTINUATION, b"end")
        await journal.until("on_message", "begin---end")
        await client.send_frame(TEXT, b"never ends", fin=False)
        await client.send_close(1000)

        assert await client.read_close() == (1000, "")
        await journal.until("on_close", 1000)
        assert len(journal.of("on_message")) == 1


BAD_TEXT = {
    "a byte": b"\xff",
    "overlong": b"\xc0\xaf",
    "surrogate": b"\xed\xa0\x80",
    "above 10FFFF": b"\xf4\x90\x80\x80",
    "cut": b"abc\xe2\x82",
    "lone continuation": b"abc\x80",
}


@pytest.mark.parametrize("payload", BAD_TEXT.values(), ids=BAD_TEXT)
@both
@on_loop
async def test_text_that_is_no_utf8(payload: bytes, *, secure: bool) -> None:
    """Row 30: in one frame, over fragments cut at each byte, and without waiting for the rest."""
    await expect_failure(frame(TEXT, payload), 1007, secure=secure)
    for at in range(1, len(payload)):
        cut = frame(TEXT, payload[:at], fin=False) + frame(CONTINUATION, payload[at:])
        await expect_failure(cut, 1007, secure=secure)
    if payload != BAD_TEXT["cut"]:
        await expect_failure(frame(TEXT, b"x" + payload, fin=False), 1007, secure=secure)


@on_loop
async def test_compressed_text_that_is_no_utf8() -> None:
    """Row 30: what is compressed is text, too."""
    for payload in BAD_TEXT.values():
        attack = frame(TEXT, zlib.compress(payload, wbits=-15), rsv=4)
        await expect_failure(attack, 1007, headers=(DEFLATE,), compression=Deflate())


@pytest.mark.parametrize("payload", [b"\xff", b"\xed\xa0\x80", b"abc\xe2\x82"])
@both
@on_loop
async def test_close_reason_that_is_no_utf8(payload: bytes, *, secure: bool) -> None:
    """Row 31: the Close is answered, with 1007."""
    await expect_failure(frame(CLOSE, close_payload(1000) + payload), 1007, secure=secure)


@pytest.mark.parametrize("size", [MIB + 1, 1 << 40, (1 << 63) - 1])
@both
@on_loop
async def test_frame_that_is_too_large(size: int, *, secure: bool) -> None:
    """Row 32: 1009 as soon as the length is there; not a byte of the payload is waited for."""
    await expect_failure(frame(BINARY, b"", size=size), 1009, secure=secure)


@both
@on_loop
async def test_plain_frame_that_is_too_large_where_compression_is_agreed(*, secure: bool) -> None:
    """Row 32: a compressed frame may be larger than its message; one that is not is the message."""
    for payload in (bytes(MIB + 1), "é".encode() * (MIB // 2) + b"x"):
        await expect_failure(
            frame(TEXT, payload), 1009, secure=secure, headers=(DEFLATE,), compression=Deflate()
        )


@both
@on_loop
async def test_largest_frame_passes(*, secure: bool) -> None:
    """Row 32: the limit itself is allowed, whole and in fragments."""
    limits = {"max_message_size": 70_000}
    async with serve_counted(secure=secure, on_message=echo, limits=limits) as server:
        client = await server.open()
        for data in (frame(BINARY, bytes(70_000)), fragments(bytes(70_000), 999)):
            await client.send(data)
            assert await client.read_frame() == Frame(BINARY, bytes(70_000))


@both
@on_loop
async def test_large_fragments_may_come_in_any_pieces(*, secure: bool) -> None:
    """Row 32: a browser cuts 1 MiB into fragments of 128 KiB, and a proxy anywhere."""
    payload = bytes(MIB)
    stream = fragments(payload, 128 << 10)
    async with serve_counted(secure=secure, on_message=echo) as server:
        client = await server.open()
        for size in (100_000, 131_000, 150_000):
            for start in range(0, len(stream), size):
                client.push(stream[start : start + size])
                await turns(5)
            assert await client.read_frame() == Frame(BINARY, payload)


@both
@on_loop
async def test_message_of_too_many_bytes(*, secure: bool) -> None:
    """Row 33: the sum of the fragments counts, and that of a frame which is not complete."""
    limits = {"max_message_size": 100_000}
    attack = fragments(bytes(100_001), 1000, fin=False)
    await expect_failure(attack, 1009, secure=secure, limits=limits)
    attack = fragments(bytes(60_000), 1000, fin=False)
    incomplete = frame(CONTINUATION, bytes(60_000), size=99_000)
    await expect_failure(attack + incomplete, 1009, secure=secure, limits=limits)


@both
@on_loop
async def test_message_that_never_ends(*, secure: bool) -> None:
    """Row 33: empty fragments add no bytes; 128 are a message, more are 1008."""
    attack = frame(BINARY, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 128
    await expect_failure(attack, 1008, secure=secure)


@on_loop
async def test_fragments_cost_their_bytes() -> None:
    """Row 33: a message of 50 000 fragments of a byte takes 50 kB, not an object for each."""
    attack = fragments(bytes(50_000), 1, fin=False)
    limits = {"max_messages_per_second": 1_000_000}
    journal = Journal()
    async with serve_counted(limits=limits, **journal.callbacks()) as server:
        client = await server.open()
        with most_memory() as measured:
            client.push(attack)
            await client.send_frame(PING, b"read so far")
            assert await client.read_frame() == Frame(PONG, b"read so far")

        assert measured[0] < MIB + len(attack)
        await client.send(frame(CONTINUATION, b""))
        await journal.until("on_message", bytes(50_000))


def bomb(size: int) -> bytes:
    """Compress zeros: a thousandth is left."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (stream.compress(bytes(size)) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize("shape", ["whole", "fragments", "behind a full message"])
@both
@on_loop
async def test_zip_bombs(shape: str, *, secure: bool) -> None:
    """Row 34: 256 MiB in 256 KiB are 1009, and cost no more memory than a message may have."""
    packed = bomb(256 * MIB)
    match shape:
        case "whole":
            attack = frame(BINARY, packed, rsv=4)
        case "fragments":
            attack = fragments(packed, 5000, fin=False, rsv=4)
        case _:
            # zlib takes a maximum of 0 for none: that was the hole elsewhere.
            stream = zlib.compressobj(wbits=-15)
            full = stream.compress(bytes(MIB)) + stream.flush(zlib.Z_SYNC_FLUSH)
            attack = frame(BINARY, full, fin=False, rsv=4) + frame(CONTINUATION, packed)
    with most_memory() as measured:
        await expect_failure(attack, 1009, secure=secure, headers=(DEFLATE,), compression=Deflate())

    assert measured[0] < 6 * MIB


@on_loop
async def test_ratio_of_a_bomb() -> None:
    """Row 34: a limit of many MiB does not make a bomb of them: 200 bytes for one, after a MiB."""
    limits = {"max_message_size": 64 * MIB}
    attack = frame(BINARY, bomb(32 * MIB), rsv=4)
    with most_memory() as measured:
        await expect_failure(attack, 1009, headers=(DEFLATE,), compression=Deflate(), limits=limits)

    assert measured[0] < 24 * MIB


PARAMETERS = (
    "server_no_context_takeover",
    "client_no_context_takeover",
    *(f"server_max_window_bits={bits}" for bits in (8, 9, 12, 15)),
    *(f"client_max_window_bits{bits}" for bits in ("", "=8", "=12", "=15")),
    "unknown",
    "server_max_window_bits=16",
    "server_max_window_bits",
)


@on_loop
async def test_nothing_is_agreed_that_was_not_offered() -> None:
    """Row 35: every pair of parameters, good, bad and repeated, gets no other in the answer."""
    async with serve_counted(on_message=echo, compression=Deflate(min_size=1)) as server:
        for pair in product(PARAMETERS, repeat=2):
            client = await server.connect()
            offer = "; ".join(("permessage-deflate", *pair))
            await client.send(handshake(headers=(f"Sec-WebSocket-Extensions: {offer}",)))
            answer = (await client.read_head()).headers.get("sec-websocket-extensions")
            await client.send_frame(TEXT, b"plain text is understood in any case")
            found = await client.read_frame()

            offered = {part.partition("=")[0] for part in pair}
            if answer is None:
                assert len(offered) == 1 or {"unknown", "server_max_window_bits"} & offered
                assert found.rsv == 0
            else:
                name, *agreed = answer.split("; ")
                assert name == "permessage-deflate"
                assert {part.partition("=")[0] for part in agreed} == offered
            await client.close()
