"""
The declaration of a WebSocket service: its address, options and callbacks.

    worker = Worker("websocket://0.0.0.0:8282")

    @worker.on_message
    def answer(connection, message):
        connection.send("ok")

    Worker.run_all()
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from ..connection import Connection
from ..errors import ConfigError
from ..listen import ListenAddress
from ..options import Limits, SlowConsumer, option
from ..request import Request
from ..session import OfSession, S
from ..websocket.deflate import Deflate
from . import checks
from .base import BaseWorker
from .callback_attributes import Callback, MessageCallback
from .callbacks import CLIENT_SIGNATURES, SIGNATURES
from .schema import Converted

if TYPE_CHECKING:
    from ..acme.options import AcmeOptions
    from ..clients.channel import Channel
    from ..clients.limits import ClientLimits
    from ..clients.tokens import Tokens
    from ..cluster.publication import ClientInfo  # noqa: F401 - of the quoted names
    from ..protocols.base import PacketProtocol
    from ..tls.contexts import TlsContexts
    from .settings import WorkerSettings

    _Protocol: TypeAlias = PacketProtocol | type[PacketProtocol] | None
    _ProtocolObject: TypeAlias = PacketProtocol | None
else:
    # Only a worker with another protocol needs the module.
    _Protocol = _ProtocolObject = Any


_ADDRESS = 'the address as one: "websocket://0.0.0.0:8282"'
_CONTEXT = 'the context: {"ssl": {"local_cert": "server.pem", "local_pk": "server.key"}}'
_OF_OTHER_SERVERS = {
    **dict.fromkeys(("host", "port", "address", "bind"), _ADDRESS),
    **dict.fromkeys(("ssl", "ssl_context", "certfile", "keyfile", "tls"), _CONTEXT),
}


class Worker(BaseWorker, OfSession[S]):
    """
    A WebSocket service.

    Every argument is an attribute too, and may be assigned until ``run_all``. A callback may be a
    plain function or ``async def``; see :mod:`gateman.runtime.callback_runner` for the order in
    which they run.

    Attributes:
        connections: The open connections of this process, by their id.
    """

    signatures: ClassVar[Mapping[str, tuple[str, ...]]] = SIGNATURES | CLIENT_SIGNATURES
    state = BaseWorker.state | {"connections"}
    hints: ClassVar[Mapping[str, str]] = _OF_OTHER_SERVERS

    listen: str = option(
        kw_only=False,
        check=checks.listen,
        reason="The address: ``websocket://HOST:PORT``, ``websocket://[::]:PORT`` (IPv4 too) or"
        " ``websocket+unix:///path.sock``. ``ws://`` is the same as ``websocket://``; ``wss://`` is"
        ' the same with ``transport="ssl"``. ``text://``, ``frame://`` and ``tcp://`` are other'
        " protocols: see [protocols.md](protocols.md).",
    )
    context: Mapping[str, Mapping[str, Any]] | None = option(
        default=None,
        kw_only=False,
        check=checks.context,
        reason='``{"ssl": {...}}``, with PHP\'s names of TLS options.',
    )
    acme: str | Sequence[Any] | Mapping[str, Any] | None = option(
        default=None,
        check=checks.acme,
        reason="The names for which certificates are ordered and renewed by themselves:"
        ' ``"example.com"``, a list, or a mapping of options. It is the same as ``acme`` in'
        " ``context``'s ``ssl``; see ``docs/tls.md``.",
    )
    name: str = option(default="worker")
    transport: Converted[str | None, str] = option(
        default=None,
        check=checks.one_of("ssl", "tcp"),
        reason='``"tcp"``, or ``"ssl"`` for TLS in this server. ``None`` means that the scheme of'
        " ``listen`` decides.",
    )
    limits: Converted[Limits | Mapping[str, Any] | None, Limits] = option(
        default=None, check=checks.limits, reason="``Limits``, or a mapping of some of them."
    )
    trusted_proxies: Converted[Iterable[str] | None, list[str] | None] = option(
        default=None,
        check=checks.trusted_proxies,
        reason="Addresses and networks whose ``X-Real-IP``, ``X-Forwarded-For`` and ``Forwarded``"
        ' are used; ``"unix"`` means clients of a unix socket. ``None`` means this machine; ``[]``'
        " trusts no peer.",
    )
    allowed_origins: Converted[Iterable[str] | None, frozenset[str] | None] = option(
        default=None,
        check=checks.allowed_origins,
        reason='The origins whose pages may connect, such as ``"https://example.com"``,'
        ' ``"https://*.example.com"`` for every subdomain, or ``"http://localhost:*"`` for every'
        " port. Other origins get 403. ``None`` accepts every origin, but ignores the cookies of"
        " pages of other hosts. A client without ``Origin`` is not a browser, and may always"
        " connect (RFC 6455, section 10.2).",
    )
    subprotocols: Converted[Iterable[str], tuple[str, ...]] = option(
        default=(),
        check=checks.subprotocols,
        reason="The subprotocols in order of preference. The first one that the client also offers"
        " is selected.",
    )
    health_path: str | None = option(
        default="/healthz",
        check=checks.path,
        reason="The path of health checks, which say whether to send clients here: 200 while"
        " serving, 503 while draining and while ``on_health`` fails. A gateway also answers 503"
        " without business workers. ``None`` disables them.",
    )
    live_path: str | None = option(
        default="/livez",
        check=checks.path,
        reason="The path of checks that say whether the process works at all: 200 as long as its"
        " event loop answers, also while draining. ``None`` disables them.",
    )
    test_page: bool = option(
        default=False,
        check=checks.yes_or_no,
        reason="Whether ``/`` is a page for trying the service in a browser.",
    )
    http: Callable[..., Any] | str | None = option(
        default=None,
        check=checks.application,
        reason="An ASGI application (FastAPI, Starlette, Django), or its name as"
        ' ``"module:attribute"``, which only the worker\'s processes import. It gets the requests'
        " that are no WebSocket handshakes, except those for ``health_path``. It needs"
        " ``gateman[http]``; see [http.md](http.md).",
    )
    http_root_path: str = option(
        default="",
        check=checks.root_path,
        reason="The prefix that a proxy in front has removed from the paths of requests, such as"
        ' ``"/api"``: the ``root_path`` of ``http``.',
    )
    api_key: str | None = option(
        default=None,
        check=checks.api_key,
        reason="The key of the HTTP API, through which other programs publish, and ask who is"
        " there: ``POST /api/publish`` with ``X-API-Key``. ``None`` means that there is no API. It"
        " needs ``gateman[http]``; see [http_api.md](http_api.md).",
    )
    slow_consumer: Converted[str | SlowConsumer, SlowConsumer] = option(
        default=SlowConsumer.DROP_NEWEST,
        check=checks.slow_consumer,
        reason="What happens to a message if ``limits.max_send_buffer_size`` bytes wait for a slow"
        ' client: ``"drop_newest"``, ``"drop_oldest"`` or ``"close"`` (1013).',
    )
    compression: Deflate | None = option(
        default=None,
        check=checks.compression,
        reason="``Deflate()`` negotiates permessage-deflate; ``None`` does not.",
    )
    proxy_protocol: str = option(
        default="off",
        check=checks.one_of("off", "required"),
        reason='``"required"``: each connection must begin with a PROXY header (v1 or v2), and only'
        " ``trusted_proxies`` may connect.",
    )

    protocol: Converted[_Protocol, _ProtocolObject] = option(
        default=None,
        check=checks.protocol,
        reason="A protocol of one's own on ``tcp://``: a class with the functions of"
        " ``gateman.PacketProtocol``, or an instance of one. See"
        " [protocols.md](protocols.md#a-protocol-of-your-own).",
    )
    client_protocol: str | None = option(
        default=None,
        check=checks.client_protocol,
        reason='``"centrifuge"``: clients are official SDKs of the Centrifuge client protocol, with'
        " channels, history and presence, on all paths; see [Channels](#channels). ``None``:"
        " they are plain WebSocket clients. With it, a client that reads too slowly is always"
        " disconnected, and recovers what it has missed: ``slow_consumer`` has no effect.",
    )
    channels: Converted[
        "Mapping[str, Channel | Mapping[str, Any]] | None", "Mapping[str, Channel]"
    ] = option(
        default=None,
        check=checks.channels,
        reason='What clients may do in channels, by pattern: ``{"chat:*": Channel(...)}``; see'
        " [Channels](#channels). A pattern is a name, or the beginning of names and a ``*``; the"
        " most specific one decides. ``None`` allows nothing that no callback allows.",
    )

    client_limits: Converted["ClientLimits | Mapping[str, Any] | None", "ClientLimits | None"] = (
        option(
            default=None,
            check=checks.client_limits,
            reason="``ClientLimits``, or a mapping of some of them: what one SDK client may make"
            " the service hold and do.",
        )
    )

    tokens: Converted["Tokens | Mapping[str, Any] | None", "Tokens | None"] = option(
        default=None,
        check=checks.tokens,
        reason="``Tokens``, or a mapping of some of them: with what the tokens of SDK clients are"
        " verified. A connection token says who a client is, and a subscription token that it may"
        " subscribe. A client without a token may connect, unless ``on_client_connect`` refuses it."
        " ``None``: tokens are the application's, which gets them in ``on_client_connect``. It"
        " needs ``gateman[tokens]``.",
    )

    on_worker_start = Callback[["Worker[S]"]]()
    """``(worker)``: the process has started, and does not accept yet."""
    on_worker_stop = Callback[["Worker[S]"]]()
    """``(worker)``: the process stops, after every ``on_close``; close databases here."""
    on_connect = Callback[[Connection[S]]]()
    """``(connection)``: TCP and, with TLS, its handshake are complete."""
    on_websocket_connect = Callback[[Connection[S], Request]]()
    """``(connection, request)``: the request has arrived, and is not answered yet. ``raise
    Refuse(403, "text")`` refuses it; ``connection.response_headers`` and
    ``connection.subprotocol`` may be set."""
    on_open = Callback[[Connection[S]]]()
    """``(connection)``: the 101 was sent."""
    on_message = MessageCallback[Connection[S]]()
    """``(connection, message)``: ``str`` for text, ``bytes`` for binary."""
    on_close = Callback[[Connection[S], int, str]]()
    """``(connection, code, reason)``: exactly once for each connection that was open, or for which
    another callback ran; 1006 if the peer vanished, or did not complete the handshake."""
    on_error = Callback[[Connection[S], Exception]]()
    """``(connection, error)``: the peer violated the protocol, or a callback raised; the connection
    is being closed."""
    on_buffer_full = Callback[[Connection[S]]]()
    """``(connection)``: the send buffer is full; ``slow_consumer`` applies to further messages."""
    on_buffer_drain = Callback[[Connection[S]]]()
    """``(connection)``: the send buffer is empty again, after ``on_buffer_full``."""
    on_health = Callback[["Worker[S]"]]()
    """``(worker)``: whether new clients are welcome; health checks get 503 if it returns ``False``,
    raises, or takes too long. It is called every ``timeouts.health_interval``."""

    on_client_connect = Callback[[Connection[S], str, Any]]()
    """``(connection, token, data)``: an SDK client connects; ``token`` is empty without one. It
    may ``connection.bind`` and ``connection.join``; what it returns is ``data`` of the answer.
    Like the callbacks below, it refuses by ``False``, ``raise Refuse()``, ``raise
    ClientError(code, message)`` or ``raise Disconnect(code, reason)``."""
    on_refresh = Callback[[Connection[S], str]]()
    """``(connection, token)``: prolong the connection: return ``Allow(expires_in=…)``."""
    on_subscribe = Callback[[Connection[S], str, Any]]()
    """``(connection, channel, data)``: a client subscribes. ``True``, ``data`` of the answer or
    :class:`gateman.Allow` allow it; nothing leaves it to the channel's pattern."""
    on_sub_refresh = Callback[[Connection[S], str, str]]()
    """``(connection, channel, token)``: prolong a subscription; as ``on_refresh``."""
    on_publish = Callback[[Connection[S], str, Any]]()
    """``(connection, channel, data)``: a client publishes. ``True`` allows it, another value is
    published instead; nothing leaves it to the channel's pattern."""
    on_rpc = Callback[[Connection[S], str, Any]]()
    """``(connection, method, data)``: a client calls a method; what it returns is the answer."""
    on_join = Callback[[str, "ClientInfo"]]()
    """``(channel, info)``: a client was subscribed to a channel with ``join_leave``; it is called
    in the process of the client, in the order of events, one at a time."""
    on_leave = Callback[[str, "ClientInfo"]]()
    """``(channel, info)``: a client has left it. One that lost its connection may take
    ``leave_delay`` to come back. If its process was killed, another one calls this."""

    def _configure(self, values: dict[str, Any]) -> None:
        is_secure = ListenAddress.parse(values["listen"]).is_secure
        values["transport"] = values["transport"] or ("ssl" if is_secure else "tcp")
        self.connections: dict[int, Connection[S]] = {}
        super()._configure(values)


