"""
The systemd unit of a service, made from the workers that its script declares.

No file is written, and no command of systemd run.

Source:
    systemd.service(5), systemd.exec(5); the quoting is that of systemd.syntax(7).
"""

import grp
import os
import pwd
import re
import stat
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.base import BaseWorker
from ..config.settings import WorkerSettings
from ..config.worker import Worker, settings_of
from ..errors import ConfigError
from ..listen import ListenAddress
from ..master import privileges
from ..master.plan import check_declared, policy_of
from ..master.runtime_files import UNITS
from ..master.script import Script
from .template import fill_in

# systemd's default for the hard limit; a container may refuse more.
_DEFAULT_DESCRIPTORS = 524_288

# For sockets, logs, pipes and the application's files.
_OTHER_DESCRIPTORS = 1024

# In addition to the worker's deadlines, for loading the script and for the master's own steps.
_EXTRA_TIME = 15  # seconds

# linux/include/net/sock.h: ports below need CAP_NET_BIND_SERVICE.
_FIRST_FREE_PORT = 1024

_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - compared with

# What a master that runs as root needs to start processes as another user.
_CHANGE_USER = ("CAP_CHOWN", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID")

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitSettings:
    name: str
    program: str
    python: Path
    folder: Path
    user: str | None = None
    changes_user: bool = False
    ports: tuple[int, ...] = ()
    sockets: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    start: float = 60.0  # seconds
    shutdown: float = 10.0  # seconds
    max_connections: int | None = None
    has_acme: bool = False
    storages: tuple[Path, ...] = ()  # of acme, where another folder than the default is named


def unit_settings(
    script: Script,
    workers: Sequence[BaseWorker],
    *,
    now: float,
    name: str | None = None,
    user: str | None = None,
) -> UnitSettings:
    check_declared(workers)
    declared = [settings_of(worker, now=now) for worker in workers if isinstance(worker, Worker)]
    policies = [policy_of(worker) for worker in workers]
    python = Path(sys.executable)
    limits = [settings.limits.max_connections for settings in declared]
    return UnitSettings(
        name=name or _name_of(script),
        program=script.module.removesuffix(".__main__") or str(script.path),
        python=python,
        folder=Path.cwd(),
        user=privileges.account(user).user if user is not None else _owner(script.path),
        changes_user=any(worker.user is not None or worker.group is not None for worker in workers),
        ports=(
            *(one.listen.port for one in declared if not one.listen.path),
            *dict.fromkeys(_http_ports(declared)),
        ),
        sockets=tuple(Path(one.listen.path) for one in declared if one.listen.path),
        files=tuple(dict.fromkeys((script.path, python, *_tls_files(declared)))),
        start=max(policy.start for policy in policies),
        # Business workers stop after all others have stopped.
        shutdown=sum(
            max((policy.shutdown for policy in policies if policy.ends_last is last), default=0.0)
            for last in (False, True)
        ),
        max_connections=None if None in limits else max(filter(None, limits), default=None),
        has_acme=any(one.acme for one in declared),
        storages=tuple(dict.fromkeys(_storages(workers, declared))),
    )


def _name_of(script: Script) -> str:
    name = script.module.removesuffix(".__main__").rpartition(".")[2] or script.path.stem
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)


def _owner(path: Path) -> str | None:
    uid = path.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name if uid else None
    except KeyError:
        return None


def _http_ports(declared: Iterable[WorkerSettings]) -> Iterator[int]:
    """Yield the ports of HTTP-01."""
    for one in declared:
        for certificate in one.acme:
            if certificate.http:
                yield ListenAddress.parse(f"websocket://{certificate.http}").port


def _storages(workers: Iterable[BaseWorker], declared: Iterable[WorkerSettings]) -> Iterator[Path]:
    used = {one.storage for each in declared for one in each.acme}
    if used:
        # Imported here: only a worker with acme needs it.
        from ..acme.storage_folder import default_folder

        usual = {str(default_folder(worker.user)) for worker in workers}
        yield from map(Path, sorted(used - usual))


def _tls_files(declared: Iterable[WorkerSettings]) -> list[Path]:
    return [
        Path(path).absolute()
        for settings in declared
        if settings.contexts is not None
        for path in settings.contexts.files
    ]


