"""Frames that break the protocol, and the closing handshake, over real sockets."""

import asyncio
import logging

import pytest

from gateman import Connection, State
from tests.support.loop import eventually, on_loop
from tests.support.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    EOF,
    PING,
    PONG,
    TEXT,
    close_payload,
    frame,
    handshake,
)
from tests.support.server import Journal, serve

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

BROKEN = "a frame has a reserved opcode"


def echo(connection: Connection, message: str | bytes) -> None:
    """Send everything back."""
    connection.send(message)


# Frames that break the protocol.

HUGE = "a message may have 1000 bytes"
NO_EXTENSION = (1002, "reserved bits without an extension", "reserved_bits")
CONTROL_BITS = (1002, "reserved bits in a control frame", "reserved_bits")
RESERVED = (1002, BROKEN, "reserved_opcode")
LENGTH = (
    1002,
    "the length of a frame is not in its shortest form, or has its highest bit set",
    "bad_frame_length",
)
TOO_BIG = (1009, HUGE, "message_too_big")
NOT_UTF8 = (1007, "the text is not UTF-8", "text_not_utf8")

# What is sent; the close code, its reason, and the cause that is counted.
BAD: dict[str, tuple[bytes, tuple[int, str, str]]] = {
    "not masked": (
        frame(TEXT, b"a", mask=None),
        (1002, "a frame is not masked", "unmasked_frame"),
    ),
    "RSV1": (frame(TEXT, b"a", rsv=4), NO_EXTENSION),
    "RSV2": (frame(BINARY, b"a", rsv=2), NO_EXTENSION),
    "RSV3": (frame(TEXT, b"a", rsv=1, fin=False), NO_EXTENSION),
    "RSV on ping": (frame(PING, rsv=4), CONTROL_BITS),
    "RSV on pong": (frame(PONG, rsv=2), CONTROL_BITS),
    "RSV on close": (frame(CLOSE, rsv=1), CONTROL_BITS),
    **{f"opcode {code}": (frame(code), RESERVED) for code in (3, 7, 11, 15)},
    "16-bit length of 125": (
        b"\x81\xfe\x00\x7d",
        (1002, "the length of a frame is not in its shortest form", "bad_frame_length"),
    ),
    "64-bit length of 65535": (b"\x81\xff" + bytes(6) + b"\xff\xff", LENGTH),
    # Ended every version of picows before 2.1.2 with SIGSEGV.
    "63rd bit": (b"\x82\xff" + b"\xff" * 8 + bytes(4), LENGTH),
    "only the 63rd bit": (b"\x82\xff\x80" + bytes(7) + bytes(4), LENGTH),
    "62nd bit": (b"\x82\xff\x7f" + b"\xff" * 7 + bytes(4), TOO_BIG),
    "long ping": (
        frame(PING, bytes(126)),
        (1002, "a control frame has more than 125 bytes", "bad_control_frame"),
    ),
    "fragmented ping": (
        frame(PING, fin=False),
        (1002, "a control frame is fragmented", "bad_control_frame"),
    ),
    "continuation of nothing": (
        frame(CONTINUATION, b"a"),
        (1002, "continuation of no message", "frames_out_of_order"),
    ),
    "message in a message": (
        frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
        (1002, "new message inside another one", "frames_out_of_order"),
    ),
    "text": (frame(TEXT, b"\xff"), NOT_UTF8),
    "surrogate": (frame(TEXT, b"\xed\xa0\x80"), NOT_UTF8),
    "cut text": (frame(TEXT, b"\xc3"), NOT_UTF8),
    "text that cannot go well": (frame(TEXT, b"\xf8", fin=False), NOT_UTF8),
    "close reason": (
        frame(CLOSE, close_payload(1000) + b"\xff"),
        (1007, "the close reason is not UTF-8", "bad_close"),
    ),
    "close of one byte": (
        frame(CLOSE, b"\x03"),
        (1002, "a Close frame has one byte", "bad_close"),
    ),
    **{
        f"close code {code}": (
            frame(CLOSE, close_payload(code)),
            (1002, "invalid close code", "bad_close"),
        )
        for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535)
    },
    "1001 bytes": (frame(BINARY, bytes(1001)), TOO_BIG),
    "1001 bytes in two": (
        frame(BINARY, bytes(500), fin=False) + frame(CONTINUATION, bytes(501), fin=False),
        TOO_BIG,
    ),
    "endless empty fragments": (
        frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 200,
        (1008, "too many empty fragments", "empty_fragments"),
    ),
}


@both
@pytest.mark.parametrize(("data", "verdict"), BAD.values(), ids=list(BAD))
@on_loop
async def test_bad_frame_closes_with_a_reason_of_ours(
    data: bytes, verdict: tuple[int, str, str], *, secure: bool
) -> None:
    """The peer reads why, and then the end; the application and the operator are told, once."""
    code, reason, cause = verdict
    journal = Journal()
    limits = {"max_message_size": 1000}
    async with serve(secure=secure, limits=limits, **journal.callbacks()) as server:
        client = await server.open()
        await client.send(data)

        assert await client.read_close() == (code, reason)
        assert await client.read_end() == (b"", EOF)
        assert journal.entries[3:] == [
            ("on_error", f"ProtocolError: {code}: {reason}"),
            ("on_close", code, reason),
        ]
        assert server.service.counts == {"connections": 1, cause: 1}
        limit = "; limits.max_message_size sets the limit" if code == 1009 else ""
        assert [line.partition("> ")[2] for line in server.lines()] == [
            f"is closed with {code}: {reason}{limit}"
        ]


