"""
picows on one transport: the adapter through which everything else uses it.

picows refuses some good handshakes (Firefox's), so gateman does the handshake and then replays it
in a form that picows accepts; picows sends the 101. Its read buffer only grows, and it looks at one
frame at a time. The adapter bounds the memory that a client could make it hold: it replaces a
picows whose buffer has grown, and while a message is incomplete a :class:`ReadLimiter` counts the
bytes of the next frame. picows reports a frame that it refuses only to its logger, and then closes
the transport; :class:`PicowsTransport` takes the place of both, and leaves the end to the listener.

The version is pinned. No other module uses what picows does not document. It is relied on, and
fails, when it changes, in ``tests/net/test_picows_adapter.py``:

* the positional constructor of ``WSProtocol``;
* ``connection_made``, ``get_buffer``, ``buffer_updated`` and ``eof_received``, called directly;
* bytes that are not parsed yet lie before the buffer that ``get_buffer`` returns;
* the texts with which the parser refuses a frame, given to the logger's ``error``;
* the methods of the transport and of its socket that picows calls;
* ``close_handshake`` knows a Close that was parsed and not delivered.
"""

import asyncio
import socket
from http import HTTPStatus
from typing import Any, Protocol

from picows import WSAutoPingStrategy, WSFrame
from picows.common import WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined] # not in its stub

from ..errors import ProtocolError
from ..log import logger
from ..websocket.close import CloseCode

# The least that picows accepts; the last field is the peer's key.
_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
)
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: %b\r\n%b\r\n"
)
# For a handshake that only picows sees.
_NO_KEY = "AAAAAAAAAAAAAAAAAAAAAA=="

# picows allocates this for every connection and doubles it for larger messages (its minimum).
_READ_BUFFER_SIZE = 2048  # bytes

# The kernel holds twice as much, and one read without TLS returns all of it: as much as the
# transport reads in one turn. By default it is tens of MiB, and picows allocates room for all.
_RECEIVE_BUFFER_SIZE = 128 << 10  # bytes

LARGE_SIZE = 64 << 10
"""Bytes above which a frame is large: half of the kernel's receive buffer by default."""

# For a client that sends large frames, which are read in pieces. With less, each piece wakes both
# processes: half as many messages of 1 MiB (bench/echo.py); with more, as many.
_WIDE_BUFFER_SIZE = 512 << 10  # bytes

# Two of them are what the transport reads in one turn.
_PIECE_SIZE = 128 << 10  # bytes

# Above this, replacing picows and its read buffer is worth the 30 µs.
_SWOLLEN_SIZE = 64 << 10  # bytes

# RFC 6455, section 5.2: the largest header of a client's frame, and the largest control frame
# (a header of 6 bytes and 125 bytes).
_MAX_HEADER_SIZE = 14  # bytes
_MAX_CONTROL_SIZE = 131  # bytes

_NO_LIMIT = 1 << 62  # bytes

# glibc's largest M_MMAP_THRESHOLD; above it, glibc maps every allocation (mallopt(3)).
_MAX_MAPPED_SIZE = 32 << 20  # bytes


# How the text begins with which picows refuses a frame; the close reason, and the cause to count.
_PARSER_ERRORS = (
    ("Received frame with invalid opcode=", "a frame has a reserved opcode", "reserved_opcode"),
    ("Received un-masked frame", "a frame is not masked", "unmasked_frame"),
    ("Received fragmented control frame", "a control frame is fragmented", "bad_control_frame"),
    (
        "Received control frame with payload size",
        "a control frame has more than 125 bytes",
        "bad_control_frame",
    ),
    (
        "Received frame with invalid 16-bit payload len",
        "the length of a frame is not in its shortest form",
        "bad_frame_length",
    ),
    (
        "Received frame with invalid 64-bit payload len",
        "the length of a frame is not in its shortest form, or has its highest bit set",
        "bad_frame_length",
    ),
    ("Received frame with payload size exceeding", "a message is too large", "message_too_big"),
    ("Received CLOSE with invalid close code size", "a Close frame has one byte", "bad_close"),
    ("Received CLOSE with invalid close code", "invalid close code", "bad_close"),
    ("Received CLOSE with invalid UTF-8 reason", "the close reason is not UTF-8", "bad_close"),
)


