"""
RFC 6455 and RFC 7692 over real sockets, case by case.

The cases and their numbers are those of the Autobahn test suite, as far as they bind a server: an
echo, as there. Where Autobahn calls several results right, the one that is strict is expected here,
except for 6.4.3 and 6.4.4: a frame is judged when it is complete.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest

from tests.support.cases import HELLO, echo, fragments, text
from tests.support.loop import on_loop, turns
from tests.support.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    EOF,
    PING,
    PONG,
    TEXT,
    Frame,
    RawClient,
    close_payload,
    frame,
)
from tests.support.server import Server, serve

MIB = 1 << 20

FRAGMENTS = (b"fragment1", b"fragment2")


@dataclass(frozen=True, slots=True)
class Case:
    """
    A conversation.

    Attributes:
        number: Autobahn's.
        steps: What to send, and what comes back then.
        code: What the server closes with; ``None`` when we close at the end, with 1000.
        chop: Everything is sent in pieces of so many bytes; 0 for whole.
    """

    number: str
    steps: tuple[tuple[bytes, tuple[Frame, ...]], ...]
    code: int | None = None
    chop: int = 0


def clean(
    number: str, sent: bytes | Sequence[bytes], *received: Frame, code: int | None = None
) -> Case:
    """Make a case of one step; what is sent may be in several pieces."""
    pieces = [sent] if isinstance(sent, bytes) else list(sent)
    return Case(number, (*((piece, ()) for piece in pieces[:-1]), (pieces[-1], received)), code)


def binary(payload: bytes) -> Frame:
    """Expect a binary message."""
    return Frame(BINARY, payload)


def framing() -> Iterator[Case]:
    """Autobahn 1: text and binary, at the borders of the length's encodings."""
    sizes = [0, 125, 126, 127, 128, 65535, 65536]
    for group, opcode, char in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
        for number, size in enumerate(sizes, 1):
            payload = char * size
            yield clean(f"1.{group}.{number}", frame(opcode, payload), Frame(opcode, payload))
        payload = char * 65536
        whole = clean(f"1.{group}.8", frame(opcode, payload), Frame(opcode, payload))
        yield replace(whole, chop=997)


def pings() -> Iterator[Case]:
    """Autobahn 2: pings are answered with their payload, pongs that nobody asked for ignored."""
    binary_payload = bytes([0, 255, 254, 253, 252, 251, 0, 255])
    yield clean("2.1", frame(PING), Frame(PONG))
    yield clean("2.2", frame(PING, HELLO), Frame(PONG, HELLO))
    yield clean("2.3", frame(PING, binary_payload), Frame(PONG, binary_payload))
    largest = bytes([254]) * 125
    yield clean("2.4", frame(PING, largest), Frame(PONG, largest))
    yield clean("2.5", frame(PING, bytes([254]) * 126), code=1002)
    yield replace(clean("2.6", frame(PING, largest), Frame(PONG, largest)), chop=1)
    yield clean("2.7", frame(PONG))
    yield clean("2.8", frame(PONG, b"unsolicited pong payload"))
    pong, ping = frame(PONG, b"unsolicited"), frame(PING, b"ping payload")
    yield clean("2.9", pong + ping, Frame(PONG, b"ping payload"))
    many = [b"payload-%d" % number for number in range(10)]
    ten = clean("2.10", b"".join(frame(PING, one) for one in many), *(Frame(PONG, x) for x in many))
    yield ten
    yield replace(ten, number="2.11", chop=1)


def reserved_bits() -> Iterator[Case]:
    """Autobahn 3: no extension gives them a meaning."""
    hello, ping = frame(TEXT, HELLO), frame(PING)
    yield clean("3.1", frame(TEXT, HELLO, rsv=1), code=1002)
    yield clean("3.2", hello + frame(TEXT, HELLO, rsv=2) + ping, text(HELLO), code=1002)
    bad = (frame(TEXT, HELLO, rsv=3) + ping, ())
    yield Case("3.3", ((hello, (text(HELLO),)), bad), 1002)
    bad = (frame(TEXT, HELLO, rsv=4) + ping, ())
    yield Case("3.4", ((hello, (text(HELLO),)), bad), 1002, chop=1)
    yield clean("3.5", frame(BINARY, b"\0\xff", rsv=5), code=1002)
    yield clean("3.6", frame(PING, HELLO, rsv=6), code=1002)
    yield clean("3.7", frame(CLOSE, close_payload(1000), rsv=7), code=1002)


