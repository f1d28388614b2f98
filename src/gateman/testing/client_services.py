"""The services of SDK clients, which a test may also end as if their process were killed."""

from ..gateway.gateway_client_service import GatewayClientService
from ..runtime.client_service import ClientService
from .services import MortalGateway, MortalWorker


class MortalClientWorker(MortalWorker, ClientService):
    """The service of a worker with SDK clients."""


class MortalClientGateway(MortalGateway, GatewayClientService):
    """The service of a gateway with SDK clients."""
