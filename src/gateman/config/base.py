"""
What everything that a script declares has: callbacks, a schedule, and how it is supervised.

:class:`~gateman.config.worker.Worker` adds what listens, :mod:`gateman.gateway` the two that share
its work between processes. Nothing here serves.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar, overload

from ..cluster.names import check_topic
from ..entry_point import check_call
from ..errors import ConfigError
from ..options import Timeouts, option
from . import checks, environment
from .callbacks import check, label
from .schedule import check_function, check_interval
from .schema import Configurable, Converted

P = ParamSpec("P")
R = TypeVar("R")
Scheduled = TypeVar("Scheduled", bound=Callable[[], Any])
OfEvent = TypeVar("OfEvent", bound=Callable[[Any], Any])

# What a decorator is given by ``@worker.on_message()``; for type checkers it is never left out.
_NOTHING: Any = None

_EVENT_SIGNATURE = {"on_event": ("data",)}


class _Registrar(Generic[P]):
    """What ``worker.on_message`` is when it is read: a decorator."""

    __slots__ = ("_name", "_worker")

    def __init__(self, worker: "BaseWorker", name: str) -> None:
        self._worker = worker
        self._name = name

    def __call__(self, function: Callable[P, R] = _NOTHING) -> Callable[P, R]:
        if function is None:
            # With parentheses; Python's own words would not say what to write.
            raise ConfigError(
                f"{self._name} was given no function", f"write @worker.{self._name} without ()"
            )
        known = self._worker.callbacks.get(self._name)
        if known is not None and known is not function:
            raise ConfigError(
                f"{self._name} is declared already: {label(known)} would not be called any more",
                f"call both from one function, or write worker.{self._name} = … to replace it",
            )
        self._worker.declare(self._name, function)
        return function

    @property
    def function(self) -> Callable[P, Any] | None:
        """The callback that was declared, or ``None``."""
        return self._worker.callbacks.get(self._name)


class Callback(Generic[P]):
    """
    A callback of a worker: declared by decorating a function, or by assigning one.

    It has no annotation where it is declared: type checkers would take it for an option.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, worker: None, owner: type) -> "Callback[P]": ...
    @overload
    def __get__(self, worker: "BaseWorker", owner: type) -> _Registrar[P]: ...
    def __get__(self, worker: "BaseWorker | None", owner: type) -> "Callback[P] | _Registrar[P]":
        """Give the decorator."""
        return self if worker is None else _Registrar(worker, self._name)

    def __set__(self, worker: "BaseWorker", function: Callable[P, Any] | None) -> None:
        """Declare a function, or with ``None`` no longer one."""
        if function is None:
            worker.callbacks.pop(self._name, None)
        else:
            worker.declare(self._name, function)


