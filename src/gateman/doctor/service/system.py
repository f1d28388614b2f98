"""What Linux tells about its processes and sockets, as far as this user may read it."""

import os
import pwd
import re
import socket
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

from ...ops.systemd import group_name, has_right
from .observations import ListenerSeen, RightsSeen

_PROC = Path("/proc")
_LISTEN = "0A"
_MAX_PROCESSES = 20_000
_MAX_TEXT = 1 << 20  # bytes


def listeners(ports: Collection[int], own_pids: Collection[int]) -> tuple[ListenerSeen, ...] | None:
    """List the sockets that listen on these ports; ``None`` where the system does not tell."""
    found = []
    try:
        for name, is_ipv6 in (("tcp", False), ("tcp6", True)):
            table = _PROC / "net" / name
            if table.exists():
                found += parse_sockets(table.read_text(), ports, is_ipv6=is_ipv6)
    except OSError:
        return None
    if not (_PROC / "net" / "tcp").exists():
        return None
    owners = _owners({inode for _, _, inode in found})
    return tuple(
        ListenerSeen(
            address=address,
            port=port,
            owner=_names(owners.get(inode, ())),
            is_own=bool(set(owners.get(inode, ())) & set(own_pids)),
        )
        for address, port, inode in found
    )


def parse_sockets(
    table: str, ports: Collection[int], *, is_ipv6: bool
) -> list[tuple[str, int, str]]:
    """Read a table of /proc/net: address, port and inode of what listens on these ports."""
    found = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 10 or words[3] != _LISTEN:
            continue
        packed, _, port = words[1].partition(":")
        if int(port, 16) not in ports:
            continue
        # Words of 32 bits in the byte order of the machine.
        parts = [bytes.fromhex(packed[at : at + 8])[::-1] for at in range(0, len(packed), 8)]
        family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        found.append((socket.inet_ntop(family, b"".join(parts)), int(port, 16), words[9]))
    return found


def _owners(inodes: Collection[str]) -> dict[str, list[int]]:
    """Find the processes that have sockets open; those of other users stay unknown."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[str, list[int]] = {}
    for pid in pids() if wanted else ():
        try:
            for entry in (_PROC / str(pid) / "fd").iterdir():
                inode = wanted.get(str(entry.readlink()))
                if inode is not None:
                    owners.setdefault(inode, []).append(pid)
        except OSError:
            continue
    return owners


def pids() -> list[int]:
    try:
        return sorted(int(one.name) for one in _PROC.iterdir() if one.name.isdigit())[
            :_MAX_PROCESSES
        ]
    except OSError:
        return []


def _names(owners: Iterable[int]) -> str:
    [pid, *_] = [*owners, 0]
    return f"{name(pid)} (pid {pid})" if pid else ""


def name(pid: int) -> str:
    return _read(_PROC / str(pid) / "comm").strip()


def command(pid: int) -> list[str]:
    """Read the command line of a process; that of nginx is within its title."""
    text = _read(_PROC / str(pid) / "cmdline").rstrip("\0")
    if text.startswith("nginx: master process "):
        return text.removeprefix("nginx: master process ").replace("\0", " ").split()
    return text.split("\0")


def folder(pid: int) -> Path:
    """Find the working directory of a process; the root where that cannot be read."""
    try:
        return (_PROC / str(pid) / "cwd").readlink()
    except OSError:
        return Path("/")


def uid(pid: int) -> int | None:
    found = re.search(r"^Uid:\s+\d+\s+(\d+)", _read(_PROC / str(pid) / "status"), re.MULTILINE)
    return None if found is None else int(found[1])


def processes_named(names: Collection[str]) -> list[int]:
    return [pid for pid in pids() if name(pid) in names]


def open_files(pid: int) -> int | None:
    """Read the limit on open files of a process."""
    limits = _read(_PROC / str(pid) / "limits")
    found = re.search(r"^Max open files\s+(\d+)", limits, re.MULTILINE)
    return None if found is None else int(found[1])


def user_of(name_or_uid: str | int) -> pwd.struct_passwd | None:
    try:
        is_uid = isinstance(name_or_uid, int) or name_or_uid.isdigit()
        return pwd.getpwuid(int(name_or_uid)) if is_uid else pwd.getpwnam(str(name_or_uid))
    except KeyError:
        return None


def account_name(uid: int) -> str:
    account = user_of(uid)
    return str(uid) if account is None else account.pw_name


def denied(path: Path, user: pwd.struct_passwd) -> RightsSeen | None:
    """Find the first right that a user does not have on the way to a unix socket."""
    if user.pw_uid == 0:
        return None
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid))
    for one in (*reversed(path.parents), path):
        try:
            found = one.stat()
        except OSError:
            return None
        is_socket = one == path
        right = stat.S_IWOTH if is_socket else stat.S_IXOTH
        if not has_right(found, right, user.pw_uid, groups):
            return RightsSeen(
                path=str(one),
                right="write to" if is_socket else "enter",
                mode=stat.filemode(found.st_mode),
                owner=f"{account_name(found.st_uid)} {group_name(found.st_gid)}",
                user=user.pw_name,
            )
    return None


def tail(path: Path, size: int = 32 << 10) -> str:
    """Read the end of a file; nothing of one that cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - size, 0))
            return file.read(size).decode(errors="replace")
    except OSError:
        return ""


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_TEXT).decode(errors="replace")
    except OSError:
        return ""
