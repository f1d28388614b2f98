"""
The systemd unit of a service, made from what its script declares.

:func:`unit_settings` collects the facts; :func:`unit` is a pure function from them to the text of
the unit. The template is ``systemd.service``. Nothing is written, and systemd is not asked.

Source:
    systemd.service(5), systemd.exec(5); the quoting is that of systemd.syntax(7).
"""

import grp
import os
import pwd
import re
import stat
import string
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ..config.base import BaseWorker
from ..config.settings import WorkerSettings
from ..config.worker import Worker, settings_of
from ..errors import ConfigError
from ..master.plan import policy_of
from ..master.runtime_files import UNITS
from ..master.script import Script

# systemd's own default for the hard limit; more may be refused in a container.
_DEFAULT_DESCRIPTORS = 524_288

# Beside its connections: sockets, logs, pipes, and what the application opens.
_OTHER_DESCRIPTORS = 1024

# On top of the worker's own deadlines: loading the script, and the master's last steps.
_EXTRA_TIME = 15  # seconds

# linux/include/net/sock.h: only who may CAP_NET_BIND_SERVICE binds below.
_FIRST_FREE_PORT = 1024

_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - compared with

# What a master needs that starts as root and has its processes become someone else.
_CHANGE_USER = ("CAP_CHOWN", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID")

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitSettings:
    """What a unit is made from."""

    name: str
    program: str
    python: Path
    folder: Path
    user: str | None = None
    changes_user: bool = False
    ports: tuple[int, ...] = ()
    sockets: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    start: float = 60.0
    shutdown: float = 10.0
    max_connections: int | None = None


def unit_settings(
    script: Script,
    workers: Sequence[BaseWorker],
    *,
    now: float,
    name: str | None = None,
    user: str | None = None,
) -> UnitSettings:
    """
    Find out what a unit is made from.

    Raises:
        ConfigError: What is declared cannot be, or there is no such user.
    """
    if not workers:
        raise ConfigError("no worker is declared", 'write Worker("websocket://0.0.0.0:8282")')
    declared = [settings_of(worker, now=now) for worker in workers if isinstance(worker, Worker)]
    policies = [policy_of(worker) for worker in workers]
    python = Path(sys.executable)
    limits = [settings.limits.max_connections for settings in declared]
    return UnitSettings(
        name=name or _name_of(script),
        program=script.module.removesuffix(".__main__") or str(script.path),
        python=python,
        folder=Path.cwd(),
        user=_account(user) if user is not None else _owner(script.path),
        changes_user=any(worker.user is not None or worker.group is not None for worker in workers),
        ports=tuple(one.listen.port for one in declared if not one.listen.path),
        sockets=tuple(Path(one.listen.path) for one in declared if one.listen.path),
        files=tuple(dict.fromkeys((script.path, python, *_tls_files(declared)))),
        start=max(policy.start for policy in policies),
        # Those that end last have their time after the others.
        shutdown=sum(
            max((policy.shutdown for policy in policies if policy.ends_last is last), default=0.0)
            for last in (False, True)
        ),
        max_connections=None if None in limits else max(filter(None, limits), default=None),
    )


def _name_of(script: Script) -> str:
    name = script.module.removesuffix(".__main__").rpartition(".")[2] or script.path.stem
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)


def _account(user: str) -> str:
    try:
        return pwd.getpwnam(user).pw_name
    except KeyError:
        raise ConfigError(
            f"there is no user {user!r}", f"create it: useradd --system {user}"
        ) from None


def _owner(path: Path) -> str | None:
    uid = path.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name if uid else None
    except KeyError:
        return None


def _tls_files(declared: Iterable[WorkerSettings]) -> list[Path]:
    return [
        Path(path).absolute()
        for settings in declared
        if settings.contexts is not None
        for path in settings.contexts.files
    ]


class _Template(string.Template):
    delimiter = "@"


def unit(settings: UnitSettings) -> str:
    """
    Write the unit.

    Raises:
        ConfigError: A name or path cannot stand in a unit.
    """
    if not _NAME.fullmatch(settings.name):
        raise ConfigError(
            f"{settings.name!r} is not a name for a unit", "use letters, digits, '-', '_' and '.'"
        )
    gateman = (str(settings.python), "-m", "gateman")
    template = files(__package__).joinpath("systemd.service").read_text("utf-8")
    return _Template(template).substitute(
        name=settings.name,
        program=_checked(settings.program),
        start=_command(*gateman, "start", settings.program),
        reload=_command(*gateman, "reload", settings.program),
        status=" ".join(("sudo", *gateman, "status", settings.program)),
        folder=_checked(str(settings.folder)).replace("%", "%%"),
        start_timeout=round(settings.start) + _EXTRA_TIME,
        stop_timeout=round(settings.shutdown) + _EXTRA_TIME,
        descriptors=_DEFAULT_DESCRIPTORS
        if settings.max_connections is None
        else settings.max_connections + _OTHER_DESCRIPTORS,
        identity=_identity(settings),
        capabilities=_capabilities(settings),
        umask=_umask(settings),
        file_access=_file_access(settings),
    )


