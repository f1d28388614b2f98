"""
The process that orders certificates: ``python -m gateman.acme.child``, a job on its standard input.

The master starts it, and again when its report says so; it ends each time. It alone reads what
authorities answer. What is to be done is decided by :mod:`.policy` and done by :mod:`.steps`.
"""

import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from ..findings.acme import ACME_STORAGE
from .job import Job, LogLine, Report
from .overview import describe
from .readiness import why_not_ready
from .state import CertificateStatus
from .steps import CertificateSteps, Surroundings
from .storage import Storage, StorageBusy

_MAX_JOB_SIZE = 1 << 20  # bytes

# Until somebody else's order has ended, and what could not be written can be.
_BUSY_PAUSE, _STORAGE_PAUSE = 60.0, 300.0  # seconds

# After an error of gateman's own.
_FAULT_PAUSE = 3600.0  # seconds


def run(job: Job, *, clock: Callable[[], float] = time.time) -> Report:
    """Do what is to be done for all certificates of one storage."""
    lines: list[LogLine] = []
    certificates: tuple[CertificateStatus, ...] = ()
    orders: Counter[tuple[str, str]] = Counter()

    def log(level: Literal["info", "warning", "error"], text: str) -> None:
        lines.append(LogLine(level, text))

    storage = Storage(Path(job.certificates[0].storage))
    try:
        with storage.locked():
            storage.clear_challenges()
            surroundings = Surroundings(
                storage=storage,
                has_http=any(one.http for one in job.certificates),
                why_not_ready=partial(why_not_ready, job.bus),
                is_first=job.is_first,
                clock=clock,
                log=log,
                orders=orders,
            )
            next_at = min(_run_all(job, surroundings))
        certificates = describe(job.certificates)
    except StorageBusy:
        if job.is_forced:
            log("warning", f"acme: another process is ordering with {storage.folder}; try again")
        next_at = clock() + _BUSY_PAUSE
        certificates = describe(job.certificates)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        finding = ACME_STORAGE.found(folder=storage.folder, reason=reason)
        log("error", f"acme: {finding.line}")
        next_at = clock() + _STORAGE_PAUSE
    return Report(
        next_at=next_at,
        log=tuple(lines),
        certificates=certificates,
        orders=tuple((path, outcome, count) for (path, outcome), count in orders.items()),
    )


def _run_all(job: Job, surroundings: Surroundings) -> list[float]:
    moments = []
    for options in job.certificates:
        others = [
            one
            for one in job.certificates
            if one.id != options.id and one.directory == options.directory
        ]
        steps = CertificateSteps(options, others, surroundings)
        try:
            moments.append(steps.run(is_forced=job.is_forced))
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - it is printed
            # Our own fault with one certificate must not keep the others from being renewed.
            traceback.print_exc()
            moments.append(surroundings.clock() + _FAULT_PAUSE)
    return moments


def main() -> int:
    """Read a job, and write the report as one line."""
    data = sys.stdin.buffer.read(_MAX_JOB_SIZE)
    try:
        job = msgspec.json.decode(data, type=Job)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        print(f"gateman.acme.child: its input is not a job: {error}", file=sys.stderr)  # noqa: T201
        return 2
    sys.stdout.buffer.write(msgspec.json.encode(run(job)) + b"\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
