"""What a TLS handshake, or the answer to plain HTTP in its place, says of one address."""

from dataclasses import replace

import pytest

from gateman.doctor.network.faults import Fault
from gateman.doctor.network.observations import AddressSeen, HandshakeSeen, Reach, Tls
from gateman.doctor.network.tls_judgement import judge
from gateman.doctor.network.url import parse
from gateman.findings import network

from .seen import AGREED, CLOSED, OPEN, PLAIN, WS, WSS, alert, dead, failed


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        pytest.param(WSS, dead(Reach.REFUSED, "refused"), id="there-was-no-connection"),
        pytest.param(WSS, replace(OPEN, tls=None), id="there-was-no-handshake"),
        pytest.param(WSS, OPEN, id="both-agree"),
        pytest.param(WS, PLAIN, id="plain-where-plain-is-meant"),
    ],
)
def test_nothing_is_wrong(url: str, seen: AddressSeen) -> None:
    assert list(judge(parse(url), seen)) == []


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (failed(CLOSED), "TLS: closed"),
        (failed(alert(40)), "handshake_failure"),
        (failed(HandshakeSeen(outcome=Tls.FAILED, reason="BAD_SIGNATURE")), "bad signature"),
    ],
)
def test_evidence_is_what_was_seen(seen: AddressSeen, expected: str) -> None:
    (fault,) = judge(parse(WSS), seen)

    assert expected in fault.evidence


def test_an_older_version_that_is_agreed_on_is_the_cause() -> None:
    old = replace(AGREED, version="TLSv1.1")
    (fault,) = judge(parse(WSS), failed(alert(70), old=old))

    assert (type(fault), fault.declaration) == (Fault, network.TLS_OLD)
