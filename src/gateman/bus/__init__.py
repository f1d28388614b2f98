"""
Buses: they carry bytes by subject, between the processes of a service and between machines.

:mod:`.base` documents what every bus guarantees; :func:`open_bus` makes one from a URL.
"""

import inspect
from collections.abc import Callable
from typing import Any

from ..errors import ConfigError
from ..options import is_path, is_positive
from .base import Bus, Cause, Gap, Receive
from .subjects import Subject, subject

__all__ = ["Bus", "Cause", "Gap", "Receive", "Subject", "open_bus", "subject"]

_REMEDY = (
    "write memory://, local:///path/to/socket, nats://host:4222?name=chat or"
    " tls://host:4222?name=chat"
)

# Exact as a float, and far below what overflows.
_MAX_NUMBER = 1 << 53


def open_bus(url: str, /, **options: object) -> Bus:
    """Make the bus of a URL, without connecting it; raises ConfigError for a bad URL or option."""
    if not isinstance(url, str):
        raise ConfigError(f"the bus's URL is not a text but a {type(url).__name__}", _REMEDY)
    scheme, _, rest = url.partition("://")
    match scheme:
        case "memory":
            from .memory import MemoryBus

            return MemoryBus(rest, **_known(MemoryBus, options))
        case "local":
            from .local import local_bus

            return local_bus(rest, **_known(local_bus, options))
        case "nats" | "tls":
            from .nats import nats_bus

            return nats_bus(url, **_known(nats_bus, options))
        case _:
            # Without the URL, which may have a secret.
            raise ConfigError(
                "the bus's URL is of an unknown kind",
                f"{_REMEDY}; `gateman bus SCRIPT` prints the one of a running service",
            )


def _known(kind: Callable[..., Bus], options: dict[str, Any]) -> dict[str, Any]:
    """Refuse options that this kind of bus does not have."""
    known = {
        one.name: one.default
        for one in inspect.signature(kind).parameters.values()
        if one.kind is one.KEYWORD_ONLY
    }
    for name, value in options.items():
        if name not in known:
            raise ConfigError.unknown("option of this bus", name, known)
        wanted = _wanted(known[name], value)
        # The value may be a secret.
        if wanted and not (name == "broker" and kind.__name__ == "MemoryBus"):
            raise ConfigError(f"the bus's {name} cannot be a {type(value).__name__}", wanted)
    return options


def _wanted(default: object, value: object) -> str:
    """Say what value an option needs, judged by its default; empty if the value is good."""
    if isinstance(default, str):
        return "" if isinstance(value, str) else "write a text"
    if default is None:
        return "" if value is None or is_path(value) else "write the path of a file"
    if not is_positive(value, _MAX_NUMBER):
        return "write a positive number"
    return "" if isinstance(value, int) or isinstance(default, float) else "write a whole number"