def settings_of(worker: Worker, *, now: float) -> "WorkerSettings":
    """Check a worker's options together, and load its certificates; ``now``: seconds since 1970."""
    from ..http.client_address import DEFAULT, TrustedProxies
    from .settings import WorkerSettings

    listen = ListenAddress.parse(worker.listen)
    acme = certificates_of(worker)
    _check_paths(worker)
    _check_http(worker)
    _check_client_protocol(worker)
    proxies = DEFAULT if worker.trusted_proxies is None else worker.trusted_proxies
    # Those that differ from the options of the same name, or have none.
    made: dict[str, Any] = {
        "listen": listen,
        "contexts": _contexts(worker, acme, now),
        "acme": acme,
        "trusted_proxies": TrustedProxies(proxies),
        "requires_proxy": worker.proxy_protocol == "required",
        "protocol": _protocol_of(worker, listen),
    }
    same = {
        name: getattr(worker, name) for name in WorkerSettings.__struct_fields__ if name not in made
    }
    return WorkerSettings(**made, **same)


def _check_paths(worker: Worker) -> None:
    if worker.health_path is not None and worker.health_path == worker.live_path:
        raise ConfigError(
            f"worker {worker.name!r} has {worker.health_path!r} as health_path and as live_path",
            "give each a path of its own, or leave one of them out",
        )


