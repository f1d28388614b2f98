"""
Where a master keeps what commands find it by: its control socket and its pid file.

The first of these folders that can be written to and has nothing else in their place, with names
made from the script's path:

1. ``$RUNTIME_DIRECTORY``, which systemd sets for a unit with ``RuntimeDirectory=``;
2. ``$XDG_RUNTIME_DIR/gateman``;
3. the script's own folder;
4. ``gateman-UID`` in the folder for temporary files, for a script in a read-only image.

A command looks in all of them, and in those of the units that ``gateman systemd`` prints, whose
``RuntimeDirectory`` only they know by its variable; so does a master that starts, to be the only
one. The pid file is locked for as long as its master lives, so that one which a killed master left
is no obstacle.
"""

import contextlib
import fcntl
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..bus import unix
from ..errors import AlreadyRunning, ConfigError

UNITS = Path("/run/gateman")
"""Has a folder for each unit that ``gateman systemd`` prints: ``RuntimeDirectory=gateman/NAME``."""


@dataclass(frozen=True, slots=True)
class Files:
    """
    The files of one master.

    Attributes:
        folder: Where they are.
        stem: What their names begin with.
    """

    folder: Path
    stem: str

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


def candidates(script: Path, environment: Mapping[str, str]) -> Iterator[Files]:
    """
    List where the files of a script's master may be, in order of preference.

    Args:
        script: The script's absolute path.
        environment: The environment.

    Yields:
        The files; their folders need not exist.
    """
    # Links are not followed: a new release behind the same link is the same service.
    digest = hashlib.sha256(os.fsencode(script)).hexdigest()[:8]
    stem = f"{script.stem}-{digest}"
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime:
        yield Files(Path(runtime), stem)
    if environment.get("XDG_RUNTIME_DIR"):
        yield Files(Path(environment["XDG_RUNTIME_DIR"]) / "gateman", stem)
    yield Files(script.parent, stem)
    yield Files(Path(tempfile.gettempdir()) / f"gateman-{os.getuid()}", stem)


def control_sockets(
    script: Path, environment: Mapping[str, str], *, units: Path = UNITS
) -> list[Path]:
    """
    Find the control sockets that a script's master may listen on.

    Args:
        script: The script's absolute path.
        environment: The environment.
        units: The folder with those of units.

    Returns:
        Those that exist; a killed master may have left one.
    """
    everywhere = _everywhere(script, environment, units)
    return [files.control for files in everywhere if files.control.is_socket()]


def _everywhere(script: Path, environment: Mapping[str, str], units: Path) -> list[Files]:
    found = list(candidates(script, environment))
    stem = found[0].stem
    folders = [path.parent for path in sorted(units.glob(f"*/{stem}.pid"))]
    return found + [Files(folder, stem) for folder in folders if folder != found[0].folder]


class Claim:
    """
    The right to be a script's master, until :meth:`release` or the end of the process.

    Attributes:
        files: The files.
        is_heir: Whether a master that was killed had it before.
    """

    def __init__(self, files: Files, fd: int, *, is_heir: bool) -> None:
        self.files = files
        self.is_heir = is_heir
        self._fd = fd

    @classmethod
    def take(cls, script: Path, environment: Mapping[str, str], *, units: Path = UNITS) -> Self:
        """
        Become the master of a script.

        Args:
            script: The script's absolute path.
            environment: The environment.
            units: The folder with those of units.

        Returns:
            The claim.

        Raises:
            AlreadyRunning: Another process is, in whichever of the folders.
            ConfigError: None of the folders can be written to.
        """
        for files in candidates(script, environment):
            fd = _open(files)
            if fd is not None:
                is_heir = os.fstat(fd).st_size > 0
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    owner = _pid_in(fd)
                    os.close(fd)
                    raise AlreadyRunning(str(script), owner) from None
                claim = cls(files, fd, is_heir=is_heir)
                claim.write()
                # Elsewhere, as a unit's or with another environment. Of two that start at once
                # at least one sees the other, as each holds its own file by now.
                for other in _everywhere(script, environment, units):
                    holder = None if other.pid == files.pid else _owner(other)
                    if holder is not None:
                        claim.release()
                        raise AlreadyRunning(str(script), holder)
                return claim
        raise ConfigError(
            f"no folder for the pid file and the control socket of {script} can be written to",
            "set RUNTIME_DIRECTORY to one",
        )

    def write(self) -> None:
        """Write this process's id; a daemon does it again, under its own."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def listen(self) -> socket.socket:
        """
        Make the control socket.

        Returns:
            A listening, non-blocking socket that only this user can connect to.
        """
        # Nobody listens there: that would take the claim.
        self.files.control.unlink(missing_ok=True)
        return unix.listen(self.files.control)

    def release(self) -> None:
        """Give the claim back, and leave nothing behind."""
        self.files.control.unlink(missing_ok=True)
        self.files.pid.unlink(missing_ok=True)
        os.close(self._fd)


def _open(files: Files) -> int | None:
    """Open the pid file, in a folder that is made if it is ours to make."""
    with contextlib.suppress(OSError):
        files.folder.mkdir(mode=0o700, exist_ok=True)
        if files.folder.name == f"gateman-{os.getuid()}" and not _is_ours(files.folder):
            return None
        if files.control.exists() and not files.control.is_socket():
            return None  # Not ours to remove.
        while True:
            fd = os.open(files.pid, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), files.pid.stat()):
                    return fd
            # Its owner removed it, at its end, between our two looks.
            os.close(fd)
    return None


def _owner(files: Files) -> int | None:
    """Tell which master has files; 0 if one has and its id is not known, ``None`` if none has."""
    if files.folder.name == f"gateman-{os.getuid()}" and not _is_ours(files.folder):
        return None
    try:
        fd = os.open(files.pid, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(fd)
    finally:
        os.close(fd)
    return None


def _pid_in(fd: int) -> int:
    pid = os.pread(fd, 32, 0).strip()
    return int(pid) if pid.isdigit() else 0


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have put something into a folder below the one for everybody."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
