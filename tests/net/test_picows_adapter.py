"""
picows on a transport, and what of it we rely on without being promised it.

Each test has a real transport over a pair of sockets. That no byte is lost when a reader is
replaced under a whole server is tested in ``tests/system/test_reading.py``.
"""

import asyncio
import importlib.metadata
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import shake_128
from typing import Any

import aiofastnet
import pytest
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from gateman.errors import ProtocolError
from gateman.net.picows_adapter import PicowsAdapter, PicowsTransport, ReadLimiter
from gateman.websocket.close import CloseCode
from tests.support.loop import eventually, on_loop, turns
from tests.support.raw import (
    ACCEPT,
    BINARY,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    Frame,
    RawClient,
    frame,
)
from tests.support.server import serve

SWOLLEN = 110_000  # bytes of a message that makes picows' buffer grow beyond what is kept
NOISE = shake_128(b"noise").digest(1 << 18)
ROOM = 1792  # bytes for which there is room in a new one: 2048 less 256


class _Listener(WSListener):
    """Records every call, and uses the adapter as its attributes say."""

    def __init__(self) -> None:
        self.adapter: Any = None
        self.ws: Any = None
        self.frames: list[tuple[int, bytes]] = []
        self.codes: list[int] = []
        self.releases: set[int] = set()
        self.released: list[int] = []
        self.has_limiter = False
        self.ended = 0
        self.events: list[str] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.ws = transport

    def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
        number = len(self.frames)
        self.frames.append((frame.msg_type.value, frame.get_payload_as_bytes()))
        if number in self.releases and self.adapter.release_buffer(frame):
            self.released.append(number)
        if self.has_limiter:
            self.adapter.limit_next_frame(frame, sum(len(payload) for _, payload in self.frames))

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        self.events.append("disconnected")

    def pause_writing(self) -> None:
        self.events.append("pause_writing")

    def resume_writing(self) -> None:
        self.events.append("resume_writing")

    def peer_ended(self) -> None:
        self.events.append("peer_ended")

    def too_big(self) -> None:
        self.events.append("too_big")

    def parser_failed(self, error: ProtocolError) -> None:
        self.codes.append(error.close_code)


class _Waiting(asyncio.Protocol):
    """Has the transport before picows."""


@asynccontextmanager
async def adapter_on(
    max_frame_size: int = 1 << 20,
) -> AsyncIterator[tuple[_Listener, Any, RawClient]]:
    """Put picows on one end of a pair of sockets, and give the listener, transport and client."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(0)
    loop = asyncio.get_running_loop()
    transport, _ = await aiofastnet.connect_accepted_socket(loop, _Waiting, ours)
    listener = _Listener()
    adapter = PicowsAdapter(
        listener, transport, PicowsTransport(listener, transport), max_frame_size=max_frame_size
    )
    listener.adapter = adapter
    adapter.begin(KEY, [("X-More", "yes")])
    client = RawClient(*await asyncio.open_connection(sock=theirs))
    try:
        yield listener, transport, client
    finally:
        transport.abort()
        await client.close()
        listener.adapter = None


def room(transport: Any) -> int:
    """Tell for how much picows has room now, limited or not."""
    reader = transport.get_protocol()
    return len(getattr(reader, "picows", reader).get_buffer(-1))


def receive_buffer(transport: Any) -> int:
    """Tell for how much the kernel has room; it counts what it needs itself, so it doubles."""
    sock = transport.get_extra_info("socket")
    return int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)) // 2


# What we rely on.


def test_the_version_of_picows_is_one_that_was_checked() -> None:
    """The parts that are relied on were read in these versions; others have to be read again."""
    assert importlib.metadata.version("picows").startswith("2.3.")
    assert importlib.metadata.version("aiofastnet").startswith("1.2.")


@on_loop
async def test_the_101_has_the_key_and_the_headers() -> None:
    """The handshake that picows is given is ours, its answer is for the peer's key."""
    async with adapter_on() as (_, transport, client):
        answer = await client.read_head()

        assert (answer.status, answer.headers["sec-websocket-accept"]) == (101, ACCEPT)
        assert answer.headers["x-more"] == "yes"
        assert room(transport) == ROOM


