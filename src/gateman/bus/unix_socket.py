"""Unix sockets that only their owner may use, at paths of any length."""

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from ..errors import ConfigError
from ..net.socket_files import give, peer_of

# sun_path is 108 bytes long on Linux and 104 elsewhere, with a NUL at its end.
_MAX_PATH_SIZE = 103  # bytes

_BACKLOG = 512  # connections


def listen(path: Path, mode: int = 0o600, owner: tuple[int, int] | None = None) -> socket.socket:
    """Listen at a path, after removing the socket of a process that was killed."""
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(0)
    # The mode is right from the start: changing it afterwards would trust the folder.
    old = os.umask(0o777 & ~mode)
    try:
        with reachable(path) as name:
            sock.bind(name)
            sock.listen(_BACKLOG)
            if owner is not None:
                give(sock, name, *owner)
    except OSError as error:
        sock.close()
        raise ConfigError(f"{path} cannot be listened on", _reason(error)) from None
    finally:
        os.umask(old)
    return sock


async def connect(path: Path) -> socket.socket:
    """Connect to a path; raises OSError, or ConfigError if the path is too long."""
    # Imported here: commands that only look for a socket need no event loop, and start faster.
    import asyncio

    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(0)
    try:
        with reachable(path) as name:
            await asyncio.get_running_loop().sock_connect(sock, name)
    except BaseException:
        sock.close()
        raise
    return sock


def hold(path: Path) -> Path:
    """Keep a socket reachable after this process drops privileges, or its path is removed."""
    if sys.platform == "linux":
        # proc(5): it leads to the file itself, past the folders above it.
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            return Path(f"/proc/self/fd/{fd}")
    return path


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Give a path for a unix socket that is short enough for the system; raises ConfigError."""
    if len(os.fsencode(path)) <= _MAX_PATH_SIZE:
        yield str(path)
        return
    if sys.platform != "linux":
        raise ConfigError(
            f"{path} is too long for a unix socket",
            "use a shorter folder; RUNTIME_DIRECTORY sets that of a service",
        )
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


class UnexpectedOwner(Exception):
    """A socket that belongs to, or is served by, an unexpected user."""

    def __init__(self, path: Path, uid: int) -> None:
        super().__init__(path, uid)
        self.path = path
        self.uid = uid


def dial(path: Path, users: Collection[int]) -> socket.socket:
    """Connect to a socket of one of some users; raises OSError or UnexpectedOwner at once."""
    with _held(path) as (name, found):
        if not stat.S_ISSOCK(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, "there is no socket", str(path))
        if found.st_uid not in users:
            raise UnexpectedOwner(path, found.st_uid)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # It is connected at once, or raises BlockingIOError if too many wait to be accepted.
            sock.settimeout(0)
            sock.connect(name)
            sock.settimeout(None)
            uid = peer_of(sock).uid
            # The file may have been moved here from elsewhere: the user of the listener counts.
            if uid is not None and uid not in users:
                raise UnexpectedOwner(path, uid)
        except BaseException:
            sock.close()
            raise
    return sock


@contextlib.contextmanager
def _held(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Open a file, so that no other process can replace it; give its path and status."""
    if sys.platform != "linux":
        with reachable(path) as name:
            yield name, path.lstat()
        return
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}", os.fstat(fd)
    finally:
        os.close(fd)


def _remove_stale(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, reachable(path) as name:
        probe.settimeout(1.0)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise ConfigError(f"{path} cannot be listened on", _reason(error)) from None
    raise ConfigError(f"{path} cannot be listened on", "another process listens there")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
