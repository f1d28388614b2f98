"""
What a user declares: a service, its address, its options and its callbacks.

    worker = Worker("websocket://0.0.0.0:8282")

    @worker.on_message
    def answer(connection, message):
        connection.send("ok")

    Worker.run_all()

Nothing here listens or serves; :func:`Worker.run_all` hands what was declared to the process.
"""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, ClassVar

from ..connection import Connection
from ..errors import ConfigError
from ..listen import ListenAddress
from ..options import Limits, SlowConsumer, Timeouts
from ..request import Request
from ..websocket.deflate import Deflate
from . import schema
from .base import BaseWorker, Callback
from .callbacks import SIGNATURES

if TYPE_CHECKING:
    from ..tls.contexts import TlsContexts
    from .settings import WorkerSettings


class Worker(BaseWorker):
    """
    A WebSocket service.

    Every argument is an attribute too, and may be assigned until ``run_all``. A callback may be a
    plain function or ``async def``; see :mod:`gateman.runtime.callback_runner` for the order in
    which they run.

    Beside the attributes of everything that is :class:`~gateman.config.base.BaseWorker`:

    Attributes:
        listen: The address; see :mod:`gateman.listen`.
        context: ``{"ssl": {...}}``: PHP's option names, see :mod:`gateman.tls.contexts`.
        transport: ``"tcp"``, or ``"ssl"`` for TLS in this server.
        limits: See :class:`gateman.Limits`; a mapping of some of them will do.
        trusted_proxies: Addresses and networks whose ``X-Real-IP``, ``X-Forwarded-For`` and
            ``Forwarded`` are believed; ``"unix"`` for clients of a unix socket. By default
            this machine.
        allowed_origins: The origins whose pages may connect, such as
            ``["https://example.com"]``, with ``*.`` for every subdomain and ``:*`` for every port;
            ``None`` for any. Clients that send no ``Origin`` are no browsers and always may (RFC
            6455, section 10.2).
        subprotocols: What the service speaks; the first that a client offers too is chosen.
        health_path: Answers health checks; ``None`` for nowhere.
        test_page: Whether ``/`` is a page to try the service with, in a browser.
        slow_consumer: What happens to messages for a client that does not read:
            ``"drop_newest"``, ``"drop_oldest"`` or ``"close"``; see
            :class:`gateman.SlowConsumer`.
        compression: ``Deflate()`` to negotiate permessage-deflate; ``None`` for never.
        proxy_protocol: ``"required"`` when the proxy in front sends PROXY headers (v1 or v2);
            only ``trusted_proxies`` may then connect.
        drain_window: Seconds over which a process that drains (``stop -g``, ``reload``) closes its
            connections, so that their clients do not all come back at once.
        connections: The open connections of this process, by their id.
    """

    options: ClassVar[AbstractSet[str]] = schema.NAMES
    signatures: ClassVar[Mapping[str, tuple[str, ...]]] = SIGNATURES

    on_worker_start: Callback[Callable[["Worker"], Any]] = Callback()
    """``(worker)``: the process is up and does not listen yet."""
    on_worker_stop: Callback[Callable[["Worker"], Any]] = Callback()
    """``(worker)``: it stops, behind the ``on_close`` of every client: close here what they use."""
    on_connect: Callback[Callable[[Connection], Any]] = Callback()
    """``(connection)``: TCP is up and, with TLS, its handshake done."""
    on_websocket_connect: Callback[Callable[[Connection, Request], Any]] = Callback()
    """``(connection, request)``: the request is there and nothing answered yet. ``raise
    Refuse(403, "text")`` to refuse; ``connection.response_headers`` and
    ``connection.subprotocol`` may be set."""
    on_open: Callback[Callable[[Connection], Any]] = Callback()
    """``(connection)``: the 101 is sent."""
    on_message: Callback[Callable[[Connection, Any], Any]] = Callback()
    """``(connection, message)``: ``str`` for text, ``bytes`` for binary."""
    on_close: Callback[Callable[[Connection, int, str], Any]] = Callback()
    """``(connection, code, reason)``: exactly once for each that was open, or reached a callback
    that is declared; 1006 when the peer vanished, or never got as far as a WebSocket."""
    on_error: Callback[Callable[[Connection, Exception], Any]] = Callback()
    """``(connection, error)``: the peer broke the protocol, or a callback raised; the
    connection is being closed for it."""
    on_buffer_full: Callback[Callable[[Connection], Any]] = Callback()
    """``(connection)``: as much is unsent as may be; what is sent now is dropped."""
    on_buffer_drain: Callback[Callable[[Connection], Any]] = Callback()
    """``(connection)``: all of it was sent, after ``on_buffer_full``."""

    def __init__(
        self,
        listen: str,
        context: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        name: str = "worker",
        count: int = 1,
        transport: str | None = None,
        limits: Limits | Mapping[str, Any] | None = None,
        timeouts: Timeouts | Mapping[str, Any] | None = None,
        trusted_proxies: Iterable[str] | None = None,
        allowed_origins: Iterable[str] | None = None,
        subprotocols: Iterable[str] = (),
        health_path: str | None = "/healthz",
        test_page: bool = False,
        slow_consumer: str | SlowConsumer = SlowConsumer.DROP_NEWEST,
        compression: Deflate | None = None,
        proxy_protocol: str = "off",
        drain_window: float = 10.0,
        restart_stalled: bool = False,
        reloadable: bool = True,
        max_crashes: int = 10,
        max_messages: int | None = None,
        max_lifetime: float | None = None,
        max_memory: int | None = None,
        user: str | int | None = None,
        group: str | int | None = None,
        bus: str | Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        """
        Declare a service; :meth:`run_all` runs it.

        Args:
            listen: See the attributes for all of them.
            context: ``{"ssl": {...}}``.
            name: For people.
            count: Processes.
            transport: ``"tcp"`` or ``"ssl"``; ``None`` is what the scheme of ``listen`` says.
            limits: Limits.
            timeouts: Timeouts.
            trusted_proxies: ``None`` is this machine; ``[]`` is nobody.
            allowed_origins: Origins.
            subprotocols: Subprotocols.
            health_path: Path.
            test_page: Whether to serve it.
            slow_consumer: Policy.
            compression: Compression.
            proxy_protocol: ``"off"`` or ``"required"``.
            drain_window: Seconds.
            restart_stalled: Whether to.
            reloadable: Whether it is.
            max_crashes: Crashes.
            max_messages: Messages.
            max_lifetime: Seconds.
            max_memory: Bytes.
            user: User.
            group: Group.
            bus: URL.
            unknown: Always a mistake.

        Raises:
            ConfigError: Something of it cannot be.
        """
        self.listen = listen
        self.context = context
        is_secure = ListenAddress.parse(listen).is_secure
        self.transport = transport or ("ssl" if is_secure else "tcp")
        self.limits: Any = limits
        self.trusted_proxies = trusted_proxies
        self.allowed_origins = allowed_origins
        self.subprotocols = subprotocols
        self.health_path = health_path
        self.test_page = test_page
        self.slow_consumer = slow_consumer
        self.compression = compression
        self.proxy_protocol = proxy_protocol
        self.connections: dict[int, Connection] = {}
        super().__init__(
            name=name,
            count=count,
            timeouts=timeouts,
            drain_window=drain_window,
            restart_stalled=restart_stalled,
            reloadable=reloadable,
            max_crashes=max_crashes,
            max_messages=max_messages,
            max_lifetime=max_lifetime,
            max_memory=max_memory,
            user=user,
            group=group,
            bus=bus,
            **unknown,
        )


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
        limits=Limits.of(worker.limits),
        timeouts=Timeouts.of(worker.timeouts),
        trusted_proxies=TrustedProxies(
            DEFAULT if worker.trusted_proxies is None else worker.trusted_proxies
        ),
        allowed_origins=schema.origins(worker.allowed_origins),
        subprotocols=schema.subprotocols(worker.subprotocols),
        health_path=worker.health_path,
        has_test_page=worker.test_page,
        slow_consumer=SlowConsumer(worker.slow_consumer),
        compression=worker.compression,
        requires_proxy=worker.proxy_protocol == "required",
    )


def _contexts(worker: Worker, now: float) -> "TlsContexts | None":
    from ..tls.contexts import TlsContexts

    context: Any = worker.context or {}
    if not isinstance(context, Mapping):
        raise ConfigError(f"context={context!r} is no mapping", "write {'ssl': {'local_cert': …}}")
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
