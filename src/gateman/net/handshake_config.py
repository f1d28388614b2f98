"""What all handshakes of one worker share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..connection_interfaces import ConnectionLink
from ..http.client_address import TrustedProxies
from ..http.response import Response
from ..request import Request
from .admission import Admission
from .connection_events import ConnectionContext
from .send_buffer import SendBuffer

if TYPE_CHECKING:
    from ..tls.contexts import TlsContexts

PROTOBUF_SUBPROTOCOL = "centrifuge-protobuf"
"""What Centrifuge's SDKs offer, if they do not speak JSON."""


class HandshakeConfig:
    """The configuration of one worker's handshakes."""

    __slots__ = (
        "_last_id",
        "_noticed_causes",
        "admission",
        "allowed_origins",
        "answer_plain",
        "context",
        "contexts",
        "make_send_buffer",
        "rejected",
        "report",
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
        contexts: "TlsContexts | None",
        answer_plain: Callable[[Request], Response],
        make_send_buffer: Callable[[Any, ConnectionContext], SendBuffer] = SendBuffer,
        report: Callable[[int, float], None] | None = None,
    ) -> None:
        self.context = context
        self.worker = worker
        self.admission = admission
        self.allowed_origins = allowed_origins
        self.subprotocols = subprotocols
        self.trusted_proxies = trusted_proxies
        self.contexts = contexts
        self.answer_plain = answer_plain
        self.make_send_buffer = make_send_buffer
        # Is told the status of each answer to a handshake, and its deadline; None for nobody.
        self.report = report
        # Connections that are rejected and get an answer that says so.
        self.rejected: set[ConnectionLink] = set()
        self._last_id = 0
        self._noticed_causes: set[str] = set()

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def is_first(self, cause: str) -> bool:
        """Return whether this is the first call for ``cause``: clients could repeat it for ever."""
        is_first = cause not in self._noticed_causes
        self._noticed_causes.add(cause)
        return is_first
