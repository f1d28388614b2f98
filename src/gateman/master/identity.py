"""Who a process runs as, once it has read what only the master may read."""

import grp
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """
    A user and a group.

    Attributes:
        user: The user's name; its number where it has none.
        uid: The user's number.
        gid: The group's number.
    """

    user: str
    uid: int
    gid: int


def find(user: str | int | None, group: str | int | None) -> Identity | None:
    """
    Find out who a worker's processes are to run as.

    Args:
        user: A name or number; ``None`` for the master's own.
        group: A name or number; ``None`` for the user's.

    Returns:
        The identity; ``None`` if it is the one that this process has.

    Raises:
        ConfigError: There is no such user or group, or this process may not become it.
    """
    uid, gid, name = os.geteuid(), os.getegid(), ""
    if user is not None:
        entry = _look_up("user", user)
        uid, gid, name = entry
    if group is not None:
        gid = _look_up("group", group)[0]
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return None
    if os.geteuid() != 0:
        which = f"user={user!r}" if user is not None else f"group={group!r}"
        raise ConfigError(
            f"only root can start processes with {which}",
            "start the service as root, or leave it out and start the service as that user",
        )
    return Identity(user=name or str(uid), uid=uid, gid=gid)


def _look_up(kind: str, wanted: str | int) -> tuple[int, int, str]:
    is_number = isinstance(wanted, int) or wanted.isdigit()
    try:
        if kind == "group":
            group = grp.getgrgid(int(wanted)) if is_number else grp.getgrnam(str(wanted))
            return group.gr_gid, group.gr_gid, group.gr_name
        user = pwd.getpwuid(int(wanted)) if is_number else pwd.getpwnam(str(wanted))
        return user.pw_uid, user.pw_gid, user.pw_name
    except KeyError:
        if is_number:
            # Containers have numbers without a name.
            return int(wanted), int(wanted), str(wanted)
        raise ConfigError(
            f"{kind}={wanted!r}: there is no such {kind}", "create it, or choose another"
        ) from None


def assume(identity: Identity) -> None:
    """
    Become someone else, for good.

    Args:
        identity: Who.
    """
    try:
        os.initgroups(identity.user, identity.gid)
    except (KeyError, OSError):
        os.setgroups([identity.gid])
    os.setgid(identity.gid)
    os.setuid(identity.uid)


def unreadable(files: Iterable[Path]) -> list[Path]:
    """
    Find the files that this process may not read.

    Args:
        files: Which to try.

    Returns:
        Those that exist and may not be read.
    """
    return [path for path in files if not os.access(path, os.R_OK)]
