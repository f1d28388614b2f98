"""
Thousands of connections that end in every way: then there is nothing left of them.

Each way to end is a function that lives one connection's life. They run many at a time against one
server whose callbacks take their time; what would be left is looked for in every place that keeps
something: gauges, objects, memory, descriptors, tasks and timers.
"""

import asyncio
import contextlib
import functools
import gc
import logging
import resource
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateman import Connection, Deflate, Request
from gateman.net.handshake import Handshake
from gateman.net.websocket_protocol import WebSocketProtocol
from tests.support.counted_server import admission, serve_counted, waiting
from tests.support.loop import MS, eventually, on_loop, turns
from tests.support.raw import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    RawClient,
    frame,
    handshake,
)
from tests.support.server import Server

ROUNDS = {False: 80, True: 30}  # lives of every kind, without and with TLS
AT_ONCE = 60  # connections
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"

# What they all may leave behind: counters, log records, and what allocators and sets round up.
MAX_BLOCKS_LEFT = 1000  # less than one for each connection
MAX_MEMORY_LEFT = 12 << 20  # bytes; what C allocators keep comes and goes by 5 MiB

Life = Callable[[Server], Awaitable[None]]


@asynccontextmanager
async def opened(server: Server, path: str = "/", *headers: str) -> AsyncIterator[RawClient]:
    """Connect and do the handshake, and end with a reset."""
    client = await RawClient.connect(server.address, tls=server.tls)
    try:
        await client.send(handshake(path, headers))
        await client.read_head()
        yield client
    finally:
        await cut(client)


@asynccontextmanager
async def connected(server: Server, *, tls: bool = True) -> AsyncIterator[RawClient]:
    """Connect, and end with a reset."""
    client = await RawClient.connect(server.address, tls=server.tls if tls else None)
    try:
        yield client
    finally:
        await cut(client)


async def cut(client: RawClient) -> None:
    """End a connection with a reset, if the server has not ended it."""
    client.reset()
    await client.close()


# How connections end.


async def closed_by_the_peer(server: Server) -> None:
    """With a closing handshake, behind some messages."""
    async with opened(server) as client:
        await client.send(frame(TEXT, b"echo") * 3)
        assert await client.read_frame() == Frame(TEXT, b"echo")
        await client.send_close(1000)
        await client.read_end()


async def closed_by_the_server(server: Server) -> None:
    """With a closing handshake, which the peer answers."""
    async with opened(server) as client:
        await client.send_frame(TEXT, b"close")
        assert await client.read_close() == (4000, "as you like")
        await client.send_close(4000)
        await client.read_end()


async def closed_and_never_answered(server: Server) -> None:
    """The server gives up waiting."""
    async with opened(server) as client:
        await client.send_frame(TEXT, b"close")
        await client.read_end()


async def destroyed(server: Server) -> None:
    """By the application."""
    async with opened(server) as client:
        await client.send_frame(TEXT, b"destroy")
        await client.read_end()


async def failed(server: Server) -> None:
    """For a frame that is wrong, with more behind it."""
    async with opened(server) as client:
        await client.send(frame(3) + frame(TEXT, b"echo") * 10)
        await client.read_end()


async def raised(server: Server) -> None:
    """For what the handler raised."""
    async with opened(server) as client:
        await client.send_frame(TEXT, b"raise")
        assert await client.read_close() == (1011, "internal error")


async def reset(server: Server) -> None:
    """By a reset, while nothing happens."""
    async with opened(server):
        pass


async def reset_while_the_handler_runs(server: Server) -> None:
    """Messages wait for it."""
    async with opened(server) as client:
        await client.send(frame(TEXT, b"wait") + frame(BINARY, bytes(100)) * 50)
        await turns()


async def ended_by_the_peer(server: Server) -> None:
    """Half of the TCP connection is over, with messages on the way back."""
    async with opened(server) as client:
        await client.send(frame(TEXT, b"echo") * 10)
        if server.tls is None:
            client.end()
            await client.read_end()


