"""
How picows gets a connection: its parser is put on the transport, and given a handshake.

picows parses handshakes itself, and refuses some that are good (Firefox's). By now ours is
accepted, so it is replayed in a form that picows accepts; it then sends the 101.

Its read buffer only grows, and it looks at one frame at a time. What that would let a peer make
us hold is bounded here: a picows whose buffer has grown is replaced by a new one, and while a
message is incomplete a :class:`ReadLimiter` counts what is buffered of the next frame.

Semi-internal parts that are relied on: the positional constructor of ``WSProtocol``, its
``connection_made``, ``get_buffer``, ``buffer_updated`` and ``eof_received``, and that what is not
parsed yet lies in front of what ``get_buffer`` gives. The version is pinned, and
``tests/net/test_picows_adapter.py`` fails when they change.
"""

import asyncio
import socket
from contextlib import nullcontext, suppress
from typing import Any, Protocol

from picows import WSAutoPingStrategy, WSFrame, WSUpgradeResponse
from picows.common import WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined] # not in its stub

from .picows_transport import PicowsTransport

# For a handshake that nobody but picows sees.
_NO_KEY = "AAAAAAAAAAAAAAAAAAAAAA=="

# picows allocates this for every connection and doubles it as messages need (its minimum).
_READ_BUFFER_SIZE = 2048  # bytes

# The kernel keeps twice as much, and one read without TLS gives all of it. As much as the transport
# reads in one turn; by default it would be tens of MiB, all of which picows would make room for.
_RECEIVE_BUFFER_SIZE = 128 << 10  # bytes

LARGE_SIZE = 64 << 10
"""Bytes above which a frame is large: half of what the kernel holds for those that send none."""

# For a client that sends large frames, and is read from in pieces. With less, it and we wake one
# another for each piece: half as many messages of 1 MiB (bench/echo.py); with more, as many.
_WIDE_BUFFER_SIZE = 512 << 10  # bytes

# Two of them are what the transport reads in one turn.
_PIECE_SIZE = 128 << 10  # bytes

# A read buffer that has grown beyond this is worth the 30 µs of a new picows.
_SWOLLEN_SIZE = 64 << 10  # bytes

# RFC 6455, section 5.2: a client's header of a frame has at most so many; a control frame has
# at most 125 behind 6.
_MAX_HEADER_SIZE = 14  # bytes
_MAX_CONTROL_SIZE = 131  # bytes

_NO_LIMIT = 1 << 62  # bytes

# glibc's own, above which it always maps (mallopt(3), M_MMAP_THRESHOLD).
_MAX_MAPPED_SIZE = 32 << 20  # bytes


class Listener(Protocol):
    """What the engine is, beside a ``WSListener``."""

    def peer_ended(self) -> None:
        """Take note that the peer has ended its half of the TCP connection."""

    def too_big(self) -> None:
        """Close for a message that will be larger than it may be."""


class PicowsProtocol(WSProtocol):  # type: ignore[misc] # not in picows' stub
    """picows' protocol, which tells its listener of the one event that picows keeps to itself."""

    __slots__ = ()

    def eof_received(self) -> bool:
        """Tell it; then the transport sends what is unsent, for as long as that may take."""
        self.listener.peer_ended()
        return False


