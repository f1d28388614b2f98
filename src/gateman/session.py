"""
The type of sessions as a parameter, for type checkers alone: ``Worker[Session]``.

When a program runs, ``Worker[Session]`` is ``Worker``: nothing is kept, checked or slower.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    # Defaults are in `typing` from Python 3.13 on; type checkers have this package anyway.
    from typing_extensions import TypeVar as WithDefault

    S = WithDefault("S", bound=Mapping[str, Any], default=dict[str, Any])
    S_co = WithDefault("S_co", bound=Mapping[str, Any], default=dict[str, Any], covariant=True)

    class OfSession(Generic[S]):
        """A class with the type of a session as its parameter."""

    class OfSessionRead(Generic[S_co]):
        """The same, of a class that only gives the session."""

else:
    S = TypeVar("S")
    S_co = TypeVar("S_co", covariant=True)

    class OfSession:
        """A class whose parameter has no effect."""

        __slots__ = ()

        def __class_getitem__(cls, _session: object) -> type:
            return cls

    OfSessionRead = OfSession
