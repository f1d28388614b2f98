"""RFC 7692 over real sockets: Autobahn's cases 12 and 13, with an independent client."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from hashlib import shake_128
from itertools import product

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_client
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from gateman import Deflate
from tests.support.cases import HELLO, echo, fragments, text
from tests.support.loop import on_loop
from tests.support.raw import (
    CONTINUATION,
    EOF,
    PING,
    PONG,
    TEXT,
    frame,
    handshake,
)
from tests.support.server import Server, serve

MIB = 1 << 20


def offers() -> Iterator[ClientPerMessageDeflateFactory]:
    """Make the offers that ``websockets`` can make."""
    for parameters in product((False, True), (False, True), (None, 9, 15), (None, True, 8, 12, 15)):
        if parameters[3] != 8:
            yield ClientPerMessageDeflateFactory(*parameters)


OPTIONS = [
    Deflate(min_size=1),
    Deflate(min_size=1, context_takeover=True, window_bits=9),
    Deflate(min_size=1, context_takeover=True, window_bits=15, level=9),
]


def describe(parameter: object) -> str:
    """Name a parameter."""
    if isinstance(parameter, ClientPerMessageDeflateFactory):
        return ",".join(f"{k}={v}" for k, v in parameter.get_request_params())
    if isinstance(parameter, Deflate):
        takeover = "takeover" if parameter.context_takeover else "none"
        return f"{parameter.window_bits}-{takeover}"
    return str(parameter)


def json_like(size: int) -> str:
    """Make a text that compresses as messages do."""
    line = '{"name": "Größe", "value": 17, "tags": ["a", "b"], "other": null}, '
    return (line * (size // len(line) + 1))[:size]


async def pieces_of(message: str | bytes, size: int) -> AsyncIterator[str | bytes]:
    """Cut a message as ``websockets`` sends fragments."""
    for at in range(0, len(message), size):
        yield message[at : at + size]


def deflating(server: Server, offer: ClientPerMessageDeflateFactory) -> connect_client:
    """Connect with one offer, and without ``websockets``' own."""
    return server.client(compression=None, extensions=[offer], max_size=None)


async def expect_echo(client: ClientConnection, message: str | bytes) -> None:
    """Send a message and find it again."""
    await client.send(message)
    assert await client.recv() == message


@pytest.mark.parametrize("options", OPTIONS, ids=describe)
@pytest.mark.parametrize("offer", list(offers()), ids=describe)
@on_loop
async def test_compression(offer: ClientPerMessageDeflateFactory, options: Deflate) -> None:
    """Every offer is accepted, and messages of all sizes pass both ways, whole and in fragments."""
    async with (
        serve(on_message=echo, compression=options) as server,
        deflating(server, offer) as client,
    ):
        assert client.protocol.extensions
        for size in (0, 1, 16, 64, 256, 1000, 1024, 8192, 40_000):
            await expect_echo(client, json_like(size))
            await expect_echo(client, shake_128(b"").digest(size))
        for message in (json_like(5000), shake_128(b"").digest(5000)):
            sending = asyncio.create_task(client.send(pieces_of(message, 700)))
            assert await client.recv() == message
            await sending


@pytest.mark.parametrize("options", OPTIONS, ids=describe)
@on_loop
async def test_compression_over_tls(options: Deflate) -> None:
    """Autobahn 12's sizes, many messages each, with TLS in the server."""
    offer = ClientPerMessageDeflateFactory(client_max_window_bits=True)
    async with (
        serve(secure=True, on_message=echo, compression=options) as server,
        deflating(server, offer) as client,
    ):
        for size in (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131_072):
            for _ in range(20):
                await expect_echo(client, json_like(size))


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@on_loop
async def test_control_frames_between_compressed_fragments(*, secure: bool) -> None:
    """They are not compressed, and do not disturb what is (RFC 7692, section 6.1)."""
    message = json_like(3000).encode()
    stream = zlib.compressobj(wbits=-15)
    async with serve(secure=secure, on_message=echo, compression=Deflate()) as server:
        client = await server.open(headers=("Sec-WebSocket-Extensions: permessage-deflate",))
        for number in range(3):
            packed = stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH)
            size = len(packed) // 3
            await client.send(
                fragments(TEXT, packed[:-4], size, frame(PING, b"%d" % number), rsv=4)
            )
            found = await client.read_frame()
            while found.opcode == PONG:
                assert (found.payload, found.rsv) == (b"%d" % number, 0)
                found = await client.read_frame()
            assert (found.opcode, found.rsv) == (TEXT, 4)
            assert zlib.decompressobj(-15).decompress(found.payload + b"\0\0\xff\xff") == message


@on_loop
async def test_compressed_and_plain_messages_mixed() -> None:
    """A message may be plain although compression was agreed (RFC 7692, section 6)."""
    stream = zlib.compressobj(wbits=-15)
    async with serve(on_message=echo, compression=Deflate()) as server:
        client = await server.open(headers=("Sec-WebSocket-Extensions: permessage-deflate",))
        for number in range(5):
            payload = b"a%d" % number
            packed = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
            await client.send(frame(TEXT, packed[:-4], rsv=4) + frame(TEXT, payload))
            assert await client.read_frame() == text(payload)
            assert await client.read_frame() == text(payload)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(TEXT, b"x", fin=False, rsv=4) + frame(CONTINUATION, b"y", rsv=4), 1002),
        (frame(PING, b"x", rsv=4), 1002),
        (frame(TEXT, b"\xff\xff\xff\xff", rsv=4), 1002),
        (frame(TEXT, b"x", rsv=6), 1002),
        (frame(TEXT, b"x", rsv=2), 1002),
        (frame(TEXT, zlib.compress(b"\xff", wbits=-15), rsv=4), 1007),
    ],
    ids=["RSV1 on a continuation", "RSV1 on a ping", "no DEFLATE", "RSV2", "RSV2 only", "no UTF-8"],
)
@on_loop
async def test_compressed_frames_that_are_wrong(bad: bytes, code: int) -> None:
    """RSV1 means one thing, on the first frame of a message; what it covers is checked."""
    async with serve(on_message=echo, compression=Deflate()) as server:
        client = await server.open(headers=("Sec-WebSocket-Extensions: permessage-deflate",))
        await client.send(bad)

        assert (await client.read_close())[0] == code
        assert await client.read_end() == (b"", EOF)


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; unknown",
        "permessage-bzip2",
        "x-webkit-deflate-frame",
    ],
)
@on_loop
async def test_offers_that_are_declined(offer: str) -> None:
    """They get no answer, and messages are plain (RFC 7692, section 5.1)."""
    async with serve(on_message=echo, compression=Deflate(min_size=1)) as server:
        client = await server.connect()
        await client.send(handshake(headers=(f"Sec-WebSocket-Extensions: {offer}",)))
        answer = await client.read_head()
        await client.send_frame(TEXT, HELLO)

        assert "sec-websocket-extensions" not in answer.headers
        assert await client.read_frame() == text(HELLO)
