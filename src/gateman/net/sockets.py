"""Listening sockets: made, with one sentence for each way in which that can fail."""

import contextlib
import errno
import os
import socket
import stat
import sys
from pathlib import Path
from weakref import WeakKeyDictionary

from ..errors import AddressInUse, ConfigError
from ..listen import WEBSOCKET, ListenAddress
from .socket_files import give, is_at

# Linux spreads connections over the sockets of one port; elsewhere the last one gets all.
_SPREADS = sys.platform == "linux"

# What binding an address says that this machine does not have, or of a family that it does not.
_MISSING = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}

# What is at the path of a unix socket that was made here.
_made: "WeakKeyDictionary[socket.socket, os.stat_result]" = WeakKeyDictionary()

# The kernel cuts it to net.core.somaxconn (4096 since Linux 5.4).
_BACKLOG = 4096  # connections


def bind(address: ListenAddress, owner: tuple[int, int] | None = None) -> list[socket.socket]:
    """Listen, or raise a ConfigError that says why not."""
    if address.path:
        return [_bind_unix(address, owner)]
    sockets = _bind_all(resolve(address), address)
    try:
        for sock in sockets:
            _listen(sock, address)
    except ConfigError:
        release(sockets)
        raise
    return sockets


def bind_each(
    address: ListenAddress, count: int, owner: tuple[int, int] | None = None
) -> list[list[socket.socket]]:
    """Listen, for several processes, or raise a ConfigError that says why not."""
    if count == 1 or address.path or not _SPREADS:
        return [bind(address, owner)] * count
    # Without SO_REUSEPORT at first: with it, this would succeed beside another program of the
    # same user that has it too, and take some of that one's clients.
    probes = _bind_all(resolve(address), address)
    names = [(int(sock.family), *sock.getsockname()[:2]) for sock in probes]
    for sock in probes:
        sock.close()
    bound: list[list[socket.socket]] = []
    try:
        for _ in range(count):
            bound.append(_bind_all(names, address, is_spread=True))  # noqa: PERF401 - released in part
        for sockets in bound:
            for sock in sockets:
                _listen(sock, address)
    except ConfigError:
        for sockets in bound:
            release(sockets)
        raise
    return bound


def _bind_all(
    names: list[tuple[int, str, int]], address: ListenAddress, *, is_spread: bool = False
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, host, port in names:
            try:
                sockets.append(
                    _bind_tcp(family, host, port or _port_of(sockets), is_spread=is_spread)
                )
            except OSError as error:
                if error.errno not in _MISSING:
                    raise _refused(error, address) from None
                missing = error
        # Of a name, what is there will do: in many containers localhost is ::1 too, without IPv6.
        if missing is not None and not sockets:
            raise _refused(missing, address) from None
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _port_of(sockets: list[socket.socket]) -> int:
    """With port 0, all addresses of a name get the port that the first one got."""
    return int(sockets[0].getsockname()[1]) if sockets else 0


def resolve(address: ListenAddress) -> list[tuple[int, str, int]]:
    """Find out what a TCP address stands for, or raise a ConfigError."""
    try:
        found = socket.getaddrinfo(
            address.host,
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV,
        )
    except (OSError, UnicodeError):
        raise ConfigError(
            f"{address}: {address.host!r} is not an address of this machine",
            "use 0.0.0.0 or [::] for every interface, 127.0.0.1 for this machine only",
        ) from None
    seen = dict.fromkeys((int(family), str(where[0]), int(where[1])) for family, *_, where in found)
    return list(seen)


def _bind_tcp(family: int, host: str, port: int, *, is_spread: bool) -> socket.socket:
    # What it accepts says so too; else TCP_NODELAY is not set, and a second small message waits for
    # the first one's acknowledgement, up to 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Without it a restart fails for a minute, while old connections are in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # [::] means everybody, IPv4 included, whatever the system's default is; a name that
            # has both families is bound for each of them.
            only = host != "::"
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only))
        if is_spread:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _listen(sock: socket.socket, address: ListenAddress) -> None:
    try:
        sock.listen(_BACKLOG)
    except OSError as error:
        # Another program may listen since the port was bound: SO_REUSEADDR lets both bind.
        raise _refused(error, address) from None


def _refused(error: OSError, address: ListenAddress) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(
            f"{address}: the port is in use by another program",
            f"stop that program, which `ss -ltnp 'sport = :{address.port}'` names, or choose"
            " another port",
        )
    if error.errno == errno.EACCES:
        return ConfigError(
            f"{address}: this user may not listen on port {address.port}",
            "choose a port above 1023 and put a proxy on the low one, or grant"
            " CAP_NET_BIND_SERVICE",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(
            f"{address}: {address.host!r} is not an address of this machine",
            "use 0.0.0.0 or [::] for every interface, 127.0.0.1 for this machine only",
        )
    return ConfigError(f"{address} cannot be listened on", (error.strerror or "").lower())


def _bind_unix(address: ListenAddress, owner: tuple[int, int] | None) -> socket.socket:
    path = address.path
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path, address)
        # It has its mode from the start: to change that of a path is to trust its folder.
        before = None if owner is None else os.umask(0o117)
        try:
            sock.bind(path)
        finally:
            if before is not None:
                os.umask(before)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        if owner is not None:
            give(sock, path, *owner)
        _made[sock] = Path(path).lstat()
    except ConfigError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        reason = {
            errno.ENOENT: "its folder does not exist",
            errno.EACCES: "this user may not write to its folder",
            errno.ENAMETOOLONG: "the path is too long",
            # Python knows it before the system does, and gives no number.
            None: "the path is too long",
            errno.EADDRINUSE: "something else is there",
            errno.EEXIST: error.strerror,
        }.get(error.errno, (error.strerror or "").lower())
        raise ConfigError(f"{address}: {reason}", "choose another path") from None
    return sock


def _remove_stale(path: str, address: ListenAddress) -> None:
    """Remove the socket that a killed process left, and never one on which a process listens."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            raise ConfigError(f"{address}: a file that is not a socket is there", "remove it")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            # A full queue takes as long as it takes: then somebody listens, too.
            with contextlib.suppress(TimeoutError, BlockingIOError):
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    Path(path).unlink()
                    return
            raise ConfigError(
                f"{address}: another program listens there", "stop it, or choose another path"
            )


def url_of(sock: socket.socket, protocol: str = WEBSOCKET, *, is_secure: bool) -> str:
    """Write the URL that clients of a listening socket connect to."""
    scheme = protocol if protocol != WEBSOCKET else "wss" if is_secure else "ws"
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return f"{scheme}+unix://{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{scheme}://{host}:{name[1]}"


def release(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        if sock.fileno() < 0:
            continue
        path = sock.getsockname() if sock.family == socket.AF_UNIX else ""
        # Another program may have made its own there meanwhile.
        is_ours = bool(path) and is_at(Path(path), _made.get(sock))
        # A program that has a copy, whatever way it got one, does not keep clients waiting in it.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        if is_ours:
            with contextlib.suppress(OSError):
                Path(path).unlink()
