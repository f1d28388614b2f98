"""
The file behind a router's history, for restarts of the service: SQLite.

The router serves from memory, and the file follows it by a moment. So only a file that was closed
in order is as new as what clients have seen: after any other end the next router begins a new
epoch, in which old messages can be read, and no old position is complete.

Source:
    https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous
"""

import sqlite3
from pathlib import Path

from ..errors import ConfigError
from ..safe_files import check_folder
from .store import Changes, ChannelRow, MessageRow, Saved

# "gmHi"; says that a database is ours.
_APPLICATION_ID = 0x676D4869
_VERSION = 1

_TABLES = """
CREATE TABLE state (
    epoch TEXT NOT NULL, last INTEGER NOT NULL, forgotten INTEGER NOT NULL,
    is_clean INTEGER NOT NULL
) STRICT;
CREATE TABLE channels (
    name TEXT PRIMARY KEY, floor INTEGER NOT NULL, last INTEGER NOT NULL, size INTEGER NOT NULL,
    ttl REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE messages (
    offset INTEGER PRIMARY KEY, channel TEXT NOT NULL, time REAL NOT NULL, payload BLOB NOT NULL
) STRICT;
CREATE INDEX messages_of_channel ON messages (channel, offset);
INSERT INTO state VALUES ('', 0, 0, 0);
"""


def check_file(path: Path) -> None:
    """Raise ConfigError if the file cannot be made, or another user could replace it."""
    try:
        check_folder(path)
        if path.exists() and not path.is_file():
            raise ConfigError(f"the history's {path} is not a file", "name a file")
    except OSError as error:
        raise ConfigError(
            f"the history's {path} cannot be used",
            f"{(error.strerror or str(error)).lower()}; its folder must exist, and belong to the"
            " service's user or root, with no other user who may write there",
        ) from None


class HistoryFile:
    """
    The file, open and locked until it is closed; all methods may block on the disk.

    They raise a ConfigError if the file cannot be opened, and ``sqlite3.Error`` or OSError later.
    """

    def __init__(self, path: Path) -> None:
        check_file(path)
        try:
            self._database = self._open(path)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"the history's {path} cannot be opened", _reason(error)) from None

    def load(self) -> Saved | None:
        """Read everything, and note that the file is in use; ``None`` if it is new."""
        query = self._database.execute
        epoch, last, forgotten, is_clean = query("SELECT * FROM state").fetchone()
        channels = [ChannelRow(*row) for row in query("SELECT * FROM channels ORDER BY last")]
        messages = [
            MessageRow(*row)
            for row in query("SELECT channel, offset, time, payload FROM messages ORDER BY offset")
        ]
        with self._database:
            query("UPDATE state SET is_clean = 0")
        # Synced to the disk before the first message is numbered, unlike what follows.
        query("PRAGMA synchronous = NORMAL")
        if not epoch:
            return None
        return Saved(epoch, last, forgotten, bool(is_clean), channels, messages)

    def write(self, changes: Changes) -> None:
        """Write what has changed, in one transaction."""
        query, many = self._database.execute, self._database.executemany
        with self._database:
            if changes.is_everything:
                query("DELETE FROM messages")
                query("DELETE FROM channels")
            many("DELETE FROM messages WHERE channel = ?", [(one,) for one in changes.gone])
            many("DELETE FROM channels WHERE name = ?", [(one,) for one in changes.gone])
            many("INSERT OR REPLACE INTO channels VALUES (?, ?, ?, ?, ?)", changes.channels)
            many(
                "DELETE FROM messages WHERE channel = ? AND offset <= ?",
                [(one.name, one.floor) for one in changes.channels],
            )
            many(
                "INSERT OR REPLACE INTO messages (channel, offset, time, payload)"
                " VALUES (?, ?, ?, ?)",
                changes.messages,
            )
            query(
                "UPDATE state SET epoch = ?, last = ?, forgotten = ?",
                (changes.epoch, changes.last, changes.forgotten),
            )

    def close(self, *, is_clean: bool) -> None:
        """Close it; clean if everything was written."""
        try:
            if is_clean:
                self._database.execute("PRAGMA synchronous = FULL")
                with self._database:
                    self._database.execute("UPDATE state SET is_clean = 1")
        finally:
            self._database.close()

    def _open(self, path: Path) -> sqlite3.Connection:
        # Used by one thread at a time.
        database = sqlite3.connect(path, timeout=0, check_same_thread=False)
        try:
            path.chmod(0o600)
            query = database.execute
            query("PRAGMA locking_mode = EXCLUSIVE")
            query("PRAGMA synchronous = FULL")
            if query("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
                query("PRAGMA journal_mode = WAL")
                database.executescript(f"BEGIN EXCLUSIVE; {_TABLES} COMMIT;")
                query(f"PRAGMA application_id = {_APPLICATION_ID}")
                query(f"PRAGMA user_version = {_VERSION}")
            elif query("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
                raise sqlite3.DatabaseError("it is the database of another program")
            elif query("PRAGMA user_version").fetchone() != (_VERSION,):
                raise sqlite3.DatabaseError("it is of another version of gateman")
            # The lock is kept from here on.
            query("BEGIN EXCLUSIVE")
            query("COMMIT")
        except BaseException:
            database.close()
            raise
        return database


def _reason(error: sqlite3.Error | OSError) -> str:
    if "locked" in str(error):
        return "another process has it open"
    return str(getattr(error, "strerror", None) or error).lower()
