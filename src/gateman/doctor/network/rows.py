"""What the probes of the network saw, as a person reads it. PURE."""

from ..rows import Row
from .observations import NetworkSeen


def rows(seen: NetworkSeen) -> list[Row]:
    del seen
    return []


def agreed(seen: NetworkSeen) -> dict[str, str]:
    del seen
    return {}
