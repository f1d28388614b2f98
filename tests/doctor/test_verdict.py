"""What findings amount to, and the exit codes of that."""

import pytest

from gateman.doctor.rows import Outcome, Row
from gateman.doctor.verdict import State, conclude
from gateman.findings import Finding, Severity, Stage


def finding(severity: Severity, stage: Stage = Stage.TCP) -> Finding:
    return Finding(code="A", stage=stage, severity=severity, problem="it is so", fix="do that")


@pytest.mark.parametrize(
    ("severities", "is_open", "state", "code", "strict_code"),
    [
        ([], True, State.HEALTHY, 0, 0),
        ([Severity.WARNING], True, State.HEALTHY, 0, 1),
        ([Severity.NOTE], True, State.HEALTHY, 0, 1),
        ([Severity.CAUSE, Severity.WARNING], True, State.CAUSE, 1, 1),
        ([Severity.CAUSE, Severity.UNDECIDED], False, State.CAUSE, 1, 1),
        ([Severity.UNDECIDED], False, State.UNDECIDED, 3, 3),
        ([], False, State.UNDECIDED, 3, 3),
    ],
)
def test_state(
    *, severities: list[Severity], is_open: bool, state: State, code: int, strict_code: int
) -> None:
    verdict = conclude("wss://a/", map(finding, severities), (), {}, is_open=is_open)

    assert verdict.state is state
    assert verdict.exit_code(is_strict=False) == code
    assert verdict.exit_code(is_strict=True) == strict_code


def test_the_first_cause_is_what_a_client_meets_first() -> None:
    causes = [finding(Severity.CAUSE, stage) for stage in (Stage.UPGRADE, Stage.NAME, Stage.TLS)]

    verdict = conclude("wss://a/", causes, (), {}, is_open=False)

    assert [one.stage for one in verdict.causes] == [Stage.NAME, Stage.TLS, Stage.UPGRADE]


def test_what_may_be_a_cause_that_was_found_is_not_told_beside_it() -> None:
    remaining = Finding(
        code="B",
        stage=Stage.UPGRADE,
        severity=Severity.UNDECIDED,
        problem="it is so",
        fix="do that",
        candidates=("A", "C"),
    )

    verdict = conclude("wss://a/", [finding(Severity.CAUSE), remaining], (), {}, is_open=False)

    assert [one.code for one in verdict.causes] == ["A"]
    assert verdict.undecided == ()


def test_warnings_come_before_notes_and_once() -> None:
    found = [finding(Severity.NOTE), finding(Severity.WARNING, Stage.LASTING)] * 2

    verdict = conclude("wss://a/", found, (), {}, is_open=True)

    assert [one.severity for one in verdict.warnings] == [Severity.WARNING, Severity.NOTE]


def test_rows_stay_in_the_order_of_the_look() -> None:
    rows = [
        Row(probe=name, subject="a", outcome=Outcome.OK, evidence="") for name in ("tcp", "dns")
    ]

    assert conclude("wss://a/", (), rows, {}, is_open=True).rows == tuple(rows)
