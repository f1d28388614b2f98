"""The history that a router keeps, in memory and, if that is wanted, in a file behind it."""

import asyncio
import secrets
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..history import service
from ..history.store import Changes, HistoryStore, StoreLimits
from ..log import RateLimitedLogger
from .router_wire import HistoryReport

if TYPE_CHECKING:
    from ..history.sqlite_file import HistoryFile
    from ..history.store import Saved

# Seconds between the times when messages that are too old are dropped; readers never see them.
_EXPIRY_INTERVAL = 5.0

# Seconds by which the file is behind; what a crash leaves out of `history`, not of recoveries.
_SAVE_INTERVAL = 0.25

# Seconds between attempts to use a file that could not be used.
_RETRY_INTERVAL = 5.0


class RouterStore:
    """The store, its file, and their timers."""

    def __init__(self, path: Path | None = None, max_size: int | None = None) -> None:
        limits = StoreLimits() if max_size is None else StoreLimits.of_memory(max_size)
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._file: HistoryFile | None = None
        # The file lacks something: everything is written next.
        self._is_behind = False
        self._rate_limited = RateLimitedLogger()
        epoch = secrets.token_hex(8)
        saved = self._open()
        self._store = (
            HistoryStore(epoch, limits)
            if saved is None
            else HistoryStore.restored(saved, epoch, limits)
        )
        self._thread = ThreadPoolExecutor(1, "history")
        self._saving = None if path is None else self._loop.create_task(self._save_always())
        self._timer = self._loop.call_later(_EXPIRY_INTERVAL, self._expire)

    def answer(self, subject: str, request: bytes) -> tuple[bytes, bytes]:
        """Return the reply, and what followers of a channel receive; raises ValueError."""
        return service.answer(self._store, subject, request, time.time())

    @property
    def report(self) -> HistoryReport:
        store = self._store
        return HistoryReport(store.size, store.channel_count, store.counts["dropped"])

    def close(self) -> None:
        """Save what is not saved yet; may block on the disk for a moment."""
        self._timer.cancel()
        if self._saving is not None:
            self._saving.cancel()
        self._thread.shutdown()
        file, self._file = self._file, None
        if file is None:
            return
        self._write(file, self._store.changes(is_everything=self._is_behind))
        try:
            file.close(is_clean=not self._is_behind)
        except (sqlite3.Error, OSError) as error:
            self._warn(error)

    def _open(self) -> "Saved | None":
        """Use the file, if there is one and it can be used; return what it has."""
        if self._path is None:
            return None
        # Imported here: only a service with history="sqlite://…" needs it.
        from ..history.sqlite_file import HistoryFile

        try:
            file = HistoryFile(self._path)
        except ConfigError as error:
            self._warn(error)
            return None
        try:
            saved = file.load()
        except (sqlite3.Error, OSError) as error:
            self._warn(error)
            file.close(is_clean=False)
            return None
        self._file = file
        return saved

    async def _save_always(self) -> None:
        while True:
            is_usable = self._file is not None and not self._is_behind
            await asyncio.sleep(_SAVE_INTERVAL if is_usable else _RETRY_INTERVAL)
            if self._file is None:
                self._open()
                self._is_behind = True
            if self._file is not None:
                changes = self._store.changes(is_everything=self._is_behind)
                await self._loop.run_in_executor(self._thread, self._write, self._file, changes)

    def _write(self, file: "HistoryFile", changes: Changes) -> None:
        """Write to the file; in the thread of the file, or after its end."""
        if not (changes.channels or changes.gone or changes.is_everything):
            return
        try:
            file.write(changes)
            self._is_behind = False
        except (sqlite3.Error, OSError) as error:
            self._is_behind = True
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        text = f"the history is kept in memory alone, and ends with the service: {error}"
        self._rate_limited.warning("history", text, time.monotonic())

    def _expire(self) -> None:
        self._store.expire(time.time())
        self._timer = self._loop.call_later(_EXPIRY_INTERVAL, self._expire)
