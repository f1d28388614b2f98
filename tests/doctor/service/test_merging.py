"""Each cause is told once, whether it was seen from outside, from inside or both."""

import pytest

from gateman.doctor.service.merging import merge
from gateman.findings import Finding, Severity, Stage


def finding(code: str, severity: Severity = Severity.CAUSE, evidence: str = "") -> Finding:
    return Finding(
        code=code, stage=Stage.PROXY, severity=severity, problem="a", fix="b", evidence=evidence
    )


OUTSIDE = finding("UPGRADE_LOST", evidence="outside")
UNDECIDED = finding("UPSTREAM_FAILED", Severity.UNDECIDED)
NOTE = finding("REFUSALS_COUNTED", Severity.NOTE)


@pytest.mark.parametrize(
    ("outside", "inside", "expected"),
    [
        ([OUTSIDE], [], [OUTSIDE]),
        ([], [NOTE], [NOTE]),
        ([OUTSIDE], [finding("UPGRADE_LOST")], [finding("UPGRADE_LOST")]),
        (
            [finding("CERTIFICATE_EXPIRED"), OUTSIDE],
            [finding("UPGRADE_LOST")],
            [finding("UPGRADE_LOST"), finding("CERTIFICATE_EXPIRED")],
        ),
        ([UNDECIDED], [finding("PEER_SPOKE_TLS")], [finding("PEER_SPOKE_TLS")]),
        ([UNDECIDED], [NOTE], [NOTE, UNDECIDED]),
        (
            [finding("PATH_NOT_FOUND")],
            [finding("PROXY_ANSWERS_ITSELF")],
            [finding("PROXY_ANSWERS_ITSELF")],
        ),
        (
            [finding("PATH_NOT_FOUND")],
            [finding("HANDSHAKE_NOT_ARRIVED", Severity.UNDECIDED)],
            [finding("PATH_NOT_FOUND")],
        ),
        (
            [finding("TCP_REFUSED")],
            [finding("SERVICE_NOT_RUNNING", Severity.NOTE)],
            [finding("SERVICE_NOT_RUNNING", Severity.NOTE), finding("TCP_REFUSED")],
        ),
        # What clients see of a service that has its sockets and does not serve.
        *(
            ([finding(effect)], [finding(cause)], [finding(cause)])
            for cause, effect in [
                ("SERVICE_BLOCKED", "APPLICATION_BLOCKS"),
                ("SERVICE_STARTING", "APPLICATION_BLOCKS"),
                ("SERVICE_STARTING", "SERVER_SILENT"),
                ("SERVICE_CRASHES", "APPLICATION_BLOCKS"),
                ("SERVICE_CRASHES", "APPLICATION_UNDECIDED"),
                ("SERVICE_BLOCKED", "APPLICATION_UNDECIDED"),
                ("PROCESS_ENDED", "APPLICATION_FAILED"),
                ("SERVICE_CRASHES", "TCP_REFUSED"),
                ("SERVICE_UNSTABLE", "TCP_REFUSED"),
                ("SERVICE_CHANGED", "TCP_REFUSED"),
                ("SERVER_DRAINING", "TCP_REFUSED"),
            ]
        ),
        ([finding("SNI_UNKNOWN")], [finding("ACME_CAA")], [finding("ACME_CAA")]),
        ([finding("SERVER_SILENT")], [finding("ACME_CAA")], [finding("ACME_CAA")]),
        (
            [finding("SNI_UNKNOWN")],
            [finding("ACME_CAA", Severity.WARNING)],
            [finding("ACME_CAA", Severity.WARNING), finding("SNI_UNKNOWN")],
        ),
    ],
)
def test_findings_from_both_sides(
    outside: list[Finding], inside: list[Finding], expected: list[Finding]
) -> None:
    assert merge(outside, inside) == expected
