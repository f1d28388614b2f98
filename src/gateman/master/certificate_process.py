"""
The process that orders the certificates of one storage, and ends each time.

The master starts it, gives it a job and reads one bounded report, which says when to start it
again; it knows nothing of ACME itself. :mod:`.certificate_main` is its program.
"""

import logging
import os
import subprocess
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import IO

import msgspec
from msgspec.structs import replace

from ..acme.job import MAX_REPORT_SIZE, Job, Report, time_limit
from ..acme.options import AcmeOptions
from ..acme.overview import pending
from ..acme.state import CertificateStatus
from ..findings.acme import ACME_PROCESS_FAILED
from ..log import logger
from .privileges import Identity
from .spawn import end, not_started, program, signals_blocked

# A report that says "at once", or nothing for years, is not believed.
_MIN_PAUSE, _MAX_PAUSE = 1.0, 86_400.0  # seconds

# After a process that did not report, one failure after the other.
_FAILURE_PAUSES = (60.0, 300.0, 1800.0, 3600.0)  # seconds

# It ends by itself at the limit of its job, when the order that then runs has been taken back.
_KILL_AFTER = 2  # times that limit

_STOP_TIMEOUT = 2.0  # seconds


def pause_after(report: Report | None, failures: int, *, now: float) -> float:
    """Return the seconds until the next start; ``now`` is in seconds since 1970."""
    if report is None:
        return _FAILURE_PAUSES[min(failures, len(_FAILURE_PAUSES)) - 1]
    return min(max(report.next_at - now, _MIN_PAUSE), _MAX_PAUSE)


_Request = tuple[Job, Callable[[Report | None], None]]


class CertificateProcess:
    def __init__(self, job: Job, identity: Identity | None) -> None:
        self.job = job
        # Files are not read here: what is in them, the next report says.
        self._certificates = _pending(job.certificates)
        # By path and outcome.
        self.order_counts: Counter[tuple[str, str]] = Counter()
        # Orders that were requested, and the one that runs.
        self._requests: deque[_Request] = deque()
        self._request: _Request | None = None
        self._given = job
        self._identity = identity
        self._process: subprocess.Popen[bytes] | None = None
        self._report: IO[bytes] | None = None
        self._failures = 0
        # When to call `tick`, in monotonic seconds; None for not before `begin`.
        self.due_at: float | None = None

    def begin(self) -> None:
        """Start it now, or at its end if it runs."""
        self.due_at = time.monotonic()

    def declare(self, certificates: tuple[AcmeOptions, ...]) -> None:
        """Order these certificates from now on."""
        if not certificates or certificates == self.job.certificates:
            return
        self.job = replace(self.job, certificates=certificates)
        self._certificates = _pending(certificates)
        if self._process is None:
            self.begin()

    @property
    def certificates(self) -> tuple[CertificateStatus, ...]:
        """Those of the job, as of the last report."""
        return tuple(self._certificates.values())

    def renew(
        self, certificates: Sequence[AcmeOptions], done: Callable[[Report | None], None]
    ) -> None:
        """Order certificates now, or when the process that runs has ended; `done` gets a report."""
        job = replace(self.job, certificates=tuple(certificates), is_forced=True)
        self._requests.append((job, done))
        if self._process is None:
            self.due_at = time.monotonic()

    def tick(self, now: float) -> None:
        """Start the process if that is due, or kill it if it takes too long."""
        if self.due_at is None or now < self.due_at:
            return
        if self._process is not None:
            logger.error("%s", ACME_PROCESS_FAILED.found(how="is stuck, and is killed").line)
            self._process.kill()
            self.due_at = None
            return
        try:
            self._start(now)
        except OSError as error:
            logger.error("%s", ACME_PROCESS_FAILED.found(how=not_started(error)).line)
            self._ended(None, now)

    def _start(self, now: float) -> None:
        self._request = self._requests.popleft() if self._requests else None
        self._given = self._request[0] if self._request else self.job
        self.due_at = now + _KILL_AFTER * time_limit(self._given)
        job, report = _memory(), _memory()
        try:
            job.write(msgspec.json.encode(self._given))
            job.seek(0)
            with signals_blocked():
                self._process = subprocess.Popen(  # noqa: S603 - this package
                    _command(self._identity), stdin=job, stdout=report
                )
        except OSError:
            report.close()
            raise
        finally:
            job.close()
        self._report = report

    def reap(self, now: float) -> None:
        """Read the report if the process has ended."""
        if self._process is None or (code := self._process.poll()) is None:
            return
        self._process = None
        found = self._read_report(code)
        if found is None:
            how = f"has ended with {code}, and without a report"
            logger.error("%s", ACME_PROCESS_FAILED.found(how=how).line)
        self._ended(found, now)

    def _ended(self, report: Report | None, now: float) -> None:
        self._failures = 0 if report is not None else self._failures + 1
        self.due_at = now + pause_after(report, self._failures, now=time.time())
        if report is not None:
            self._certificates.update((one.path, one) for one in report.certificates)
            for path, outcome, count in report.orders:
                self.order_counts[path, outcome] += count
        for line in report.log if report is not None else ():
            logger.log(getattr(logging, line.level.upper()), "%s", line.text)
        request, self._request = self._request, None
        if request is not None:
            request[1](report)
        if self._requests or self._given is not self.job:
            # A request is for some of the certificates, and what is declared may have changed: only
            # the whole job says what comes next.
            self.due_at = now
        elif report is not None and self.job.is_first:
            self.job = replace(self.job, is_first=False)

    def _read_report(self, code: int) -> Report | None:
        if self._report is None:
            return None
        with self._report as file:
            # The process has moved the position.
            file.seek(0)
            data = file.read(MAX_REPORT_SIZE)
        try:
            return msgspec.json.decode(data, type=Report) if code == 0 else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def close(self) -> None:
        """End the process; what it has begun is done anew after the next start."""
        if self._process is None:
            return
        self._process.terminate()
        end(self._process, _STOP_TIMEOUT)
        if self._report is not None:
            self._report.close()


def _pending(certificates: Iterable[AcmeOptions]) -> dict[str, CertificateStatus]:
    return {one.path: one for one in map(pending, certificates) if one is not None}


def _memory() -> IO[bytes]:
    """Make a file in memory: neither side waits for the other, as with a pipe."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("gateman"), "w+b")
    return tempfile.TemporaryFile()


def _command(identity: Identity | None) -> list[str]:
    user = [] if identity is None else [msgspec.json.encode(identity).decode()]
    return program("from gateman.master.certificate_main import main; sys.exit(main())", *user)
