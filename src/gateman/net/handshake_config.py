"""What all handshakes of one worker share."""

from collections.abc import Callable

from ..connection import ConnectionLink
from ..http.client_address import TrustedProxies
from ..http.response import Response
from ..request import Request
from ..tls.contexts import TlsContexts
from .admission import Admission
from .connection_events import ConnectionContext


class HandshakeConfig:
    """
    How one worker treats those who knock; shared by all its connections.

    Attributes:
        wiring: The worker's wiring.
        worker: What ``connection.worker`` is.
        admission: Counts who comes in.
        allowed_origins: As :mod:`gateman.http.origins` reads them; ``None`` for any.
        subprotocols: What the worker speaks, in its order of preference.
        trusted_proxies: Whose word on the client's address is believed.
        contexts: The TLS contexts; ``None`` for a plain port.
        answer_plain: Answers a request that is no handshake.
        strangers: Those who are told that they may not come in, and are still there.
    """

    __slots__ = (
        "_last_id",
        "_told",
        "admission",
        "allowed_origins",
        "answer_plain",
        "context",
        "contexts",
        "rejected",
        "subprotocols",
        "trusted_proxies",
        "worker",
    )

    def __init__(
        self,
        context: ConnectionContext,
        worker: object,
        *,
        admission: Admission,
        allowed_origins: frozenset[str] | None,
        subprotocols: tuple[str, ...],
        trusted_proxies: TrustedProxies,
        contexts: TlsContexts | None,
        answer_plain: Callable[[Request], Response],
    ) -> None:
        self.context = context
        self.worker = worker
        self.admission = admission
        self.allowed_origins = allowed_origins
        self.subprotocols = subprotocols
        self.trusted_proxies = trusted_proxies
        self.contexts = contexts
        self.answer_plain = answer_plain
        self.rejected: set[ConnectionLink] = set()
        self._last_id = 0
        self._told: set[str] = set()

    def next_id(self) -> int:
        """Number the next connection."""
        self._last_id += 1
        return self._last_id

    def is_first(self, cause: str) -> bool:
        """Tell whether a hint has not been given yet; one that peers can bring about for ever."""
        is_first = cause not in self._told
        self._told.add(cause)
        return is_first
