"""The end of a connection whose peer still reads what was written."""

import asyncio
from collections.abc import Callable


class LingeringClose(asyncio.BufferedProtocol):
    """
    Read into the void until the peer ends the connection.

    Closing a socket that holds unread data resets the connection, and a reset takes with it
    what the peer has not read yet: the Close frame, or the HTTP answer, that says what was
    wrong (RFC 9112, section 9.6).
    """

    __slots__ = ("_lost",)

    # Shared by all: what is in it is never looked at.
    _void = memoryview(bytearray(64 << 10))

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Give room for bytes that nobody wants."""
        return self._void

    def buffer_updated(self, _nbytes: int) -> None:
        """Forget them."""

    def eof_received(self) -> bool:
        """End the connection: the peer has read everything that it wanted to."""
        return False

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Report the end."""
        self._lost()


def close_lingering(transport: asyncio.Transport, lost: Callable[[], None]) -> None:
    """
    End a connection so that the peer gets all that was written, and its end after it.

    The caller bounds how long this may take, and aborts the transport then.

    Source:
        RFC 6455, section 7.1.1: the server ends the TCP connection first.
    """
    transport.set_protocol(LingeringClose(lost))
    # The peer's end has to be read, whatever had paused reading; TLS cannot resume once closing.
    transport.resume_reading()
    if transport.can_write_eof():
        transport.write_eof()
    else:
        # TLS: this flushes, sends close_notify and reads on until the peer's.
        transport.close()
