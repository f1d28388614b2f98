"""Looks at the way up to TLS: the resolver, each address, TLS in several ways."""

from collections.abc import Callable

from ..target import Settings, Target
from .observations import NetworkSeen


async def look(target: Target, settings: Settings, progress: Callable[[str], None]) -> NetworkSeen:
    raise NotImplementedError
