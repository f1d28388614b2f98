"""
The application's callbacks: which there are, and whether a function can be one of them.

:mod:`gateman.runtime.callback_runner` calls them.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..errors import ConfigError

# The callbacks of a worker, and what each is called with.
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

# Those of a business worker, which has no connections: its clients are those of gateways.
BUSINESS_SIGNATURES: dict[str, tuple[str, ...]] = {
    "on_worker_start": ("worker",),
    "on_worker_stop": ("worker",),
    "on_websocket_connect": ("client_id", "request"),
    "on_open": ("client_id",),
    "on_message": ("client_id", "message"),
    "on_close": ("client_id", "code", "reason"),
}

Function = Callable[..., Any]


def check(
    name: str, function: object, signatures: Mapping[str, tuple[str, ...]] = SIGNATURES
) -> None:
    """
    Check that a callback can be called as it will be.

    Raises:
        ConfigError: It is not a function, takes other arguments, or would never run.
    """
    parameters = signatures[name]
    wanted = ", ".join(parameters)
    if not callable(function):
        raise ConfigError(
            f"{name}={function!r} is not a function", f"give it a function of ({wanted})"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(
            f"{name} would never run: {label(function)} is a generator",
            "take the yield out of it",
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # Some built-in functions have none; they are tried.
    try:
        signature.bind(*parameters)
    except TypeError:
        raise ConfigError(
            f"{name} is called with ({wanted}), but {label(function)} takes {signature}",
            f"let it take ({wanted})",
        ) from None


def is_async(function: object) -> bool:
    """Tell whether calling a function gives something to await."""
    while isinstance(function, partial):
        function = function.func
    # A decorator hides an `async def` behind a plain function; functools.wraps leaves a trace.
    function = inspect.unwrap(function) if callable(function) else function
    # Of the type: a class whose instances are callable is itself called to make one.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - the method itself is asked about
    )


def wrong_result(name: str, result: object, *, decides: bool) -> ConfigError | None:
    """Judge what a callback returned; one that means to refuse a client must not let it in."""
    if result is None or (result is not False and not decides) or result is True:
        return None
    returned = "False" if result is False else f"a {type(result).__name__}"
    if decides:
        return ConfigError(
            f"{name} returned {returned}",
            "raise Refuse(403) to refuse a client, and return nothing to let it in",
        )
    return ConfigError(
        f"{name} returned {returned}, which refuses no client",
        "raise Refuse(403) in the callback that gets the request",
    )


def label(function: object) -> str:
    """Name a function as a user would; a callable object by its type."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    short = str(name).rpartition("<locals>.")[2]
    return short if hasattr(function, "__qualname__") else f"a {short}"
