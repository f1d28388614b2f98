"""
How the alert of a TLS handshake that fails gets to the peer (RFC 8446, section 6.2).

aiofastnet ends the connection without sending what OpenSSL has to say. The last thing that it does
before it counts the connection as ended is to tell the loop to read no more. So its transport gets
a loop that then lets it write once more.

Relied on: that order, and the transport's ``_write_ready``; ``tests/tls/test_alert.py`` fails when
they change.
"""

import asyncio
from typing import Any


class LoopWithAlerts:
    """What one TLS transport takes for its loop."""

    __slots__ = ("_loop", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: Any = None

    def __getattr__(self, name: str) -> Any:
        """Give what the loop has."""
        return getattr(self._loop, name)

    def add_reader(self, fd: int, read: Any) -> None:
        """Take note of the transport, whose method is to be called."""
        self._transport = read.__self__
        self._loop.add_reader(fd, read)

    def remove_reader(self, fd: int) -> None:
        """Let an alert out, if this is the end of a handshake that has failed."""
        self._loop.remove_reader(fd)
        transport, self._transport = self._transport, None
        # Without OpenSSL's own library, aiofastnet has TLS in another transport, which throws
        # the alert away. A cipher is known from the end of the handshake on.
        if (
            transport is not None
            and transport.get_extra_info("ssl_object") is not None
            and transport.get_extra_info("cipher") is None
        ):
            transport._write_ready()  # noqa: SLF001
            # If the kernel did not take it, nobody waits until it does.
            self._loop.remove_writer(fd)
