"""
The application's callbacks: which there are, and whether a function can be one of them.

:mod:`gateman.caller` calls them.
"""

import inspect
from collections.abc import Callable
from typing import Any

from .errors import ConfigError

# The callbacks, and what each is called with.
SIGNATURES: dict[str, tuple[str, ...]] = {
    "on_worker_start": ("worker",),
    "on_worker_stop": ("worker",),
    "on_connect": ("connection",),
    "on_websocket_connect": ("connection", "request"),
    "on_open": ("connection",),
    "on_message": ("connection", "message"),
    "on_close": ("connection", "code", "reason"),
    "on_error": ("connection", "error"),
    "on_buffer_full": ("connection",),
    "on_buffer_drain": ("connection",),
}

Function = Callable[..., Any]


def check(name: str, function: object) -> None:
    """
    Check that a callback can be called as it will be.

    Args:
        name: The callback's name, such as ``"on_message"``.
        function: What the user gave.

    Raises:
        ConfigError: It is no function, or takes other arguments.
    """
    parameters = SIGNATURES[name]
    wanted = ", ".join(parameters)
    if not callable(function):
        raise ConfigError(
            f"{name}={function!r} is no function", f"give it a function of ({wanted})"
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # Some built-in functions have none; they are tried.
    try:
        signature.bind(*parameters)
    except TypeError:
        label = getattr(function, "__qualname__", repr(function))
        raise ConfigError(
            f"{name} is called with ({wanted}), but {label}{signature} cannot be",
            f"declare it as {label.rpartition('.')[2]}({wanted})",
        ) from None


def is_async(function: object) -> bool:
    """
    Tell whether calling a function gives something to await.

    Args:
        function: A function, method, ``functools.partial`` or callable object.

    Returns:
        Whether it is an ``async def``.
    """
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method itself is asked about
    )