@on_loop
async def test_frames_come_as_they_were_sent() -> None:
    """Bytes that are fed and bytes that are read make the same frames."""
    async with adapter_on() as (listener, _, client):
        listener.adapter.feed(frame(TEXT, b"early") + frame(BINARY, bytes(5000))[:2500])
        await client.send(frame(BINARY, bytes(5000))[2500:] + frame(PING, b"p"))
        await eventually(lambda: len(listener.frames) == 3)

        assert listener.frames == [(TEXT, b"early"), (BINARY, bytes(5000)), (PING, b"p")]


@on_loop
async def test_the_frame_that_crashed_older_versions_of_picows() -> None:
    """Before 2.1.2, picows died of these 14 bytes: a length whose highest bit is set."""
    async with adapter_on() as (listener, _, client):
        await client.send(b"\x82\xff\xff" + bytes(7) + b"mask")
        await eventually(lambda: bool(listener.codes))

        assert listener.codes == [1002]


@on_loop
async def test_the_peers_end_is_told() -> None:
    """What picows keeps to itself, its subclass does not."""
    async with adapter_on() as (listener, _, client):
        client.end()
        await eventually(lambda: "disconnected" in listener.events)

        assert listener.events == ["peer_ended", "disconnected"]


# Giving memory back.


@on_loop
async def test_a_small_buffer_is_kept() -> None:
    """A new picows costs time; up to 64 KiB are not worth it."""
    async with adapter_on() as (listener, transport, client):
        listener.releases = {0, 1}
        await client.send(frame(BINARY, bytes(20_000)))
        await eventually(lambda: len(listener.frames) == 1)

        assert room(transport) > 20_000
        assert listener.released == []


@on_loop
async def test_a_large_buffer_is_replaced_behind_the_last_frame() -> None:
    """Behind another one there are bytes that are frames, and have to be delivered."""
    async with adapter_on() as (listener, transport, client):
        first = listener.ws
        listener.releases = {0, 1, 2}
        listener.adapter.feed(frame(BINARY, bytes(SWOLLEN)) + frame(PING) * 2)

        assert listener.released == [2]
        assert listener.ws is not first
        assert room(transport) == ROOM
        await client.send(frame(TEXT, b"goes on"))
        await eventually(lambda: len(listener.frames) == 4)
        assert listener.frames[3] == (TEXT, b"goes on")


@pytest.mark.parametrize("size", [0, 1, 2, 5, 6, 7, 13, 14, 130, 131, 1000, 1791, 1792, 30_000])
@on_loop
async def test_what_is_left_over_goes_into_the_new_buffer(size: int) -> None:
    """Any beginning of the next frame: of its header, of its mask, of its payload."""
    payload = NOISE[size : size + 40_000]
    following = frame(BINARY, payload)
    async with adapter_on() as (listener, transport, client):
        listener.releases = {0}
        # In one piece: a transport that reads it in two finds nothing left over.
        listener.adapter.feed(frame(BINARY, bytes(SWOLLEN)))
        assert listener.released == [0]
        listener.releases = {1}
        grow = frame(BINARY, bytes(SWOLLEN))
        listener.adapter.feed(grow[:-1])
        buffer = transport.get_protocol().get_buffer(-1)
        end = grow[-1:] + following[:size]
        buffer[: len(end)] = end
        transport.get_protocol().buffer_updated(len(end))

        assert listener.released == [0, 1]
        assert room(transport) <= max(ROOM, 3 * size)
        await client.send(following[size:] + frame(TEXT, b"end"))
        await eventually(lambda: len(listener.frames) == 4)
        assert listener.frames[2:] == [(BINARY, payload), (TEXT, b"end")]


