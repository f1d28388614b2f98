"""
Listening sockets that systemd made and passes to the service: socket activation.

Source:
    sd_listen_fds(3): descriptors from 3 on, their number in ``LISTEN_FDS``, for the process
    ``LISTEN_PID``.
"""

import os
import socket
from collections.abc import MutableMapping

from ..listen import ListenAddress
from . import sockets as listening

_FIRST_FD = 3


def inherited(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """Take over the sockets that were passed to this process."""
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found: list[socket.socket] = []
    for fd in range(_FIRST_FD, _FIRST_FD + int(count)):
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            continue  # A FIFO, or nothing at all.
        sock.set_inheritable(False)
        sock.setblocking(False)
        found.append(sock)
    return found


def matching(address: ListenAddress, passed: list[socket.socket]) -> list[socket.socket]:
    """Find the sockets that listen where a worker wants to."""
    if not passed:
        return []
    if address.path:
        wanted: set[object] = {address.path}
    else:
        wanted = {(host, port) for _family, host, port in listening.resolve(address)}
    found = {_name(sock): sock for sock in passed if _name(sock) in wanted}
    return list(found.values()) if len(found) == len(wanted) else []


def _name(sock: socket.socket) -> object:
    name = sock.getsockname()
    return name[:2] if isinstance(name, tuple) else name
