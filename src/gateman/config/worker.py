"""
What a user declares: a service, its address, its options and its callbacks.

    worker = Worker("websocket://0.0.0.0:8282")

    @worker.on_message
    def answer(connection, message):
        connection.send("ok")

    Worker.run_all()

Nothing here listens or serves; :func:`Worker.run_all` hands what was declared to the process.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..connection import Connection
from ..errors import ConfigError
from ..listen import ListenAddress
from ..options import Limits, SlowConsumer, option
from ..request import Request
from ..websocket.deflate import Deflate
from . import checks
from .base import BaseWorker, Callback
from .callbacks import SIGNATURES
from .schema import Converted

if TYPE_CHECKING:
    from ..tls.contexts import TlsContexts
    from .settings import WorkerSettings


class Worker(BaseWorker):
    """
    A WebSocket service.

    Every argument is an attribute too, and may be assigned until ``run_all``. A callback may be a
    plain function or ``async def``; see :mod:`gateman.runtime.callback_runner` for the order in
    which they run.

    Attributes:
        connections: The open connections of this process, by their id.
    """

    signatures: ClassVar[Mapping[str, tuple[str, ...]]] = SIGNATURES
    state = BaseWorker.state | {"connections"}

    listen: str = option(
        kw_only=False,
        check=checks.listen,
        reason="The address: ``websocket://HOST:PORT``, ``websocket://[::]:PORT`` (IPv4 too) or"
        " ``websocket+unix:///path.sock``. ``ws://`` is the same as ``websocket://``; ``wss://`` is"
        ' the same with ``transport="ssl"``.',
    )
    context: Mapping[str, Mapping[str, Any]] | None = option(
        default=None,
        kw_only=False,
        check=checks.context,
        reason='``{"ssl": {...}}``, with PHP\'s names of the options of TLS.',
    )
    name: str = option(default="worker")
    transport: Converted[str | None, str] = option(
        default=None,
        check=checks.one_of("ssl", "tcp"),
        reason='``"tcp"``, or ``"ssl"`` for TLS in this server; ``None`` is what the scheme of'
        " ``listen`` says.",
    )
    limits: Converted[Limits | Mapping[str, Any] | None, Limits] = option(
        default=None, check=checks.limits, reason="``Limits``, or a mapping of some of them."
    )
    trusted_proxies: Converted[Iterable[str] | None, list[str] | None] = option(
        default=None,
        check=checks.trusted_proxies,
        reason="Addresses and networks whose ``X-Real-IP``, ``X-Forwarded-For`` and ``Forwarded``"
        ' are used; ``"unix"`` for clients of a unix socket. ``None`` is this machine; ``[]``'
        " trusts no peer.",
    )
    allowed_origins: Converted[Iterable[str] | None, frozenset[str] | None] = option(
        default=None,
        check=checks.allowed_origins,
        reason='The origins whose pages may connect: ``"https://example.com"``, every subdomain'
        ' with ``"https://*.example.com"``, every port with ``"http://localhost:*"``; other'
        " origins get 403. ``None`` is any, but pages of other hosts connect without the user's"
        " cookies. A client that sends no ``Origin`` is not a browser and may always connect (RFC"
        " 6455, section 10.2).",
    )
    subprotocols: Converted[Iterable[str], tuple[str, ...]] = option(
        default=(),
        check=checks.subprotocols,
        reason="In your order of preference; the first one that the client also offers is"
        " selected.",
    )
    health_path: str | None = option(
        default="/healthz",
        check=checks.path,
        reason="The path of health checks: 200 while serving, 503 while draining; a gateway also"
        " answers 503 without business workers. ``None`` disables it.",
    )
    test_page: bool = option(
        default=False,
        check=checks.yes_or_no,
        reason="Whether ``/`` is a page to try the service with, in a browser.",
    )
    slow_consumer: Converted[str | SlowConsumer, SlowConsumer] = option(
        default=SlowConsumer.DROP_NEWEST,
        check=checks.slow_consumer,
        reason="What happens to messages when ``limits.max_send_buffer_size`` is unsent for a"
        ' client: ``"drop_newest"``, ``"drop_oldest"`` or ``"close"`` (1013).',
    )
    compression: Deflate | None = option(
        default=None,
        check=checks.compression,
        reason="``Deflate()`` negotiates permessage-deflate; ``None`` never does.",
    )
    proxy_protocol: str = option(
        default="off",
        check=checks.one_of("off", "required"),
        reason='``"required"``: connections begin with a PROXY header (v1 or v2), and only'
        " ``trusted_proxies`` may connect.",
    )

    on_worker_start = Callback[["Worker"]]()
    """``(worker)``: the process is up and does not listen yet."""
    on_worker_stop = Callback[["Worker"]]()
    """``(worker)``: it stops, behind the ``on_close`` of every client: close here what they use."""
    on_connect = Callback[[Connection]]()
    """``(connection)``: TCP is up and, with TLS, its handshake done."""
    on_websocket_connect = Callback[[Connection, Request]]()
    """``(connection, request)``: the request is there and nothing answered yet. ``raise
    Refuse(403, "text")`` to refuse; ``connection.response_headers`` and
    ``connection.subprotocol`` may be set."""
    on_open = Callback[[Connection]]()
    """``(connection)``: the 101 is sent."""
    on_message = Callback[[Connection, Any]]()
    """``(connection, message)``: ``str`` for text, ``bytes`` for binary."""
    on_close = Callback[[Connection, int, str]]()
    """``(connection, code, reason)``: exactly once for each that was open, or reached a callback
    that is declared; 1006 when the peer vanished, or never got as far as a WebSocket."""
    on_error = Callback[[Connection, Exception]]()
    """``(connection, error)``: the peer broke the protocol, or a callback raised; the
    connection is being closed for it."""
    on_buffer_full = Callback[[Connection]]()
    """``(connection)``: as much is unsent as may be; what is sent now is dropped."""
    on_buffer_drain = Callback[[Connection]]()
    """``(connection)``: all of it was sent, after ``on_buffer_full``."""

    def _configure(self, values: dict[str, Any]) -> None:
        is_secure = ListenAddress.parse(values["listen"]).is_secure
        values["transport"] = values["transport"] or ("ssl" if is_secure else "tcp")
        self.connections: dict[int, Connection] = {}
        super()._configure(values)


def settings_of(worker: Worker, *, now: float) -> "WorkerSettings":
    """
    Check everything that could not be checked one by one; no event loop is needed, or loaded.

    Args:
        worker: What was declared.
        now: Wall-clock seconds since 1970, for the certificates.

    Returns:
        What its service is made from.

    Raises:
        ConfigError: Something declared cannot be.
    """
    from ..http.client_address import DEFAULT, TrustedProxies
    from .settings import WorkerSettings

    return WorkerSettings(
        name=worker.name,
        listen=ListenAddress.parse(worker.listen),
        contexts=_contexts(worker, now),
        limits=worker.limits,
        timeouts=worker.timeouts,
        trusted_proxies=TrustedProxies(
            DEFAULT if worker.trusted_proxies is None else worker.trusted_proxies
        ),
        allowed_origins=worker.allowed_origins,
        subprotocols=worker.subprotocols,
        health_path=worker.health_path,
        has_test_page=worker.test_page,
        slow_consumer=worker.slow_consumer,
        compression=worker.compression,
        requires_proxy=worker.proxy_protocol == "required",
    )


def _contexts(worker: Worker, now: float) -> "TlsContexts | None":
    from ..tls.contexts import TlsContexts

    context: Mapping[str, Any] = worker.context or {}
    for kind in context:
        if kind != "ssl":
            raise ConfigError.unknown("part of a worker's context", kind, ["ssl"])
    options = context.get("ssl")
    if worker.transport == "ssl":
        if not options:
            raise ConfigError(
                f"worker {worker.name!r} has transport='ssl', but no certificate",
                "pass {'ssl': {'local_cert': 'server.pem', 'local_pk': 'server.key'}} as its"
                " context; `gateman cert dev` makes a certificate for trying it out",
            )
        return TlsContexts.load(options, now=now)
    if ListenAddress.parse(worker.listen).is_secure:
        raise ConfigError(
            f"worker {worker.name!r} listens on wss://, but transport={worker.transport!r}",
            "write websocket:// if a proxy in front does the TLS",
        )
    if options:
        raise ConfigError(
            f"worker {worker.name!r} has a certificate, but transport={worker.transport!r}",
            "set worker.transport = 'ssl', or leave the certificate out",
        )
    return None
