"""The user and group of a process, after it has read what only the master may read."""

import grp
import os
import pwd
from collections.abc import Iterable, MutableMapping
from pathlib import Path

from msgspec import Struct

from ..errors import ConfigError

# XDG Base Directory Specification: without these variables, programs use folders below HOME.
_FOLDERS = (
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
)


class Identity(Struct, frozen=True, kw_only=True):
    user: str
    uid: int
    gid: int
    home: str = "/"


def find(user: str | int | None, group: str | int | None) -> Identity | None:
    """Return the identity that a worker's processes switch to; ``None`` for no change."""
    uid, gid = os.geteuid(), os.getegid()
    found = account(user if user is not None else uid)
    if user is not None:
        uid, gid = found.uid, found.gid
    if group is not None:
        gid = _group(group)
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return None
    if os.geteuid() != 0:
        which = f"user={user!r}" if user is not None else f"group={group!r}"
        raise ConfigError(
            f"only root can start processes with {which}",
            "start the service as root, or leave it out and start the service as that user",
        )
    return Identity(user=found.user, uid=uid, gid=gid, home=found.home)


def account(wanted: str | int) -> Identity:
    """Look up a user by name or number."""
    is_number = isinstance(wanted, int) or wanted.isdigit()
    try:
        found = pwd.getpwuid(int(wanted)) if is_number else pwd.getpwnam(str(wanted))
    except KeyError:
        if is_number:
            # In a container, a user often has a number and no name.
            return Identity(user=str(wanted), uid=int(wanted), gid=int(wanted))
        raise _missing("user", wanted) from None
    return Identity(user=found.pw_name, uid=found.pw_uid, gid=found.pw_gid, home=found.pw_dir)


def _group(wanted: str | int) -> int:
    if isinstance(wanted, int) or wanted.isdigit():
        return int(wanted)
    try:
        return grp.getgrnam(wanted).gr_gid
    except KeyError:
        raise _missing("group", wanted) from None


def _missing(kind: str, wanted: str | int) -> ConfigError:
    return ConfigError(
        f"{kind}={wanted!r}: there is no such {kind}",
        f"create it ({kind}add --system {wanted}), or name another",
    )


def switch_to(identity: Identity, environment: MutableMapping[str, str]) -> None:
    """Switch to another user for ever."""
    try:
        os.initgroups(identity.user, identity.gid)
    except (KeyError, OSError):
        os.setgroups([identity.gid])
    os.setgid(identity.gid)
    os.setuid(identity.uid)
    environment.update(HOME=identity.home, USER=identity.user, LOGNAME=identity.user)
    # The folders of the previous user, which this user must not use.
    for name in _FOLDERS:
        environment.pop(name, None)


def unreadable(files: Iterable[Path]) -> list[Path]:
    """Return the files that this process may not read."""
    return [path for path in files if not os.access(path, os.R_OK)]
