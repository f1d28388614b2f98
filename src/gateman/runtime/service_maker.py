"""Makes the service of a declared worker: of plain clients, or of SDK clients."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..config.worker import Worker, settings_of
from .timer import add_timers
from .worker_service import WorkerService

if TYPE_CHECKING:
    from .measurements import Measurements


def service_maker(
    worker: Worker, *, now: float, measurements: "Measurements | None" = None
) -> Callable[[], WorkerService]:
    """Check the worker's options together, and return a function that makes its service."""
    settings = settings_of(worker, now=now)

    def make() -> WorkerService:
        add_timers(worker)
        kind = WorkerService
        if settings.client_protocol is not None:
            # Imported here: plain clients do not need it.
            from .client_service import ClientService

            kind = ClientService
        return kind(settings, worker.callbacks, worker, worker.connections, measurements)

    return make
