"""A connection of a worker with an HTTP application that arrives while the doctor looks."""

from .accepted_socket import PeerInfo
from .arrivals import Arrivals
from .handshake_config import HandshakeConfig
from .http_application import HttpApplication
from .http_connection import HttpConnection
from .watched_handshake import Watched


class WatchedHttpConnection(Watched, HttpConnection):
    """Tells the doctor what becomes of it."""

    def __init__(
        self,
        config: HandshakeConfig,
        peer_info: PeerInfo,
        application: HttpApplication,
        arrivals: Arrivals,
    ) -> None:
        HttpConnection.__init__(self, config, peer_info, application)
        self._watch(arrivals)

    def response_started(self, status: object, headers: list[tuple[bytes, bytes]]) -> None:
        super().response_started(status, headers)
        self._arrived(status if isinstance(status, int) else None)
