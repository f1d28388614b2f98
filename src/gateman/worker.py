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
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from . import attributes
from .callbacks import SIGNATURES, check
from .connection import Connection
from .errors import ConfigError
from .listen import ListenAddress
from .options import Limits, SlowConsumer, Timeouts
from .request import Request
from .timer import check_function, check_interval, timers
from .websocket.deflate import Deflate

if TYPE_CHECKING:
    from .net.tls import Contexts
    from .service import Service
    from .settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Callable[..., Any])


class _Registrar(Generic[S]):
    """What ``worker.on_message`` is when it is read: a decorator."""

    __slots__ = ("_name", "_worker")

    def __init__(self, worker: "Worker", name: str) -> None:
        self._worker = worker
        self._name = name

    def __call__(self, function: F) -> F:
        _declare(self._worker, self._name, function)
        return function

    @property
    def function(self) -> S | None:
        """The callback that was declared, or ``None``."""
        return self._worker.callbacks.get(self._name)  # type: ignore[return-value]


class Callback(Generic[S]):
    """A callback of a worker: declared by decorating a function, or by assigning one."""

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the callback's name."""
        self._name = name

    @overload
    def __get__(self, worker: None, owner: type) -> "Callback[S]": ...
    @overload
    def __get__(self, worker: "Worker", owner: type) -> _Registrar[S]: ...
    def __get__(self, worker: "Worker | None", owner: type) -> "Callback[S] | _Registrar[S]":
        """Give the decorator."""
        return self if worker is None else _Registrar(worker, self._name)

    def __set__(self, worker: "Worker", function: S | None) -> None:
        """Declare a function, or with ``None`` no longer one."""
        _declare(worker, self._name, function)


def _declare(worker: "Worker", name: str, function: Callable[..., Any] | None) -> None:
    if function is None:
        worker.callbacks.pop(name, None)
    else:
        check(name, function)
        worker.callbacks[name] = function


