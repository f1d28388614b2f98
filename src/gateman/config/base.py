"""
What everything that a script declares has: callbacks, a schedule, and how it is supervised.

:class:`~gateman.config.worker.Worker` adds what listens, :mod:`gateman.gateway` the two that share
its work between processes. Nothing here serves.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from ..cluster.names import check_topic
from ..entry_point import check_call
from ..errors import ConfigError
from ..options import Timeouts
from . import schema
from .callbacks import check, label
from .schedule import check_function, check_interval

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Callable[..., Any])


_EVENT_SIGNATURE = {"on_event": ("data",)}


class _Registrar(Generic[S]):
    """What ``worker.on_message`` is when it is read: a decorator."""

    __slots__ = ("_name", "_worker")

    def __init__(self, worker: "BaseWorker", name: str) -> None:
        self._worker = worker
        self._name = name

    def __call__(self, function: F = None) -> F:  # type: ignore[assignment] # see below
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
    def __get__(self, worker: "BaseWorker", owner: type) -> _Registrar[S]: ...
    def __get__(self, worker: "BaseWorker | None", owner: type) -> "Callback[S] | _Registrar[S]":
        """Give the decorator."""
        return self if worker is None else _Registrar(worker, self._name)

    def __set__(self, worker: "BaseWorker", function: S | None) -> None:
        """Declare a function, or with ``None`` no longer one."""
        if function is None:
            worker.callbacks.pop(self._name, None)
        else:
            worker.declare(self._name, function)


class BaseWorker:
    """
    One thing that a script declares: processes that do the same.

    Every argument is an attribute too, and may be assigned until ``run_all``.

    Attributes:
        name: For people: in logs and in ``status``. Where several have one name, ``run_all``
            calls the second one ``chat-2``, and so on.
        count: How many processes serve it.
        timeouts: See :class:`gateman.Timeouts`; a mapping of some of them will do.
        drain_window: Seconds over which a process that drains (``stop -g``, ``reload``) parts from
            its work.
        restart_stalled: Whether a process that was stuck for ``timeouts.stall`` is replaced; its
            connections end then.
        reloadable: Whether ``reload`` renews its processes; ``reload --all`` always does.
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
            machines: a URL such as ``"nats://host:4222?name=chat"``, or a mapping of ``url`` and
            options.
            By default those of this script are connected, and commands such as ``gateman push``
            with them.
        id: Which of its processes this is: 0 to ``count - 1``.
        callbacks: The functions that were declared, by name.
        schedule: What :meth:`every` declared: the interval in seconds, and the function.
        event_handlers: What :meth:`on_event` declared: the topic, and the function.
    """

    runner: ClassVar[Callable[[list["BaseWorker"]], None] | None] = None
    """What :meth:`run_all` calls with all that were declared. Rows above this one set it."""
    options: ClassVar[AbstractSet[str]] = schema.DECLARED
    """What may be assigned, beside callbacks."""
    signatures: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The callbacks that it has, and what each is called with."""
    _declared: ClassVar[list["BaseWorker"]] = []
    _has_run: ClassVar[bool] = False

    def __init__(
        self,
        *,
        name: str,
        count: int = 1,
        timeouts: Timeouts | Mapping[str, Any] | None = None,
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
        Declare it, as the last step of a class that has set its own options.

        Args:
            name: See the attributes for all of them.
            count: Processes.
            timeouts: Timeouts.
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
        for option in unknown:
            self._refuse(option)
        self.callbacks: dict[str, Callable[..., Any]] = {}
        self.schedule: list[tuple[float, Callable[[], Any]]] = []
        self.event_handlers: list[tuple[str, Callable[[Any], Any]]] = []
        self.name = name
        self.count = count
        self.timeouts: Any = timeouts
        self.drain_window = drain_window
        self.restart_stalled = restart_stalled
        self.reloadable = reloadable
        self.max_crashes = max_crashes
        self.max_messages = max_messages
        self.max_lifetime = max_lifetime
        self.max_memory = max_memory
        self.user = user
        self.group = group
        self.bus = bus
        self.id = 0
        self._declared.append(self)

    if not TYPE_CHECKING:  # Type checkers know the names, and would take any other for one.

        def __getattr__(self, name: str) -> Any:
            """Tell who misspells a callback which they mean."""
            if name.startswith("on_"):
                kind = f"callback of {type(self).__name__}"
                raise ConfigError.unknown(kind, name, self.signatures)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign an option or a callback; a name that is neither is a mistake."""
        if name not in self.options and name not in self.signatures:
            self._refuse(name)
        super().__setattr__(name, schema.CHECKS[name](value) if name in schema.CHECKS else value)

    def _refuse(self, option: str) -> None:
        known = (set(self.options) | set(self.signatures)) - schema.OWN
        raise ConfigError.unknown(f"option of {type(self).__name__}", option, known)

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

    def every(self, seconds: float | None = None) -> Callable[[F], F]:
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
        if seconds is None or callable(seconds):
            raise ConfigError("every was not told how often", "write @worker.every(60)")
        check_interval(seconds)

        def declare(function: F) -> F:
            check_function(function)
            self.schedule.append((seconds, function))
            return function

        return declare

    def on_event(self, topic: str | None = None) -> Callable[[F], F]:
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

        def declare(function: F) -> F:
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
