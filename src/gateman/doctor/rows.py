"""The rows of a report: what each probe saw, as a person reads it. PURE."""

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"

    @classmethod
    def of(cls, is_well: object) -> "Outcome":
        return cls.OK if is_well else cls.FAILED


@dataclass(frozen=True, slots=True)
class Row:
    """One probe."""

    probe: str  # its name, such as ``"tcp"``; the same for all of its kind
    subject: str  # what it looked at, such as ``"192.0.2.1 port 443"``
    outcome: Outcome
    evidence: str  # what it saw; may come from a stranger, and is escaped and masked where printed
    duration: float = 0.0  # seconds
