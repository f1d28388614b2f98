"""
Where a master keeps what commands find it by: its control socket and its pid file.

The first of these folders that can be written to and has nothing else in their place, with names
made from the script's path:

1. ``$RUNTIME_DIRECTORY``, which systemd sets for a unit with ``RuntimeDirectory=``;
2. ``$XDG_RUNTIME_DIR/gateman``;
3. the script's own folder; where that is behind a link, such as ``current``, the one that the link
   is in: a new release behind the same link is the same service, and finds its master;
4. ``gateman-UID`` in the folder for temporary files, for a script in a read-only image.

A command looks in all of them, and in those of the units that ``gateman systemd`` prints, whose
``RuntimeDirectory`` only they know by its variable; so does a master that starts, to be the only
one. The pid file is locked for as long as its master lives, so that one which a killed master left
is no obstacle. Files that were removed under a running master are made anew.

Other users may write to some of these folders. What they put there is passed over: a master's files
are root's, this user's, or of those who own the script or its folder, and so decide what it does.
"""

import contextlib
import fcntl
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..bus import unix_socket
from ..errors import AlreadyRunning, ConfigError
from ..net.socket_files import is_at

UNITS = Path("/run/gateman")
"""Has a folder for each unit that ``gateman systemd`` prints: ``RuntimeDirectory=gateman/NAME``."""


@dataclass(frozen=True, slots=True)
class RuntimePaths:
    """The files of one master."""

    folder: Path
    stem: str
    users: frozenset[int] = frozenset()
    is_private: bool = False

    @property
    def control(self) -> Path:
        """The control socket."""
        return self.folder / f"{self.stem}.sock"

    @property
    def bus(self) -> Path:
        """The socket of the bus between its processes."""
        return self.folder / f"{self.stem}.bus"

    @property
    def pid(self) -> Path:
        """The pid file."""
        return self.folder / f"{self.stem}.pid"

    @property
    def is_safe(self) -> bool:
        """Whether nobody else can have put something there, where that is asked for."""
        if not self.is_private:
            return True
        try:
            found = self.folder.lstat()
        except OSError:
            return False
        is_theirs = stat.S_ISDIR(found.st_mode) and found.st_uid in self.users
        return is_theirs and not found.st_mode & 0o022


def candidates(script: Path, environment: Mapping[str, str]) -> Iterator[RuntimePaths]:
    """List where the files of a script's master may be, in order of preference."""
    # Links are not followed: a new release behind the same link is the same service.
    digest = hashlib.sha256(os.fsencode(script)).hexdigest()[:8]
    stem = f"{script.stem}-{digest}"
    link = _link_above(script)
    folder = script.parent if link is None else link.parent
    users = frozenset({0, os.geteuid(), *_owners(script, script.parent, folder)})
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime:
        yield RuntimePaths(Path(runtime), stem, users.union(_owners(Path(runtime))))
    session = environment.get("XDG_RUNTIME_DIR")
    # `su` leaves that of another user, who could exchange what is in it.
    if session and users.issuperset(_owners(Path(session))):
        yield RuntimePaths(Path(session) / "gateman", stem, users, is_private=True)
    yield RuntimePaths(folder, stem, users)
    common = Path(tempfile.gettempdir()) / f"gateman-{os.getuid()}"
    yield RuntimePaths(common, stem, frozenset({os.geteuid()}), is_private=True)