class Listener(Protocol):
    """What the adapter calls on the WebSocket protocol, beside the methods of ``WSListener``."""

    def peer_ended(self) -> None:
        """The peer has ended its half of the TCP connection."""

    def too_big(self) -> None:
        """The message will be larger than it may be."""

    def parser_failed(self, error: ProtocolError) -> None:
        """Picows refused a frame; the error has the close code that picows would send."""


class PicowsTransport:
    """What picows uses as its transport and as its logger; it ignores picows' close."""

    __slots__ = ("_listener", "_transport", "get_extra_info", "large_size", "write")

    def __init__(self, listener: Listener, transport: Any) -> None:
        self._listener = listener
        self._transport = transport
        # While a large message is being written, its size in bytes.
        self.large_size = 0
        self.write = transport.write
        # What picows asks for in its `connection_made`: :meth:`connect`.
        self.get_extra_info: Any = None

    def connect(self, protocol: Any) -> None:
        """Become the transport of a picows."""
        get_extra_info = self._transport.get_extra_info
        self.get_extra_info = {
            "socket": _Socket(get_extra_info("socket").fileno()),
            "ssl_object": get_extra_info("ssl_object"),
        }.get
        protocol.connection_made(self)
        self.get_extra_info = None

    def writelines(self, parts: list[Any]) -> None:
        """Write a header and the message behind it: picows' way for messages above 8 KiB."""
        self.large_size = len(parts[1])
        try:
            self._transport.writelines(parts)
        finally:
            self.large_size = 0

    @property
    def get_write_buffer_size(self) -> Any:
        # picows only asks whether it is 0, before each frame that it sends without TLS.
        return getattr(self._transport, "count_unsent", self._transport.get_write_buffer_size)

    def close(self) -> None:
        """Ignore it: the listener has ended the connection in ``parser_failed``."""

    def abort(self) -> None:
        """Ignore it: picows calls this only in ``disconnect(graceful=False)``, not used here."""

    # The logger: only what picows logs at ERROR matters.

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802 - logging's name
        """Save picows the work of lines that are not logged."""
        return False

    def debug(self, *_args: object) -> None:
        """Ignore it."""

    info = warning = log = debug

    def error(self, _message: str, arguments: tuple[int, str]) -> None:
        """Report a frame that picows' parser refused, with its close code and text."""
        code, text = arguments
        reason, cause = next(
            (words for beginning, *words in _PARSER_ERRORS if text.startswith(beginning)),
            ("frame breaks RFC 6455", "protocol_error"),
        )
        self._listener.parser_failed(ProtocolError(CloseCode(code), reason, cause=cause))

    def exception(self, message: str, *_args: object) -> None:
        """Log a fault of gateman: what the application raises is caught before."""
        logger.exception("picows failed: %s", message)
        self._listener.parser_failed(
            ProtocolError(CloseCode.INTERNAL_ERROR, "internal error", cause="engine_failed")
        )


class _Socket:
    """A socket without TCP options."""

    # picows sets two of them, and reads four for a log line. The listening socket has TCP_NODELAY.
    # On a unix socket they raise, and picows then crashes at the first byte (docs/decisions.md).
    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def setsockopt(self, *_args: object) -> None:
        """Ignore TCP_NODELAY and TCP_QUICKACK."""

    def getsockopt(self, *_args: object) -> int:
        return 0