def _check_client_protocol(worker: Worker) -> None:
    if worker.client_protocol is not None:
        called = {"on_join", "on_leave"}.intersection(worker.callbacks)
        if called and not any(options.join_leave for options in worker.channels.values()):
            raise ConfigError(
                f"worker {worker.name!r} has {min(called)}, and no channel with join_leave",
                'set it for a pattern: channels={"chat:*": Channel(join_leave=True)}',
            )
        return
    declared = next((name for name in CLIENT_SIGNATURES if name in worker.callbacks), None)
    if declared is None:
        declared = next((name for name in ("channels", "tokens") if getattr(worker, name)), None)
    if declared is None:
        return
    raise ConfigError(
        f"worker {worker.name!r} has {declared}, which plain clients never use",
        'set client_protocol="centrifuge" for clients with an SDK',
    )


# What only a WebSocket worker can use: options with their defaults.
_OF_WEBSOCKETS = (
    *("allowed_origins", "subprotocols", "test_page", "http", "api_key", "compression"),
    "client_protocol",
)


def _protocol_of(worker: Worker, listen: ListenAddress) -> "PacketProtocol | None":
    """Return what cuts the byte stream into messages; ``None`` for a WebSocket worker."""
    scheme = listen.protocol
    if worker.protocol is not None and scheme != "tcp":
        raise ConfigError(
            f"worker {worker.name!r} has a protocol, and listens on {scheme}://",
            "listen on tcp://",
        )
    if listen.is_websocket:
        return None
    for name in _OF_WEBSOCKETS:
        if getattr(worker, name) != worker.options[name].default:
            raise ConfigError(
                f"worker {worker.name!r} has {name}, and listens on {scheme}://",
                f"leave {name} out: it is for WebSockets",
            )
    if "on_websocket_connect" in worker.callbacks:
        raise ConfigError(
            f"worker {worker.name!r} has on_websocket_connect, which {scheme}:// never calls",
            "let the first message say who the client is, and set timeouts.login",
        )
    # Imported here: a WebSocket worker needs none of it.
    from ..protocols.built_in import BUILT_IN

    return worker.protocol or BUILT_IN[scheme]


