"""The transport of a connection without TLS, over a pair of sockets."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateman.net.socket_transport import SocketTransport
from tests.support.loop import eventually, on_loop, turns

LARGE = bytes(range(256)) * (16 << 10)  # 4 MiB: more than the kernel takes


class Recorder(asyncio.BufferedProtocol):
    """Records what a transport calls."""

    def __init__(self, size: int = 64) -> None:
        self.buffer = bytearray(size)
        self.received = bytearray()
        self.events: list[str] = []
        self.error: BaseException | None = None
        self.transport: Any = None
        self.keeps_open = False
        self.failure: Exception | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")

    def get_buffer(self, _sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.failure is not None:
            raise self.failure
        self.received += self.buffer[:nbytes]

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.error = exc
        self.events.append("lost")


@contextmanager
def connected(protocol: Recorder) -> Iterator[tuple[SocketTransport, socket.socket]]:
    """Put a protocol on one end of a pair of sockets."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.settimeout(0)
    transport = SocketTransport(asyncio.get_running_loop(), ours, protocol, ("peer", 1))
    try:
        yield transport, theirs
    finally:
        transport.abort()
        theirs.close()


async def read_all(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes."""
    loop = asyncio.get_running_loop()
    read = bytearray()
    while len(read) < size:
        part = await loop.sock_recv(sock, 1 << 20)
        assert part
        read += part
    return bytes(read)


@on_loop
async def test_bytes_arrive_in_pieces_of_the_buffer() -> None:
    protocol = Recorder(size=64)
    with connected(protocol) as (transport, peer):
        peer.sendall(LARGE[:1000])
        await eventually(lambda: len(protocol.received) == 1000)

        assert protocol.received == LARGE[:1000]
        assert protocol.events == ["made"]
        assert transport.get_protocol() is protocol


@on_loop
async def test_a_paused_transport_does_not_read() -> None:
    protocol = Recorder()
    with connected(protocol) as (transport, peer):
        transport.pause_reading()
        transport.pause_reading()
        peer.sendall(b"later")
        await turns()
        assert (bytes(protocol.received), transport.is_reading()) == (b"", False)

        transport.resume_reading()
        await eventually(lambda: bytes(protocol.received) == b"later")
        assert transport.is_reading()


@on_loop
async def test_the_next_protocol_gets_what_follows() -> None:
    first, second = Recorder(), Recorder()
    with connected(first) as (transport, peer):
        transport.set_protocol(second)
        peer.sendall(b"hello")
        await eventually(lambda: bytes(second.received) == b"hello")

        assert (bytes(first.received), second.events) == (b"", [])


@on_loop
async def test_a_write_that_fits_leaves_nothing() -> None:
    protocol = Recorder()
    with connected(protocol) as (transport, peer):
        transport.write(b"one")
        transport.writelines([memoryview(b"two"), b"", b"three"])

        assert await read_all(peer, 11) == b"onetwothree"
        assert (protocol.events, transport.get_write_buffer_size()) == (["made"], 0)
        assert transport.count_unsent() == 0


@on_loop
async def test_what_the_kernel_does_not_take_is_sent_in_order() -> None:
    """The parts may change after the call: only bytes are kept without a copy."""
    protocol = Recorder()
    header = bytearray(b"header")
    with connected(protocol) as (transport, peer):
        transport.writelines([b"", header, LARGE])
        transport.writelines([header])
        header[:] = b"change"
        transport.write(b"end")

        assert protocol.events == ["made", "pause"]
        assert transport.get_write_buffer_size() > 0
        assert transport.count_unsent() == 3
        assert await read_all(peer, len(LARGE) + 15) == b"header" + LARGE + b"headerend"
        await eventually(lambda: protocol.events == ["made", "pause", "resume"])
        assert transport.get_write_buffer_size() == 0


@on_loop
async def test_a_close_sends_what_waits_first() -> None:
    protocol = Recorder()
    with connected(protocol) as (transport, peer):
        transport.write(LARGE)
        transport.close()
        assert transport.is_closing()
        transport.resume_reading()
        assert not transport.is_reading()

        assert await read_all(peer, len(LARGE)) == LARGE
        await eventually(lambda: protocol.events == ["made", "pause", "lost"])
        assert protocol.error is None


@on_loop
async def test_the_end_of_writing_follows_what_waits() -> None:
    protocol = Recorder()
    loop = asyncio.get_running_loop()
    with connected(protocol) as (transport, peer):
        assert transport.can_write_eof()
        transport.write(LARGE)
        transport.write_eof()
        transport.write_eof()

        assert await read_all(peer, len(LARGE)) == LARGE
        assert await loop.sock_recv(peer, 1) == b""
        peer.sendall(b"still read")
        await eventually(lambda: bytes(protocol.received) == b"still read")


@on_loop
async def test_an_abort_discards_what_waits() -> None:
    protocol = Recorder()
    with connected(protocol) as (transport, _peer):
        transport.write(LARGE)
        transport.abort()
        transport.abort()
        transport.write(b"ignored")
        transport.close()
        await turns()

        assert protocol.events == ["made", "pause", "lost"]
        assert transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("keeps_open", [False, True])
@on_loop
async def test_the_peers_end_is_reported_once(*, keeps_open: bool) -> None:
    protocol = Recorder()
    protocol.keeps_open = keeps_open
    with connected(protocol) as (transport, peer):
        peer.sendall(bytes(64))
        peer.shutdown(socket.SHUT_WR)
        await eventually(lambda: "eof" in protocol.events)
        await turns()

        assert protocol.events == ["made", "eof", *([] if keeps_open else ["lost"])]
        assert (transport.is_closing(), len(protocol.received)) == (not keeps_open, 64)


@on_loop
async def test_a_reset_ends_the_connection_with_its_error() -> None:
    protocol = Recorder()
    with connected(protocol) as (transport, peer):
        transport.write(LARGE)
        peer.close()
        await eventually(lambda: "lost" in protocol.events)

        assert isinstance(protocol.error, ConnectionError)


@on_loop
async def test_a_fault_of_the_protocol_ends_the_connection() -> None:
    contexts: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: contexts.append(context)
    )
    protocol = Recorder()
    protocol.failure = LookupError("bug")
    with connected(protocol) as (_transport, peer):
        peer.sendall(b"hello")
        await eventually(lambda: "lost" in protocol.events)

        assert [context["exception"] for context in contexts] == [protocol.failure]


@on_loop
async def test_it_knows_its_ends() -> None:
    with connected(Recorder()) as (transport, peer):
        sock = transport.get_extra_info("socket")

        assert transport.get_extra_info("peername") == ("peer", 1)
        assert transport.get_extra_info("sockname") == sock.getsockname()
        assert sock.getpeername() == peer.getsockname()
        assert transport.get_extra_info("ssl_object", "none") == "none"
