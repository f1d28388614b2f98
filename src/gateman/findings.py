"""
Findings: what is wrong with a service, with a stable code and a fix. PURE.

Functions without I/O make them; the start, ``gateman check`` and the log print them.
"""

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    NOTE = "note"
    """It works but could be better, or it is wrong under a condition that gateman cannot see."""
    WARNING = "warning"
    """Some clients are refused, or will be."""
    ERROR = "error"
    """No client that checks can connect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """
    One problem.

    Attributes:
        code: A name that never changes, such as ``"certificate-expired"``.
        problem: What is wrong, where, and for which clients; without a full stop.
        fix: What to do about it; without a full stop.
    """

    code: str
    severity: Severity
    problem: str
    fix: str

    def __str__(self) -> str:
        """Write it as one sentence, without a full stop."""
        return f"{self.problem}: {self.fix}"
