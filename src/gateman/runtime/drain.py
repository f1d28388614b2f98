"""Closes the connections of a service in steps: its clients are not to come back all at once."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING

from ..connection import Connection, State
from ..net.acceptor import Acceptor

if TYPE_CHECKING:
    from ..net.http_application import HttpApplication, ServedConnection

# How often a drain closes the connections that are due.
_STEP = 0.05  # seconds


class Drain:
    """What one drain looks at: the connections that are present, and those that are open."""

    def __init__(
        self,
        present: Collection[Connection],
        connections: Mapping[int, Connection],
        acceptors: Collection[Acceptor],
        application: "HttpApplication | None",
        *,
        close: Callable[["Connection | ServedConnection"], None],
        wait_until_empty: Callable[[float], Awaitable[None]],
    ) -> None:
        self._present = present
        self._connections = connections
        self._acceptors = acceptors
        self._application = application
        self._close = close
        self._wait_until_empty = wait_until_empty

    async def run(self, window: float, longest: float) -> None:
        """
        Close all connections within ``window``.

        A client that was accepted before may finish its handshake, and is closed then; so it may
        take ``longest``.
        """
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        # Some are closed only behind what has arrived.
        closed: set[Connection | ServedConnection] = set()
        while self._has_clients():
            elapsed = loop.time() - begun_at
            is_open = [one for one in self._open() if one not in closed]
            due = due_count(len(closed), len(is_open), elapsed / window)
            for connection in islice(is_open, due):
                closed.add(connection)
                self._close(connection)
            if elapsed >= longest or (elapsed >= window and not self._is_arriving()):
                break
            if self._present:
                await self._wait_until_empty(_STEP)
            else:
                await asyncio.sleep(_STEP)

    def _open(self) -> list["Connection | ServedConnection"]:
        found: list[Connection | ServedConnection] = [
            one for one in self._connections.values() if one.state is State.OPEN
        ]
        if self._application is not None:
            found += self._application.streams()
        return found

    def _has_clients(self) -> bool:
        return any(not _is_late(one) for one in self._present) or self._is_arriving()

    def _is_arriving(self) -> bool:
        return any(one.early_count for one in self._acceptors) or any(
            one.state is State.CONNECTING and not _is_late(one) for one in self._present
        )


def due_count(closed: int, is_open: int, share: float) -> int:
    """Return how many more connections to close when this share of the window has passed."""
    return max(ceil((closed + is_open) * min(share, 1)) - closed, 0)


def _is_late(connection: Connection) -> bool:
    """Tell whether it was accepted during the drain, for a health check or to be refused."""
    permit = connection.permit
    return permit is not None and permit.is_late