def opcodes() -> Iterator[Case]:
    """Autobahn 4: opcodes that nobody has defined."""
    hello, ping = frame(TEXT, HELLO), frame(PING)
    for group, first in ((1, 3), (2, 11)):
        yield clean(f"4.{group}.1", frame(first), code=1002)
        yield clean(f"4.{group}.2", frame(first + 1, b"reserved opcode payload"), code=1002)
        for number in (3, 4, 5):
            payload = b"" if number == 3 else HELLO
            bad = (frame(first + number - 1, payload) + ping, ())
            chop = 1 if number == 5 else 0
            yield Case(f"4.{group}.{number}", ((hello, (text(HELLO),)), bad), 1002, chop)


def fragmentation() -> Iterator[Case]:
    """Autobahn 5: control frames between fragments, and every wrong order."""
    one, two = FRAGMENTS
    whole, ping = text(one + two), frame(PING, b"ping")
    first, last = frame(TEXT, one, fin=False), frame(CONTINUATION, two)
    pong = Frame(PONG, b"ping")
    yield clean("5.1", frame(PING, one, fin=False) + frame(CONTINUATION, two), code=1002)
    yield clean("5.2", frame(PONG, one, fin=False) + frame(CONTINUATION, two), code=1002)
    yield clean("5.3", [first, last], whole)
    yield clean("5.4", first + last, whole)
    yield replace(clean("5.5", first + last, whole), chop=1)
    yield Case("5.6", ((first, ()), (ping, (pong,)), (last, (whole,))))
    yield clean("5.7", first + ping + last, pong, whole)
    yield replace(clean("5.8", first + ping + last, pong, whole), chop=1)
    nothing = frame(CONTINUATION, b"non-continuation payload")
    yield clean("5.9", [nothing, frame(TEXT, HELLO)], code=1002)
    yield clean("5.10", nothing + frame(TEXT, HELLO), code=1002)
    yield replace(clean("5.11", nothing + frame(TEXT, HELLO), code=1002), chop=1)
    endless = frame(CONTINUATION, b"non-continuation payload", fin=False)
    yield clean("5.12", [endless, frame(TEXT, HELLO)], code=1002)
    yield clean("5.13", endless + frame(TEXT, HELLO), code=1002)
    yield replace(clean("5.14", endless + frame(TEXT, HELLO), code=1002), chop=1)
    rest = endless + frame(TEXT, HELLO)
    yield clean("5.15", first + last + rest, whole, code=1002)
    twice = (endless + frame(TEXT, one, fin=False) + last) * 2
    yield clean("5.16", twice, code=1002)
    twice = (nothing + frame(TEXT, one, fin=False) + last) * 2
    yield clean("5.17", twice, code=1002)
    yield clean("5.18", first + frame(TEXT, two), code=1002)
    parts = [b"fragment%d" % number for number in range(1, 6)]
    data = [
        frame(TEXT if not at else CONTINUATION, part, fin=at == 4) for at, part in enumerate(parts)
    ]
    before = data[0] + data[1] + frame(PING, b"pongme 1!")
    behind = data[2] + data[3] + frame(PING, b"pongme 2!")
    both = (Frame(PONG, b"pongme 1!"), Frame(PONG, b"pongme 2!"))
    joined = text(b"".join(parts))
    steps = ((before, both[:1]), (behind, both[1:]), (data[4], (joined,)))
    yield Case("5.19", steps)
    yield clean("5.20", before + behind + data[4], *both, joined)


