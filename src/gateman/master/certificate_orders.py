"""
The master's part of certificates by ACME: storages, the listeners of HTTP-01, and when to order.

Only a service with ``acme`` imports it.
"""

import socket
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import to_builtins

from ..acme.job import Job, Report
from ..acme.options import AcmeOptions, check_together
from ..acme.storage import Storage
from ..acme.storage_folder import why_ephemeral
from ..errors import ConfigError
from ..findings.acme import ACME_STORAGE_EPHEMERAL
from ..listen import ListenAddress
from ..log import logger
from ..net import socket_activation
from ..net import sockets as listening
from .certificate_process import CertificateProcess
from .listeners import bind_each
from .plan import WorkerPlan

# A worker that does not start must not keep the certificates of the others from being renewed.
_PATIENCE = 120.0  # seconds


class CertificateOrders:
    """The orders of a service; a ConfigError says why they cannot work."""

    def __init__(
        self,
        plans: Sequence[WorkerPlan],
        passed: Sequence[socket.socket] = (),
        *,
        is_takeover: bool = False,
    ) -> None:
        self._begin_at: float | None = time.monotonic() + _PATIENCE
        self._declared = list(map(_certificates, plans))
        # By the index of the worker: what its new processes declare.
        self._changed: dict[int, tuple[AcmeOptions, ...]] = {}
        self.processes = [_process(storage, found) for storage, found in _by_storage(plans)]
        # The sockets of each address, and whether systemd has passed and owns them.
        self._sockets: dict[str, tuple[list[socket.socket], bool]] = {}
        self._addresses = [_http_addresses(plan) for plan in plans]
        try:
            for address in dict.fromkeys(one for found in self._addresses for one in found):
                self._sockets[address] = _bind(address, passed, is_takeover=is_takeover)
        except ConfigError:
            self.close()
            raise

    def http_descriptors(self, worker: int) -> list[int]:
        """The listening sockets of HTTP-01 for the processes of a worker."""
        return [
            sock.fileno()
            for address in self._addresses[worker]
            for sock in self._sockets[address][0]
        ]

    @property
    def descriptors(self) -> list[int]:
        return [sock.fileno() for sockets, _ in self._sockets.values() for sock in sockets]

    def begin(self) -> None:
        """Order what is due, as the processes serve now, and can answer challenges."""
        if self._begin_at is not None:
            self._begin_at = None
            for process in self.processes:
                process.begin()

    def declare(self, worker: int, certificates: Sequence[Any]) -> None:
        """Take what a process declares that may have loaded another version of the script."""
        try:
            found = msgspec.convert(certificates, tuple[AcmeOptions, ...])
        except msgspec.ValidationError as error:
            logger.error("acme: a process has declared certificates that are none: %s", error)
            return
        if found != self._declared[worker]:
            self._changed[worker] = found

    def apply(self) -> None:
        """Order what has been declared since; the processes serve it now."""
        if not self._changed:
            return
        for worker, certificates in self._changed.items():
            self._declared[worker] = certificates
        self._changed.clear()
        everything = dict.fromkeys(one for found in self._declared for one in found)
        for process in self.processes:
            folder = process.job.certificates[0].storage
            same = tuple(one for one in everything if one.storage == folder)
            try:
                check_together(same)
            except ConfigError as error:
                logger.error("acme: %s", error)
            else:
                process.declare(same)

    def described(self, names: Container[str] | None = None) -> list[dict[str, Any]]:
        """Describe the certificates for `status`; only those with one of the names."""
        return [
            to_builtins(one)
            for process in self.processes
            for one in process.certificates
            if names is None or any(name in names for name in one.names)
        ]

    def order_counts(self) -> Counter[tuple[str, str]]:
        """Return how many orders have ended, by the certificate's path and the outcome."""
        return sum((one.order_counts for one in self.processes), Counter())

    def renew(self, name: str, answer: Callable[..., None]) -> None:
        """Order the certificates with a name, or all of them, now; answer at the end."""
        chosen = [
            (process, [one for one in process.job.certificates if not name or name in one.domains])
            for process in self.processes
        ]
        waiting = [process for process, certificates in chosen if certificates]
        names = {one for _, certificates in chosen for each in certificates for one in each.domains}
        lines: list[str] = []

        def take(process: CertificateProcess, report: Report | None) -> None:
            waiting.remove(process)
            if report is None:
                lines.append("acme: the process that orders has failed: see the log")
            else:
                lines.extend(line.text for line in report.log)
            if not waiting:
                answer(lines=lines, certificates=self.described(names))

        for process, certificates in chosen:
            if certificates:
                process.renew(certificates, partial(take, process))
        if not names:
            answer(error=f"no certificate of acme is for {name}.")

    @property
    def due_at(self) -> float | None:
        """When to call `tick`, in monotonic seconds; ``None`` for never."""
        due = (self._begin_at, *(one.due_at for one in self.processes))
        return min((one for one in due if one is not None), default=None)

    def tick(self, now: float) -> None:
        if self._begin_at is not None and now >= self._begin_at:
            self.begin()
        for process in self.processes:
            process.tick(now)

    def reap(self, now: float) -> None:
        for process in self.processes:
            process.reap(now)

    def close(self) -> None:
        for process in self.processes:
            process.close()
        for sockets, is_passed in self._sockets.values():
            if not is_passed:
                listening.release(sockets)


