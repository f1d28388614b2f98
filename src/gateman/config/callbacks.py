"""
The application's callbacks, and checks of functions that are declared as callbacks.

:mod:`gateman.runtime.callback_runner` calls them.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..errors import ConfigError

# The callbacks of a worker, and their arguments.
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
    "on_health": ("worker",),
}

# Those that only the commands of SDK clients call.
CLIENT_SIGNATURES: dict[str, tuple[str, ...]] = {
    "on_client_connect": ("connection", "token", "data"),
    "on_refresh": ("connection", "token"),
    "on_subscribe": ("connection", "channel", "data"),
    "on_sub_refresh": ("connection", "channel", "token"),
    "on_publish": ("connection", "channel", "data"),
    "on_rpc": ("connection", "method", "data"),
    "on_join": ("channel", "info"),
    "on_leave": ("channel", "info"),
}

# Those of a business worker; its clients are connected to gateways.
BUSINESS_SIGNATURES: dict[str, tuple[str, ...]] = {
    "on_worker_start": ("worker",),
    "on_worker_stop": ("worker",),
    "on_websocket_connect": ("client_id", "request"),
    "on_open": ("client_id",),
    "on_message": ("client_id", "message"),
    "on_close": ("client_id", "code", "reason"),
}

# Those of a business worker that commands of SDK clients call.
BUSINESS_CLIENT_SIGNATURES: dict[str, tuple[str, ...]] = {
    name: ("client_id", *parameters[1:])
    for name, parameters in CLIENT_SIGNATURES.items()
    # Those about channels have no client whose business process would be told.
    if parameters[0] == "connection"
}

Function = Callable[..., Any]


def check(
    name: str, function: object, signatures: Mapping[str, tuple[str, ...]] = SIGNATURES
) -> None:
    """Check that a function takes the arguments of a callback, and is not a generator."""
    parameters = signatures[name]
    wanted = ", ".join(parameters)
    if not callable(function):
        raise ConfigError(
            f"{name}={function!r} is not a function", f"give it a function of ({wanted})"
        )
    if is_generator(function):
        raise ConfigError(
            f"{name} would never run: {label(function)} is a generator",
            "remove the yield",
        )
    signature = unsuitable_signature(function, parameters)
    if signature is not None:
        raise ConfigError(
            f"{name} is called with ({wanted}), but {label(function)} takes {signature}",
            f"let it take ({wanted})",
        )


def is_generator(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def unsuitable_signature(
    function: Callable[..., Any], arguments: Sequence[object]
) -> inspect.Signature | None:
    """Return the signature of a function that does not take the arguments; else ``None``."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None  # Some built-in functions have no signature.
    try:
        signature.bind(*arguments)
    except TypeError:
        return signature
    return None


def is_async(function: object) -> bool:
    """Return whether the result of a function has to be awaited."""
    while isinstance(function, partial):
        function = function.func
    # A decorator hides an `async def` in a plain function; functools.wraps stores it.
    function = inspect.unwrap(function) if callable(function) else function
    # Of the type: a class whose instances are callable is called to make an instance.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - the method itself is examined
    )


def wrong_result(name: str, result: object, *, decides: bool) -> ConfigError | None:
    """Return an error for a result that looks like a refusal, which callbacks raise instead."""
    if result is None or (result is not False and not decides) or result is True:
        return None
    returned = "False" if result is False else f"a {type(result).__name__}"
    if decides:
        return ConfigError(
            f"{name} returned {returned}",
            "raise Refuse(403) to refuse a client, and return nothing to accept it",
        )
    return ConfigError(
        f"{name} returned {returned}, which refuses no client",
        "raise Refuse(403) in the callback that gets the request",
    )


def wrong_health(result: object) -> ConfigError | None:
    """Return an error for a result of ``on_health`` that says neither yes nor no."""
    if result is None or isinstance(result, bool):
        return None
    return ConfigError(
        f"on_health returned a {type(result).__name__}",
        "return False if this process is not ready, and nothing or True if it is",
    )


def label(function: object) -> str:
    """Return a function's name for errors; for a callable object the name of its type."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    short = str(name).rpartition("<locals>.")[2]
    return short if hasattr(function, "__qualname__") else f"a {short}"