# Autobahn 6: what is UTF-8, and what is not (the sequences of Markus Kuhn's test).
VALID = [
    *("κόσμε", "Hello-µ@ßöäüàá-UTF-8!!", "\0", "\x80", "\u0800", "\U00010000", "\x7f", "\u07ff"),
    *("\U0010ffff", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff", "\U0001fffe"),
    *("\U0001ffff", "\U0002fffe", "\U000ffffe", "\U000fffff", "\U0010fffe", "\ufdd0"),
]
INVALID = [
    # 6.3: a surrogate between two characters. 6.7 ff.: sequences of five and six bytes.
    *("cebae1bdb9cf83cebcceb5eda080656469746564", "f8888080 80", "fc8480808080"),
    *("f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf", "f4908080"),
    # Continuations of nothing, beginnings of nothing.
    *("80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf"),
    *("c020c120", "e020e120", "f020f120", "f820f920", "fc20"),
    # Cut characters.
    *("c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf"),
    *("fdbfbfbfbf", "c0e080f08080f8808080fc80808080", "fe", "ff", "fefeffff"),
    # Overlong forms.
    *("c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"),
    *("c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"),
    *("c080", "e08080", "f0808080", "f880808080", "fc8080808080"),
    # Surrogates, alone and in pairs.
    *("eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"),
    *("eda080edb080", "eda080edbfbf", "edadbfedb080", "edadbfedbfbf"),
    *("edae80edb080", "edae80edbfbf", "edafbfedb080", "edafbfedbfbf"),
]


def utf8() -> Iterator[Case]:
    """Autobahn 6: text is UTF-8, and what is not is refused at the first fragment that shows it."""
    yield clean("6.1.1", frame(TEXT), text(b""))
    empty = frame(TEXT, fin=False) + frame(CONTINUATION, fin=False)
    yield clean("6.1.2", empty + frame(CONTINUATION), text(b""))
    middle = frame(CONTINUATION, b"middle frame payload", fin=False)
    yield clean(
        "6.1.3",
        frame(TEXT, fin=False) + middle + frame(CONTINUATION),
        text(b"middle frame payload"),
    )
    greeting = "Hello-µ@ßöäüàá-UTF-8!!".encode()
    yield clean("6.2.1", frame(TEXT, greeting), text(greeting))
    cut = fragments(TEXT, greeting, 8)
    yield clean("6.2.2", cut, text(greeting))
    yield clean("6.2.3", fragments(TEXT, greeting, 1), text(greeting))
    yield clean("6.2.4", fragments(TEXT, "κόσμε".encode(), 1), text("κόσμε".encode()))
    kosme, rest = "κόσμε".encode(), b"edited"
    yield clean("6.3.1", frame(TEXT, kosme + b"\xed\xa0\x80" + rest), code=1007)
    yield clean("6.3.2", fragments(TEXT, kosme + b"\xed\xa0\x80" + rest, 1), code=1007)
    # The second of three fragments is wrong: the third is not waited for.
    parts = (frame(TEXT, kosme, fin=False), frame(CONTINUATION, b"\xf4\x90\x80\x80", fin=False))
    yield clean("6.4.1", parts, code=1007)
    parts = (
        frame(TEXT, kosme + b"\xf4", fin=False),
        frame(CONTINUATION, b"\x90", fin=False),
    )
    yield clean("6.4.2", parts, code=1007)
    bad = frame(TEXT, kosme + b"\xf4\x90\x80\x80" + rest)
    yield clean("6.4.3", [bad[:-10], bad[-10:]], code=1007)
    yield clean("6.4.4", [bad[:-11], bad[-11:]], code=1007)
    for number, valid in enumerate(VALID, 1):
        payload = valid.encode()
        yield clean(f"6.5 ff. valid {number}", frame(TEXT, payload), text(payload))
        cut = fragments(TEXT, payload, 1)
        yield clean(f"6.5 ff. valid {number} in bytes", cut, text(payload))
    for number, invalid in enumerate(INVALID, 1):
        payload = bytes.fromhex(invalid)
        yield clean(f"6.6 ff. invalid {number}", frame(TEXT, payload), code=1007)
        yield clean(f"6.6 ff. invalid {number} in bytes", fragments(TEXT, payload, 1), code=1007)


def closing() -> Iterator[Case]:
    """Autobahn 7: the closing handshake, its codes and reasons."""
    hello, bye = frame(TEXT, HELLO), frame(CLOSE, close_payload(1000))
    end = Frame(CLOSE, close_payload(1000))
    yield clean("7.1.1", hello, text(HELLO))
    yield Case("7.1.2", ((bye + bye, ()),), 1000)
    yield Case("7.1.3", ((bye + frame(PING, HELLO), ()),), 1000)
    yield Case("7.1.4", ((bye + hello, ()),), 1000)
    first, last = frame(TEXT, b"fragment1", fin=False), frame(CONTINUATION, b"fragment2")
    yield Case("7.1.5", ((first + bye + last, ()),), 1000)
    large = frame(TEXT, b"BAsd7&jh23" * 26 * 1024)
    answer = text(b"BAsd7&jh23" * 26 * 1024)
    yield Case("7.1.6", ((large + hello + bye, (answer, text(HELLO))), (frame(PING), (end,))), -1)
    yield Case("7.3.1", ((frame(CLOSE), ()),), 1000)
    yield Case("7.3.2", ((frame(CLOSE, b"a"), ()),), 1002)
    yield Case("7.3.3", ((bye, ()),), 1000)
    for number, size in ((4, 5), (5, 123)):
        payload = close_payload(1000, "*" * size)
        yield Case(f"7.3.{number}", ((frame(CLOSE, payload), (Frame(CLOSE, payload),)),), -1)
    yield Case("7.3.6", ((frame(CLOSE, close_payload(1000, "*" * 124)), ()),), 1002)
    yield Case("7.5.1", ((frame(CLOSE, close_payload(1000) + b"\xed\xa0\x80"), ()),), 1007)
    good = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    for number, code in enumerate(good, 1):
        yield Case(f"7.7.{number}", ((frame(CLOSE, close_payload(code)), ()),), code)
    bad = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)
    for number, code in enumerate(bad, 1):
        yield Case(f"7.9.{number}", ((frame(CLOSE, close_payload(code)), ()),), 1002)
    for number, code in enumerate((5000, 65535), 1):
        yield Case(f"7.13.{number}", ((frame(CLOSE, close_payload(code)), ()),), 1002)


