"""Makes the services that tests run, of workers that are declared as for production."""

import copy
import time
from pathlib import Path

from msgspec.structs import replace

from ..config.base import BaseWorker
from ..config.settings import WorkerSettings
from ..config.worker import Worker, settings_of
from ..errors import ConfigError
from ..gateway.business import BusinessWorker
from ..gateway.gateway import Gateway
from ..http.client_address import UNIX, TrustedProxies
from ..listen import ListenAddress
from .services import MortalBusiness, MortalGateway, MortalService, MortalWorker


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