def unit(settings: UnitSettings) -> str:
    """Return the text of the unit; a :class:`ConfigError` names a value that a unit cannot have."""
    if not _NAME.fullmatch(settings.name):
        raise ConfigError(
            f"{settings.name!r} is not a name for a unit", "use letters, digits, '-', '_' and '.'"
        )
    gateman = (str(settings.python), "-m", "gateman")
    descriptors = _DEFAULT_DESCRIPTORS
    if settings.max_connections is not None:
        descriptors = settings.max_connections + _OTHER_DESCRIPTORS
    values = {
        "name": settings.name,
        "program": _checked(settings.program),
        "start": _command(*gateman, "start", settings.program),
        "reload": _command(*gateman, "reload", settings.program),
        "status": " ".join(("sudo", *gateman, "status", settings.program)),
        "folder": _checked(str(settings.folder)).replace("%", "%%"),
        "start_timeout": round(settings.start) + _EXTRA_TIME,
        "stop_timeout": round(settings.shutdown) + _EXTRA_TIME,
        "descriptors": descriptors,
        "identity": _identity(settings),
        "capabilities": _capabilities(settings),
        "umask": _umask(settings),
        "state": _state(settings),
        "file_access": _file_access(settings),
    }
    return fill_in("systemd.service", values)


def _identity(settings: UnitSettings) -> str:
    if settings.changes_user:
        return "# The master runs as root, and its processes as the worker's `user`.\nUser=root\n"
    if settings.user is not None:
        return f"User={settings.user}\n"
    return (
        "# A temporary user that systemd creates; it can read only files that all users can read.\n"
        "DynamicUser=yes\n"
    )


def _state(settings: UnitSettings) -> str:
    if settings.has_acme:
        return (
            f"# /var/lib/{settings.name}: the keys and certificates that the service orders, and a"
            " folder for\n# your program's data; its path is in $STATE_DIRECTORY.\n"
            f"StateDirectory={settings.name}\n"
        )
    return (
        "# A folder for your program's data; its path is in $STATE_DIRECTORY:\n"
        f"#StateDirectory={settings.name}\n"
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
        "# The proxy connects to the unix socket through a common group: name it.\n"
        "#Group=www-data\n"
        "UMask=0007\n"
    )


def _file_access(settings: UnitSettings) -> str:
    needed = (*settings.files, settings.folder, *settings.storages)
    read = [path for one in needed for path in (one, one.resolve())]
    home = "read-only" if any(_is_below(path, _HOMES) for path in read) else "yes"
    text = f"ProtectHome={home}\n"
    if any(_is_below(path, _TEMPORARY) for path in (*read, *settings.sockets)):
        text += "# The service needs a file in a folder for temporary files.\nPrivateTmp=no\n"
    else:
        text += "PrivateTmp=yes\n"
    if not settings.changes_user:
        text += "ProtectProc=invisible\n"
    own = UNITS / settings.name
    folders = {path.parent for path in settings.sockets} - {own}
    if folders:
        text += (
            f"# For its unix sockets; sockets in {own} would not need this line.\n"
            f"ReadWritePaths={_paths(folders)}\n"
        )
    if settings.storages:
        text += (
            "# For the storage of acme: make it before, for the user of the service.\n"
            f"ReadWritePaths={_paths(settings.storages)}\n"
        )
    return text


def _paths(paths: Iterable[Path]) -> str:
    return " ".join(_quoted(str(path)) for path in sorted(paths))


def _is_below(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _command(*words: str) -> str:
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _quoted(word: str) -> str:
    """Quote a word as systemd.syntax(7) says, and escape its specifiers."""
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
    """Return the files that the service will not be able to read."""
    if settings.changes_user:
        return []
    uid, groups = -1, set[int]()
    if settings.user is not None:
        account = privileges.account(settings.user)
        uid = account.uid
        groups = set(os.getgrouplist(account.user, account.gid))
    return [path for path in settings.files if not _may_read(path.resolve(), uid, groups)]


def _may_read(path: Path, uid: int, groups: set[int]) -> bool:
    if uid == 0:
        return True
    return has_right(path.stat(), stat.S_IROTH, uid, groups) and all(
        has_right(folder.stat(), stat.S_IXOTH, uid, groups) for folder in path.parents
    )


def has_right(found: os.stat_result, right: int, uid: int, groups: Collection[int]) -> bool:
    """Return whether a user has a right; the right is given as its bit for others."""
    if found.st_uid == uid:
        return bool(found.st_mode & right << 6)
    if found.st_gid in groups:
        return bool(found.st_mode & right << 3)
    return bool(found.st_mode & right)


def remedy(settings: UnitSettings, path: Path) -> str:
    """Return a sentence for a file that the service will not be able to read."""
    user = f"user {settings.user}" if settings.user is not None else "systemd's temporary user"
    group = _reading_group(path.resolve())
    through = f", add SupplementaryGroups={group} to the unit" if group else ""
    return (
        f"{user} will not be able to read {path}: name another user with --user{through}, or, if"
        " the file is not secret, let all users read it."
    )


def _reading_group(path: Path) -> str:
    """Return the group that may read a file, or an empty text; root's group does not count."""
    found = path.stat()
    if not found.st_gid or not found.st_mode & stat.S_IRGRP:
        return ""
    return group_name(found.st_gid)


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
