"""
Tells systemd the state of the service (``Type=notify``).

Source:
    sd_notify(3): datagrams of ``NAME=value`` lines to the unix socket ``$NOTIFY_SOCKET``.
    sd_watchdog_enabled(3): ``$WATCHDOG_USEC``, for the process ``$WATCHDOG_PID``.
"""

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping


class Notifier:
    """Sends notifications; does nothing if systemd did not start the service."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._path = environment.pop("NOTIFY_SOCKET", "")
        pid = environment.pop("WATCHDOG_PID", "") or str(os.getpid())
        microseconds = environment.pop("WATCHDOG_USEC", "")
        is_watched = microseconds.isdigit() and pid == str(os.getpid())
        # The manual recommends half of the time.
        self.alive_interval = int(microseconds) / 2e6 if is_watched and self._path else None

    def ready(self) -> None:
        """Report that the start or the reload is complete."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Report a reload; :meth:`ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Reset the watchdog; without waiting, as the next call is enough if this one fails."""
        self._send("WATCHDOG=1", timeout=0.0)

    def _send(self, note: str, *, timeout: float = 1.0) -> None:
        if not self._path:
            return
        # An abstract socket is written with an @.
        name = f"\0{self._path[1:]}" if self._path.startswith("@") else self._path
        # A lost notification does not stop the service.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            sock.settimeout(timeout)
            sock.sendto(note.encode(), name)