def _identity(settings: UnitSettings) -> str:
    if settings.changes_user:
        return (
            "# The master is root, and its processes are whom the worker's `user` names.\n"
            "User=root\n"
        )
    if settings.user is not None:
        return f"User={settings.user}\n"
    return (
        "# A user of its own, which systemd makes up; it reads what everybody may read.\n"
        "DynamicUser=yes\n"
    )


def _capabilities(settings: UnitSettings) -> str:
    has_low_port = any(0 < port < _FIRST_FREE_PORT for port in settings.ports)
    bind = ("CAP_NET_BIND_SERVICE",) if has_low_port else ()
    if settings.changes_user:
        return f"CapabilityBoundingSet={' '.join((*_CHANGE_USER, *bind))}\n"
    text = f"CapabilityBoundingSet={' '.join(bind)}\n"
    if bind:
        ports = ", ".join(str(port) for port in settings.ports if 0 < port < _FIRST_FREE_PORT)
        text = f"# For port {ports}.\n{text}AmbientCapabilities={' '.join(bind)}\n"
    return text


def _umask(settings: UnitSettings) -> str:
    if not settings.sockets:
        return "UMask=0077\n"
    return (
        "# The proxy connects to the unix socket by a group that both are in: name it.\n"
        "#Group=www-data\n"
        "UMask=0007\n"
    )


def _file_access(settings: UnitSettings) -> str:
    """Write what of the machine's files is there; what it reads has to be."""
    read = [path for one in (*settings.files, settings.folder) for path in (one, one.resolve())]
    home = "read-only" if any(_is_below(path, _HOMES) for path in read) else "yes"
    text = f"ProtectHome={home}\n"
    if any(_is_below(path, _TEMPORARY) for path in (*read, *settings.sockets)):
        text += "# Something that it needs is in a folder for temporary files.\nPrivateTmp=no\n"
    else:
        text += "PrivateTmp=yes\n"
    if not settings.changes_user:
        text += "ProtectProc=invisible\n"
    own = UNITS / settings.name
    folders = {path.parent for path in settings.sockets} - {own}
    if folders:
        text += (
            f"# For its unix sockets; in {own} they would need no line of their own.\n"
            f"ReadWritePaths={' '.join(_quoted(str(path)) for path in sorted(folders))}\n"
        )
    return text


def _is_below(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _command(*words: str) -> str:
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _quoted(word: str) -> str:
    """Write a word as systemd.syntax(7) and its specifiers want it."""
    text = _checked(word).replace("%", "%%")
    if not re.search(r"[\s\"';\\]", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _checked(text: str) -> str:
    if not text.isprintable():
        raise ConfigError(
            f"{text!r} has characters that cannot stand in a unit", "rename the file or folder"
        )
    return text


def unreadable(settings: UnitSettings) -> list[Path]:
    """Find the files that the service will not be able to read."""
    if settings.changes_user:
        return []
    uid, groups = -1, set[int]()
    if settings.user is not None:
        account = pwd.getpwnam(settings.user)
        uid = account.pw_uid
        groups = set(os.getgrouplist(settings.user, account.pw_gid))
    return [path for path in settings.files if not _may_read(path.resolve(), uid, groups)]


def _may_read(path: Path, uid: int, groups: set[int]) -> bool:
    if uid == 0:
        return True
    return _has(path, stat.S_IROTH, uid, groups) and all(
        _has(folder, stat.S_IXOTH, uid, groups) for folder in path.parents
    )


def _has(path: Path, right: int, uid: int, groups: set[int]) -> bool:
    """Tell whether somebody has a right, given as its bit for others."""
    found = path.stat()
    if found.st_uid == uid:
        return bool(found.st_mode & right << 6)
    if found.st_gid in groups:
        return bool(found.st_mode & right << 3)
    return bool(found.st_mode & right)


def remedy(settings: UnitSettings, path: Path) -> str:
    """Say what to do about a file that the service will not be able to read."""
    who = f"user {settings.user}" if settings.user is not None else "the user that systemd makes up"
    group = _group_name(path.resolve())
    through = f", add SupplementaryGroups={group} to the unit" if group else ""
    return (
        f"{who} will not be able to read {path}: name one who is with --user{through}, or, if it"
        " is no secret, let everybody read it."
    )


def _group_name(path: Path) -> str:
    """Name the group that may read a file, if there is one but root's."""
    found = path.stat()
    if not found.st_gid or not found.st_mode & stat.S_IRGRP:
        return ""
    try:
        return grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        return str(found.st_gid)