def _check_http(worker: Worker) -> None:
    if worker.http is None and worker.api_key is None:
        return
    if worker.http is not None and worker.test_page:
        raise ConfigError(
            f"worker {worker.name!r} has test_page and http, which both answer '/'",
            "leave test_page out",
        )
    # Imported here, as most services have none. Only the worker's processes import uvicorn.
    from importlib.util import find_spec

    try:
        is_installed = find_spec("uvicorn") is not None
    except ValueError:
        # As of a module that is being kept from being imported.
        is_installed = False
    if not is_installed:
        raise ConfigError(
            f"worker {worker.name!r} has an HTTP {'API' if worker.http is None else 'application'},"
            " which needs uvicorn",
            "install it with `pip install 'gateman[http]'`",
        )


def certificates_of(worker: Worker) -> "tuple[AcmeOptions, ...]":
    """Return the certificates that are ordered by themselves; with their storage."""
    options = (worker.context or {}).get("ssl")
    in_context = options.get("acme") if isinstance(options, Mapping) else None
    if worker.acme is None and in_context is None:
        return ()
    if worker.acme is not None and in_context is not None:
        raise ConfigError(
            f"worker {worker.name!r} has acme twice: as an option, and in its context",
            "keep one of them",
        )
    # Imported here: only a worker with acme needs them.
    from importlib.util import find_spec

    from ..acme.options import parse
    from ..acme.storage_folder import default_folder

    # It comes with acme, a name that the application may have for a module of its own.
    if find_spec("josepy") is None:
        raise ConfigError(
            "acme needs the package acme, which speaks the protocol of authorities",
            "install it: pip install 'gateman[acme]'",
        )
    return parse(
        in_context if worker.acme is None else worker.acme,
        folder=Path.cwd(),
        default_storage=default_folder(worker.user),
    )


