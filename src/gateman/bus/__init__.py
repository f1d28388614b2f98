"""
Buses: they move bytes by subject, between the processes of a service and between machines.

:mod:`.base` says what every bus promises, and :func:`open_bus` makes one of a URL.
"""

import inspect
from typing import Any

from ..errors import ConfigError
from .base import Bus, Cause, Gap, Receive
from .subjects import Subject, subject

__all__ = ["Bus", "Cause", "Gap", "Receive", "Subject", "open_bus", "subject"]

_KINDS = ("memory://", "local:///path/to/socket", "nats://host:4222", "tls://host:4222")


def open_bus(url: str, **options: object) -> Bus:
    """
    Make the bus that a URL names; its :meth:`~.base.Bus.start` connects it.

    Args:
        url: ``memory://``, ``local:///path/to/socket``, ``nats://host:port`` or
            ``tls://host:port``; the last two with more servers after commas, and with
            ``user:password@`` before a host.
        options: What the class of that bus takes beside its URL.

    Returns:
        The bus, not started.

    Raises:
        ConfigError: No such bus, or no such option.
    """
    scheme, _, rest = url.partition("://")
    match scheme:
        case "memory":
            from .memory import MemoryBus

            return MemoryBus(rest, **_known(MemoryBus, options))
        case _:
            raise ConfigError("the bus's URL is wrong", f"it is one of {', '.join(_KINDS)}")


def _known(kind: type[Bus], options: dict[str, Any]) -> dict[str, Any]:
    """Refuse what a class does not take."""
    known = [
        one.name
        for one in inspect.signature(kind).parameters.values()
        if one.kind is one.KEYWORD_ONLY
    ]
    for name in options:
        if name not in known:
            raise ConfigError.unknown("option of this bus", name, known)
    return options
