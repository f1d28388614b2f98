"""
Which folder is the storage, and whether it lasts.

1. ``$STATE_DIRECTORY/acme``, which systemd makes for a unit with ``StateDirectory=``;
2. ``/var/lib/gateman/acme`` for a service that root starts, or ``acme-USER`` if its processes
   switch to another user;
3. ``~/.local/share/gateman/acme``, or what ``$XDG_DATA_HOME`` says, and on macOS
   ``~/Library/Application Support/gateman/acme``.

None of them is in the folder of the program, which a deploy replaces.
"""

import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..data_folder import data_folder

_OF_ROOT = {"darwin": Path("/Library/Application Support/gateman")}
_OF_ROOT_ELSEWHERE = Path("/var/lib/gateman")

# proc_pid_mountinfo(5): spaces and such are written as \040.
_ESCAPED = re.compile(r"\\([0-7]{3})")


def default_folder(
    user: str | int | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
    uid: int | None = None,
) -> Path:
    """Return the storage of a service whose processes switch to ``user``."""
    name = "acme" if user is None else f"acme-{re.sub(r'[^A-Za-z0-9._-]', '_', str(user))}"
    state = Path(environ.get("STATE_DIRECTORY", "").partition(":")[0])
    if state.is_absolute():
        return state / name
    if (os.geteuid() if uid is None else uid) == 0:
        return _OF_ROOT.get(platform, _OF_ROOT_ELSEWHERE) / name
    try:
        return data_folder(environ, platform) / name
    except RuntimeError:
        # Without a home, as a number without a name often is in a container.
        return _OF_ROOT_ELSEWHERE / name


def why_ephemeral(folder: Path, *, mounts: str | None = None, temporary: str = "") -> str | None:
    """Return why a folder will be lost, as the end of a sentence; ``None`` if it seems to last."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
        except OSError:
            mounts = ""  # Linux only.
    kind = _file_system(folder, mounts)
    if kind in {"tmpfs", "ramfs"}:
        return "is in memory, and is lost when the machine stops"
    if kind in {"overlay", "aufs"}:
        return "is in the container's own file system, and is lost with the container"
    for parent in (temporary or tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - compared
        if folder.is_relative_to(parent):
            return "is in a folder for temporary files, which the system empties"
    return None


def _file_system(folder: Path, mounts: str) -> str:
    """Return the type of the file system that holds a folder."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        mount, separator, rest = line.partition(" - ")
        parts = mount.split(" ")
        if not separator or len(parts) < 5:
            continue
        point = Path(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), parts[4]))
        # The last of several at one place is the one that is seen.
        if folder.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), rest.split(" ")[0]
    return kind