@on_loop
async def test_the_peer_sees_nothing_of_a_new_picows() -> None:
    """The answer to the handshake that it is given goes nowhere, its frames do."""
    async with adapter_on() as (listener, _, client):
        await client.read_head()
        listener.releases = {0}
        listener.adapter.feed(frame(BINARY, bytes(SWOLLEN)))
        listener.ws.send(WSMsgType.BINARY, b"x" * 20)
        listener.ws.send(WSMsgType.BINARY, bytes(20_000))

        assert listener.released == [0]
        assert await client.read_frame() == Frame(BINARY, b"x" * 20)
        assert await client.read_frame() == Frame(BINARY, bytes(20_000))


# The limiter.


@on_loop
async def test_a_limiter_counts_what_is_incomplete() -> None:
    """As much as the message may still have, and a header, is waited for; one more is too big."""
    async with adapter_on(1000) as (listener, transport, client):
        listener.has_limiter = True
        await client.send(frame(BINARY, bytes(600), fin=False))
        await eventually(lambda: len(listener.frames) == 1)
        assert isinstance(transport.get_protocol(), ReadLimiter)
        await client.send(frame(CONTINUATION, bytes(414 - 8), fin=False, size=1000))
        await client.send(b"")
        await turns()
        assert listener.events == []
        await client.send(b"x")
        await eventually(lambda: listener.events != [])

        assert listener.events == ["too_big"]


@on_loop
async def test_a_limiter_hears_how_much_is_held_by_now() -> None:
    """What it has counted stays counted; the limit is that of what the message may still get."""
    async with adapter_on(1000) as (listener, _, client):
        listener.has_limiter = True
        await client.send(frame(BINARY, bytes(600), fin=False))
        await eventually(lambda: len(listener.frames) == 1)
        await client.send(frame(CONTINUATION, bytes(300), fin=False, size=1000))
        await turns()
        listener.adapter.limit(200)
        await client.send(bytes(814 - 308))
        await turns()
        assert listener.events == []
        await client.send(b"x")
        await eventually(lambda: listener.events != [])

        assert listener.events == ["too_big"]


@on_loop
async def test_a_limiter_lets_control_frames_pass() -> None:
    """When nothing more may come of a message, a control frame in pieces still may."""
    async with adapter_on(1000) as (listener, _, client):
        listener.has_limiter = True
        await client.send(frame(BINARY, bytes(1000), fin=False))
        for byte in frame(PING, bytes(125)):
            await client.send(bytes([byte]))
        await eventually(lambda: len(listener.frames) == 2)

        assert listener.events == []
        assert listener.frames[1] == (PING, bytes(125))


@on_loop
async def test_a_limiter_that_is_relieved_counts_no_more() -> None:
    """Behind a message, frames are as large as any."""
    async with adapter_on() as (listener, transport, client):
        listener.has_limiter = True
        await client.send(frame(BINARY, bytes(1000), fin=False))
        await eventually(lambda: len(listener.frames) == 1)
        listener.has_limiter = False
        listener.adapter.stop_limiting()
        await client.send(frame(BINARY, bytes(1 << 20)))
        await eventually(lambda: len(listener.frames) == 2)

        assert not isinstance(transport.get_protocol(), ReadLimiter)
        assert listener.events == []


@on_loop
async def test_a_limiter_passes_on_what_else_happens() -> None:
    """Back-pressure, the peer's end and the connection's."""
    async with adapter_on() as (listener, transport, client):
        listener.has_limiter = True
        await client.send(frame(BINARY, b"", fin=False))
        await eventually(lambda: len(listener.frames) == 1)
        transport.set_write_buffer_limits(high=0)
        client.stop_reading()
        listener.ws.send(WSMsgType.BINARY, bytes(4 << 20))
        assert listener.events == ["pause_writing"]
        client.go_on_reading()
        await client.read_head()
        await client.read_frame()
        await eventually(lambda: len(listener.events) == 2)
        client.end()
        await eventually(lambda: "disconnected" in listener.events)

        assert listener.events == [
            "pause_writing",
            "resume_writing",
            "peer_ended",
            "disconnected",
        ]


