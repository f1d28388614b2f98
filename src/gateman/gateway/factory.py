"""Makes the service of a declared worker, gateway or business worker."""

from collections.abc import Callable

from ..config.base import BaseWorker
from ..config.worker import Worker, settings_of
from ..runtime.process import AnyService
from ..runtime.timer import add_timers
from .business import BusinessWorker
from .gateway import Gateway


def service_maker(declared: BaseWorker, *, now: float) -> Callable[[], AnyService]:
    """Check the options together, and return a function that makes the service."""
    match declared:
        case Gateway():
            from .gateway_service import GatewayService

            settings = settings_of(declared, now=now)
            return lambda: GatewayService(settings, declared, declared.connections)
        case Worker():
            from ..runtime import worker_service

            return worker_service.service_maker(declared, now=now)
        case BusinessWorker():
            from .business_service import BusinessService

            def make() -> AnyService:
                add_timers(declared)
                return BusinessService(declared, declared.timeouts)

            return make
        case _:
            raise TypeError(f"nothing serves a {type(declared).__name__}")
