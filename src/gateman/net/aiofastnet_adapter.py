"""
aiofastnet's TLS transports on accepted sockets.

No other module uses what aiofastnet does not document. It is relied on, and fails, when it changes,
in the test that follows:

* A TLS handshake that fails ends with ``remove_reader`` of the loop, and ``_write_ready`` still
  sends OpenSSL's alert then: ``tests/net/test_aiofastnet_adapter.py``.
* ``_retry_ssl_read`` reads what OpenSSL holds already: ``tests/net/test_websocket_protocol.py``.
* An abort during a read goes on reading a TLS socket: ``tests/net/test_lingering_close.py``.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiofastnet

from .deferred_readers import defer

# aiofastnet's default is 256 KiB each way and connection, of which all that was ever touched
# stays. Measured idle (bench/memory.py): 32 KiB costs less than the 16 KiB that are the least it
# takes, and reads and writes two full TLS records at once (bench/echo.py --size 16384).
_BIO_SIZE = 32 << 10  # bytes


async def make_tls_transport(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    make_protocol: Callable[[], asyncio.BaseProtocol],
    context: ssl.SSLContext,
    *,
    handshake_timeout: float,
    shutdown_timeout: float,
) -> None:
    """Do the TLS handshake; a client with which it fails gets OpenSSL's alert."""
    alerting: Any = LoopWithAlerts(loop)
    await aiofastnet.connect_accepted_socket(
        alerting,
        make_protocol,
        sock,
        ssl=context,
        ssl_handshake_timeout=handshake_timeout,
        ssl_shutdown_timeout=shutdown_timeout,
        ssl_incoming_bio_size=_BIO_SIZE,
        ssl_outgoing_bio_size=_BIO_SIZE,
    )


def resume_tls_reading(transport: Any) -> None:
    """Resume reading with the data that OpenSSL holds already."""
    # By itself this reads the socket first. If the socket has nothing, it waits, although OpenSSL
    # has data; if OpenSSL's buffer is full, it takes the 0 bytes read for the peer's end.
    transport.resume_reading()
    transport._retry_ssl_read()  # noqa: SLF001 - see the module's docstring


def abort(transport: asyncio.Transport) -> None:
    """End a connection at once."""
    if not transport.is_closing():
        # If the abort happens while the transport reads, aiofastnet continues to read a TLS socket
        # until its buffer is full, and reports that as an error of ours.
        transport.pause_reading()
    transport.abort()


class LoopWithAlerts:
    """One transport's loop: defers its handshake, and sends the alert of one that fails."""

    # RFC 8446, section 6.2: a handshake that fails ends with an alert. aiofastnet ends the
    # connection without sending what OpenSSL has written. Its last step before
    # that is remove_reader, where this lets the transport write once more.
    __slots__ = ("_loop", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def add_reader(self, fd: int, read: Any) -> None:
        self._transport = read.__self__
        # A cipher is known from the end of the handshake on.
        if self._transport.get_extra_info("cipher") is None:
            defer(self._loop, fd, read)
        else:
            self._loop.add_reader(fd, read)

    def remove_reader(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        transport, self._transport = self._transport, None
        # Where OpenSSL is linked statically, aiofastnet uses another TLS transport, which discards
        # the alert.
        if (
            transport is not None
            and transport.get_extra_info("ssl_object") is not None
            and transport.get_extra_info("cipher") is None
        ):
            transport._write_ready()  # noqa: SLF001 - see the module's docstring
            # If the kernel did not take all of the alert, the rest is not sent.
            self._loop.remove_writer(fd)
