"""A verdict for a person, and for a program. PURE: a verdict goes in, text comes out."""

from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Any

import msgspec

from ..findings import Finding, Severity
from .explanation import who
from .masking import shown, shown_evidence
from .rows import Outcome, Row
from .verdict import State, Verdict

SCHEMA_VERSION = 1

_MARKS = {Outcome.OK: "✓", Outcome.FAILED: "✗", Outcome.SKIPPED: "–"}  # noqa: RUF001
_STATE_MARKS = {State.HEALTHY: "✓", State.CAUSE: "✗", State.UNDECIDED: "?"}
_COLOURS = {"✓": "green", "✗": "red", "?": "yellow", "!": "yellow"}

_MAX_SUBJECT = 42  # columns

Styled = tuple[str, str]
"""A line, and the colour of its first character that is not a space; empty for none."""


def as_lines(verdict: Verdict, *, width: int, secrets: Iterable[str] = ()) -> list[Styled]:
    """Write the verdict first, then how to change it, then what was seen."""
    hidden = tuple(secrets)
    mark = _STATE_MARKS[verdict.state]
    lines = [*_wrapped(f"{mark} {sentence(verdict, hidden)}", width, _COLOURS[mark], indent=2)]
    found = [*verdict.causes, *verdict.undecided]
    if found:
        lines += [("", ""), *_advice(found[0], width, hidden)]
    if others := found[1:]:
        lines += [("", ""), ("And:", "")]
        for finding in others:
            lines += _wrapped(f"✗ {_problem(finding, hidden)}", width, "red", indent=2)
            lines += _advice(finding, width, hidden)
    if verdict.state is State.UNDECIDED and verdict.ruled_out:
        lines += [("", ""), *_wrapped(f"Ruled out: {', '.join(verdict.ruled_out)}.", width)]
    if verdict.warnings:
        lines.append(("", ""))
        for finding in verdict.warnings:
            mark = "!" if finding.severity is Severity.WARNING else "·"
            text = f"{mark} {_problem(finding, hidden)} Fix: {shown(finding.fix, hidden)}."
            lines += _wrapped(text, width, _COLOURS.get(mark, ""), indent=2)
    if verdict.rows:
        lines.append(("", ""))
        lines += _table(verdict.rows, width, hidden)
    return lines


def as_json(verdict: Verdict, *, secrets: Iterable[str] = ()) -> str:
    """Write one object; ``docs/doctor.md`` describes its fields."""
    hidden = tuple(secrets)
    document = {
        "version": SCHEMA_VERSION,
        "target": shown(verdict.target, hidden),
        "verdict": {"state": verdict.state.value, "sentence": sentence(verdict, hidden)},
        "causes": [_object(one, hidden) for one in verdict.causes],
        "undecided": [_object(one, hidden) for one in verdict.undecided],
        "warnings": [_object(one, hidden) for one in verdict.warnings],
        "ruled_out": list(verdict.ruled_out),
        "agreed": {name: shown(value, hidden) for name, value in verdict.agreed.items()},
        "probes": [
            {
                "probe": row.probe,
                "subject": shown(row.subject, hidden),
                "outcome": row.outcome.value,
                "evidence": shown_evidence(row.evidence, hidden),
                "milliseconds": round(row.duration * 1000, 1),
            }
            for row in verdict.rows
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def sentence(verdict: Verdict, secrets: Iterable[str] = ()) -> str:
    """Say in one sentence what is the matter."""
    hidden = tuple(secrets)
    target = shown(verdict.target, hidden)
    match verdict.state:
        case State.CAUSE:
            return f"{target}: {shown(verdict.causes[0].problem, hidden)}."
        case State.UNDECIDED if verdict.undecided:
            return f"{target}: {shown(verdict.undecided[0].problem, hidden)}."
        case State.UNDECIDED:
            return f"{target}: no connection opened, and nothing that was seen says why."
        case _:
            facts = ", ".join(f"{name} {value}" for name, value in verdict.agreed.items())
            return f"{target} is healthy{facts and f': {shown(facts, hidden)}'}."


def _advice(finding: Finding, width: int, secrets: tuple[str, ...]) -> Iterator[Styled]:
    parts = {
        "Code": finding.code,
        "Fix": f"{shown(finding.fix, secrets)}.",
        "Who": f"{who(finding.fails_for)}.",
    }
    if finding.candidates:
        parts["May be"] = ", ".join(finding.candidates)
    if finding.evidence:
        parts["Seen"] = shown_evidence(finding.evidence, secrets)
    for name, text in parts.items():
        yield from _wrapped(f"  {name:<7}{text}", width, indent=9)


def _table(rows: Iterable[Row], width: int, secrets: tuple[str, ...]) -> Iterator[Styled]:
    cells = [
        (
            _MARKS[row.outcome],
            row.probe,
            shown(row.subject, secrets),
            f"{row.duration * 1000:.0f} ms" if row.duration else "",
            shown_evidence(row.evidence, secrets),
        )
        for row in rows
    ]
    probe = max(len(one[1]) for one in cells)
    subject = min(max(len(one[2]) for one in cells), _MAX_SUBJECT)
    duration = max(len(one[3]) for one in cells)
    for mark, name, about, took, evidence in cells:
        start = f"{mark} {name:<{probe}}  {about:<{subject}}  {took:>{duration}}  "
        yield from _wrapped(
            start + evidence, width, _COLOURS.get(mark, ""), indent=min(len(start), width // 2)
        )


def _object(finding: Finding, secrets: tuple[str, ...]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "code": finding.code,
        "severity": finding.severity.value,
        "sentence": shown(finding.problem, secrets),
        "fix": shown(finding.fix, secrets),
        "who": sorted(one.value for one in finding.fails_for),
        "evidence": shown_evidence(finding.evidence, secrets),
    }
    return {**made, "candidates": list(finding.candidates)} if finding.candidates else made


def _problem(finding: Finding, secrets: tuple[str, ...]) -> str:
    text = shown(finding.problem, secrets)
    # The name of a file or a host stays as it is.
    is_word = text.partition(" ")[0].isalpha()
    return f"{text[:1].upper() if is_word else text[:1]}{text[1:]} ({finding.code})."


def _wrapped(text: str, width: int, colour: str = "", *, indent: int = 0) -> Iterator[Styled]:
    for number, line in enumerate(
        wrap(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)
    ):
        yield line, colour if number == 0 else ""
