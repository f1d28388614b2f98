"""The listening sockets of one worker, which the master owns; business workers have none."""

import contextlib
import os
import socket
import time
from collections.abc import Sequence

from ..errors import AddressInUse
from ..listen import ListenAddress
from ..net import socket_activation
from ..net import sockets as listening
from .plan import WorkerPlan

# Processes of a killed master let go of their sockets as soon as they notice.
_TAKEOVER_TIMEOUT = 3.0  # seconds
_TAKEOVER_INTERVAL = 0.02  # seconds


class Listeners:
    """The sockets of one worker."""

    def __init__(self, planned: WorkerPlan) -> None:
        self._plans = planned
        self._settings = planned.settings
        self._address = None if self._settings is None else self._settings.listen
        self._slots: list[list[socket.socket]] = []
        self._is_passed = False

    def open(self, passed: Sequence[socket.socket] = (), *, is_takeover: bool = False) -> None:
        """
        Listen.

        Raises:
            ConfigError: It cannot be listened on, and why.
        """
        count = self._plans.policy.count
        if self._address is None:
            self._slots = [[]] * count
            return
        found = socket_activation.matching(self._address, list(passed))
        if found:
            self._is_passed = True
            self._slots = [found] * count
            return
        who = self._plans.identity
        owner = None if who is None else (who.uid, who.gid)
        patient_until = time.monotonic() + (_TAKEOVER_TIMEOUT if is_takeover else 0)
        while True:
            try:
                self._slots = listening.bind_each(self._address, count, owner)
                break
            except AddressInUse:
                if time.monotonic() >= patient_until:
                    raise
                time.sleep(_TAKEOVER_INTERVAL)
        self._settle(self._address)

    def _settle(self, address: ListenAddress) -> None:
        first = self._slots[0][0].getsockname()
        if isinstance(first, tuple):
            # With port 0, the same one is listened on again after `close`.
            self._address = ListenAddress(address.host, first[1], "", address.is_secure)

    @property
    def is_open(self) -> bool:
        """Whether the worker is listened for."""
        return bool(self._slots)

    @property
    def removed(self) -> str:
        """The path of its unix socket, if somebody has removed it; else empty."""
        if self._is_passed or not self._slots or self._address is None or not self._address.path:
            return ""
        return "" if os.path.lexists(self._address.path) else self._address.path

    def renew(self) -> None:
        """
        Make the unix socket that was removed anew, for the processes that are started from now on.

        Raises:
            ConfigError: It cannot be listened on, and why; what there was goes on.
        """
        old = self._slots
        self.open()
        for sock in old[0]:
            # The processes that have copies go on with the clients that have found it.
            sock.close()

    @property
    def is_shared(self) -> bool:
        """Whether its processes share sockets."""
        return len(self._slots) < 2 or self._slots[0] is self._slots[1]

    @property
    def descriptors(self) -> list[list[int]]:
        """The descriptors of the sockets, for each process."""
        return [[sock.fileno() for sock in sockets] for sockets in self._slots]

    @property
    def urls(self) -> list[str]:
        """Where clients connect to."""
        is_secure = self._settings is not None and self._settings.contexts is not None
        first = self._slots[0] if self._slots else []
        return [listening.url_of(sock, is_secure=is_secure) for sock in first]

    def close(self) -> None:
        """Listen no more; what systemd gave us stays open, as it is not ours to close."""
        if self._is_passed:
            return
        with contextlib.suppress(OSError):
            for sockets in self._slots:
                listening.release(sockets)
        self._slots = []
