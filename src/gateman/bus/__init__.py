"""
Buses: they move bytes by subject, between the processes of a service and between machines.

:mod:`.base` says what every bus promises, and :func:`open_bus` makes one of a URL.
"""

import inspect
from collections.abc import Callable
from typing import Any

from ..errors import ConfigError
from .base import Bus, Cause, Gap, Receive
from .subjects import Subject, subject

__all__ = ["Bus", "Cause", "Gap", "Receive", "Subject", "open_bus", "subject"]

_REMEDY = (
    "write memory://, local:///path/to/socket, nats://host:4222?name=chat or"
    " tls://host:4222?name=chat"
)


def open_bus(url: str, /, **options: object) -> Bus:
    """
    Make the bus that a URL names; its :meth:`~.base.Bus.start` connects it.

    Args:
        url: ``memory://``, ``local:///path/to/socket``, ``nats://host:port?name=NAME`` or
            ``tls://host:port?name=NAME``; the last two with more servers after commas, and with
            ``user:password@`` before a host.
        options: What a bus of that kind takes beside its URL, such as ``token`` or ``ca`` for NATS.

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
        case "local":
            from .local import local_bus

            return local_bus(rest, **_known(local_bus, options))
        case "nats" | "tls":
            from .nats import nats_bus

            return nats_bus(url, **_known(nats_bus, options))
        case _:
            raise ConfigError("the bus's URL is of no kind that there is", _REMEDY)


def _known(kind: Callable[..., Bus], options: dict[str, Any]) -> dict[str, Any]:
    """Refuse what a kind of bus does not take."""
    known = [
        one.name
        for one in inspect.signature(kind).parameters.values()
        if one.kind is one.KEYWORD_ONLY
    ]
    for name in options:
        if name not in known:
            raise ConfigError.unknown("option of this bus", name, known)
    return options
