"""The rows of a report: what each probe saw, as a person reads it. PURE."""

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """
    One probe.

    Attributes:
        probe: Its name, such as ``"tcp"``; the same for all of its kind.
        subject: What it looked at, such as ``"192.0.2.1 port 443"``.
        evidence: What it saw; may come from a stranger, and is escaped and masked where printed.
        duration: Seconds.
    """

    probe: str
    subject: str
    outcome: Outcome
    evidence: str
    duration: float = 0.0
