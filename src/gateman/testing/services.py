"""The services of production, which a test may also end as if their process were killed."""

import copy
import dataclasses
import time
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ..config.base import BaseWorker
from ..config.settings import WorkerSettings
from ..config.worker import Worker, settings_of
from ..errors import ConfigError
from ..gateway.business import BusinessWorker
from ..gateway.business_service import BusinessService
from ..gateway.gateway import Gateway
from ..gateway.gateway_service import GatewayService
from ..http.client_address import UNIX, TrustedProxies
from ..listen import ListenAddress
from ..options import Timeouts
from ..runtime.worker_service import WorkerService

# Seconds that a killed process takes.
_AT_ONCE = 0.001


class MortalWorker(WorkerService):
    """A worker's service."""

    is_dead = False

    def die(self) -> None:
        """Call no callback any more, and end all connections without a Close; then stop it."""
        self.is_dead = True
        _silence(self._functions)
        self.settings = replace(self.settings, timeouts=_hurried(self.settings.timeouts))
        for connection in list(self._present):
            connection.destroy()


class MortalGateway(MortalWorker, GatewayService):
    """A gateway's service."""

    async def _wait_until_settled(self, seconds: float) -> None:
        if not self.is_dead:
            await super()._wait_until_settled(seconds)


class MortalBusiness(BusinessService):
    """A business worker's service."""

    def die(self) -> None:
        """Call no callback any more; then stop it."""
        _silence(self._worker.callbacks)
        self._timeouts = _hurried(self._timeouts)


MortalService = MortalWorker | MortalBusiness


def make_service(worker: BaseWorker, path: Path) -> MortalService:
    """Check a worker's options together, and make its service; clients connect to ``path``."""
    match worker:
        case Gateway():
            settings = _settings(worker, path)
            return _kinds_of(worker)[1](settings, {}, worker, worker.connections)
        case Worker():
            settings = _settings(worker, path)
            kind = _kinds_of(worker)[0]
            return kind(settings, worker.callbacks, worker, worker.connections)
        case BusinessWorker():
            return MortalBusiness(worker, worker.timeouts)
        case _:
            raise ConfigError(f"{worker!r} is not a worker", "declare a Worker, and give that")


def _settings(worker: Worker, path: Path) -> WorkerSettings:
    proxies = worker.trusted_proxies
    # Without TLS: a test needs no certificate.
    plain = copy.copy(worker)
    protocol = ListenAddress.parse(worker.listen).protocol
    plain.listen, plain.transport = f"{protocol}+unix://{path}", "tcp"
    plain.context = plain.acme = None
    settings = settings_of(plain, now=time.time())
    return replace(
        settings,
        requires_proxy=True,
        trusted_proxies=(
            settings.trusted_proxies if proxies is None else TrustedProxies([*proxies, UNIX])
        ),
    )


def _kinds_of(worker: Worker) -> tuple[type[MortalWorker], type[MortalGateway]]:
    """Return what serves a worker, or a gateway, with its kind of clients."""
    if worker.client_protocol is None:
        return MortalWorker, MortalGateway
    # Imported here: most tests have plain clients.
    from .client_services import MortalClientGateway, MortalClientWorker

    return MortalClientWorker, MortalClientGateway


def _hurried(timeouts: Timeouts) -> Timeouts:
    return dataclasses.replace(timeouts, shutdown=_AT_ONCE)


def _silence(functions: dict[str, Any]) -> None:
    functions.update(dict.fromkeys(functions, _nothing))


def _nothing(*_args: object) -> None:
    """Replace a callback of a process that is dead."""
