"""The files of unix sockets: who serves one, and to whom it is given."""

import errno
import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import NamedTuple

# pid, uid, gid: struct ucred of unix(7).
_UCRED = struct.Struct("3i")

# cr_version, cr_uid: the beginning of macOS' struct xucred, which SOL_LOCAL's LOCAL_PEERCRED gives.
_XUCRED = struct.Struct("2I")
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1


class Peer(NamedTuple):
    """The process that connected or listened; ``None`` for what the system does not tell."""

    pid: int | None
    uid: int | None


def peer_of(sock: socket.socket) -> Peer:
    """Find out which process is at the other end of a connected unix socket."""
    if sys.platform == "linux":
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _ = _UCRED.unpack(credentials)
        return Peer(pid, uid)
    if sys.platform == "darwin":
        credentials = sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76)
        return Peer(None, int(_XUCRED.unpack_from(credentials)[1]))
    return Peer(None, None)


def give(listener: socket.socket, path: str, uid: int, gid: int) -> None:
    """Give a unix socket that this process has just made, and no other file, to another user."""
    if sys.platform != "linux":
        os.chown(path, uid, gid, follow_symlinks=False)
        return
    # Its folder may be another user's, who may have put something else in its place meanwhile: a
    # link, or a file of root's.
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise _replaced(path)
        # proc(5): it leads to the file itself, whatever its path is now.
        held = f"/proc/self/fd/{fd}"
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(held)
            if peer_of(probe).pid != os.getpid():
                raise _replaced(path)
            listener.accept()[0].close()
        os.chown(held, uid, gid)
    finally:
        os.close(fd)


def _replaced(path: str) -> OSError:
    return OSError(errno.EEXIST, "another program has put something in its place", path)


def is_at(path: Path, found: os.stat_result | None) -> bool:
    """Return whether a path leads to a file that was seen before, and not to another."""
    try:
        return found is not None and os.path.samestat(path.lstat(), found)
    except OSError:
        return False