def sizes() -> Iterator[Case]:
    """Autobahn 9 and 10: large messages, in one frame, in fragments and in pieces."""
    kib = (64, 256, 1024, 4096, 8192, 16384)
    for group, opcode in ((1, TEXT), (2, BINARY)):
        for number, size in enumerate(kib, 1):
            payload = b"*" * (size << 10)
            yield clean(f"9.{group}.{number}", frame(opcode, payload), Frame(opcode, payload))
    payload = b"*" * (4 * MIB)
    for group, opcode in ((3, TEXT), (4, BINARY)):
        for number, size in enumerate((64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, MIB), 1):
            cut = fragments(opcode, payload, size)
            yield clean(f"9.{group}.{number}", cut, Frame(opcode, payload))
    payload = b"*" * MIB
    for group, opcode in ((5, TEXT), (6, BINARY)):
        for number, size in enumerate((64, 128, 256, 512, 1024, 2048), 1):
            whole = clean(f"9.{group}.{number}", frame(opcode, payload), Frame(opcode, payload))
            yield replace(whole, chop=size * 64)
    for group, opcode in ((7, TEXT), (8, BINARY)):
        for number, size in enumerate((0, 16, 64, 256, 1024, 4096), 1):
            payload = b"*" * size
            many = [Frame(opcode, payload)] * 1000
            yield clean(f"9.{group}.{number}", frame(opcode, payload) * 1000, *many)
    payload = b"*" * 65536
    yield clean("10.1.1", fragments(TEXT, payload, 1300), text(payload))


GROUPS = (framing, pings, reserved_bits, opcodes, fragmentation, utf8, closing)
CASES = [case for group in GROUPS for case in group()]


async def converse(server: Server, case: Case) -> None:
    """Play a case: every answer is the right one, and the server ends the connection first."""
    client = await server.open()
    steps = case.steps
    if case.code is None:
        bye = close_payload(1000)
        steps += ((frame(CLOSE, bye), (Frame(CLOSE, bye),)),)
    for sent, received in steps:
        sending = asyncio.create_task(send(client, sent, case.chop))
        for expected in received:
            assert await client.read_frame() == expected
        await sending
    if case.code not in {None, -1}:
        code, reason = await client.read_close()
        assert code == case.code
        assert len(reason.encode()) <= 123
    assert await client.read_end() == (b"", EOF)


async def send(client: RawClient, data: bytes, chop: int) -> None:
    """Send, in pieces if that is asked for; a server that has closed may not take the rest."""
    step = chop or len(data) or 1
    for at in range(0, len(data), step):
        try:
            await client.send(data[at : at + step])
        except OSError:
            return
        await turns(1)


def identify(case: object) -> str:
    """Name a case."""
    assert isinstance(case, Case)
    return case.number


@pytest.mark.parametrize("case", CASES, ids=identify)
@on_loop
async def test_cases(case: Case) -> None:
    """Autobahn 1 to 7 without TLS."""
    async with serve(on_message=echo) as server:
        await converse(server, case)


@pytest.mark.parametrize("case", CASES[::3], ids=identify)
@on_loop
async def test_cases_over_tls(case: Case) -> None:
    """Every third of them with TLS in the server."""
    async with serve(secure=True, on_message=echo) as server:
        await converse(server, case)


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@on_loop
async def test_large_messages(*, secure: bool) -> None:
    """Autobahn 9 and 10, one after the other; limits are as large as the messages."""
    limits = {"max_message_size": 16 * MIB, "max_send_buffer_size": 32 * MIB}
    async with serve(secure=secure, on_message=echo, limits=limits) as server:
        for case in sizes():
            await converse(server, case)