class BaseWorker(Configurable):
    """
    One thing that a script declares: processes that do the same.

    Attributes:
        id: Which of its processes this is: 0 to ``count - 1``.
        callbacks: The functions that were declared, by name.
        schedule: What :meth:`every` declared: the interval in seconds, and the function.
        event_handlers: What :meth:`on_event` declared: the topic, and the function.
        from_environment: The variable of each option that the environment has set.
    """

    runner: ClassVar[Callable[[list["BaseWorker"]], None] | None] = None
    """What :meth:`run_all` calls with all that were declared. Rows above this one set it."""
    state = frozenset({"id", "callbacks", "schedule", "event_handlers", "from_environment"})
    _declared: ClassVar[list["BaseWorker"]] = []
    _has_run: ClassVar[bool] = False

    name: str = option(
        check=checks.name,
        reason="The name in logs and in ``status``. If several workers have one name, ``run_all``"
        " calls the second one ``chat-2``, and so on.",
    )
    count: int = option(
        default=1, unit="processes", check=checks.count, reason="How many processes serve it."
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
        reason="How long a process that drains (``stop -g``, ``reload``) takes to close its"
        " connections, so that their clients do not all reconnect at once. A business worker's"
        " handlers have this time to end.",
    )
    restart_stalled: bool = option(
        default=False,
        check=checks.yes_or_no,
        reason="Whether a process that does not respond for ``timeouts.stall`` is replaced; its"
        " connections end then.",
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
        reason="After so many within five minutes, a process is not started again until"
        " ``reload``.",
    )
    max_messages: int | None = option(
        default=None,
        unit="messages",
        check=checks.whole_number,
        reason="A process that has received so many is replaced, and drains; a business worker"
        " counts events. It happens up to a fifth earlier, so that processes are not replaced all"
        " at once; the same goes for the next two. ``None`` means no limit.",
    )
    max_lifetime: float | None = option(
        default=None,
        unit="seconds",
        check=checks.number,
        reason="A process that has served so long is replaced. ``None`` means no limit.",
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
        reason="The user, by name or number, that the processes switch to after the master has"
        " bound the ports and they have read their keys. The master has to run as root.",
    )
    group: str | int | None = option(
        default=None,
        check=checks.account,
        reason="The group that they switch to; ``None`` is the user's.",
    )
    bus: str | Mapping[str, Any] | None = option(
        default=None,
        check=checks.bus,
        reason="The bus that connects the hubs of all processes and machines: a URL such as"
        ' ``"nats://host:4222?name=chat"``, or a mapping with ``url`` and options. ``None`` is a'
        " router that the master runs, for the processes of this script and for commands such as"
        " ``gateman push``.",
    )

    def _configure(self, values: dict[str, Any]) -> None:
        self.id = 0
        self.from_environment: dict[str, str] = {}
        self.callbacks: dict[str, Callable[..., Any]] = {}
        self.schedule: list[tuple[float, Callable[[], Any]]] = []
        self.event_handlers: list[tuple[str, Callable[[Any], Any]]] = []
        super()._configure(values)
        self._declared.append(self)

    if not TYPE_CHECKING:  # Type checkers know the names, and would take any other for one.

        def __getattr__(self, name: str) -> Any:
            """Tell who misspells a callback which they mean."""
            if name.startswith("on_"):
                kind = f"callback of {type(self).__name__}"
                raise ConfigError.unknown(kind, name, self.signatures)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def declare(self, name: str, function: Callable[..., Any]) -> None:
        """
        Declare a callback by its name.

        Args:
            name: Such as ``"on_message"``.
            function: What is called; in place of what was declared before.

        Raises:
            ConfigError: It cannot be called as it would be.
        """
        check(name, function, self.signatures)
        self.callbacks[name] = function

    def every(self, seconds: float | None = None) -> Callable[[Scheduled], Scheduled]:
        """
        Run a function every so many seconds, in each process of this worker.

            @worker.every(60)
            async def tidy_up(): ...

        Args:
            seconds: The interval; see :class:`gateman.Timer` for what is promised.

        Returns:
            The decorator, for a function without arguments, plain or ``async``.

        Raises:
            ConfigError: It is not a positive number, or the function takes arguments.
        """
        if seconds is None or callable(seconds):
            raise ConfigError("every was not told how often", "write @worker.every(60)")
        check_interval(seconds)

        def declare(function: Scheduled) -> Scheduled:
            check_function(function)
            self.schedule.append((seconds, function))
            return function

        return declare

    def on_event(self, topic: str | None = None) -> Callable[[OfEvent], OfEvent]:
        """
        Call a function for what any process tells with :meth:`gateman.Hub.send_event`.

            @worker.on_event("prices")
            async def update(prices): ...

        It is called in each process of this worker, on all machines, from ``on_worker_start`` to
        ``on_worker_stop``, in order for each sender. The next event waits until an ``async def``
        is done: up to 1000 of them and 8 MiB, what is more is dropped and counted. What it raises
        is logged and counted. A topic may have several functions, and a function several topics.

        Args:
            topic: 1 to 255 bytes of UTF-8.

        Returns:
            The decorator, for a function of ``(data)``, plain or ``async``.

        Raises:
            ConfigError: It cannot be a topic; by the decorator, the function takes something else.
        """
        if topic is None or callable(topic):
            raise ConfigError("on_event was not told of what", "write @worker.on_event('prices')")
        check_topic(topic)

        def declare(function: OfEvent) -> OfEvent:
            check("on_event", function, _EVENT_SIGNATURE)
            self.event_handlers.append((topic, function))
            return function

        return declare

    @classmethod
    def run_all(cls) -> None:
        """
        Do what the command line says: ``python server.py start`` and so on; see ``--help``.

        Without a command, run everything that was declared until SIGINT or SIGTERM. Returns when
        all were stopped in order. It is called once, in the main thread of the program, and not
        while that is imported: put it under ``if __name__ == "__main__":`` where something else,
        such as a test, imports the script.

        Raises:
            ConfigError: Something declared cannot be, or it is called elsewhere, or for the
                second time; nothing listens then.
            SystemExit: It ended otherwise; the code is one of :class:`gateman.ExitCode`.
        """
        if cls.runner is None:
            raise RuntimeError(f"{cls.__name__} is to be imported from gateman")
        name = f"{cls.__name__}.run_all()"
        check_call(name)
        if BaseWorker._has_run:
            raise ConfigError(
                f"{name} was called a second time, and the first time ran all that was declared",
                "call it once, at the end of the program",
            )
        BaseWorker._has_run = True
        tell_apart(cls._declared)
        environment.apply(cls._declared, os.environ)
        cls.runner(list(cls._declared))


# Characters of a line, and lines: what travels on a bus is small.
_MAX_LINE, _MAX_LINES = 120, 16


def outline(declared: Sequence[BaseWorker], script: str) -> tuple[str, ...]:
    """
    Tell what a script declares, alike on all machines, so that another service is noticed.

    Args:
        declared: All of it.
        script: Its path.

    Returns:
        The script's name, and a line for each of its workers: kind, name and functions.
    """
    lines = [PurePath(script).name or "a program"]
    for one in declared:
        functions = [getattr(function, "__name__", "?") for function in one.callbacks.values()]
        lines.append(" ".join([type(one).__name__, one.name, *functions]))
    return tuple(line[:_MAX_LINE] for line in lines[:_MAX_LINES])


def tell_apart(declared: Sequence[BaseWorker]) -> None:
    """
    Number those that have the same name; alike in each process, as they declare the same.

    Args:
        declared: All that the script declares.
    """
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
