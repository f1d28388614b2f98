"""Checks of a timer's interval and function."""

import inspect
from typing import Any

from ..errors import ConfigError
from ..options import is_positive
from .callbacks import is_generator, unsuitable_signature

# An interval of 300 years overflows nothing.
_MAX_SECONDS = 1e10


def check_interval(seconds: object) -> None:
    if not is_positive(seconds, _MAX_SECONDS):
        raise ConfigError(
            f"a timer of {seconds!r} seconds would never run", "give it a positive number"
        )


def check_function(function: object, args: tuple[Any, ...] = ()) -> None:
    """Check that a timer can call a function with the arguments, more than once."""
    if inspect.iscoroutine(function):
        name = function.__qualname__
        function.close()
        raise ConfigError(
            f"a timer runs its function more than once, but {name}() is called already",
            f"give it the function: Timer.add(seconds, {name})",
        )
    if not callable(function):
        raise ConfigError(
            f"a timer cannot call {function!r}", "give it a function, and its arguments after it"
        )
    if is_generator(function):
        raise ConfigError(
            f"a timer would never run {function!r}: it is a generator", "remove the yield"
        )
    signature = unsuitable_signature(function, args)
    if signature is not None:
        given = ", ".join(map(repr, args)) or "nothing"
        raise ConfigError(
            f"a timer would call a function that takes {signature} with {given}",
            "pass its arguments after it: Timer.add(seconds, function, 1, 2)",
        )