async def within_a_frame(server: Server) -> None:
    """A large one, of which most is there."""
    async with opened(server) as client:
        await client.send(frame(BINARY, bytes(100_000), size=200_000))


async def within_a_message(server: Server) -> None:
    """Fragments, with a compressed message begun behind one."""
    async with opened(server, "/", DEFLATE) as client:
        await client.send(frame(TEXT, b"part", fin=False) + frame(CONTINUATION, b"s", fin=False))
        await client.send(frame(PING))
        assert await client.read_frame() == Frame(PONG)


async def within_a_compressed_message(server: Server) -> None:
    """Both windows are in use."""
    async with opened(server, "/", DEFLATE) as client:
        await client.send(frame(TEXT, b"echo" * 200))
        await client.read_frame()
        await client.send(frame(BINARY, b"\x62\x60\x62", fin=False, rsv=4))


async def unread(server: Server) -> None:
    """Much is unsent, because the peer does not read."""
    async with opened(server) as client:
        client.stop_reading()
        client.push(frame(TEXT, b"much") * 5)
        await turns()


async def frozen(server: Server) -> None:
    """The peer answers no ping; it is still there when the server gives up."""
    async with opened(server) as client:
        await client.read_end()


async def before_the_request(server: Server) -> None:
    """Nothing was sent."""
    async with connected(server):
        await turns()


async def within_the_request(server: Server) -> None:
    """A part of it was sent."""
    async with connected(server) as client:
        await client.send(handshake()[:50])


async def slow_request(server: Server) -> None:
    """The request never ends, until the deadline ends it."""
    async with connected(server) as client:
        await client.send(handshake()[:50])
        await client.read_end()


async def while_the_application_decides(server: Server) -> None:
    """``on_websocket_connect`` runs, and there are early frames."""
    async with connected(server) as client:
        await client.send(handshake("/slow") + frame(TEXT, b"early"))
        await turns()


async def refused(server: Server) -> None:
    """With an answer that is not read."""
    async with connected(server) as client:
        await client.send(handshake("/refuse"))
        await turns()


async def wrong_requests(server: Server) -> None:
    """No handshake at all."""
    async with connected(server) as client:
        await client.send(b"BREW / HTTP/1.1\r\nHost: pot\r\n\r\n")
        await client.read_end()


@functools.cache
def distrustful() -> ssl.SSLContext:
    """Give the context of a client that does not know who issued the certificate."""
    return ssl.create_default_context()