class _Upgrade(WSUpgradeResponseWithListener):
    """What picows asks for at a handshake: the function that decides, its decision, and the 101."""

    __slots__ = ("_lines", "headers")

    status = HTTPStatus.SWITCHING_PROTOCOLS

    def __init__(self, listener: Listener, lines: bytes | None) -> None:
        """Make a decision; without ``lines``, the header fields, nothing is sent."""
        self.response: Any = self
        self.listener = listener
        self.headers: dict[str, str] | None = {}
        self._lines = lines

    def __call__(self, _request: object) -> "_Upgrade":
        return self

    def to_bytes(self) -> bytearray:
        """Write the 101 for the key that picows has put among the headers."""
        if self._lines is None or self.headers is None:
            return bytearray()
        key = self.headers["Sec-WebSocket-Accept"].encode()
        return bytearray(_SWITCHING % (key, self._lines))

    def release(self) -> None:
        """Drop everything: picows keeps its response, and it refers to itself."""
        self.response = self.listener = self.headers = self._lines = None


class PicowsProtocol(WSProtocol):  # type: ignore[misc] # not in picows' stub
    """picows' protocol, which also reports the peer's EOF to its listener."""

    __slots__ = ()

    def eof_received(self) -> bool:
        """Report the EOF; the transport then closes when it has sent everything."""
        self.listener.peer_ended()
        return False