@on_loop
async def test_large_messages_are_read_in_pieces_and_the_kernel_takes_more_of_them() -> None:
    """As much in one turn of the loop as before, however much the kernel and picows can hold."""
    async with adapter_on() as (listener, transport, client):
        before = receive_buffer(transport)
        listener.adapter.widen()
        await client.send(frame(BINARY, NOISE))
        await eventually(lambda: len(listener.frames) == 1)

        assert listener.frames == [(BINARY, NOISE)]
        assert before == 128 << 10
        assert receive_buffer(transport) == 512 << 10
        assert len(transport.get_protocol().get_buffer(-1)) == 128 << 10
        assert room(transport) > 128 << 10


@on_loop
async def test_a_client_that_stops_sending_large_messages_is_read_as_before() -> None:
    """By picows itself; and the kernel takes no more than of anybody."""
    async with adapter_on() as (listener, transport, client):
        listener.adapter.widen()
        listener.adapter.narrow()
        listener.adapter.narrow()
        await client.send(frame(BINARY, NOISE))
        await eventually(lambda: len(listener.frames) == 1)

        assert receive_buffer(transport) == 128 << 10
        assert not isinstance(transport.get_protocol(), ReadLimiter)


@on_loop
async def test_a_message_stays_limited_when_large_ones_are_not_expected() -> None:
    """What limits an incomplete message is another matter than how much is read at once."""
    async with adapter_on(max_frame_size=1000) as (listener, transport, client):
        listener.has_limiter = True
        listener.adapter.widen()
        await client.send(frame(BINARY, bytes(900), fin=False))
        await eventually(lambda: len(listener.frames) == 1)
        listener.adapter.narrow()
        await client.send(frame(CONTINUATION, bytes(500))[:-1])
        await eventually(lambda: listener.events == ["too_big"])

        assert isinstance(transport.get_protocol(), ReadLimiter)


@on_loop
async def test_nothing_keeps_a_picows_that_was_replaced() -> None:
    """
    A limiter that stands by kept the old one, and with it the buffer that was to be given back.

    Seen as 20 MiB that twenty connections still held after their pongs.
    """
    async with adapter_on() as (listener, transport, client):
        listener.releases = {0}
        listener.adapter.widen()
        limit_next_frame = transport.get_protocol()
        old = limit_next_frame.picows
        listener.adapter.narrow()
        await client.send(frame(BINARY, NOISE))
        await eventually(lambda: listener.released == [0])

        assert transport.get_protocol() is limit_next_frame.picows
        assert limit_next_frame.picows is not old


@on_loop
async def test_a_new_picows_reads_large_messages_in_pieces_too() -> None:
    """Its buffer grows like that of the old one."""
    async with adapter_on() as (listener, transport, client):
        listener.releases = {0}
        listener.adapter.widen()
        await client.send(frame(BINARY, NOISE))
        await client.send(frame(BINARY, NOISE))
        await eventually(lambda: len(listener.frames) == 2)

        assert listener.released == [0]
        assert listener.frames == [(BINARY, NOISE)] * 2
        assert len(transport.get_protocol().get_buffer(-1)) == 128 << 10


@on_loop
async def test_memory_of_a_burst_is_given_back_at_the_next_pong() -> None:
    """A quiet connection holds a small buffer, whatever it once received."""
    async with serve() as server:
        client = await server.open()
        (connection,) = server.worker.connections.values()
        transport: Any = connection.link._transport  # type: ignore[attr-defined] # noqa: SLF001
        await client.send(frame(BINARY, bytes(1 << 20)))
        await client.send(frame(PING, b"1"))
        assert await client.read_frame() == Frame(PONG, b"1")
        assert room(transport) > 1 << 20

        await client.send(frame(PONG) + frame(PING, b"2")[:3])
        await eventually(lambda: room(transport) == ROOM - 3)
        await client.send(frame(PING, b"2")[3:])
        assert await client.read_frame() == Frame(PONG, b"2")