@functools.cache
def client_hello() -> bytes:
    """Make the first flight of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = distrustful().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def within_the_client_hello(server: Server) -> None:
    """A part of it was sent."""
    async with connected(server, tls=False) as client:
        await client.send(client_hello()[:50])
        await turns()


async def behind_the_client_hello(server: Server) -> None:
    """The server has sent its certificate, which nobody reads."""
    async with connected(server, tls=False) as client:
        await client.send(client_hello())
        await turns(5)


async def tls_that_fails(server: Server) -> None:
    """The client does not trust the certificate."""
    with contextlib.suppress(ssl.SSLError):
        await RawClient.connect(server.address, tls=distrustful())


async def plain_http_on_the_tls_port(server: Server) -> None:
    """It is told so."""
    async with connected(server, tls=False) as client:
        await client.send(handshake())
        await client.read_end()


LIVES: list[Life] = [
    *(closed_by_the_peer, closed_by_the_server, closed_and_never_answered, destroyed, failed),
    *(raised, reset, reset_while_the_handler_runs, ended_by_the_peer, within_a_frame),
    *(within_a_message, within_a_compressed_message, unread, frozen, before_the_request),
    *(within_the_request, slow_request, while_the_application_decides, refused, wrong_requests),
]
TLS_LIVES: list[Life] = [
    *(within_the_client_hello, behind_the_client_hello, tls_that_fails, plain_http_on_the_tls_port),
]


# The server.


async def on_websocket_connect(_connection: Connection, request: Request) -> None:
    """Take time to decide."""
    if request.path == "/slow":
        await asyncio.sleep(50 * MS)
    if request.path == "/refuse":
        raise PermissionError


async def on_message(connection: Connection, message: str | bytes) -> None:
    """Do what the message says."""
    match message:
        case "close":
            connection.close(4000, "as you like")
        case "destroy":
            connection.destroy()
        case "raise":
            raise RuntimeError
        case "wait":
            await asyncio.sleep(50 * MS)
        case "much":
            connection.send(bytes(300_000))
            await connection.drain()
        case _:
            connection.session["count"] = connection.session.get("count", 0) + 1
            connection.send(message)


async def on_close(connection: Connection, _code: int, _reason: str) -> None:
    """Take time here, too."""
    await asyncio.sleep(MS)
    connection.session.clear()


# What is left.


def left(server: Server) -> dict[str, object]:
    """Find everything that would be more than nothing if connections were left."""
    service = server.service
    maker, acceptors = service._maker, service._acceptors  # noqa: SLF001
    heartbeat = None if maker is None else maker.heartbeat
    counts = admission(server)
    return {
        "present": service.present_count,
        "open": len(service.connections),
        "callback queues": waiting(server).connections,
        "tasks of callbacks": waiting(server).tasks,
        "pinged": 0 if heartbeat is None else len(heartbeat),
        "counted": counts.count,
        "addresses": counts.address_count,
        "arriving": sum(one.early_count for one in acceptors.values()),
    }


def objects() -> dict[str, int]:
    """Count what a connection is made of, without what garbage collection would find."""
    gc.collect()
    kinds = (Connection, WebSocketProtocol, Handshake)
    found = gc.get_objects()
    return {kind.__name__: sum(isinstance(one, kind) for one in found) for kind in kinds}


def descriptors() -> int:
    """Count open descriptors."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def memory() -> int:
    """Tell how much of the process is in memory; bytes."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


async def live(server: Server, lives: list[Life], rounds: int) -> None:
    """Live every kind of life so many times, many at once."""
    ahead = iter(lives * rounds)

    async def go_through() -> None:
        for life in ahead:
            # A server that ends a connection may do so while something is being sent to it.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await life(server)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(go_through())
    await eventually(lambda: not any(left(server).values()))


@pytest.mark.long
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@on_loop
async def test_nothing_is_left_of_thousands(
    caplog: pytest.LogCaptureFixture, *, secure: bool
) -> None:
    """No gauge, no object, no descriptor, no task, no timer, and no memory to speak of."""
    # Its lines on what is sent to those who have just left would be what is left.
    caplog.set_level(logging.ERROR, "aiofastnet")
    lives = [*LIVES, *(TLS_LIVES if secure else ())]
    rounds = ROUNDS[secure]
    # What other tests of this process have left, such as the variables of one that has failed.
    others = objects()
    async with serve_counted(
        secure=secure,
        timeouts={"handshake": 1.0, "ping_interval": 0.3, "pong": 0.3, "close": 0.2},
        limits={"max_send_buffer_size": 1 << 20},
        compression=Deflate(context_takeover=True, min_size=1),
        on_websocket_connect=on_websocket_connect,
        on_message=on_message,
        on_close=on_close,
    ) as server:
        # Until allocators have what this many at once need.
        await live(server, lives, rounds // 2)
        assert objects() == others
        before = descriptors(), sys.getallocatedblocks(), memory()
        await live(server, lives, rounds)
        assert objects() == others
        behind = descriptors(), sys.getallocatedblocks(), memory()

        assert left(server) == dict.fromkeys(left(server), 0)
        assert behind[0] == before[0]
        assert behind[1] - before[1] < MAX_BLOCKS_LEFT
        assert behind[2] - before[2] < MAX_MEMORY_LEFT
        server.lines()
