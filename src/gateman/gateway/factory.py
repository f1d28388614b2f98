"""From what was declared to what serves it, by its kind."""

from collections.abc import Callable

from ..config.base import BaseWorker
from ..config.worker import Worker, settings_of
from ..runtime.process import AnyService
from ..runtime.timer import add_timers
from .business import BusinessWorker
from .gateway import Gateway


def service_maker(declared: BaseWorker, *, now: float) -> Callable[[], AnyService]:
    """
    Check everything that could not be checked one by one, and tell how to serve it.

    Raises:
        ConfigError: Something declared cannot be.
    """
    match declared:
        case Gateway():
            return _gateway_maker(declared, now)
        case Worker():
            from ..runtime import worker_service

            return worker_service.service_maker(declared, now=now)
        case BusinessWorker():
            return _business_maker(declared)
        case _:
            raise TypeError(f"nothing serves a {type(declared).__name__}")


def _gateway_maker(gateway: Gateway, now: float) -> Callable[[], AnyService]:
    from .gateway_service import GatewayService

    settings = settings_of(gateway, now=now)
    return lambda: GatewayService(settings, gateway, gateway.connections)


def _business_maker(business: BusinessWorker) -> Callable[[], AnyService]:
    from .business_service import BusinessService

    def make() -> AnyService:
        add_timers(business.schedule)
        return BusinessService(business, business.timeouts)

    return make