class Worker:
    """
    A WebSocket service.

    Every argument is an attribute too, and may be assigned until ``run_all``. A callback may be a
    plain function or ``async def``; see :mod:`gateman.caller` for the order in which they run.

    Attributes:
        listen: The address; see :mod:`gateman.listen`.
        context: ``{"ssl": {...}}``: PHP's option names, see :mod:`gateman.net.tls`.
        name: For people: in logs and in ``status``.
        count: How many processes serve it.
        transport: ``"tcp"``, or ``"ssl"`` for TLS in this server.
        limits: See :class:`gateman.Limits`; a mapping of some of them will do.
        timeouts: See :class:`gateman.Timeouts`; a mapping of some of them will do.
        trusted_proxies: Addresses and networks whose ``X-Real-IP``, ``X-Forwarded-For`` and
            ``Forwarded`` are believed; ``"unix"`` for clients of a unix socket. By default
            this machine.
        allowed_origins: The origins whose pages may connect, such as
            ``["https://example.com"]``; ``None`` for any. Clients that send no ``Origin`` are
            no browsers and always may (RFC 6455, section 10.2).
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
        restart_stalled: Whether a process that was stuck for ``timeouts.stall`` is replaced; its
            connections end then.
        max_crashes: How many crashes within five minutes end a slot, until ``reload``.
        max_messages: How many messages a process receives before another one takes its place;
            ``None`` for no such limit. It drains then. Up to a fifth earlier, so that not all
            leave at once; the same goes for the next two.
        max_lifetime: How many seconds it serves.
        max_memory: How many bytes of memory it has resident.
        user: Whom the processes run as, by name or number, once the master listens and they have
            read their keys. The master has to run as root.
        group: As which group; by default the user's.
        bus: What connects the hubs of its processes with each other and with those of other
            machines: a URL such as ``"nats://host:4222"``, or a mapping of ``url`` and options.
            By default those of this script are connected, and commands such as ``gateman push``
            with them.
        id: Which of its processes this is: 0 to ``count - 1``.
        connections: The open connections of this process, by their id.
        callbacks: The functions that were declared, by name.
        schedule: What :meth:`every` declared: the interval in seconds, and the function.
    """

    runner: ClassVar[Callable[[list["Worker"]], None] | None] = None
    """What :meth:`run_all` calls with all that were declared. Rows above this one set it."""
    _declared: ClassVar[list["Worker"]] = []

    on_worker_start: Callback[Callable[["Worker"], Any]] = Callback()
    """``(worker)``: the process is up and does not listen yet."""
    on_worker_stop: Callback[Callable[["Worker"], Any]] = Callback()
    """``(worker)``: it stops; what has not been drained is still open."""
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
    """``(connection, code, reason)``: exactly once for each that reached ``on_connect``; 1006
    when the peer vanished, or never got as far as a WebSocket."""
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
        for option in unknown:
            raise ConfigError.unknown(
                "option of Worker", option, attributes.NAMES | set(SIGNATURES)
            )
        self.callbacks: dict[str, Callable[..., Any]] = {}
        self.schedule: list[tuple[float, Callable[[], Any]]] = []
        self.listen = listen
        self.context = context
        self.name = name
        self.count = count
        is_secure = ListenAddress.parse(listen).is_secure
        self.transport = transport or ("ssl" if is_secure else "tcp")
        self.limits: Any = limits
        self.timeouts: Any = timeouts
        self.trusted_proxies = trusted_proxies
        self.allowed_origins = allowed_origins
        self.subprotocols = subprotocols
        self.health_path = health_path
        self.test_page = test_page
        self.slow_consumer = slow_consumer
        self.compression = compression
        self.proxy_protocol = proxy_protocol
        self.drain_window = drain_window
        self.restart_stalled = restart_stalled
        self.max_crashes = max_crashes
        self.max_messages = max_messages
        self.max_lifetime = max_lifetime
        self.max_memory = max_memory
        self.user = user
        self.group = group
        self.bus = bus
        self.id = 0
        self.connections: dict[int, Connection] = {}
        self._declared.append(self)

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign an option or a callback; a name that is neither is a mistake."""
        if name not in attributes.NAMES and name not in SIGNATURES:
            raise ConfigError.unknown("option of Worker", name, attributes.NAMES | set(SIGNATURES))
        super().__setattr__(
            name, attributes.CHECKS[name](value) if name in attributes.CHECKS else value
        )

    def every(self, seconds: float) -> Callable[[F], F]:
        """
        Run a function every so many seconds, in each process of this worker.

            @worker.every(60)
            async def tidy_up(): ...

        Args:
            seconds: The interval; see :class:`gateman.Timer` for what is promised.

        Returns:
            The decorator, for a function without arguments, plain or ``async``.

        Raises:
            ConfigError: It is no positive number; by the decorator, that is no such function.
        """
        check_interval(seconds)

        def declare(function: F) -> F:
            check_function(function)
            self.schedule.append((seconds, function))
            return function

        return declare

    @classmethod
    def run_all(cls) -> None:
        """
        Do what the command line says: ``python server.py start`` and so on; see ``--help``.

        Without a command, run every declared worker until SIGINT or SIGTERM. Returns when all
        were stopped in order.

        Raises:
            ConfigError: Something declared cannot be; nothing listens then.
            SystemExit: It ended otherwise; the code is one of :class:`gateman.ExitCode`.
        """
        if cls.runner is None:
            raise RuntimeError("Worker is to be imported from gateman")
        cls.runner(list(cls._declared))


def service_maker(worker: Worker, *, now: float) -> "Callable[[], Service]":
    """
    Check everything that could not be checked one by one, and tell how to serve it.

    Args:
        worker: What was declared.
        now: Wall-clock seconds since 1970, for the certificates.

    Returns:
        Makes the worker's service; to be called on the event loop.

    Raises:
        ConfigError: Something declared cannot be.
    """
    from .service import Service

    settings = settings_of(worker, now=now)

    def make() -> Service:
        for seconds, function in worker.schedule:
            timers.add(seconds, function)
        return Service(settings, worker.callbacks, worker, worker.connections)

    return make


def settings_of(worker: Worker, *, now: float) -> "Settings":
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
    from .net.forwarded import DEFAULT, TrustedProxies
    from .settings import Settings

    return Settings(
        name=worker.name,
        listen=ListenAddress.parse(worker.listen),
        contexts=_contexts(worker, now),
        limits=Limits.of(worker.limits),
        timeouts=Timeouts.of(worker.timeouts),
        trusted_proxies=TrustedProxies(
            DEFAULT if worker.trusted_proxies is None else worker.trusted_proxies
        ),
        allowed_origins=attributes.origins(worker.allowed_origins),
        subprotocols=attributes.subprotocols(worker.subprotocols),
        health_path=worker.health_path,
        has_test_page=worker.test_page,
        slow_consumer=SlowConsumer(worker.slow_consumer),
        compression=worker.compression,
        requires_proxy=worker.proxy_protocol == "required",
    )


def _contexts(worker: Worker, now: float) -> "Contexts | None":
    from .net.tls import Contexts

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
        return Contexts.load(options, now=now)
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
