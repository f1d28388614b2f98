"""What all findings amount to. PURE."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from ..findings import Finding, Severity
from .rows import Outcome, Row


class State(Enum):
    HEALTHY = "healthy"
    CAUSE = "cause"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a look amounts to."""

    state: State
    target: str
    causes: tuple[Finding, ...]  # what keeps clients out; what a client meets first comes first
    undecided: tuple[Finding, ...]  # of what several causes remain
    warnings: tuple[Finding, ...]  # what keeps no client out yet; then what could be better
    rows: tuple[Row, ...]
    agreed: dict[str, str]  # what a connection that opened agreed on, such as ``{"TLS": "1.3"}``
    ruled_out: tuple[str, ...] = ()  # the probes that found nothing wrong

    def exit_code(self, *, is_strict: bool) -> int:
        match self.state:
            case State.CAUSE:
                return 1
            case State.UNDECIDED:
                return 3
            case _:
                return 1 if is_strict and self.warnings else 0


def conclude(
    target: str,
    findings: Iterable[Finding],
    rows: Iterable[Row],
    agreed: dict[str, str],
    *,
    is_open: bool,
) -> Verdict:
    """
    Sort findings, and tell which of three states they are.

    Args:
        is_open: Whether a connection opened, or nothing was to be opened.
    """
    # Two parts of the way may see the same; the first has more evidence.
    by_sentence: dict[tuple[object, ...], Finding] = {}
    for one in findings:
        by_sentence.setdefault((one.code, one.problem, one.severity, one.stage), one)
    found = sorted(by_sentence.values(), key=lambda one: one.stage)

    def of(*severities: Severity) -> tuple[Finding, ...]:
        return tuple(one for severity in severities for one in found if one.severity is severity)

    causes, warnings = of(Severity.CAUSE), of(Severity.WARNING, Severity.NOTE)
    decided = {one.code for one in causes}
    # What may be one of the causes that were found is that.
    undecided = tuple(one for one in of(Severity.UNDECIDED) if decided.isdisjoint(one.candidates))
    seen = tuple(rows)
    if causes:
        state = State.CAUSE
    elif undecided or not is_open:
        state = State.UNDECIDED
    else:
        state = State.HEALTHY
    return Verdict(
        state=state,
        target=target,
        causes=causes,
        undecided=undecided,
        warnings=warnings,
        rows=seen,
        agreed=agreed,
        ruled_out=_ruled_out(seen),
    )


def _ruled_out(rows: Iterable[Row]) -> tuple[str, ...]:
    outcomes: dict[str, set[Outcome]] = {}
    for row in rows:
        outcomes.setdefault(row.probe, set()).add(row.outcome)
    return tuple(probe for probe, seen in outcomes.items() if seen == {Outcome.OK})