@both
@on_loop
async def test_largest_message_passes(*, secure: bool) -> None:
    """The limit is what a message may have, whole or in fragments."""
    journal = Journal()
    limits = {"max_message_size": 1000}
    async with serve(secure=secure, limits=limits, **journal.callbacks()) as server:
        client = await server.open()
        await client.send(frame(BINARY, bytes(1000)))
        await client.send(frame(BINARY, bytes(500), fin=False) + frame(CONTINUATION, bytes(500)))
        await journal.until("on_message", count=2)

        assert journal.of("on_message") == [(bytes(1000),)] * 2


@both
@pytest.mark.parametrize("size", [200_000, 2_000_000, 20_000_000])
@on_loop
async def test_close_is_read_by_a_peer_that_still_sends_a_huge_frame(
    size: int, *, secure: bool
) -> None:
    """Unread data does not reset the connection before the peer has read 1009."""
    journal = Journal()
    limits = {"max_message_size": 1000}
    async with serve(secure=secure, limits=limits, **journal.callbacks()) as server:
        client = await server.open()
        client.push(frame(BINARY, bytes(size)))

        assert await client.read_close() == (1009, HUGE)
        assert await client.read_end() == (b"", EOF)
        await client.close()
        await eventually(lambda: not server.service.present_count)
        assert journal.of("on_close") == [(1009, HUGE)]


@on_loop
async def test_endless_sender_is_cut_off() -> None:
    """Who goes on sending after the Close has ``timeouts.close`` to read it."""
    journal = Journal()
    callbacks = journal.callbacks()
    async with serve(
        limits={"max_message_size": 9}, timeouts={"close": 0.2}, **callbacks
    ) as server:
        client = await server.open()
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        while server.service.present_count:
            client.push(frame(BINARY, bytes(65536)))
            await asyncio.sleep(0.005)

        assert loop.time() - begun_at > 0.1
        assert journal.of("on_close") == [(1009, "a message may have 9 bytes")]


@both
@on_loop
async def test_good_frames_before_a_bad_one_do_no_harm(*, secure: bool) -> None:
    """In one segment with it, the last good frame may be lost with the connection, no other."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"a") + frame(TEXT, b"b") + frame(3))

        assert await client.read_close() == (1002, BROKEN)
        assert await client.read_end() == (b"", EOF)
        assert journal.of("on_message") == [("a",)]
        assert journal.of("on_close") == [(1002, BROKEN)]


@on_loop
async def test_bad_frame_behind_the_handshake() -> None:
    """Early frames are judged like others, behind on_open."""
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        client = await server.connect()
        await client.send(handshake() + frame(3) + frame(TEXT, b"a" * 5000) * 3)
        await client.read_head()

        assert await client.read_close() == (1002, BROKEN)
        assert await client.read_end() == (b"", EOF)
        assert [name for name, *_ in journal.entries] == [
            "on_connect",
            "on_websocket_connect",
            "on_open",
            "on_error",
            "on_close",
        ]


# The closing handshake.


@both
@pytest.mark.parametrize(
    ("payload", "echoed", "told"),
    [
        (b"", (1000, ""), (1005, "")),
        (close_payload(1000), (1000, ""), (1000, "")),
        (close_payload(1001, "tab closed"), (1001, "tab closed"), (1001, "tab closed")),
        (close_payload(1010), (1010, ""), (1010, "")),
        (close_payload(3000, "ü" * 61), (3000, "ü" * 61), (3000, "ü" * 61)),
        (close_payload(4999), (4999, ""), (4999, "")),
    ],
)
@on_loop
async def test_close_of_the_peer_is_answered(
    payload: bytes, echoed: tuple[int, str], told: tuple[int, str], *, secure: bool
) -> None:
    """The code is echoed, and the server ends the TCP connection first."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        await client.send_frame(CLOSE, payload)

        assert await client.read_close() == echoed
        assert await client.read_end() == (b"", EOF)
        assert journal.entries[3:] == [("on_close", *told)]


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1009, 1010])
@on_loop
async def test_close_of_a_client_that_complains_is_logged(code: int) -> None:
    """A client that says with its Close what is wrong with us is counted, and its reason told."""
    async with serve() as server:
        client = await server.open()
        await client.send_close(code, "bad\nframe")
        assert await client.read_end()

        assert server.service.counts[f"client_closed_with_{code}"] == 1
        (line,) = server.lines()
        assert f"was closed by the client with {code} 'bad\\nframe'" in line