def _by_storage(plans: Sequence[WorkerPlan]) -> Iterator[tuple[Path, list[WorkerPlan]]]:
    found: dict[str, list[WorkerPlan]] = {}
    for plan in plans:
        for one in _certificates(plan):
            same = found.setdefault(one.storage, [])
            if plan not in same:
                same.append(plan)
    return ((Path(folder), same) for folder, same in found.items())


def _process(folder: Path, plans: Sequence[WorkerPlan]) -> CertificateProcess:
    """Prepare a storage, and return the process that orders for it."""
    first = plans[0]
    for plan in plans:
        if plan.identity != first.identity:
            raise ConfigError(
                f"workers of different users have certificates in {folder}, which only one of them"
                " can read",
                "give each 'storage' in acme, or the same user",
            )
    certificates = [
        one for plan in plans for one in _certificates(plan) if one.storage == str(folder)
    ]
    uid, gid = (first.identity.uid, first.identity.gid) if first.identity else (None, None)
    Storage.prepare(folder, uid=uid, gid=gid)
    reason = why_ephemeral(folder)
    if reason is not None:
        logger.warning("%s", ACME_STORAGE_EPHEMERAL.found(folder=folder, reason=reason).line)
    logger.info("acme: keys and certificates are in %s", folder)
    buses = (plan.worker.bus for plan in plans if plan.worker.bus is not None)
    bus = next(buses, None)
    job = Job(certificates=tuple(dict.fromkeys(certificates)), bus=bus, is_first=True)
    return CertificateProcess(job, first.identity)


def _certificates(plan: WorkerPlan) -> tuple[AcmeOptions, ...]:
    return () if plan.settings is None else plan.settings.acme


def _http_addresses(plan: WorkerPlan) -> list[str]:
    return list(dict.fromkeys(one.http for one in _certificates(plan) if one.http))


def _bind(
    address: str, passed: Sequence[socket.socket], *, is_takeover: bool
) -> tuple[list[socket.socket], bool]:
    parsed = ListenAddress.parse(f"websocket://{address}")
    found = socket_activation.matching(parsed, list(passed))
    if found:
        return found, True
    try:
        # One list, which all processes share.
        [sockets] = bind_each(parsed, 1, is_takeover=is_takeover)
    except ConfigError as error:
        raise ConfigError(f"acme.http: {error.problem}", error.remedy) from None
    return sockets, False
