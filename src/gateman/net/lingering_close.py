"""The end of a connection whose peer still reads what was written."""

import asyncio
from collections.abc import Callable


class LingeringClose(asyncio.BufferedProtocol):
    """Reads and discards until the peer ends the connection."""

    # Closing a socket with unread data resets the connection, and the peer then loses what it has
    # not read yet: the Close frame, or the HTTP answer (RFC 9112, section 9.6).
    __slots__ = ("_lost",)

    # Shared by all: its content is not used.
    _discarded = memoryview(bytearray(64 << 10))

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._discarded

    def buffer_updated(self, _nbytes: int) -> None:
        """Discard them."""

    def eof_received(self) -> bool:
        """End the connection: the peer has ended its half."""
        return False

    def connection_lost(self, _exc: BaseException | None) -> None:
        self._lost()


def close_lingering(transport: asyncio.Transport, lost: Callable[[], None]) -> None:
    """Send what was written, then EOF (RFC 6455, 7.1.1); the caller bounds the time, and aborts."""
    transport.set_protocol(LingeringClose(lost))
    # The peer's EOF has to be read, even if reading was paused; TLS cannot resume once closing.
    transport.resume_reading()
    if transport.can_write_eof():
        transport.write_eof()
    else:
        # TLS: this flushes, sends close_notify and reads until the peer's.
        transport.close()
