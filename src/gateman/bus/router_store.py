"""The history that a router keeps."""

import asyncio
import secrets
import time

from ..history import service
from ..history.store import HistoryStore

# Seconds between the times when messages that are too old are dropped; readers never see them.
_EXPIRY_INTERVAL = 5.0


class RouterStore:
    """The store, and its timer."""

    def __init__(self) -> None:
        self._store = HistoryStore(secrets.token_hex(8))
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_EXPIRY_INTERVAL, self._expire)

    def answer(self, subject: str, request: bytes) -> tuple[bytes, bytes]:
        """Return the reply, and what followers of a channel receive; raises ValueError."""
        return service.answer(self._store, subject, request, time.time())

    def close(self) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        self._store.expire(time.time())
        self._timer = self._loop.call_later(_EXPIRY_INTERVAL, self._expire)
