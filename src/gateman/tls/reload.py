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

INTERVAL = 3.0  # seconds
"""Between two checks. Files are reloaded when two checks in a row have found the same."""

_Marks = tuple[tuple[int, int, int] | None, ...]


class CertificateReload:
    def __init__(self, name: str, contexts: TlsContexts, *, warns_of_dates: bool = False) -> None:
        self._name = name
        self._contexts = contexts
        self._warns_of_dates = warns_of_dates
        self._warned_at = time.time()
        self._seen = self._settled = _marks(contexts.files)

    def look(self, now: float | None = None) -> None:
        """Reload the files if they have changed, and not since the last call."""
        now = time.time() if now is None else now
        if self._warns_of_dates and now - self._warned_at >= SECONDS_PER_DAY:
            self._warned_at = now
            for warning in self._contexts.warnings_of_dates(now=now):
                logger.warning("%s: %s", self._name, warning)
        marks = _marks(self._contexts.files)
        if marks != self._settled and marks == self._seen:
            self.reload()
        self._seen = marks

    def reload(self) -> None:
        """Reload the files now; log what is wrong with them."""
        # Before they are read: what changes meanwhile is looked at once more.
        self._seen = self._settled = _marks(self._contexts.files)
        try:
            self._contexts.reload(now=time.time())
        except ConfigError as error:
            logger.error("%s: the old certificate stays in service: %s", self._name, error)
            return
        self._seen = self._settled = _marks(self._contexts.files)
        logger.info("%s: the certificate files were read anew", self._name)
        for warning in self._contexts.warnings:
            logger.warning("%s: %s", self._name, warning)


def _marks(files: tuple[Path, ...]) -> _Marks:
    """Return what changes with each version of the files; links are followed."""
    marks: list[tuple[int, int, int] | None] = []
    for path in files:
        try:
            found = path.stat()
        except OSError:
            marks.append(None)
        else:
            marks.append((found.st_ino, found.st_mtime_ns, found.st_size))
    return tuple(marks)
