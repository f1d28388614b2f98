"""The files of unix sockets: who serves one, and to whom it is given."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateman.errors import ConfigError
from gateman.listen import ListenAddress
from gateman.net import sockets
from gateman.net.socket_files import give, is_at, peer_of
from tests.support.users import NOBODY, folder_of, needs_root, open_to_all


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """Listen at ``a.sock``."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "a.sock"))
        sock.listen()
        sock.settimeout(0)
        yield sock


def test_the_owner_of_a_listening_socket_is_known(tmp_path: Path, listener: socket.socket) -> None:
    """The process and its user."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "a.sock"))

        assert peer_of(client) == (os.getpid(), os.geteuid())
    listener.accept()[0].close()


def test_what_is_at_a_path(tmp_path: Path, listener: socket.socket) -> None:
    """What was seen there before, and not another, nor a link to it."""
    path = Path(listener.getsockname())
    found = path.lstat()
    (tmp_path / "link").symlink_to(path)
    answers = [is_at(path, found), is_at(tmp_path / "link", found), is_at(path, None)]
    path.unlink()

    assert [*answers, is_at(path, found)] == [True, False, False, False]


@needs_root
def test_a_socket_is_given_away(tmp_path: Path, listener: socket.socket) -> None:
    """Nobody is left in its queue."""
    path = tmp_path / "a.sock"
    give(listener, str(path), NOBODY, NOBODY)

    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)
    with pytest.raises(BlockingIOError):
        listener.accept()


@needs_root
@pytest.mark.parametrize("kind", ["link", "hard link", "file", "socket", "nothing"])
def test_nothing_else_is_given_away(tmp_path: Path, listener: socket.socket, kind: str) -> None:
    """The folder's owner may have put root's file, or another program's socket, in its place."""
    path, precious = tmp_path / "a.sock", tmp_path / "precious"
    precious.write_text("words")
    path.unlink()
    other = socket.socket(socket.AF_UNIX)
    match kind:
        case "link":
            path.symlink_to(precious)
        case "hard link":
            path.hardlink_to(precious)
        case "file":
            precious.rename(path)
        case "socket":
            other.bind(str(path))
        case _:
            pass
    with other, pytest.raises(OSError, match=r"in its place|Connection refused|No such file"):
        give(listener, str(path), NOBODY, NOBODY)

    assert {one.lstat().st_uid for one in tmp_path.iterdir()} == {0}


# Replaces the socket as soon as it is there, as the owner of its folder can.
REPLACES = """
import os, sys
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
path, precious = sys.argv[1:]
print("ready", flush=True)
while True:
    try:
        os.rename(path, path + ".old")
        os.symlink(precious, path)
    except OSError:
        pass
"""


@needs_root
def test_a_race_for_the_socket_is_not_won(tmp_path: Path) -> None:
    """
    A folder's owner swaps the socket for a link to a file of root's: that stays root's.

    The mode and owner of a listening socket were set by its path, which follows links.
    """
    precious = tmp_path / "precious"
    precious.write_text("words")
    precious.chmod(0o600)
    open_to_all(tmp_path)
    path = folder_of(NOBODY, tmp_path / "run") / "a.sock"
    address = ListenAddress("", 0, str(path), is_secure=False)
    code = REPLACES.format(nobody=NOBODY)
    attacker = subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(precious)], stdout=subprocess.PIPE
    )
    with attacker:
        assert attacker.stdout is not None
        attacker.stdout.readline()
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            try:
                for sock in sockets.bind(address, (NOBODY, NOBODY)):
                    sock.close()
            except ConfigError:
                pass
            path.unlink(missing_ok=True)
        attacker.kill()

    assert (precious.stat().st_uid, precious.stat().st_mode & 0o777) == (0, 0o600)
