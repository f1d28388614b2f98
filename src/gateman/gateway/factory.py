"""Makes the service of a declared worker, gateway or business worker."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..config.base import BaseWorker
from ..config.worker import Worker, settings_of
from ..runtime.process import AnyService
from ..runtime.timer import add_timers
from .business import BusinessWorker
from .gateway import Gateway

if TYPE_CHECKING:
    from ..runtime.measurements import Measurements


def service_maker(
    declared: BaseWorker, *, now: float, measurements: "Measurements | None" = None
) -> Callable[[], AnyService]:
    """Check the options together, and return a function that makes the service."""
    match declared:
        case Gateway():
            from .gateway_service import GatewayService

            settings = settings_of(declared, now=now)
            kind: type[GatewayService] = GatewayService
            if settings.client_protocol is not None:
                # Imported here: plain clients do not need it.
                from .gateway_client_service import GatewayClientService

                kind = GatewayClientService
            return lambda: kind(settings, {}, declared, declared.connections, measurements)
        case Worker():
            from ..runtime.service_maker import service_maker as service_maker_of_workers

            return service_maker_of_workers(declared, now=now, measurements=measurements)
        case BusinessWorker():
            from .business_service import BusinessService

            def make() -> AnyService:
                add_timers(declared)
                return BusinessService(declared, declared.timeouts, measurements)

            return make
        case _:
            raise TypeError(f"nothing serves a {type(declared).__name__}")
