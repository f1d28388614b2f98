"""
Tells systemd how the service is (``Type=notify``).

Source:
    sd_notify(3): datagrams of ``NAME=value`` lines to the unix socket ``$NOTIFY_SOCKET``.
"""

import contextlib
import socket
import time
from collections.abc import MutableMapping


class Notifier:
    """Where notes go; nowhere, if systemd did not start the service."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """
        Find systemd.

        Args:
            environment: The environment; the variable is removed, as it is for nobody else.
        """
        self._path = environment.pop("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        """Say that the service serves, or does so again after a reload."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that a reload has begun; :meth:`ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """
        Say what ``systemctl status`` shows.

        Args:
            text: One line.
        """
        self._send(f"STATUS={text}")

    def _send(self, note: str) -> None:
        if not self._path:
            return
        # An abstract socket is written with an @.
        name = f"\0{self._path[1:]}" if self._path.startswith("@") else self._path
        # A note that does not arrive is systemd's loss.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            sock.sendto(note.encode(), name)
