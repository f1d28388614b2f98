"""
What all workers have in common: callbacks, scheduled functions, and options of supervision.

:class:`~gateman.config.worker.Worker` adds listening; :mod:`gateman.gateway` has gateways and
business workers. These modules only declare; :mod:`gateman.runtime` serves.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Never, ParamSpec, TypeVar

from ..cluster.names import check_topic
from ..entry_point import check_call
from ..errors import ConfigError
from ..options import Timeouts, check_flag, check_names, option
from . import checks, environment
from .callbacks import check
from .outgoing import Headers, OutgoingConnection
from .schedule import Interval, Job, Schedule, check_function, check_interval, cron
from .schema import Configurable, Converted
from .service import ServiceOptions

if TYPE_CHECKING:
    from ssl import SSLContext

P = ParamSpec("P")
R = TypeVar("R")
Scheduled = TypeVar("Scheduled", bound=Callable[[], Any])
OfEvent = TypeVar("OfEvent", bound=Callable[[Any], Any])

_EVENT_SIGNATURE = {"on_event": ("data",)}


def _called(form: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make wrong arguments of a method one sentence, which says to write ``form``."""

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        name, code = method.__name__, method.__code__
        known = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
        method.__qualname__ = name

        @wraps(method)
        def call(*positional: P.args, **named: P.kwargs) -> R:
            check_names(f"option of {name}", named, known)
            try:
                return method(*positional, **named)
            except TypeError as error:
                # Only of the call: nothing of the method has run.
                if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                    raise
                raise ConfigError(str(error), f"write {form}") from None

        return call

    return decorate


