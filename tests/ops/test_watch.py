"""``start --watch``: a service that reloads when its files change."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateman.ops.watch import named
from tests.support.master import Master, echo, master, until

pytest.importorskip("watchfiles")


def test_changed_files_are_named() -> None:
    """By their place below the folder, in order, and not too many of them."""
    folder = Path("/srv/chat")
    few = {folder / "b.py", folder / "a" / "c.py", Path("/opt/x.py")}
    many = {folder / f"{name}.py" for name in "edcba"}

    assert named(few, folder) == "/opt/x.py, a/c.py, b.py"
    assert named(many, folder) == "a.py, b.py, c.py and 2 more"


def asked(service: Master) -> str:
    """Ask a service which version it runs; a process that drains does not say."""
    with connect(f"ws://127.0.0.1:{service.port}") as client:
        try:
            client.send("x")
            return str(client.recv()).split()[1]
        except ConnectionClosed:
            return ""


def answering(service: Master, version: str) -> Callable[[], bool]:
    """Make the condition that the service runs a version."""
    return lambda: asked(service) == version


def is_noticed(service: Master, script: str) -> bool:
    """Change the script: the line is logged just before the system begins to watch."""
    service.path.write_text(script)
    return "server.py changed" in service.stderr


def test_a_change_is_served_at_once(tmp_path: Path) -> None:
    """Of the script, and of what it may import below its folder; a broken one changes nothing."""
    script = echo(options="count=1")
    below = tmp_path / "chat"
    below.mkdir()
    with master(script, tmp_path, "start", "--watch") as service:
        service.wait_for("when a .py file in")
        first = asked(service)
        until(lambda: is_noticed(service, script.replace("VERSION = 1", "VERSION = 2")))
        until(answering(service, "2"))
        service.path.write_text("1 / 0")
        service.wait_for("the reload failed")
        broken = asked(service)
        service.path.write_text(script.replace("VERSION = 1", "VERSION = 3"))
        until(answering(service, "3"))
        (below / "rooms.py").touch()
        service.wait_for("chat/rooms.py changed")
        service.command("stop")

        assert (first, broken, service.wait()) == ("1", "2", 0)
        assert "server.py changed" in service.stderr


def test_without_watchfiles_the_error_names_the_package(tmp_path: Path) -> None:
    """Before anything listens."""
    (tmp_path / "server.py").write_text(echo())
    program = (
        "import sys; sys.modules['watchfiles'] = None; sys.argv[1:] = ['start', '--watch',"
        " 'server.py']; from gateman.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (
        78,
        "gateman: --watch needs the package watchfiles: install it: pip install"
        " 'gateman[watch]'.\n",
    )
