"""
A master's pid file and control socket, by which commands find it.

Their names are made from the script's path. They are in the first of these folders that is writable
and has no other file of these names:

1. ``$RUNTIME_DIRECTORY``, which systemd sets for a unit with ``RuntimeDirectory=``;
2. ``$XDG_RUNTIME_DIR/gateman``;
3. the script's folder; if a link such as ``current`` leads there, the folder of the link: a new
   release behind the same link is the same service;
4. ``gateman-UID`` in the folder for temporary files, for a script in a read-only image.

Commands search all of them, and the folders of the units that ``gateman systemd`` prints; so does a
starting master, as a script has one master only. A master locks its pid file while it lives, so the
file of a killed master does not block the next one. A running master restores removed files.

Other users may write to some of these folders. Only files of root, of this user, and of the owners
of the script and its folder are used: these users decide anyway what the master does.
"""

import contextlib
import fcntl
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from msgspec import Struct

from ..bus import unix_socket
from ..errors import AlreadyRunning, ConfigError
from ..net.socket_files import is_at

UNITS = Path("/run/gateman")
"""The folders of the units that ``gateman systemd`` prints: ``RuntimeDirectory=gateman/NAME``."""


class RuntimePaths(Struct, frozen=True):
    folder: Path
    stem: str
    users: frozenset[int] = frozenset()
    is_private: bool = False

    @property
    def control(self) -> Path:
        return self.folder / f"{self.stem}.sock"

    @property
    def bus(self) -> Path:
        """The router's socket."""
        return self.folder / f"{self.stem}.bus"

    @property
    def pid(self) -> Path:
        return self.folder / f"{self.stem}.pid"

    @property
    def is_safe(self) -> bool:
        """Whether no other user can have put files there; checked for private folders only."""
        if not self.is_private:
            return True
        try:
            found = self.folder.lstat()
        except OSError:
            return False
        is_owned = stat.S_ISDIR(found.st_mode) and found.st_uid in self.users
        return is_owned and not found.st_mode & 0o022


def candidates(script: Path, environment: Mapping[str, str]) -> Iterator[RuntimePaths]:
    """Yield where the files of a script's master may be, in order of preference."""
    # The path's links stay: a new release behind the same link is the same service.
    digest = hashlib.sha256(os.fsencode(script)).hexdigest()[:8]
    stem = f"{script.stem}-{digest}"
    link = _link_above(script)
    folder = script.parent if link is None else link.parent
    users = frozenset({0, os.geteuid(), *_owners(script, script.parent, folder)})
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime:
        yield RuntimePaths(Path(runtime), stem, users.union(_owners(Path(runtime))))
    session = environment.get("XDG_RUNTIME_DIR")
    # After `su` this is the folder of another user, who could replace the files in it.
    if session and users.issuperset(_owners(Path(session))):
        yield RuntimePaths(Path(session) / "gateman", stem, users, is_private=True)
    yield RuntimePaths(folder, stem, users)
    common = Path(tempfile.gettempdir()) / f"gateman-{os.getuid()}"
    yield RuntimePaths(common, stem, frozenset({os.geteuid()}), is_private=True)


def _link_above(script: Path) -> Path | None:
    """Return the nearest link above a script; links in the root folder belong to the system."""
    for folder in script.parents:
        if folder.is_symlink() and folder.parent != folder.parent.parent:
            return folder
    return None


def _owners(*paths: Path) -> Iterator[int]:
    for path in paths:
        with contextlib.suppress(OSError):
            yield path.stat().st_uid


def locate(
    script: Path, environment: Mapping[str, str], *, units: Path = UNITS
) -> list[RuntimePaths]:
    """Return the existing control sockets of a script."""
    return [
        files
        for files in _all_locations(script, environment, units)
        if files.is_safe and _is_socket(files.control)
    ]


def _all_locations(script: Path, environment: Mapping[str, str], units: Path) -> list[RuntimePaths]:
    found = list(candidates(script, environment))
    stem, users = found[0].stem, found[0].users
    runtime = {found[0].folder} if environment.get("RUNTIME_DIRECTORY") else set()
    folders = {path.parent for path in units.glob(f"*/{stem}.*")} - runtime
    # systemd made these folders, each for the user of a unit.
    of_units = [
        RuntimePaths(folder, stem, users.union(_owners(folder)))
        for folder in sorted(folders)
        if set(_owners(units)) <= {0, os.geteuid()}
    ]
    rest = found[len(runtime) :]
    if all(files.folder != script.parent for files in rest):
        rest.append(RuntimePaths(script.parent, stem, users))
    return found[: len(runtime)] + of_units + rest


