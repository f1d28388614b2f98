"""
Opening files where another user may have put a link in their place.

A service that root starts writes in folders that are sometimes another user's. A link there would
lead what root writes wherever that user likes.
"""

import errno
import os
import stat
from collections import deque
from pathlib import Path, PurePath

# Linux needs no right to read a folder in order to pass through it; elsewhere there is no O_PATH.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# As many as Linux follows.
_MAX_LINKS = 40


def open_file(path: Path, flags: int, mode: int = 0o600) -> int:
    """
    Open a file, following only links that nobody but root and this user can have made.

    In a folder that others may write to, it opens a regular file with one name only, which is
    root's, this user's or that of the folder's owner.

    Raises:
        OSError: It cannot be opened, or another user may have put it there.
    """
    names = deque(path.absolute().parts[1:])
    links = 0
    folder = os.open("/", _PASS)
    try:
        while True:
            name = names.popleft()
            target = _target(folder, name, path)
            if target is not None:
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
                if _is_own_descriptor(folder, name):
                    return os.open(name, flags & ~os.O_CREAT, dir_fd=folder)
                names.extendleft(reversed(target.parts))
                if target.is_absolute():
                    names.popleft()
                    folder = _change(folder, "/")
            elif names:
                folder = _change(folder, name)
            else:
                return _open_last(folder, name, flags, mode)
    finally:
        os.close(folder)


def _target(folder: int, name: str, path: Path) -> PurePath | None:
    """Read a link; ``None`` for what is not one."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISLNK(found.st_mode):
        return None
    here = os.fstat(folder)
    # In a sticky folder, such as /tmp, only its owner can replace a link.
    is_safe = _is_ours(here) and (not _is_shared(here) or here.st_mode & stat.S_ISVTX)
    if not is_safe or not _is_ours(found):
        raise PermissionError(
            errno.ELOOP, "another user may have made a link on its path", str(path)
        )
    return PurePath(os.readlink(name, dir_fd=folder))


def _change(folder: int, name: str) -> int:
    inner = os.open(name, _PASS, dir_fd=folder)
    os.close(folder)
    return inner


def _open_last(folder: int, name: str, flags: int, mode: int) -> int:
    # O_NONBLOCK: a pipe that nobody reads would keep us.
    safe = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    fd = os.open(name, flags | safe, mode, dir_fd=folder)
    try:
        found, here = os.fstat(fd), os.fstat(folder)
        if not _is_ours(here) or _is_shared(here):
            owners = {0, os.geteuid(), here.st_uid}
            is_one = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
            if not is_one or found.st_uid not in owners:
                raise PermissionError(errno.EPERM, "another user may have put it there", name)
        os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_own_descriptor(folder: int, name: str) -> bool:
    """Whether it is such as /proc/self/fd/1, where /dev/stdout leads: no text of it is a path."""
    try:
        return name.isdigit() and os.fstat(folder).st_dev == Path("/proc/self").stat().st_dev
    except OSError:
        return False


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid in {0, os.geteuid()}


def _is_shared(found: os.stat_result) -> bool:
    """Whether others may write there; the members of this user's own group are not others."""
    is_of_others = found.st_gid not in {0, os.getegid()}
    return bool(found.st_mode & (0o022 if is_of_others else 0o002))
