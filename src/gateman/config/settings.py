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
    """Its fields are the options of a worker, except where a comment says more."""

    name: str
    listen: ListenAddress
    contexts: "TlsContexts | None"  # None for a port without TLS
    acme: tuple["AcmeOptions", ...]  # the certificates that are ordered by themselves
    limits: Limits
    timeouts: Timeouts
    trusted_proxies: TrustedProxies
    allowed_origins: frozenset[str] | None  # as :mod:`gateman.http.origins` reads them
    subprotocols: tuple[str, ...]
    health_path: str | None
    live_path: str | None
    test_page: bool
    slow_consumer: SlowConsumer
    compression: Deflate | None
    requires_proxy: bool  # whether every connection begins with a PROXY header
    http: Callable[..., Any] | str | None
    http_root_path: str
    api_key: str | None
    protocol: "PacketProtocol | None"  # None for WebSocket
    client_protocol: str | None = None
    channels: "Mapping[str, Channel]" = {}
    client_limits: "ClientLimits | None" = None
    tokens: "Tokens | None" = None