class BaseWorker(Configurable):
    """
    A declared worker: a number of equal processes.

    Attributes:
        id: The number of this process: 0 to ``count - 1``.
        callbacks: The declared functions, by name.
        schedule: The functions of :meth:`every`: interval in seconds, and function.
        event_handlers: The functions of :meth:`on_event`: topic, and function.
        from_environment: The variable of each option that the environment has set.
    """

    runner: ClassVar[Callable[[list["BaseWorker"]], None] | None] = None
    """:meth:`run_all` calls it with all declared workers. A higher layer sets it."""
    state = frozenset(
        {"id", "callbacks", "schedule", "jobs", "outgoing", "event_handlers", "from_environment"}
    )
    is_loaded_by_test: ClassVar[bool] = False
    """Whether :meth:`run_all` is to do nothing."""
    is_run: ClassVar[bool] = False
    """Whether something runs what is declared, or has tried to."""
    service: ClassVar[ServiceOptions] = ServiceOptions()
    """What :meth:`run_all` was given."""
    _declared: ClassVar[list["BaseWorker"]] = []
    _has_run: ClassVar[bool] = False

    name: str = option(
        check=checks.name,
        reason="The name in logs and in ``status``. If several workers have the same name,"
        " ``run_all`` renames the second one to ``chat-2``, and so on.",
    )
    count: int = option(
        default=1, unit="processes", check=checks.count, reason="The number of processes."
    )
    timeouts: Converted[Timeouts | Mapping[str, Any] | None, Timeouts] = option(
        default=None,
        check=checks.timeouts,
        reason="``Timeouts``, or a mapping of some of them.",
    )
    drain_window: float = option(
        default=10.0,
        unit="seconds",
        check=checks.number,
        reason="A process that drains (``stop -g``, ``reload``) closes its connections over this"
        " time, so that their clients do not all reconnect at once. A business worker's handlers"
        " have this time to finish.",
    )
    restart_stalled: bool = option(
        default=False,
        check=checks.yes_or_no,
        reason="Whether a process that does not respond for ``timeouts.stall`` is replaced. Its"
        " connections then end.",
    )
    reloadable: bool = option(
        default=True,
        check=checks.yes_or_no,
        reason="Whether ``reload`` replaces its processes; ``reload --all`` always does.",
    )
    max_crashes: int = option(
        default=10,
        unit="crashes",
        check=checks.whole_number,
        reason="After this number of crashes within five minutes, a process is not started again"
        " until ``reload``.",
    )
    max_messages: int | None = option(
        default=None,
        unit="messages",
        check=checks.whole_number,
        reason="A process that has received this number of messages is replaced, and drains. A"
        " business worker counts events. The limits ``max_messages``, ``max_lifetime`` and"
        " ``max_memory`` apply up to 20 % early, so that not all processes are replaced at once."
        " ``None`` means no limit.",
    )
    max_lifetime: float | None = option(
        default=None,
        unit="seconds",
        check=checks.number,
        reason="A process that has served for this time is replaced. ``None`` means no limit.",
    )
    max_memory: int | None = option(
        default=None,
        unit="bytes",
        check=checks.whole_number,
        reason="A process with more resident memory is replaced. ``None`` means no limit.",
    )
    user: str | int | None = option(
        default=None,
        check=checks.account,
        reason="The user, by name or number, to whom the processes switch after the master has"
        " bound the ports and the processes have read their keys. The master must run as root.",
    )
    group: str | int | None = option(
        default=None,
        check=checks.account,
        reason="The group to which the processes switch. ``None`` means the user's group.",
    )
    bus: str | Mapping[str, Any] | None = option(
        default=None,
        check=checks.bus,
        reason="The bus that connects the hubs of all processes and machines: a URL such as"
        ' ``"nats://host:4222?name=chat"``, or a mapping with ``url`` and options. ``None`` means'
        " the router that the master runs, for the processes of this script and for commands such"
        " as ``gateman push``.",
    )

    def _configure(self, values: dict[str, Any]) -> None:
        self.id = 0
        self.from_environment: dict[str, str] = {}
        self.callbacks: dict[str, Callable[..., Any]] = {}
        self.schedule: list[tuple[float, Callable[[], Any]]] = []
        self.jobs: list[Job] = []
        self.outgoing: list[OutgoingConnection] = []
        self.event_handlers: list[tuple[str, Callable[[Any], Any]]] = []
        super()._configure(values)
        self._declared.append(self)

    if not TYPE_CHECKING:  # With __getattr__, type checkers would accept every name.

        def __getattr__(self, name: str) -> Any:
            """Suggest a name for a misspelt callback."""
            if name.startswith("on_"):
                kind = f"callback of {type(self).__name__}"
                raise ConfigError.unknown(kind, name, self.signatures)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @classmethod
    def forgotten(cls) -> str:
        """Return the name of a worker that is declared, if nothing runs it."""
        return "" if cls.is_run or not cls._declared else cls._declared[0].name

    def declare(self, name: str, function: Callable[..., Any]) -> None:
        """Declare a callback, or replace it."""
        check(name, function, self.signatures)
        self.callbacks[name] = function

    @_called("@worker.every(60)")
    def every(self, seconds: float, *, once: bool = False) -> Callable[[Scheduled], Scheduled]:
        """
        Run a function at an interval.

            @worker.every(60)
            async def tidy_up(): ...

        Args:
            seconds: The interval. :class:`gateman.Timer` describes the guarantees without ``once``.
            once: Run it in one process of the service, on all its machines, and not in each
                process of this worker: at whole intervals since 1970, with the guarantees of
                :meth:`cron`.

        Returns:
            The decorator, for a function without arguments, plain or ``async``.

        Raises:
            ConfigError: The interval is not a positive number, or the function takes arguments.
        """
        if callable(seconds):
            raise ConfigError("every was given no interval", "write @worker.every(60)")
        check_flag("once", once)
        check_interval(seconds, is_once=once)

        def declare(function: Scheduled) -> Scheduled:
            if once:
                self._add_job(Interval(float(seconds)), function, is_once=True)
            else:
                check_function(function)
                self.schedule.append((seconds, function))
            return function

        return declare

    @_called('@worker.cron("*/5 * * * *")')
    def cron(
        self, expression: str, *, timezone: str = "UTC", once: bool = False
    ) -> Callable[[Scheduled], Scheduled]:
        """
        Run a function at times of day, as cron does.

            @worker.cron("0 3 * * MON-FRI", timezone="Asia/Shanghai", once=True)
            async def report(): ...

        Args:
            expression: Minute, hour, day of month, month, day of week; with six fields, the first
                is the second. ``*``, ``*/5``, ``1-5``, ``1,3``, ``MON``, ``JAN``, ``L`` (the last
                day), ``MON#1`` (the first Monday) are known.
            timezone: An IANA name.
            once: Run it in one process of the service, on all its machines. Without it, each
                process of this worker runs it.

        Returns:
            The decorator, for a function without arguments, plain or ``async``.

        Raises:
            ConfigError: The expression, the time zone or the function cannot be used.

        Guarantees:
            A time of day that a change to summer time skips is run at the change, and one that the
            change back repeats is run once (Debian's cron). A run that is late by a minute or more,
            because the service was down or blocked, is left out and counted. Of several that are
            late by less, the last is run. Runs never overlap: one that is due while another takes
            too long is left out and counted. No run begins after the process starts to drain.

            With ``once``, each time is run at most once, by one process, also during a reload and
            after the death of a process: another one takes over within ten seconds. While the bus
            is away, none is run. A bus that is split in two has one such process on each side.
        """
        if callable(expression):
            raise ConfigError("cron was given no expression", 'write @worker.cron("*/5 * * * *")')
        check_flag("once", once)
        schedule = cron(expression, timezone)

        def declare(function: Scheduled) -> Scheduled:
            self._add_job(schedule, function, is_once=once)
            return function

        return declare

    @_called('worker.connect("wss://feed.example/prices", option=value)')
    def connect(
        self,
        url: str,
        *,
        on_message: Callable[[OutgoingConnection, Any], Any] | None = None,
        on_open: Callable[[OutgoingConnection], Any] | None = None,
        on_close: Callable[[OutgoingConnection, int, str], Any] | None = None,
        once: bool = False,
        headers: Headers | None = None,
        subprotocols: Sequence[str] = (),
        ssl: "SSLContext | bool | None" = None,
        proxy: bool = True,
        max_message_size: int = 1 << 20,
        max_send_buffer_size: int = 1 << 20,
        open_timeout: float = 10.0,
        max_delay: float = 30.0,
    ) -> OutgoingConnection:
        """
        Connect to another server as long as a process serves, and again whenever that ends.

            feed = worker.connect("wss://feed.example/prices", once=True)

            @feed.on_message
            def spread(feed, price):
                hub.send_to_group("prices", price)

        Args:
            url: ``ws://`` or ``wss://`` (needs ``gateman[client]``); ``tcp://HOST:PORT`` for bytes
                as they arrive, ``text://HOST:PORT`` for lines, ``frame://HOST:PORT`` for packets
                with their length before them.
            on_message: ``(connection, message)``; see :meth:`OutgoingConnection.on_message`.
            on_open: ``(connection)``.
            on_close: ``(connection, code, reason)``.
            once: One process of the service has the connection, on all its machines, and another
                one takes over when that process ends. Without it, each process has one.
            headers: Of the handshake of a WebSocket; or a function that returns them, plain or
                ``async``, which is called before each attempt, for a token that expires.
            subprotocols: That are offered, in the order of preference.
            ssl: TLS with this context; ``True`` for one that verifies with the system's roots,
                which ``wss://`` has anyway.
            proxy: Whether a WebSocket goes through the proxy that ``https_proxy``, ``http_proxy``
                and ``no_proxy`` name.
            max_message_size: Bytes; a longer message ends the connection.
            max_send_buffer_size: Bytes that may wait for a slow server; what is more is dropped.
            open_timeout: Seconds until it has to be open, with TLS and handshake.
            max_delay: Seconds; the longest pause between two attempts.

        Returns:
            The connection, to declare callbacks and to send. It is opened when the process serves.

        Raises:
            ConfigError: An argument cannot be used.

        Guarantees:
            Before the n-th attempt since the connection last worked, the pause is random, between
            0 and 0.5·2ⁿ seconds (full jitter), and never above ``max_delay``. A WebSocket is pinged
            every 20 seconds and ends without a pong within 20 more. An exception of a callback is
            logged; the connection stays. When the process starts to drain, the connection is
            closed, and with ``once`` another process opens it after that: at no time do two of
            them handle its messages. What the server sends in between is lost, unless it
            repeats it.
        """
        made = OutgoingConnection(
            url,
            callbacks={"on_message": on_message, "on_open": on_open, "on_close": on_close},
            once=once,
            headers=headers,
            subprotocols=subprotocols,
            ssl=ssl,
            uses_proxy=proxy,
            max_message_size=max_message_size,
            max_send_buffer_size=max_send_buffer_size,
            open_timeout=open_timeout,
            max_delay=max_delay,
        )
        self.outgoing.append(made)
        return made

    def _add_job(self, schedule: Schedule, function: Callable[[], Any], *, is_once: bool) -> None:
        check_function(function)
        job = Job(schedule, function, is_once)
        if any(str(job) == str(other) for other in self.jobs):
            raise ConfigError(
                f"{job} is declared twice",
                "declare it once, or give the other function a name of its own",
            )
        self.jobs.append(job)

    @_called("@worker.on_event('prices')")
    def on_event(self, topic: str) -> Callable[[OfEvent], OfEvent]:
        """
        Call a function for each event that a process sends with :meth:`gateman.Hub.send_event`.

            @worker.on_event("prices")
            async def update(prices): ...

        It is called in each process of this worker, on all machines, from ``on_worker_start`` to
        ``on_worker_stop``, in order for each sender. While an ``async def`` runs, up to 1000
        events and 8 MiB wait; further events are dropped and counted. Its exceptions are logged
        and counted. A topic may have several functions, and a function several topics.

        Args:
            topic: 1 to 255 bytes of UTF-8.

        Returns:
            The decorator, for a function of ``(data)``, plain or ``async``.

        Raises:
            ConfigError: The topic is not valid, or the function takes other arguments.
        """
        if callable(topic):
            raise ConfigError("on_event was given no topic", "write @worker.on_event('prices')")
        check_topic(topic)

        def declare(function: OfEvent) -> OfEvent:
            check("on_event", function, _EVENT_SIGNATURE)
            self.event_handlers.append((topic, function))
            return function

        return declare

    @classmethod
    def run_all(
        cls,
        *positional: Never,
        metrics: str | None = None,
        history: str = "memory",
        history_memory: int = 64 * 1024 * 1024,
        **unknown: Never,
    ) -> None:
        """
        Run the command of the program's arguments, such as ``python server.py start``.

        Without a command, run all declared workers until SIGINT or SIGTERM, and return when they
        have stopped in order. Call it once, in the main thread of the program, and not while the
        program is imported: put it under ``if __name__ == "__main__":`` if a test or another
        program imports the script.

        Args:
            positional: None; options are given by name.
            metrics: The address at which the master serves metrics of all processes, such as
                ``"127.0.0.1:9095"``; see ``docs/monitoring.md``.
            history: Where the router keeps the history of channels: ``"memory"``, or
                ``"sqlite:///var/lib/chat/history.db"``; see ``docs/history.md``.
            history_memory: The memory, in bytes, that the router uses for it.
            unknown: None; other names are refused.

        Raises:
            ConfigError: A declared value is not valid, or the call is elsewhere, or the second
                one; no worker listens.
            SystemExit: In other cases; the code is one of :class:`gateman.ExitCode`.
        """
        BaseWorker.is_run = True
        if BaseWorker.is_loaded_by_test:
            return
        if cls.runner is None:
            raise RuntimeError(f"{cls.__name__} must be imported from gateman")
        name = f"{cls.__name__}.run_all()"
        check_call(name)
        if positional:
            raise ConfigError(
                f"{name} takes no positional arguments", f"write {name[:-1]}option=value)"
            )
        check_names("option of run_all", unknown, ServiceOptions.options)
        if BaseWorker._has_run:
            raise ConfigError(
                f"{name} was called a second time; the first call ran all declared workers",
                "call it once, at the end of the program",
            )
        BaseWorker._has_run = True
        make_names_unique(cls._declared)
        environment.apply(cls._declared, os.environ)
        BaseWorker.service = ServiceOptions(
            metrics=metrics, history=history, history_memory=history_memory
        )
        environment.apply_to_service(BaseWorker.service, os.environ)
        cls.runner(list(cls._declared))


# Characters per line, and lines; nodes exchange outlines over the bus.
_MAX_LINE, _MAX_LINES = 120, 16


def outline(declared: Sequence[BaseWorker], script: str) -> tuple[str, ...]:
    """Return the script's name and a line for each worker, so that nodes notice another service."""
    lines = [PurePath(script).name or "a program"]
    for one in declared:
        functions = [getattr(function, "__name__", "?") for function in one.callbacks.values()]
        lines.append(" ".join([type(one).__name__, one.name, *functions]))
    return tuple(line[:_MAX_LINE] for line in lines[:_MAX_LINES])


def make_names_unique(declared: Sequence[BaseWorker]) -> None:
    """Number workers with the same name; each process of a script gets the same result."""
    taken = {one.name for one in declared}
    seen: set[str] = set()
    for one in declared:
        name, number = one.name, 2
        if name in seen:
            while f"{name}-{number}" in taken:
                number += 1
            one.name = f"{name}-{number}"
            taken.add(one.name)
        seen.add(one.name)
