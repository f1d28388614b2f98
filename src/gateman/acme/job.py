"""
What the master and the process that orders say to each other, one JSON text each way. PURE.

The master writes a :class:`Job` to its standard input, and reads one line, a :class:`Report`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from .options import AcmeOptions
from .state import CertificateStatus

# Of a certificate that fails, it has about 2 KiB.
MAX_REPORT_SIZE = 1 << 20  # bytes; a longer line is not read


class Job(msgspec.Struct, frozen=True, kw_only=True):
    certificates: tuple[AcmeOptions, ...]  # all of one storage
    is_forced: bool = False  # order now, even if none is due
    is_first: bool = False  # of a service that has started: what it waits for is logged
    bus: str | Mapping[str, Any] | None = None  # as a worker declares it; may hold a password


class LogLine(msgspec.Struct, frozen=True):
    level: Literal["info", "warning", "error"]
    text: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    next_at: float  # when to start the process again; seconds since 1970
    log: tuple[LogLine, ...] = ()
    certificates: tuple[CertificateStatus, ...] = ()  # for `status`; see `overview.describe`
    orders: tuple[tuple[str, str, int], ...] = ()  # path, "success" or "failure", and how many


# Authorities sign within a minute; the rest is for their queues, and for a rehearsal before.
_ORDER_TIME = 300.0  # seconds


def order_time(options: AcmeOptions) -> float:
    """Return the seconds after which the order of a certificate fails."""
    dns = options.dns
    commands = 0.0 if dns is None else dns.wait + 2 * dns.timeout * len(options.domains)
    return _ORDER_TIME + commands


def time_limit(job: Job) -> float:
    """Return the seconds after which every order has failed, so that the process ends."""
    return sum(map(order_time, job.certificates))
