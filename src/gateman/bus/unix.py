"""Unix sockets that only their owner may use, at paths of any length."""

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError

# sun_path is 108 bytes long on Linux and 104 elsewhere, with a NUL at its end.
_MAX_PATH_SIZE = 103  # bytes

_BACKLOG = 512  # connections

# pid, uid, gid: struct ucred of unix(7).
_UCRED = struct.Struct("3i")

# cr_version, cr_uid: the beginning of macOS' struct xucred, which SOL_LOCAL's LOCAL_PEERCRED gives.
_XUCRED = struct.Struct("2I")
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1


def listen(path: Path) -> socket.socket:
    """
    Listen at a path, where a process that was killed may have left its socket.

    Args:
        path: Where; its folder exists.

    Returns:
        A listening, non-blocking socket, to which only this user may connect (0600).

    Raises:
        ConfigError: Somebody listens there, or it is no place for a socket.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        with reachable(path) as name:
            sock.bind(name)
            sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(f"{path} cannot be listened on", _reason(error)) from None
    finally:
        os.umask(old)
    sock.settimeout(0)
    return sock


async def connect(path: Path) -> socket.socket:
    """
    Connect to a path.

    Args:
        path: Where.

    Returns:
        A connected, non-blocking socket.

    Raises:
        OSError: Nobody listens there, or we may not connect.
        ConfigError: The path is too long.
    """
    # Here, because commands that only look for a socket have no event loop, and start quickly.
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
    """
    Keep a socket reachable, whatever this process may no longer do and whoever removes its path.

    Args:
        path: Where it is.

    Returns:
        Another path to it, for this process only; ``path`` where there is none.
    """
    if sys.platform == "linux":
        # proc(5): it leads to the file itself, past the folders above it.
        with contextlib.suppress(OSError):
            return Path(f"/proc/self/fd/{os.open(path, os.O_PATH | os.O_CLOEXEC)}")
    return path


def peer_uid(sock: socket.socket) -> int | None:
    """
    Find out who is at the other end.

    Args:
        sock: A connected unix socket.

    Returns:
        The user who connected or listened; ``None`` where the system does not tell.
    """
    if sys.platform == "linux":
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return int(_UCRED.unpack(credentials)[1])
    if sys.platform == "darwin":
        credentials = sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76)
        return int(_XUCRED.unpack_from(credentials)[1])
    return None


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """
    Give a name for a unix socket that is short enough for the system.

    Args:
        path: Where it is, or is to be.

    Yields:
        A name, valid inside the block.

    Raises:
        ConfigError: The path is too long, and the system has no other name for it.
    """
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
