"""
How picows gets a connection: its parser is put on the transport, and given a handshake.

picows parses handshakes itself, and refuses some that are good (Firefox's). By now ours is
accepted, so it is replayed in a form that picows accepts; it then sends the 101.

Semi-internal parts that are relied on: the positional constructor of ``WSProtocol``, its
``connection_made``, ``get_buffer``, ``buffer_updated`` and ``eof_received``, and the sizes of its
read buffer. The version is pinned, and ``tests/net/test_seat.py`` fails when they change.
"""

import asyncio
from contextlib import nullcontext
from typing import Protocol

from picows import WSAutoPingStrategy, WSUpgradeResponse
from picows.common import WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined] # not in its stub

from .surroundings import Surroundings

# For a handshake that nobody but picows sees.
_NO_KEY = "AAAAAAAAAAAAAAAAAAAAAA=="

# picows allocates this for every connection and doubles it as messages need (its minimum).
_READ_BUFFER_SIZE = 2048  # bytes
# What there is room for in it; the rest is for its SIMD code to run over.
_EMPTY_ROOM = _READ_BUFFER_SIZE - 256  # bytes


class Listener(Protocol):
    """What the engine is, beside a ``WSListener``."""

    def peer_ended(self) -> None:
        """Take note that the peer has ended its half of the TCP connection."""


class _Seated(WSProtocol):  # type: ignore[misc] # not in picows' stub
    """picows' protocol, which tells its listener of the one event that picows keeps to itself."""

    __slots__ = ()

    def eof_received(self) -> bool:
        """Tell it; then the transport sends what is unsent, for as long as that may take."""
        self.listener.peer_ended()
        return False


def seat(
    listener: Listener,
    transport: asyncio.Transport,
    surroundings: Surroundings,
    *,
    key: str | None,
    headers: list[tuple[str, str]],
    max_frame_size: int,
) -> WSProtocol:
    """
    Put a new picows on a transport.

    Args:
        listener: The ``WSListener``; gets ``on_ws_connected`` before this returns, then frames.
        transport: The transport.
        surroundings: What picows takes for its transport and its logger.
        key: The handshake's key; ``None`` to replace picows on a connection that is open,
            which sends nothing.
        headers: More fields for the 101.
        max_frame_size: Larger data frames close with 1009; bytes.

    Returns:
        The protocol, which is the transport's now.
    """
    protocol = _Seated(
        None,  # host and port, of clients
        None,  # path, of clients
        False,  # is_client_side
        lambda _request: WSUpgradeResponseWithListener(
            WSUpgradeResponse.create_101_response(headers), listener
        ),
        surroundings,
        True,  # disconnect_on_exception
        None,  # handshake timeout: ours began at accept
        False,  # auto ping: a task per connection
        20,
        20,
        WSAutoPingStrategy.PING_PERIODICALLY,
        False,  # auto pong: unbounded
        max_frame_size,
        None,
        _READ_BUFFER_SIZE,
    )
    transport.set_protocol(protocol)
    protocol.connection_made(surroundings)
    handshake = (
        b"GET / HTTP/1.1\r\nHost: gateman\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
        % (key or _NO_KEY).encode("ascii")
    )
    # Not around `connection_made`, where picows keeps hold of the way its frames go out.
    with surroundings.muted() if key is None else nullcontext():
        feed(protocol, handshake)
    if protocol.listener is not listener:
        raise RuntimeError("picows did not take the handshake")
    return protocol


def is_seated(protocol: asyncio.BaseProtocol) -> bool:
    """
    Tell whether picows is on a transport.

    Args:
        protocol: The transport's protocol.

    Returns:
        Whether it is picows'.
    """
    return isinstance(protocol, WSProtocol)


def is_empty(protocol: WSProtocol) -> bool:
    """
    Tell whether picows holds none of the bytes that it was given.

    Its buffer doubles whenever it is nearly full, so the room in an empty one is one of a few
    sizes; half full, it is mistaken for an empty one of half the size.

    Args:
        protocol: Its protocol.

    Returns:
        Whether it is so.
    """
    doubled, rest = divmod(len(protocol.get_buffer(-1)), _EMPTY_ROOM)
    return not rest and doubled.bit_count() == 1


def feed(protocol: WSProtocol, data: bytes) -> None:
    """
    Give bytes to picows as a transport would.

    Args:
        protocol: Its protocol.
        data: The bytes.
    """
    view = memoryview(data)
    while view:
        buffer = protocol.get_buffer(-1)
        size = min(len(buffer), len(view))
        buffer[:size] = view[:size]
        protocol.buffer_updated(size)
        view = view[size:]
