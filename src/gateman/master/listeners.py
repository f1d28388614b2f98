"""The listening sockets of one worker, owned by the master; business workers have none."""

import contextlib
import os
import socket
import time
from collections.abc import Sequence

from msgspec.structs import replace

from ..errors import AddressInUse
from ..listen import ListenAddress
from ..net import socket_activation
from ..net import sockets as listening
from .plan import WorkerPlan

# The processes of a killed master close their sockets as soon as they notice.
_TAKEOVER_TIMEOUT = 3.0  # seconds
_TAKEOVER_INTERVAL = 0.02  # seconds


class Listeners:
    def __init__(self, plan: WorkerPlan) -> None:
        self.plan = plan
        self._settings = plan.settings
        self._address = None if self._settings is None else self._settings.listen
        # A list for each process; the same list if processes share sockets.
        self._sockets: list[list[socket.socket]] = []
        self._is_passed = False

    def open(self, passed: Sequence[socket.socket] = (), *, is_takeover: bool = False) -> None:
        count = self.plan.policy.count
        if self._address is None:
            self._sockets = [[]] * count
            return
        found = socket_activation.matching(self._address, list(passed))
        if found:
            self._is_passed = True
            self._sockets = [found] * count
            return
        identity = self.plan.identity
        owner = None if identity is None else (identity.uid, identity.gid)
        self._sockets = bind_each(self._address, count, owner, is_takeover=is_takeover)
        name = self._sockets[0][0].getsockname()
        if isinstance(name, tuple):
            # With port 0, the next `open` uses the same port again.
            self._address = replace(self._address, port=name[1])

    @property
    def is_open(self) -> bool:
        return bool(self._sockets)

    @property
    def removed(self) -> str:
        """The path of its unix socket if that was removed; else empty."""
        if self._is_passed or not self._sockets or self._address is None or not self._address.path:
            return ""
        return "" if os.path.lexists(self._address.path) else self._address.path

    def renew(self) -> None:
        """Replace a removed unix socket; processes that start from now on get the new one."""
        old = self._sockets
        self.open()
        for sock in old[0]:
            # Running processes have copies, and keep their clients.
            sock.close()

    @property
    def is_shared(self) -> bool:
        return len(self._sockets) < 2 or self._sockets[0] is self._sockets[1]

    @property
    def descriptors(self) -> list[list[int]]:
        return [[sock.fileno() for sock in sockets] for sockets in self._sockets]

    @property
    def urls(self) -> list[str]:
        """The addresses for clients."""
        settings = self._settings
        if settings is None or not self._sockets:
            return []
        protocol, is_secure = settings.listen.protocol, settings.contexts is not None
        return [listening.url_of(sock, protocol, is_secure=is_secure) for sock in self._sockets[0]]

    def close(self) -> None:
        """Close the sockets, except those that systemd has passed and owns."""
        if self._is_passed:
            return
        with contextlib.suppress(OSError):
            for sockets in self._sockets:
                listening.release(sockets)
        self._sockets = []


def bind_each(
    address: ListenAddress,
    count: int,
    owner: tuple[int, int] | None = None,
    *,
    is_takeover: bool,
) -> list[list[socket.socket]]:
    """Listen, for several processes; wait for those of a killed master."""
    retry_until = time.monotonic() + (_TAKEOVER_TIMEOUT if is_takeover else 0)
    while True:
        try:
            return listening.bind_each(address, count, owner)
        except AddressInUse:
            if time.monotonic() >= retry_until:
                raise
            time.sleep(_TAKEOVER_INTERVAL)
