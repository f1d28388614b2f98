"""A finding, as a person reads it."""

from gateman.findings import Finding, Severity, Stage


def test_a_finding_is_one_sentence() -> None:
    finding = Finding(
        code="a-b",
        stage=Stage.CERTIFICATE,
        severity=Severity.NOTE,
        problem="it is so",
        fix="do that",
    )

    assert str(finding) == "it is so: do that"