def _link_above(script: Path) -> Path | None:
    """Find the link that is next above a script; those in the root folder are the machine's."""
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
    """Find the control sockets that a script's master may listen on."""
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
    # Root has made these folders, each for the user of a unit.
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
    """The right to be a script's master, until :meth:`release` or the end of the process."""

    def __init__(
        self, script: Path, environment: Mapping[str, str], locked: "_LockedPidFile", units: Path
    ) -> None:
        self.files = locked.files
        self.is_takeover = locked.is_takeover
        self._fd = locked.fd
        self._script = script
        self._environment = dict(environment)
        self._units = units
        self._control: os.stat_result | None = None

    @classmethod
    def take(cls, script: Path, environment: Mapping[str, str], *, units: Path = UNITS) -> Self:
        """
        Become the master of a script.

        Raises:
            AlreadyRunning: Another process is, in whichever of the folders.
            ConfigError: None of the folders can be written to.
        """
        runtime_files = cls(script, environment, _lock_pid_file(script, environment), units)
        # Elsewhere, as a unit's or with another environment. Of two that start at once
        # at least one sees the other, as each holds its own file by now.
        for other in _all_locations(script, environment, units):
            holder = None if other.pid == runtime_files.files.pid else _holder(other)
            if holder is not None:
                runtime_files.release()
                raise AlreadyRunning(str(script), holder)
        if (
            not runtime_files.is_takeover
            and (holder := _holder_of_removed_file(runtime_files.files)) is not None
        ):
            runtime_files.release()
            raise AlreadyRunning(str(script), holder)
        return runtime_files

    def fileno(self) -> int:
        """Give the descriptor of the pid file, which is locked for as long as it is open."""
        return self._fd

    def write(self) -> None:
        """Write this process's id; a daemon does it again, under its own."""
        _write_pid(self._fd)

    @property
    def is_intact(self) -> bool:
        """Whether commands find this master: its pid file and its control socket are there."""
        has_control = self._control is None or is_at(self.files.control, self._control)
        return has_control and is_at(self.files.pid, os.fstat(self._fd))

    def renew(self) -> None:
        """
        Take the claim anew if its pid file was removed, where that is possible now.

        Raises:
            AlreadyRunning: Another process is about to become the master.
            ConfigError: None of the folders can be written to.
        """
        if is_at(self.files.pid, os.fstat(self._fd)):
            return
        locked = _lock_pid_file(self._script, self._environment)
        self._remove_control()
        os.close(self._fd)
        self.files, self._fd = locked.files, locked.fd

    def listen(self) -> socket.socket:
        """
        Make the control socket.

        Raises:
            ConfigError: There can be none.
        """
        # Nobody listens there: that would take the claim.
        _remove_socket(self.files.control)
        sock = unix_socket.listen(self.files.control)
        self._control = self.files.control.lstat()
        return sock

    def release(self) -> None:
        """Give the claim back, and leave nothing behind."""
        self._remove_control()
        if is_at(self.files.pid, os.fstat(self._fd)):
            self.files.pid.unlink(missing_ok=True)
        os.close(self._fd)

    def _remove_control(self) -> None:
        if is_at(self.files.control, self._control):
            self.files.control.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _LockedPidFile:
    """A pid file that this process has locked."""

    files: RuntimePaths
    fd: int
    is_takeover: bool


def _lock_pid_file(script: Path, environment: Mapping[str, str]) -> _LockedPidFile:
    """Lock the pid file in the first folder that has room for a master's files."""
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
        # Under the lock: what a killed master left is removed, what is another's stays.
        if all(map(_remove_socket, (files.control, files.bus))):
            _write_pid(fd)
            return _LockedPidFile(files, fd, is_takeover)
        files.pid.unlink(missing_ok=True)
        os.close(fd)
    raise ConfigError(
        f"no folder for the pid file and the control socket of {script} can be written to",
        "set RUNTIME_DIRECTORY to one",
    )


def _remove_socket(path: Path) -> bool:
    """Remove a socket; gives whether there is room for another one."""
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
    """Open the pid file, in a folder that is made if it is ours to make."""
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
            # Its owner removed it, at its end, between our two looks.
            os.close(fd)
    return None


def _is_plain_file_of(found: os.stat_result, users: Iterable[int]) -> bool:
    """Whether it is a plain file of one of some users, and no other name of another file."""
    return stat.S_ISREG(found.st_mode) and found.st_uid in users and found.st_nlink == 1


def _write_pid(fd: int) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)


def _holder(files: RuntimePaths) -> int | None:
    """Tell which master has files; 0 if one has and its id is not known, ``None`` if none has."""
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
    """
    Find a master whose pid file was removed, and which has not made another one yet.

    Its open descriptor still tells; proc(5). Elsewhere than on Linux nothing does.
    """
    removed = f"/{files.pid.name} (deleted)"
    for process in Path("/proc").glob("[0-9]*"):
        # Others' processes end meanwhile, or are not ours to look into.
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
