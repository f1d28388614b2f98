"""What another user does, as a test that root runs sees it."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")

NOBODY = pwd.getpwnam("nobody").pw_uid
DAEMON = pwd.getpwnam("daemon").pw_uid


def open_to_all(folder: Path) -> None:
    """Let other users pass through the folders of a test."""
    for one in (folder, *folder.parents):
        # Those of pytest, which makes them for their owner alone; a parallel run has one more.
        if one == folder or one.name.startswith(("pytest-", "popen-")):
            one.chmod(0o711)


def folder_of(uid: int, path: Path, mode: int = 0o755) -> Path:
    """Make a folder that belongs to a user."""
    path.mkdir()
    os.chown(path, uid, uid)
    path.chmod(mode)
    return path


def as_user(uid: int, do: Callable[[], object]) -> str:
    """Do something as a user, in a process of its own; gives what it returned, or raised."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            try:
                answer = str(do())
            except BaseException as error:  # noqa: BLE001 - it is the answer
                answer = f"{type(error).__name__}: {error}"
            os.write(write, answer.encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as answered:
        return answered.read().decode()
