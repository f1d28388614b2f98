"""The file behind a history: after a stop in order it is as new as what clients have seen."""

import sqlite3
from pathlib import Path

import pytest

from gateman.errors import ConfigError
from gateman.history.base import HistoryLimits, Position
from gateman.history.sqlite_file import HistoryFile
from gateman.history.store import HistoryStore, StoreLimits

HUNDRED = HistoryLimits(size=100, ttl=300)


def opened(path: Path, epoch: str = "new", **limits: int) -> tuple[HistoryFile, HistoryStore]:
    """Open a file, and make a store of what is in it."""
    file = HistoryFile(path)
    saved = file.load()
    bounds = StoreLimits(**limits)
    if saved is None:
        return file, HistoryStore(epoch, bounds)
    return file, HistoryStore.restored(saved, epoch, bounds)


def known(store: HistoryStore, channel: str = "a") -> list[int]:
    """Tell the offsets of what can be read."""
    page = store.read(channel, limit=1000, since=None, is_reverse=False, now=1)
    return [message.offset for message in page.messages]


def fill(store: HistoryStore, channel: str, count: int, size: int = 1) -> None:
    """Append some messages."""
    for number in range(count):
        store.append(channel, bytes([number % 256]) * size, HUNDRED, 0)


def test_a_clean_stop_keeps_the_epoch(tmp_path: Path) -> None:
    """Messages, floors, and what was forgotten, so that positions lead where they did."""
    path = tmp_path / "history.db"
    file, store = opened(path, "first", max_channels=3)
    fill(store, "gone", 1)
    for channel in "abc":
        fill(store, channel, 5)
    store.append("a", b"last", HistoryLimits(size=3, ttl=300), 0)
    store.remove("b")
    file.write(store.changes())
    file.close(is_clean=True)
    file, again = opened(path, "second", max_channels=3)
    file.close(is_clean=False)

    assert again.epoch == "first"
    assert [known(again, name) for name in ("a", "b", "c", "gone")] == [
        known(store, name) for name in ("a", "b", "c", "gone")
    ]
    for name in ("a", "b", "c", "gone", "never"):
        for offset in range(store.last + 1):
            position = Position("first", offset)
            assert again.since(name, position, 99, 1) == store.since(name, position, 99, 1)
    assert again.append("a", b"", HUNDRED, 1).offset == store.last + 1


def test_any_other_end_begins_a_new_epoch(tmp_path: Path) -> None:
    """Also the second of two, with nothing in between; what was written can be read."""
    path = tmp_path / "history.db"
    file, store = opened(path, "first")
    fill(store, "a", 3)
    file.write(store.changes())
    file.close(is_clean=True)
    for epoch in ("first", "second", "third"):
        file, store = opened(path, epoch)
        assert (store.epoch, known(store)) == (epoch, [1, 2, 3])
        file.write(store.changes())
        file.close(is_clean=False)


def test_each_change_is_followed(tmp_path: Path) -> None:
    """Written step by step, or at once after an error, the file is what the store is."""
    path = tmp_path / "history.db"
    file, store = opened(path, "first", max_channels=5, max_size=3000)
    file.write(store.changes())
    for step in range(60):
        fill(store, "abcdefg"[step * step % 7], 1 + step % 3, step)
        if step % 11 == 0:
            store.remove("abcdefg"[step % 7])
        if step % 7 == 0:
            store.changes()  # Lost, as if the disk was full.
            file.write(store.changes(is_everything=True))
        elif step % 2:
            file.write(store.changes())
    file.write(store.changes())
    nothing = store.changes()
    file.close(is_clean=True)
    file, again = opened(path, max_channels=5, max_size=3000)
    rows = sqlite3.Connection.execute(vars(file)["_database"], "SELECT count(*) FROM messages")
    count = rows.fetchone()[0]
    file.close(is_clean=False)

    assert (nothing.channels, nothing.messages, nothing.gone) == ([], [], [])
    assert [known(again, name) for name in "abcdefg"] == [known(store, name) for name in "abcdefg"]
    assert count == sum(len(known(store, name)) for name in "abcdefg")


def test_smaller_bounds_hold_at_once(tmp_path: Path) -> None:
    """A file that was written with larger ones is cut, and positions know it."""
    path = tmp_path / "history.db"
    file, store = opened(path)
    for name in ("a", "b"):
        fill(store, name, 10, 100)
    file.write(store.changes())
    file.close(is_clean=True)
    file, again = opened(path, max_size=4000)
    file.close(is_clean=False)

    assert (known(again, "a"), len(known(again, "b"))) == ([], 10)
    assert not again.since("a", Position("new", 0), 99, 1).is_complete


def test_a_file_has_one_user(tmp_path: Path) -> None:
    """Two routers would both number messages."""
    path = tmp_path / "history.db"
    first, _ = opened(path)
    with pytest.raises(ConfigError) as caught:
        HistoryFile(path)
    first.close(is_clean=False)
    HistoryFile(path).close(is_clean=False)

    assert str(caught.value) == (
        f"the history's {path} cannot be opened: another process has it open."
    )
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello" * 1000, "file is not a database"),
        ("CREATE TABLE x (y)", "it is the database of another program"),
        ("CREATE TABLE x (y); PRAGMA application_id = 1735215209", "it is of another version"),
    ],
)
def test_other_files_are_left_alone(tmp_path: Path, content: bytes | str, reason: str) -> None:
    """They are not overwritten."""
    path = tmp_path / "history.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with sqlite3.connect(path) as database:
            database.executescript(content)
        database.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        HistoryFile(path)

    assert caught.value.remedy.startswith(reason)
    assert path.read_bytes() == before


def test_where_a_file_cannot_be(tmp_path: Path) -> None:
    """In no folder, in one for all, and in place of a folder."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    problems = []
    for path in (tmp_path / "none" / "history.db", shared / "history.db", shared):
        with pytest.raises(ConfigError) as caught:
            HistoryFile(path)
        problems.append(str(caught.value).removeprefix(f"the history's {path} "))
    rule = (
        "its folder must exist, and belong to the service's user or root, with no other user who"
        " may write there."
    )

    assert problems == [
        f"cannot be used: no such file or directory; {rule}",
        f"cannot be used: another user may write to {shared}; {rule}",
        "is not a file: name a file.",
    ]