class PicowsAdapter:
    """picows on one transport."""

    __slots__ = (
        "_is_wide",
        "_listener",
        "_max_frame_size",
        "_picows_transport",
        "_protocol",
        "_read_limiter",
        "_reader",
        "_transport",
    )

    def __init__(
        self,
        listener: Listener,
        transport: asyncio.Transport,
        picows_transport: PicowsTransport,
        *,
        max_frame_size: int,
    ) -> None:
        self._listener = listener
        self._transport: Any = transport
        self._picows_transport = picows_transport
        self._max_frame_size = max_frame_size
        self._protocol: Any = None
        self._read_limiter: ReadLimiter | None = None
        self._is_wide = False
        # What the transport reads into: picows, or its guard.
        self._reader: Any = None

    def begin(self, key: str, headers: list[tuple[str, str]]) -> None:
        """Put picows on the transport, which sends the 101."""
        self._receive(_RECEIVE_BUFFER_SIZE)
        self._replace(key, headers)

    def feed(self, data: bytes) -> None:
        """Give bytes to picows as a transport would."""
        view = memoryview(data)
        # A frame in it may change the reader, or end the connection and take the transport away.
        while view and self._transport.get_protocol() is self._reader:
            buffer = self._reader.get_buffer(-1)
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            self._reader.buffer_updated(size)
            view = view[size:]

    def give_back(self, frame: WSFrame) -> bool:
        """Replace a picows whose read buffer has grown; called from ``on_ws_frame``."""
        if not frame.last_in_buffer:
            return False
        room = self._protocol.get_buffer(-1)
        if len(room) + frame.payload_size + frame.tail_size <= _SWOLLEN_SIZE:
            return False
        tail = _in_front_of(room, frame.tail_size)
        self._replace(None, [])
        # Not through the guard, which has counted it.
        self.feed(tail)
        if self._is_wide:
            self._place_limiter()
        return True

    def limit_next_frame(self, frame: WSFrame, held_size: int) -> None:
        """Bound what is buffered of the next frame, behind the last one that is there."""
        self._place_limiter().waiting_size = frame.tail_size
        self.limit(held_size)

    def limit(self, held_size: int) -> None:
        """Let the guard know how much of the message is held by now."""
        limit = max(self._max_frame_size - held_size + _MAX_HEADER_SIZE, _MAX_CONTROL_SIZE)
        self._place_limiter().limit = limit

    def stop_limiting(self) -> None:
        """Let picows read by itself again, or as much as it likes of a large message."""
        if self._read_limiter is not None:
            self._read_limiter.limit = _NO_LIMIT
        if not self._is_wide:
            self._read_into(self._protocol)

    def widen(self) -> None:
        """Let the kernel take more at a time, of a client that sends large messages."""
        if self._is_wide:
            return
        self._is_wide = True
        self._place_limiter()
        self._receive(_WIDE_BUFFER_SIZE)
        # What glibc has once mapped and freed, it takes from its heap, and gives back only twice as
        # much: else every large message is new pages, at half the speed. Nothing of it is touched.
        bytes(min(2 * self._max_frame_size, _MAX_MAPPED_SIZE))

    def narrow(self) -> None:
        """Have the kernel take less again; large messages may still come."""
        if self._is_wide:
            self._is_wide = False
            self._receive(_RECEIVE_BUFFER_SIZE)
            if self._read_limiter is not None and self._read_limiter.limit == _NO_LIMIT:
                self._read_into(self._protocol)

    def _place_limiter(self) -> "ReadLimiter":
        if self._read_limiter is None:
            self._read_limiter = ReadLimiter(self._listener)
        self._read_limiter.picows = self._protocol
        self._read_into(self._read_limiter)
        return self._read_limiter

    def _receive(self, size: int) -> None:
        """Say what the kernel may take before we do; with TLS, that is never read at once."""
        if self._transport.get_extra_info("ssl_object") is None:
            sock = self._transport.get_extra_info("socket")
            # macOS: EINVAL once the peer is gone, which the next read will tell.
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def _read_into(self, reader: Any) -> None:
        if self._reader is not reader:
            self._reader = reader
            self._transport.set_protocol(reader)

    def _replace(self, key: str | None, headers: list[tuple[str, str]]) -> None:
        """Put a new picows on the transport, with a key in view of the peer, else hidden."""
        listener = self._listener
        protocol = self._protocol = PicowsProtocol(
            None,  # host and port, of clients
            None,  # path, of clients
            False,  # is_client_side
            lambda _request: WSUpgradeResponseWithListener(
                WSUpgradeResponse.create_101_response(headers), listener
            ),
            self._picows_transport,
            True,  # disconnect_on_exception
            None,  # handshake timeout: ours began at accept
            False,  # auto ping: a task per connection
            20,
            20,
            WSAutoPingStrategy.PING_PERIODICALLY,
            False,  # auto pong: unbounded
            self._max_frame_size,
            None,
            _READ_BUFFER_SIZE,
        )
        if self._read_limiter is not None:
            # Also where it stands by: it would keep the old one, and its memory.
            self._read_limiter.picows = protocol
        self._read_into(protocol)
        protocol.connection_made(self._picows_transport)
        handshake = (
            b"GET / HTTP/1.1\r\nHost: gateman\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
            % (key or _NO_KEY).encode("ascii")
        )
        # Not around `connection_made`, where picows keeps hold of the way its frames go out.
        with self._picows_transport.muted() if key is None else nullcontext():
            self.feed(handshake)
        if protocol.listener is not listener:
            raise RuntimeError("picows did not take the handshake")


def received_close(transport: Any) -> bytes | None:
    """Tell whether picows has parsed a Close, also one that it has not delivered."""
    closing = transport.close_handshake
    if closing is None or closing.recv is None:
        return None
    payload = int(closing.recv.code).to_bytes(2) + (closing.recv.reason or "").encode()
    # picows' 0 is the Close without a code; with a reason behind it, a wrong code.
    return b"" if payload == bytes(2) else payload


class ReadLimiter(asyncio.BufferedProtocol):
    """
    Stands between a transport and picows while a message is incomplete, and where large ones come.

    picows refuses a frame that is larger than a whole message may be; what is held of the message
    already, it does not know. So a peer could make us hold that twice. And it makes room for all
    that the kernel has, of however many messages.

    Attributes:
        picows: Where everything goes.
        waiting_size: Bytes that picows holds of frames that are incomplete.
        limit: As many of them may be; a frame that has more is larger than the message may get.
    """

    __slots__ = ("_listener", "limit", "picows", "waiting_size")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.picows: Any = None
        self.waiting_size = 0
        self.limit = _NO_LIMIT

    def get_buffer(self, sizehint: int) -> Any:
        """Give a piece of picows' buffer."""
        return self.picows.get_buffer(sizehint)[:_PIECE_SIZE]

    def buffer_updated(self, nbytes: int) -> None:
        """Let picows parse; its listener tells how much it has left over, if it finds a frame."""
        self.waiting_size += nbytes
        self.picows.buffer_updated(nbytes)
        if self.waiting_size > self.limit:
            self._listener.too_big()

    def eof_received(self) -> bool:
        """Tell picows."""
        return bool(self.picows.eof_received())

    def pause_writing(self) -> None:
        """Tell picows."""
        self.picows.pause_writing()

    def resume_writing(self) -> None:
        """Tell picows."""
        self.picows.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell picows."""
        self.picows.connection_lost(exc)


def _in_front_of(view: memoryview, size: int) -> bytes:
    """Copy the bytes that lie in memory before a view of a part of a buffer."""
    if not size:
        return b""
    # Imported here: it costs 4 ms and 250 KiB, and hardly anything gets here.
    import ctypes

    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    return ctypes.string_at(address - size, size)