class PicowsAdapter:
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
        # The transport's protocol: picows, or the limiter.
        self._reader: Any = None

    def begin(self, key: str, headers: list[tuple[str, str]]) -> None:
        """Make picows the transport's protocol; it sends the 101."""
        self._set_receive_buffer(_RECEIVE_BUFFER_SIZE)
        self._install(key, "".join([f"{name}: {value}\r\n" for name, value in headers]).encode())

    def feed(self, data: bytes) -> None:
        """Pass bytes to picows as the transport does."""
        view = memoryview(data)
        # A frame in it may replace the reader, or end the connection.
        while view and self._transport.get_protocol() is self._reader:
            buffer = self._reader.get_buffer(-1)
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            self._reader.buffer_updated(size)
            view = view[size:]

    def release_buffer(self, frame: WSFrame) -> bool:
        """Replace a picows whose read buffer has grown; called from ``on_ws_frame``."""
        if not frame.last_in_buffer:
            return False
        room = self._protocol.get_buffer(-1)
        if len(room) + frame.payload_size + frame.tail_size <= _SWOLLEN_SIZE:
            return False
        tail = _in_front_of(room, frame.tail_size)
        self._install(_NO_KEY, None)
        # Directly: the limiter has counted these bytes already.
        self.feed(tail)
        if self._is_wide:
            self._install_limiter()
        return True

    def limit_next_frame(self, frame: WSFrame, held_size: int) -> None:
        """Bound the bytes of the next frame, of which ``frame.tail_size`` are buffered."""
        self._install_limiter().waiting_size = frame.tail_size
        self.limit(held_size)

    def limit(self, held_size: int) -> None:
        """Bound the bytes of the next frame of a message of which ``held_size`` bytes are held."""
        limit = max(self._max_frame_size - held_size + _MAX_HEADER_SIZE, _MAX_CONTROL_SIZE)
        self._install_limiter().limit = limit

    def stop_limiting(self) -> None:
        """Let picows read without a limit again."""
        if self._read_limiter is not None:
            self._read_limiter.limit = _NO_LIMIT
        if not self._is_wide:
            self._set_reader(self._protocol)

    def widen(self) -> None:
        """Enlarge the kernel's receive buffer, for a client that sends large messages."""
        if self._is_wide:
            return
        self._is_wide = True
        self._install_limiter()
        self._set_receive_buffer(_WIDE_BUFFER_SIZE)
        # Freeing a mapped block raises glibc's threshold: later blocks of that size come from the
        # heap. Else each large message takes new pages, at half the speed. No page is touched here.
        bytes(min(2 * self._max_frame_size, _MAX_MAPPED_SIZE))

    def narrow(self) -> None:
        """Reduce the kernel's receive buffer again; large messages may still come."""
        if self._is_wide:
            self._is_wide = False
            self._set_receive_buffer(_RECEIVE_BUFFER_SIZE)
            if self._read_limiter is not None and self._read_limiter.limit == _NO_LIMIT:
                self._set_reader(self._protocol)

    def _install_limiter(self) -> "ReadLimiter":
        if self._read_limiter is None:
            self._read_limiter = ReadLimiter(self._listener)
        self._read_limiter.picows = self._protocol
        self._set_reader(self._read_limiter)
        return self._read_limiter

    def _set_receive_buffer(self, size: int) -> None:
        """Bound what one read returns; with TLS, OpenSSL's buffer does."""
        if self._transport.get_extra_info("ssl_object") is None:
            sock = self._transport.get_extra_info("socket")
            try:  # noqa: SIM105 - `suppress` costs three calls
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            except OSError:
                # macOS: EINVAL once the peer is gone, which the next read reports.
                pass

    def _set_reader(self, reader: Any) -> None:
        if self._reader is not reader:
            self._reader = reader
            self._transport.set_protocol(reader)

    def _install(self, key: str, lines: bytes | None) -> None:
        """Install a new picows; it sends its 101 to the peer only if there are ``lines``."""
        upgrade = _Upgrade(self._listener, lines)
        protocol = self._protocol = PicowsProtocol(
            None,  # host and port, of clients
            None,  # path, of clients
            False,  # is_client_side
            upgrade,
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
            # Also while it does not read: it would keep the old one alive, and its memory.
            self._read_limiter.picows = protocol
        self._set_reader(protocol)
        self._picows_transport.connect(protocol)
        # As `feed` does, but nothing else may happen meanwhile.
        handshake = _HANDSHAKE % key.encode()
        protocol.get_buffer(-1)[: len(handshake)] = handshake
        protocol.buffer_updated(len(handshake))
        upgrade.release()
        if protocol.listener is not self._listener:
            raise RuntimeError("picows did not take the handshake")
        request = protocol.transport.request
        request.headers = request.method = request.path = request.version = None


def received_close(transport: Any) -> bytes | None:
    """Return the payload of a Close that picows has parsed, even if it has not delivered it."""
    closing = transport.close_handshake
    if closing is None or closing.recv is None:
        return None
    payload = int(closing.recv.code).to_bytes(2) + (closing.recv.reason or "").encode()
    # picows' 0 is the Close without a code; with a reason behind it, a wrong code.
    return b"" if payload == bytes(2) else payload


class ReadLimiter(asyncio.BufferedProtocol):
    """Reads for picows while a message is incomplete, or while the client sends large messages."""

    # picows refuses a frame that is larger than a message may be, but does not know how much of the
    # message is held already: a client could make gateman hold twice the limit. picows also
    # allocates room for everything that the kernel holds.
    __slots__ = ("_listener", "limit", "picows", "waiting_size")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.picows: Any = None
        # Bytes of incomplete frames that picows holds, and the most that they may be.
        self.waiting_size = 0
        self.limit = _NO_LIMIT

    def get_buffer(self, sizehint: int) -> Any:
        return self.picows.get_buffer(sizehint)[:_PIECE_SIZE]

    def buffer_updated(self, nbytes: int) -> None:
        """Let picows parse; if a frame is complete, its listener resets ``waiting_size``."""
        self.waiting_size += nbytes
        self.picows.buffer_updated(nbytes)
        if self.waiting_size > self.limit:
            self._listener.too_big()

    def eof_received(self) -> bool:
        return bool(self.picows.eof_received())

    def pause_writing(self) -> None:
        self.picows.pause_writing()

    def resume_writing(self) -> None:
        self.picows.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.picows.connection_lost(exc)


def _in_front_of(view: memoryview, size: int) -> bytes:
    """Copy the bytes that lie in memory before a view of a part of a buffer."""
    if not size:
        return b""
    # Imported here: it costs 4 ms and 250 KiB, and is rarely needed.
    import ctypes

    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    return ctypes.string_at(address - size, size)
