"""The history of a whole service: what outlasts a reload, a restart and a crash."""

import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from gateman.bus import open_bus
from gateman.history.base import Missed, Position

from ..bus.contract_of_history import fill, numbers, payloads
from ..support.deadlines import TIMEOUT
from ..support.loop import on_loop
from ..support.master import Master, descendants, master, until
from ..support.users import NOBODY, folder_of, needs_root

SCRIPT = """
from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", name="chat")
Worker.run_all(history={history!r})
"""


async def filled(url: str) -> list[Position]:
    """Append some messages, at the bus of a service."""
    bus = open_bus(url)
    await bus.start()
    positions = await fill(bus, 5)
    await bus.stop()
    return positions


async def recovered(url: str, position: Position) -> Missed:
    """Recover from a position."""
    bus = open_bus(url)
    await bus.start(patience=TIMEOUT)
    missed = await bus.history.since("room", position, 100)
    await bus.stop()
    return missed


def router_of(service: Master) -> int:
    """Find the process of the router; 0 if there is none at the moment."""
    for pid in descendants(service.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            if b"bus.router" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return 0


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@on_loop
async def test_what_outlasts_what(tmp_path: Path, store: str) -> None:
    """Reloads everything; a restart the file alone; a killed router nothing, and each says so."""
    history = "memory" if store == "memory" else f"sqlite://{tmp_path / 'history.db'}"
    script = SCRIPT.format(history=history)
    with master(script, tmp_path) as service:
        # The same for each service of the script.
        url = service.gateman("bus").stdout.strip()
        first = (await filled(url))[0]
        assert service.command("reload").returncode == 0
        after_reload = await recovered(url, first)
        assert service.command("stop").returncode == 0
    with master(script, tmp_path) as service:
        after_restart = await recovered(url, first)
        again = (await filled(url))[0]
        router = router_of(service)
        os.kill(router, signal.SIGKILL)
        until(lambda: router_of(service) not in {0, router})
        after_crash = await recovered(url, again)

    found = [one.is_complete for one in (after_reload, after_restart, after_crash)]
    assert found == [True, store == "sqlite", False]
    assert payloads(after_reload.messages) == numbers(1, 5)


def test_check_shows_the_file(tmp_path: Path) -> None:
    """And that its folder is missing, with what to do."""
    path = tmp_path / "server.py"
    for folder, code, text in (
        (tmp_path, 0, f"the router would keep the history in sqlite://{tmp_path}/history.db"),
        (tmp_path / "none", 78, "is in a folder that does not exist: make it, for the user of"),
    ):
        path.write_text(SCRIPT.format(history=f"sqlite://{folder}/history.db"))
        with master(path.read_text(), tmp_path, "check", listens=False) as service:
            out = service.gateman("check")
            assert (out.returncode, text in out.stdout + out.stderr) == (code, True)


@needs_root
def test_the_file_is_the_users(tmp_path: Path) -> None:
    """The router opens it when it has given up root."""
    # Not in pytest's folder, which only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="gateman-history-") as name:
        Path(name).chmod(0o711)
        file = folder_of(NOBODY, Path(name) / "state", 0o700) / "history.db"
        script = SCRIPT.format(history=f"sqlite://{file}")
        script = script.replace('name="chat"', 'name="chat", user="nobody"')
        with master(script, tmp_path) as service:
            until(file.exists)
            assert service.command("stop").returncode == 0
        status = file.stat()

        # It is used by nobody at the end: not even its log is left.
        assert [one.name for one in file.parent.iterdir()] == ["history.db"]
        assert (status.st_uid, status.st_mode & 0o777) == (NOBODY, 0o600)