@on_loop
async def test_an_ordinary_close_is_not_logged() -> None:
    """Nor is one with a code that a client answers ours with."""
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        client = await server.open()
        await client.send_close(1001, "")
        await client.read_end()
        other = await server.open()
        journal.connections[1].close(1002, "ours")
        assert await other.read_close() == (1002, "ours")
        await other.send_close(1002, "ours")
        await other.read_end()

        assert server.lines() == []


@both
@pytest.mark.parametrize(
    "rest",
    [
        frame(3),
        b"\xff" * 1000,
        frame(CLOSE, close_payload(4001)),
        frame(TEXT, b"late"),
        frame(PING, b"late"),
        frame(CONTINUATION),
    ],
    ids=["bad frame", "garbage", "second Close", "message", "ping", "continuation"],
)
@pytest.mark.parametrize("payload", [b"", close_payload(4000, "bye")], ids=["1005", "4000"])
@on_loop
async def test_what_follows_a_close_is_ignored(
    payload: bytes, rest: bytes, *, secure: bool
) -> None:
    """Also in one segment with it (RFC 6455, section 5.5.1)."""
    journal = Journal()
    told = (4000, "bye") if payload else (1005, "")
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"a") + frame(CLOSE, payload) + rest)

        assert await client.read_close() == ((4000, "bye") if payload else (1000, ""))
        assert await client.read_end() == (b"", EOF)
        assert journal.entries[3:] == [("on_message", "a"), ("on_close", *told)]


@pytest.mark.parametrize("code", [0, 999, 1006, 5000])
@on_loop
async def test_what_follows_a_wrong_close_excuses_nothing(code: int) -> None:
    """A code that may not be sent is told so, also with a bad frame behind it in one segment."""
    async with serve() as server:
        client = await server.open()
        await client.send(frame(CLOSE, close_payload(code, "bye")) + frame(3))

        assert (await client.read_close())[0] == 1002
        assert await client.read_end() == (b"", EOF)


@both
@on_loop
async def test_nothing_is_delivered_after_our_close(*, secure: bool) -> None:
    """From close() on there are no more messages, whatever else is in the buffer."""
    journal = Journal()

    def take(connection: Connection, message: str) -> None:
        journal.note("on_message", message)
        connection.close(4000, "enough")

    async with serve(secure=secure, **journal.callbacks(on_message=take)) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"a") + frame(TEXT, b"b") + frame(TEXT, b"c", fin=False))
        assert await client.read_close() == (4000, "enough")
        await client.send(frame(CONTINUATION, b"d") + frame(TEXT, b"e") + frame(PING))
        await client.send_close(4000, "enough")

        assert await client.read_end() == (b"", EOF)
        assert journal.entries[3:] == [("on_message", "a"), ("on_close", 4000, "enough")]


@both
@on_loop
async def test_bad_frame_in_answer_to_our_close(*, secure: bool) -> None:
    """It ends the wait; a second Close is not sent."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        journal.connections[0].close(4000, "bye")
        assert await client.read_close() == (4000, "bye")
        await client.send(frame(3))

        assert await client.read_end() == (b"", EOF)
        assert journal.of("on_close") == [(1002, BROKEN)]


@both
@on_loop
async def test_both_close_at_once(*, secure: bool) -> None:
    """Two Closes that cross are one closing handshake."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        client.push(frame(CLOSE, close_payload(4001, "client")))
        journal.connections[0].close(4002, "server")

        assert await client.read_close() == (4002, "server")
        assert await client.read_end() == (b"", EOF)
        assert journal.of("on_close") == [(4001, "client")]


@on_loop
async def test_failing_connections_leave_others_alone() -> None:
    """What one peer breaks is that peer's."""
    journal = Journal()
    limits = {"max_message_size": 1000}
    callbacks = journal.callbacks(on_message=echo)
    async with serve(limits=limits, **callbacks) as server, server.client() as good:
        for data, *_ in BAD.values():
            bad = await server.open()
            bad.push(data)
        await journal.until("on_close", count=len(BAD))
        await good.send("still here")

        assert await good.recv() == "still here"


# Errors of the application's.


@both
@pytest.mark.parametrize(
    "data",
    [frame(TEXT, b"secret"), frame(TEXT, b"sec", fin=False) + frame(CONTINUATION, b"ret")],
    ids=["whole", "in two"],
)
@on_loop
async def test_failing_handler_closes_with_1011(data: bytes, *, secure: bool) -> None:
    """Its traceback is in the log, its text is not on the wire."""
    journal = Journal()

    def fail(_connection: Connection, message: str) -> None:
        raise ValueError(f"no {message}")

    async with serve(secure=secure, **journal.callbacks(on_message=fail)) as server:
        client = await server.open()
        await client.send(data + frame(TEXT, b"more"))

        assert await client.read_close() == (1011, "internal error")
        await client.send_close(1011)
        assert await client.read_end() == (b"", EOF)
        assert journal.entries[3:] == [
            ("on_error", "ValueError: no secret"),
            ("on_close", 1011, ""),
        ]
        assert journal.connections[0].state is State.CLOSED
        (line,) = server.lines(logging.ERROR)
        assert line.endswith("<- ValueError('no secret')")
