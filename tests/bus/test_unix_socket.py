"""Unix sockets that only their owner may use."""

import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from gateman.bus import unix_socket
from gateman.errors import ConfigError
from gateman.net.socket_files import peer_of

from ..support.deadlines import TIMEOUT
from ..support.loop import on_loop
from ..support.users import NOBODY, as_user, folder_of, needs_root, open_to_all


def test_only_its_owner_may_connect(tmp_path: Path) -> None:
    """The socket is 0600 from its beginning, whatever the umask is, which stays as it was."""
    old = os.umask(0)
    try:
        with unix_socket.listen(tmp_path / "bus.sock") as listener:
            mode = stat.S_IMODE((tmp_path / "bus.sock").stat().st_mode)
            is_blocking = listener.getblocking()
    finally:
        after = os.umask(old)

    assert (mode, is_blocking, after) == (0o600, False, 0)


@on_loop
async def test_both_ends_know_the_owner_of_the_other(tmp_path: Path) -> None:
    """Both ends learn who the other is."""
    path = tmp_path / "bus.sock"
    with unix_socket.listen(path) as listener, await unix_socket.connect(path) as here:
        there, _ = listener.accept()
        with there:
            assert peer_of(here) == peer_of(there) == (os.getpid(), os.geteuid())


@pytest.mark.parametrize("depth", [1, 10])
@on_loop
async def test_a_long_path_is_no_problem(tmp_path: Path, depth: int) -> None:
    """A folder may be deeper than the system allows in a socket's name."""
    path = tmp_path.joinpath(*["deep-and-deeper"] * depth, "bus.sock")
    path.parent.mkdir(parents=True)

    with unix_socket.listen(path), await unix_socket.connect(path):
        assert path.is_socket()


@pytest.mark.skipif(sys.platform != "linux", reason="only there a socket can be held")
@on_loop
async def test_a_socket_is_held(tmp_path: Path) -> None:
    """A process that holds it reaches it when its path is gone, or belongs to another user."""
    path = tmp_path / "run" / "bus.sock"
    path.parent.mkdir()
    with unix_socket.listen(path) as listener:
        held = unix_socket.hold(path)
        path.unlink()
        path.parent.rmdir()
        with await unix_socket.connect(held):
            listener.accept()[0].close()
    os.close(int(held.name))


def test_what_is_not_there_cannot_be_held(tmp_path: Path) -> None:
    """Its path stays as good as any other."""
    assert unix_socket.hold(tmp_path / "bus.sock") == tmp_path / "bus.sock"


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    """Nobody listens there any more."""
    path = tmp_path / "bus.sock"
    unix_socket.listen(path).close()
    before = path.stat().st_ino

    with unix_socket.listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))

        assert path.is_socket()
        assert before


def test_a_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    """Two routers at one path would each have half of the processes."""
    path = tmp_path / "bus.sock"
    with unix_socket.listen(path), pytest.raises(ConfigError) as caught:
        unix_socket.listen(path)

    assert str(caught.value) == f"{path} cannot be listened on: another process listens there."


def test_a_file_is_left_alone(tmp_path: Path) -> None:
    """What is there is not ours to remove."""
    path = tmp_path / "bus.sock"
    path.write_text("dear diary")

    with pytest.raises(ConfigError) as caught:
        unix_socket.listen(path)

    assert str(caught.value) == f"{path} cannot be listened on: address already in use."
    assert path.read_text() == "dear diary"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The error names the path."""
    path = tmp_path / "nowhere" / "bus.sock"

    with pytest.raises(ConfigError) as caught:
        unix_socket.listen(path)

    assert str(caught.value) == f"{path} cannot be listened on: no such file or directory."


@on_loop
async def test_connecting_to_nothing_leaves_nothing_open(tmp_path: Path) -> None:
    """The system's own error is raised."""
    with pytest.raises(FileNotFoundError):
        await unix_socket.connect(tmp_path / "bus.sock")


def test_only_the_sockets_of_some_users_are_connected_to(tmp_path: Path) -> None:
    """One of this user's is, and the user who listens has to be one of them too."""
    path = tmp_path / "a.sock"
    with unix_socket.listen(path) as listener:
        unix_socket.dial(path, {os.geteuid()}).close()
        listener.accept()[0].close()
        with pytest.raises(unix_socket.UnexpectedOwner):
            unix_socket.dial(path, {os.geteuid() + 1})
        (tmp_path / "link").symlink_to(path)
        (tmp_path / "file").write_text("")
        for name in ("link", "file", "nothing"):
            with pytest.raises(FileNotFoundError):
                unix_socket.dial(tmp_path / name, {os.geteuid()})
    with pytest.raises(ConnectionRefusedError):
        unix_socket.dial(path, {os.geteuid()})


@needs_root
def test_a_socket_of_ours_that_another_user_serves(tmp_path: Path) -> None:
    """Whose file it is does not count alone: the one who listens is asked of the system."""
    open_to_all(tmp_path)
    path = folder_of(NOBODY, tmp_path / "run") / "a.sock"
    read, write = os.pipe()

    def serve() -> None:
        with unix_socket.listen(path) as sock:
            os.write(write, b"x")
            sock.settimeout(TIMEOUT)
            sock.accept()[0].close()

    pid = os.fork()
    if pid == 0:
        as_user(NOBODY, serve)
        os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"x"
    os.chown(path, 0, 0)
    with pytest.raises(unix_socket.UnexpectedOwner) as told:
        unix_socket.dial(path, {0})
    assert told.value.uid == NOBODY
    os.waitpid(pid, 0)
    os.close(read)
