"""The checked options of a worker, from which its service is made."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ..http.client_address import TrustedProxies
from ..listen import ListenAddress
from ..options import Limits, SlowConsumer, Timeouts
from ..websocket.deflate import Deflate

if TYPE_CHECKING:
    from ..acme.options import AcmeOptions
    from ..clients.channel import Channel
    from ..clients.limits import ClientLimits
    from ..clients.tokens import Tokens
    from ..protocols.base import PacketProtocol
    from ..tls.contexts import TlsContexts


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """
    The checked options of a worker.

    Attributes:
        name: The name in the log.
        listen: The address.
        contexts: The TLS contexts; ``None`` for a port without TLS.
        acme: The certificates that are ordered and renewed by themselves.
        limits: The limits.
        timeouts: The timeouts.
        trusted_proxies: The peers whose forwarding headers are used.
        allowed_origins: As :mod:`gateman.http.origins` reads them; ``None`` for any.
        subprotocols: In order of preference.
        health_path: The path of health checks; ``None`` for none.
        live_path: The path of checks for a process that works; ``None`` for none.
        has_test_page: Whether ``/`` is the test page.
        slow_consumer: What happens to messages for a slow client.
        compression: The parameters of permessage-deflate; ``None`` to negotiate none.
        requires_proxy: Whether every connection begins with a PROXY header.
        http: The ASGI application, or its name as ``module:attribute``; ``None`` for none.
        http_root_path: The prefix that a proxy has removed from its paths.
        api_key: The key of the HTTP API; ``None`` for no API.
        protocol: What cuts the byte stream into messages; ``None`` for WebSocket.
        client_protocol: The protocol of SDK clients; ``None`` for plain clients.
        channels: What SDK clients may do, by pattern.
        tokens: With what their tokens are verified; ``None`` to leave that to callbacks.
        client_limits: What one of them may make the service hold; ``None`` for the defaults.
    """

    name: str
    listen: ListenAddress
    contexts: "TlsContexts | None"
    acme: tuple["AcmeOptions", ...]
    limits: Limits
    timeouts: Timeouts
    trusted_proxies: TrustedProxies
    allowed_origins: frozenset[str] | None
    subprotocols: tuple[str, ...]
    health_path: str | None
    live_path: str | None
    has_test_page: bool
    slow_consumer: SlowConsumer
    compression: Deflate | None
    requires_proxy: bool
    http: Callable[..., Any] | str | None
    http_root_path: str
    api_key: str | None
    protocol: "PacketProtocol | None"
    client_protocol: str | None = None
    channels: "Mapping[str, Channel]" = {}
    client_limits: "ClientLimits | None" = None
    tokens: "Tokens | None" = None