def _is_socket(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISSOCK(path.lstat().st_mode)
    return False


class RuntimeFiles:
    """The lock that makes this process a script's master, until :meth:`release` or its end."""

    def __init__(self, script: Path, environment: Mapping[str, str]) -> None:
        self.files, self._fd, self.is_takeover = _lock_pid_file(script, environment)
        self._script = script
        self._environment = dict(environment)
        self._control: os.stat_result | None = None

    @classmethod
    def acquire(cls, script: Path, environment: Mapping[str, str], *, units: Path = UNITS) -> Self:
        """Become the master of a script; raise :class:`AlreadyRunning` if it has one."""
        runtime_files = cls(script, environment)
        # The other master may be a unit's or have another environment. Of two masters that start at
        # once, at least one sees the other, as both have locked their files by now.
        for other in _all_locations(script, environment, units):
            pid = None if other.pid == runtime_files.files.pid else holder(other)
            if pid is not None:
                runtime_files.release()
                raise AlreadyRunning(str(script), pid)
        if not runtime_files.is_takeover:
            pid = _holder_of_removed_file(runtime_files.files)
            if pid is not None:
                runtime_files.release()
                raise AlreadyRunning(str(script), pid)
        return runtime_files

    def fileno(self) -> int:
        """Return the descriptor of the pid file; its lock lasts as long as it is open."""
        return self._fd

    def write(self) -> None:
        """Write this process's id; a daemon calls it again after its forks."""
        _write_pid(self._fd)

    @property
    def is_intact(self) -> bool:
        """Whether the pid file and the control socket are still in place."""
        has_control = self._control is None or is_at(self.files.control, self._control)
        return has_control and is_at(self.files.pid, os.fstat(self._fd))

    def renew(self) -> None:
        """Lock another pid file if this one was removed; may raise as :meth:`acquire` does."""
        if is_at(self.files.pid, os.fstat(self._fd)):
            return
        files, fd, _ = _lock_pid_file(self._script, self._environment)
        self._remove_control()
        os.close(self._fd)
        self.files, self._fd = files, fd

    def listen(self) -> socket.socket:
        # No other process listens there: it would need the lock.
        _remove_socket(self.files.control)
        sock = unix_socket.listen(self.files.control)
        self._control = self.files.control.lstat()
        return sock

    def release(self) -> None:
        """Unlock and remove the files."""
        self._remove_control()
        if is_at(self.files.pid, os.fstat(self._fd)):
            self.files.pid.unlink(missing_ok=True)
        os.close(self._fd)

    def _remove_control(self) -> None:
        if is_at(self.files.control, self._control):
            self.files.control.unlink(missing_ok=True)


def _lock_pid_file(script: Path, environment: Mapping[str, str]) -> tuple[RuntimePaths, int, bool]:
    """Return the files, the pid file's descriptor, and whether it is that of a killed master."""
    reason = ""
    for files in candidates(script, environment):
        fd = _open_pid_file(files)
        if fd is None:
            continue
        is_takeover = os.fstat(fd).st_size > 0
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = _pid_in(fd)
            os.close(fd)
            raise AlreadyRunning(str(script), owner) from None
        # With the lock, sockets are those of a killed master; other files stay.
        if all(map(_remove_socket, (files.control, files.bus))):
            try:
                _write_pid(fd)
            except OSError as error:
                # Such as a full disk, or a user's quota.
                reason = f" ({files.folder}: {(error.strerror or str(error)).lower()})"
            else:
                return files, fd, is_takeover
        files.pid.unlink(missing_ok=True)
        os.close(fd)
    raise ConfigError(
        f"no folder for the pid file and the control socket of {script} is writable{reason}",
        "set RUNTIME_DIRECTORY to a writable folder",
    )


def _remove_socket(path: Path) -> bool:
    """Remove a socket; return whether its path is free now."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
        path.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _open_pid_file(files: RuntimePaths) -> int | None:
    """Open the pid file, and make its folder if necessary; ``None`` if that is not possible."""
    with contextlib.suppress(OSError):
        files.folder.mkdir(mode=0o700, exist_ok=True)
        if not files.is_safe:
            return None
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        while True:
            fd = os.open(files.pid, flags, 0o600)
            found = os.fstat(fd)
            if is_at(files.pid, found):
                if _is_plain_file_of(found, files.users):
                    return fd
                os.close(fd)
                return None
            # Another master has removed its file between the two system calls.
            os.close(fd)
    return None


def _is_plain_file_of(found: os.stat_result, users: Iterable[int]) -> bool:
    """Return whether it is a regular file with one name that one of the users owns."""
    return stat.S_ISREG(found.st_mode) and found.st_uid in users and found.st_nlink == 1


def _write_pid(fd: int) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)


def holder(files: RuntimePaths) -> int | None:
    """Return the pid of the master that locks the files, 0 if unknown; ``None`` if not locked."""
    if not files.is_safe:
        return None
    try:
        fd = os.open(files.pid, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _is_plain_file_of(os.fstat(fd), files.users):
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(fd)
    finally:
        os.close(fd)
    return None


def _holder_of_removed_file(files: RuntimePaths) -> int | None:
    """Find a master whose pid file was removed, by its open descriptor; proc(5), Linux only."""
    removed = f"/{files.pid.name} (deleted)"
    for process in Path("/proc").glob("[0-9]*"):
        # A process may have ended, or belong to a user whose descriptors are not readable.
        with contextlib.suppress(OSError):
            if process.stat().st_uid not in files.users:
                continue
            for fd in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(fd.readlink()).endswith(removed):
                        return int(process.name)
    return None


def _pid_in(fd: int) -> int:
    pid = os.pread(fd, 32, 0).strip()
    return int(pid) if pid.isdigit() else 0
