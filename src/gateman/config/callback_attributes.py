"""
Attributes of workers that declare callbacks: ``@worker.on_message``, ``worker.on_open = …``.

They are descriptors, so that type checkers know what each callback takes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from ..errors import ConfigError
from .callbacks import label

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

# Functions for messages. A client chooses what it sends; a function may be for one kind alone.
OfBoth: TypeAlias = Callable[[C, str | bytes], R]
OfText: TypeAlias = Callable[[C, str], R]
OfBytes: TypeAlias = Callable[[C, bytes], R]

# The argument of a decorator in ``@worker.on_message()``; type checkers do not see this default.
_NOTHING: Any = None


class Declaring(Protocol):
    """A worker, which knows the callbacks that were declared."""

    callbacks: dict[str, Callable[..., Any]]

    def declare(self, name: str, function: Callable[..., Any]) -> None: ...


class _Registrar(Generic[P]):
    """The value of ``worker.on_message``: a decorator."""

    __slots__ = ("_name", "_worker")

    def __init__(self, worker: Declaring, name: str) -> None:
        self._worker = worker
        self._name = name

    def __call__(self, function: Callable[P, R] = _NOTHING) -> Callable[P, R]:
        if function is None:
            # Used with parentheses; Python's own error would not say what to write.
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
        """The declared callback, or ``None``."""
        return self._worker.callbacks.get(self._name)


class Callback(Generic[P]):
    """A callback of a worker: declared by decorating a function, or by assigning one."""

    # Its declaration has no annotation: type checkers would take it for an option.
    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, worker: None, owner: type) -> "Callback[P]": ...
    @overload
    def __get__(self, worker: Declaring, owner: type) -> _Registrar[P]: ...
    def __get__(self, worker: Declaring | None, owner: type) -> "Callback[P] | _Registrar[P]":
        return self if worker is None else _Registrar(worker, self._name)

    def __set__(self, worker: Declaring, function: Callable[P, Any] | None) -> None:
        """Declare a function; ``None`` removes it."""
        if function is None:
            worker.callbacks.pop(self._name, None)
        else:
            worker.declare(self._name, function)


# With `Generic`: Python 3.11.2, which is Debian's, finds no type parameter in a list.
class _MessageRegistrar(_Registrar[[C, Any]], Generic[C]):
    """The value of ``worker.on_message``: for functions that take text, bytes, or both."""

    __slots__ = ()

    if TYPE_CHECKING:

        @overload  # type: ignore[override] # not everything is a message
        def __call__(self, function: OfBoth[C, R]) -> OfBoth[C, R]: ...
        @overload
        def __call__(self, function: OfText[C, R]) -> OfText[C, R]: ...
        @overload
        def __call__(self, function: OfBytes[C, R]) -> OfBytes[C, R]: ...
        def __call__(self, function: Any) -> Any: ...


class MessageCallback(Callback[[C, Any]], Generic[C]):
    """``on_message``, whose function may take text alone (``str``), binary alone, or both."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, worker: None, owner: type) -> "MessageCallback[C]": ...
        @overload
        def __get__(self, worker: Declaring, owner: type) -> _MessageRegistrar[C]: ...
        def __get__(self, worker: Any, owner: type) -> Any: ...

        def __set__(
            self,
            worker: Declaring,
            function: OfBoth[C, Any] | OfText[C, Any] | OfBytes[C, Any] | None,
        ) -> None: ...
