"""The store of a router, with a file behind it."""

import socket
import sqlite3
import sys
from pathlib import Path

import pytest

from gateman.bus.local import local_bus
from gateman.bus.router_store import RouterStore
from gateman.history.base import Position
from gateman.history.sqlite_file import HistoryFile
from gateman.history.wire import Answer, Append, Since, decode_answer, encode

from ..support.child import Child, answers
from ..support.loop import eventually, on_loop
from .contract_of_history import fill, numbers, payloads

APPEND = encode(Append(b"hello", 100, 300, ""))
TOP = encode(Since("", 0, 0))


def ask(store: RouterStore, request: bytes) -> Answer:
    """Ask about one channel."""
    return decode_answer(store.answer("history.room", request)[0])


def of_router(folder: Path) -> Child:
    """Make a router with a file, not started."""
    path = folder / "bus.sock"
    file = f"--history={folder / 'history.db'}"
    return Child(
        [sys.executable, "-m", "gateman.bus.router", str(path), file],
        log=folder / "router.log",
        is_up=lambda: answers(socket.AF_UNIX, str(path)),
    )


@on_loop
async def test_a_restart_loses_nothing_and_a_crash_says_so(tmp_path: Path) -> None:
    """A position outlasts the one, and is not complete after the other; both can be read."""
    process = of_router(tmp_path)
    process.start()
    bus = local_bus(str(tmp_path / "bus.sock"))
    await bus.start()
    positions = await fill(bus, 3)
    process.stop()
    process.start()
    await eventually(lambda: bus.counts["gaps"] == 1)
    after_stop = await bus.history.since("room", positions[0], 100)
    more = await fill(bus, 3, first=3)
    process.kill()
    process.start()
    await eventually(lambda: bus.counts["gaps"] == 2)
    after_kill = [await bus.history.since("room", one, 100) for one in (positions[0], more[-1])]
    page = await bus.history.read("room", limit=3)
    await bus.stop()
    process.stop()

    assert (after_stop.is_complete, payloads(after_stop.messages)) == (True, numbers(1, 3))
    assert more[-1].epoch == positions[0].epoch
    assert [one.is_complete for one in after_kill] == [False, False]
    assert payloads(page.messages) == numbers(0, 3)


@on_loop
async def test_what_is_appended_gets_into_the_file_by_itself(tmp_path: Path) -> None:
    """Within a moment; a crash leaves what was written."""
    path = tmp_path / "history.db"
    store = RouterStore(path)
    answer = ask(store, APPEND)

    def count() -> int:
        # The lock is the store's: its own connection is asked, between its writes.
        database: sqlite3.Connection = vars(vars(store)["_file"])["_database"]
        return int(database.execute("SELECT count(*) FROM messages").fetchone()[0])

    await eventually(lambda: count() == 1)
    store.close()
    again = RouterStore(path)
    top = ask(again, TOP)
    again.close()
    again.close()

    assert Position(top.epoch, top.offset) == Position(answer.epoch, answer.offset)


@on_loop
async def test_a_file_that_cannot_be_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The history is in memory then, and one sentence says so."""
    path = tmp_path / "history.db"
    path.write_bytes(b"text" * 1000)
    store = RouterStore(path)
    offset = ask(store, APPEND).offset
    store.close()

    assert offset == 1
    assert caplog.messages == [
        "the history is kept in memory alone, and ends with the service: the history's"
        f" {path} cannot be opened: file is not a database."
    ]


@on_loop
async def test_a_file_that_is_locked_for_a_while(tmp_path: Path) -> None:
    """It is used when it is free, as when the router of a killed master ends."""
    path = tmp_path / "history.db"
    other = HistoryFile(path)
    store = RouterStore(path)
    ask(store, APPEND)
    other.close(is_clean=False)
    await eventually(lambda: vars(store)["_file"] is not None and not vars(store)["_is_behind"])
    epoch = ask(store, TOP).epoch
    store.close()
    again = RouterStore(path)
    top = ask(again, TOP)
    again.close()

    assert (top.epoch, top.offset) == (epoch, 1)


@on_loop
async def test_a_write_that_fails_is_made_up_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All is written when it can be; until then an end is not a clean one."""
    path = tmp_path / "history.db"
    store = RouterStore(path)
    ask(store, APPEND)
    database: sqlite3.Connection = vars(vars(store)["_file"])["_database"]
    page_count = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {page_count}")
    for _ in range(20):
        ask(store, encode(Append(bytes(10_000), 100, 300, "")))
    await eventually(lambda: vars(store)["_is_behind"])
    epoch = ask(store, TOP).epoch
    store.close()
    again = RouterStore(path)
    top = ask(again, TOP)
    again.close()

    assert caplog.messages == [
        "the history is kept in memory alone, and ends with the service: database or disk is full"
    ]
    assert top.epoch != epoch
