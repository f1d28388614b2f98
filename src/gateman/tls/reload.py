"""
Reloads certificate files that have changed.

Only new connections get them. While the files do not match, such as a new certificate with the old
key, the certificates in service stay.
"""

import time
from pathlib import Path

from ..errors import ConfigError
from ..log import logger
from .certificate_findings import SECONDS_PER_DAY
from .contexts import TlsContexts
from .issued import Mark, mark_of

# Between two looks. Files are reloaded when two looks in a row have found the same.
_INTERVAL = 3.0  # seconds

# While clients wait for a certificate that is being issued.
_PENDING_INTERVAL = 0.25  # seconds

_Marks = tuple[Mark | None, ...]


class CertificateReload:
    def __init__(self, name: str, contexts: TlsContexts, *, warns_of_dates: bool = False) -> None:
        self._name = name
        self._contexts = contexts
        self._warns_of_dates = warns_of_dates
        self._warned_at = time.time()
        self._seen = self._settled = _marks(contexts.files)
        # How often files were reloaded, and how often that has failed.
        self.succeeded = self.failed = 0
        self._take_up(time.time())

    @property
    def interval(self) -> float:
        """Seconds until the next look."""
        return _PENDING_INTERVAL if self._contexts.is_pending else _INTERVAL

    def look(self, now: float | None = None) -> None:
        """Reload the files if they have changed, and not since the last call."""
        now = time.time() if now is None else now
        self._take_up(now)
        if self._warns_of_dates and now - self._warned_at >= SECONDS_PER_DAY:
            self._warned_at = now
            for warning in self._contexts.warnings_of_dates(now=now):
                logger.warning("%s: %s", self._name, warning)
        marks = _marks(self._contexts.files)
        if marks != self._settled and marks == self._seen:
            self.reload()
        self._seen = marks

    def _take_up(self, now: float, *, is_anew: bool = False) -> None:
        # At once, without waiting for them to settle: they are replaced as a whole.
        for found in self._contexts.take_up(now=now, is_anew=is_anew):
            if found.problem:
                self.failed += 1
                logger.error("%s: %s", self._name, found.problem)
            else:
                self.succeeded += 1
                logger.info("%s: the certificate in %s is in service", self._name, found.path)

    def reload(self) -> None:
        """Reload the files now; log what is wrong with them."""
        # Before they are read: what changes meanwhile is looked at once more.
        self._seen = self._settled = _marks(self._contexts.files)
        try:
            self._contexts.reload(now=time.time())
        except ConfigError as error:
            self.failed += 1
            logger.error("%s: the old certificate stays in service: %s", self._name, error)
            return
        self._seen = self._settled = _marks(self._contexts.files)
        self._take_up(time.time(), is_anew=True)
        self.succeeded += 1
        logger.info("%s: the certificate files were read anew", self._name)
        for warning in self._contexts.warnings:
            logger.warning("%s: %s", self._name, warning)


def _marks(files: tuple[Path, ...]) -> _Marks:
    """Return what changes with each version of the files; links are followed."""
    return tuple(map(mark_of, files))