class ErrorRecorder:
    """Records parser errors."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.reasons: list[str] = []

    def peer_ended(self) -> None:
        raise AssertionError

    def too_big(self) -> None:
        raise AssertionError

    def parser_failed(self, error: ProtocolError) -> None:
        self.codes.append(error.close_code)
        self.reasons.append(error.reason)


class RecordingTransport:
    """A transport that writes down what it gets."""

    def __init__(self, family: int = socket.AF_INET) -> None:
        self.sock = socket.socket(family)
        self.written: list[object] = []
        self.large_size: Callable[[], int] = lambda: 0
        self.seen_size = -1

    def write(self, data: bytes) -> None:
        """Note it."""
        self.written.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        """Note it, and what is known of it meanwhile."""
        self.written.append(parts)
        self.seen_size = self.large_size()

    def get_write_buffer_size(self) -> int:
        """Tell something recognisable."""
        return 4711

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Know the socket."""
        return {"socket": self.sock}.get(name, default)

    def close(self) -> None:
        """Must not be called."""
        raise AssertionError


class Asking:
    """Asks its transport what picows asks."""

    def __init__(self, told: list[Any]) -> None:
        self._told = told

    def connection_made(self, transport: Any) -> None:
        """Ask."""
        self._told += [transport.get_extra_info("socket"), transport.get_extra_info("ssl_object")]
        self._told.append(transport.get_extra_info("other", "default"))


def test_bytes_are_passed_on() -> None:
    """Small messages in one piece, large ones as header and message."""
    transport = RecordingTransport()
    picows_transport = PicowsTransport(ErrorRecorder(), transport)
    transport.large_size = lambda: picows_transport.large_size
    picows_transport.write(b"small")
    picows_transport.writelines([b"header", b"message"])
    transport.sock.close()

    assert transport.written == [b"small", [b"header", b"message"]]
    assert (transport.seen_size, picows_transport.large_size) == (7, 0)
    assert picows_transport.get_write_buffer_size() == 4711


def test_transport_tells_what_it_knows() -> None:
    """Picows gets what it asks for."""
    told: list[object] = []
    transport = RecordingTransport()
    PicowsTransport(ErrorRecorder(), transport).connect(Asking(told))
    transport.sock.close()

    assert told[1:] == [None, "default"]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_socket_has_no_tcp_options(family: int) -> None:
    """With a unix socket, setting them would raise, and picows then follow a null pointer."""
    told: list[Any] = []
    transport = RecordingTransport(family)
    PicowsTransport(ErrorRecorder(), transport).connect(Asking(told))
    sock = told[0]
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
    assert sock.fileno() == transport.sock.fileno()
    transport.sock.close()


def test_end_is_not_picows_to_decide() -> None:
    """Picows closes 10 ms after an error; the protocol has ended the connection by then."""
    transport = RecordingTransport()
    picows_transport = PicowsTransport(ErrorRecorder(), transport)
    picows_transport.close()
    picows_transport.abort()
    transport.sock.close()

    assert transport.written == []


def test_verdict_is_read_from_the_log() -> None:
    """The error line of picows' parser carries the code; a text that is not known is not told."""
    recorder = ErrorRecorder()
    transport = RecordingTransport()
    picows_transport = PicowsTransport(recorder, transport)
    picows_transport.error("WS parser error: %s, initiate disconnect", (1002, "secret"))
    picows_transport.debug("a line")
    picows_transport.info("%s", "a line")
    picows_transport.warning("a line")
    picows_transport.log(9, "a line")
    transport.sock.close()

    assert (recorder.codes, recorder.reasons) == ([1002], ["frame breaks RFC 6455"])
    assert picows_transport.isEnabledFor(logging.DEBUG) is False


def test_fault_of_ours_is_logged_and_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its traceback, and 1011."""
    recorder = ErrorRecorder()
    transport = RecordingTransport()
    picows_transport = PicowsTransport(recorder, transport)
    try:
        raise LookupError("bug")
    except LookupError:
        picows_transport.exception("Unhandled exception from on_ws_frame")
    transport.sock.close()

    assert recorder.codes == [CloseCode.INTERNAL_ERROR]
    assert recorder.reasons == ["internal error"]
    (record,) = caplog.records
    assert record.getMessage() == ("picows failed: Unhandled exception from on_ws_frame")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)
