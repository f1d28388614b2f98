"""
What can be wrong with a service: a stable code, a sentence and the fix. PURE.

A finding is made from what was seen, by a function that does no I/O; the start, `check` and the log
only print it.
"""

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """How much a finding matters."""

    NOTE = "note"
    """It works, and could be better; or it is wrong under a condition that only a person knows."""
    WARNING = "warning"
    """Some clients are refused, or will be."""
    ERROR = "error"
    """Every client that checks is refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """
    One thing that is wrong.

    Attributes:
        code: Its name, which does not change, such as ``"certificate-expired"``.
        severity: How much it matters.
        problem: What is wrong, where, and for whom; without a full stop.
        fix: What to do about it; without a full stop.
    """

    code: str
    severity: Severity
    problem: str
    fix: str

    def __str__(self) -> str:
        """Write it as one sentence, without a full stop."""
        return f"{self.problem}: {self.fix}"
