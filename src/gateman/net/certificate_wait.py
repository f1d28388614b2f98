"""
Connections that wait for a certificate: it was not issued yet when they asked for it.

Their ClientHello stays in the socket. They continue when a certificate is put in service, a few in
each iteration of the event loop, since a TLS handshake takes a millisecond.
"""

import asyncio
from typing import Protocol

# As many as are accepted in one iteration.
_RESUMED_PER_TURN = 8


class Waiting(Protocol):
    def certificate_arrived(self) -> None:
        """Called once, when a certificate was put in service; perhaps that of another name."""


class CertificateWait:
    """The connections of one worker that wait; their deadlines bound how long."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # In the order of their arrival.
        self._waiting: dict[Waiting, None] = {}
        self._due: list[Waiting] = []

    def add(self, one: Waiting) -> None:
        self._waiting[one] = None

    def discard(self, one: Waiting) -> None:
        self._waiting.pop(one, None)

    def __len__(self) -> int:
        return len(self._waiting)

    def resume(self) -> None:
        """Let all continue that wait now."""
        is_running = bool(self._due)
        self._due = list(reversed(self._waiting))
        if not is_running and self._due:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        count = 0
        while self._due and count < _RESUMED_PER_TURN:
            one = self._due.pop()
            # Unless it has ended meanwhile.
            if one in self._waiting:
                del self._waiting[one]
                one.certificate_arrived()
                count += 1
        if self._due:
            self._loop.call_soon(self._turn)
