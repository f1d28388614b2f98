"""
Opens files in folders where another user may have replaced them with a link.

A service that root starts may write into another user's folder. With a link there, that user could
make root write to any file.
"""

import errno
import os
import secrets
import stat
from collections import deque
from pathlib import Path, PurePath

# With O_PATH, which only Linux has, a path may lead through folders that this user cannot read.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# The limit of Linux.
_MAX_LINKS = 40


def open_file(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file, and follow only links that root or this user has made; raises ``OSError``."""
    # In a folder to which others may write, the file must be a regular file with one name, owned by
    # root, this user or the owner of the folder.
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


def check_folder(path: Path) -> None:
    """Raise ``OSError`` if another user can replace, or add, files in the folder of a path."""
    # For libraries that open files by themselves, and more files beside them.
    folder = path.absolute().parent.resolve(strict=True)
    for one in (folder, *folder.parents):
        found = one.stat()
        is_sticky = one != folder and found.st_mode & stat.S_ISVTX
        if not _is_ours(found) or (_is_shared(found) and not is_sticky):
            raise PermissionError(errno.EPERM, f"another user may write to {one}", str(path))


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Replace a file atomically, also if the machine stops; the umask may reduce its mode."""
    draft = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(draft, flags, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _target(folder: int, name: str, path: Path) -> PurePath | None:
    """Read a link; ``None`` if it is not a link."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISLNK(found.st_mode):
        return None
    holder = os.fstat(folder)
    # In a sticky folder, such as /tmp, only the owner of a link can replace it.
    is_safe = _is_ours(holder) and (not _is_shared(holder) or holder.st_mode & stat.S_ISVTX)
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
    # O_NONBLOCK: opening a pipe without a reader would block.
    safe = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    fd = os.open(name, flags | safe, mode, dir_fd=folder)
    try:
        found, holder = os.fstat(fd), os.fstat(folder)
        if not _is_ours(holder) or _is_shared(holder):
            owners = {0, os.geteuid(), holder.st_uid}
            has_one_name = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
            if not has_one_name or found.st_uid not in owners:
                raise PermissionError(errno.EPERM, "another user may have put it there", name)
        os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_own_descriptor(folder: int, name: str) -> bool:
    """Tell a link such as /proc/self/fd/1, the target of /dev/stdout; its text is not a path."""
    try:
        return name.isdigit() and os.fstat(folder).st_dev == Path("/proc/self").stat().st_dev
    except OSError:
        return False


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid in {0, os.geteuid()}


def _is_shared(found: os.stat_result) -> bool:
    """Tell whether others than this user and its own group may write there."""
    has_other_group = found.st_gid not in {0, os.getegid()}
    return bool(found.st_mode & (0o022 if has_other_group else 0o002))