def _contexts(worker: Worker, acme: "tuple[AcmeOptions, ...]", now: float) -> "TlsContexts | None":
    context: Mapping[str, Any] = worker.context or {}
    for kind in context:
        if kind != "ssl":
            raise ConfigError(
                f"{kind!r} is not a part of a worker's context",
                "there is only ssl, with the options of TLS: {'ssl': {'local_cert': …}}",
            )
    options = context.get("ssl")
    if worker.transport == "ssl":
        # Imported here: only a worker with TLS needs it.
        from ..tls.contexts import TlsContexts

        if acme:
            from ..acme.serving import check_files, issued_certificates

            check_files(acme)
            of_files = {name: value for name, value in (options or {}).items() if name != "acme"}
            return TlsContexts.load(of_files, now=now, issued=issued_certificates(acme))
        if not options:
            raise ConfigError(
                f"worker {worker.name!r} has transport='ssl', but no certificate",
                "pass {'ssl': {'local_cert': 'server.pem', 'local_pk': 'server.key'}} as its"
                " context, or acme='example.com' to have one ordered; `gateman cert dev` makes one"
                " for development",
            )
        return TlsContexts.load(options, now=now)
    if ListenAddress.parse(worker.listen).is_secure:
        raise ConfigError(
            f"worker {worker.name!r} listens on wss://, but transport={worker.transport!r}",
            "write websocket:// if a proxy does the TLS",
        )
    if acme:
        raise ConfigError(
            f"worker {worker.name!r} has acme, but transport={worker.transport!r}",
            "listen on wss://, or leave acme out if a proxy does the TLS: the certificate is its",
        )
    if options:
        raise ConfigError(
            f"worker {worker.name!r} has a certificate, but transport={worker.transport!r}",
            "set worker.transport = 'ssl', or remove the certificate",
        )
    return None
