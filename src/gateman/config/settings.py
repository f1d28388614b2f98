"""What a user declared of one worker, checked: what its service is made from."""

from dataclasses import dataclass

from ..http.client_address import TrustedProxies
from ..listen import ListenAddress
from ..options import Limits, SlowConsumer, Timeouts
from ..tls.contexts import TlsContexts
from ..websocket.deflate import Deflate


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """
    What a user declared of one worker, checked.

    Attributes:
        name: For people.
        listen: Where.
        contexts: The TLS contexts; ``None`` for a plain port.
        limits: The limits.
        timeouts: The timeouts.
        trusted_proxies: Whose word on the client's address is believed.
        allowed_origins: As :mod:`gateman.http.origins` reads them; ``None`` for any.
        subprotocols: In order of preference.
        health_path: Where health checks are answered; ``None`` for nowhere.
        has_test_page: Whether ``/`` is the test page.
        slow_consumer: What happens to messages for a peer that does not read.
        compression: What permessage-deflate is negotiated with; ``None`` for never.
        requires_proxy: Whether every connection begins with a PROXY header.
    """

    name: str
    listen: ListenAddress
    contexts: TlsContexts | None
    limits: Limits
    timeouts: Timeouts
    trusted_proxies: TrustedProxies
    allowed_origins: frozenset[str] | None
    subprotocols: tuple[str, ...]
    health_path: str | None
    has_test_page: bool
    slow_consumer: SlowConsumer
    compression: Deflate | None
    requires_proxy: bool
