"""Watches the certificates of a process, and says in the log what is wrong with them."""

import asyncio

from ..log import logger
from ..tls.contexts import TlsContexts
from ..tls.reload import CertificateReload
from . import privileges


class CertificateWatch:
    """Looks at the files again and again; the first process of a worker logs the warnings."""

    def __init__(
        self, service: str, contexts: TlsContexts, *, user: str | int | None, is_first: bool
    ) -> None:
        self.certificate_reload = CertificateReload(service, contexts, warns_of_dates=is_first)
        self._schedule()
        if is_first:
            _log_warnings(service, contexts, user)

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_later(self.certificate_reload.interval, self._look)

    def _look(self) -> None:
        self.certificate_reload.look()
        self._schedule()


def _log_warnings(service: str, contexts: TlsContexts, user: str | int | None) -> None:
    for warning in contexts.warnings:
        logger.warning("%s: %s", service, warning)
    for note in contexts.notes:
        logger.info("%s: %s", service, note)
    for path in privileges.unreadable(contexts.files):
        logger.warning(
            "%s: user %s may not read %s: when it is renewed, only `reload` loads it",
            service,
            user,
            path,
        )
