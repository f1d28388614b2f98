"""What is wrong with the way up to TLS, by what the probes saw. PURE."""

from ...findings import Finding
from ..target import Settings, Target
from .observations import NetworkSeen


def judge(target: Target, settings: Settings, seen: NetworkSeen, *, now: float) -> list[Finding]:
    del target, settings, seen, now
    return []
