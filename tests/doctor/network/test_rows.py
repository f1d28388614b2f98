"""What the probes saw, as a person reads it."""

from dataclasses import replace

from gateman.doctor.network.observations import (
    AddressSeen,
    AnswerSeen,
    ChainSeen,
    HandshakeSeen,
    LookupSeen,
    NetworkSeen,
    Reach,
    Resolution,
    Tls,
)
from gateman.doctor.network.rows import agreed, rows
from gateman.doctor.rows import Outcome, Row
from gateman.tls.certificate_chain import CertificateFacts
from gateman.tls.certificate_findings import Trust

NOW = 1_780_000_000.0
LEAF = CertificateFacts(
    subject="a.test", issuer="R11", starts_at=0, expires_at=NOW + 5 * 86_400, names=("a.test",)
)
AGREED = HandshakeSeen(
    outcome=Tls.AGREED, version="TLSv1.3", cipher="C", alpn="http/1.1", asks_client=True, duration=2
)
OPEN = AddressSeen(
    address="192.0.2.1",
    port=443,
    reach=Reach.OPEN,
    duration=1,
    tls=AGREED,
    chain=ChainSeen(chain=(LEAF,), trust=Trust(anchors=frozenset({0}))),
    tls_12=HandshakeSeen(outcome=Tls.ALERT, alert=70, reason="TLSV1_ALERT_PROTOCOL_VERSION"),
)
SEEN = NetworkSeen(
    lookups=(
        LookupSeen(family="A", resolution=Resolution.FOUND, addresses=("192.0.2.1", "192.0.2.2")),
        LookupSeen(
            family="A", resolution=Resolution.FOUND, addresses=("127.0.0.1",), is_local=True
        ),
        LookupSeen(family="AAAA", resolution=Resolution.TIMED_OUT, evidence="no answer in 2.0 s"),
    ),
    addresses=(
        OPEN,
        replace(OPEN, address="2001:db8::1", reach=Reach.NO_ROUTE, evidence="no route", tls=None),
    ),
    untried=("192.0.2.9",),
    looked_at=NOW,
)


def short(row: Row) -> tuple[str, str, Outcome, str]:
    return row.probe, row.subject, row.outcome, row.evidence


def test_rows() -> None:
    seen = replace(SEEN, addresses=(OPEN, replace(SEEN.addresses[1], chain=None, tls_12=None)))

    assert [short(one) for one in rows(seen)] == [
        ("dns", "A records", Outcome.OK, "192.0.2.1, 192.0.2.2"),
        ("dns", "A records", Outcome.OK, "127.0.0.1 (hosts file of this machine)"),
        ("dns", "AAAA records", Outcome.FAILED, "no answer in 2.0 s"),
        ("tcp", "192.0.2.1:443", Outcome.OK, "open"),
        (
            "tls",
            "192.0.2.1:443",
            Outcome.OK,
            "TLS 1.3, C, http/1.1, asks for a client certificate",
        ),
        (
            "certificate",
            "192.0.2.1:443",
            Outcome.OK,
            "a.test; from R11; 5 days left; 1 sent; trusted",
        ),
        (
            "tls",
            "192.0.2.1:443 TLS 1.2 alone",
            Outcome.SKIPPED,
            "alert: tlsv1 alert protocol version",
        ),
        ("tcp", "[2001:db8::1]:443", Outcome.SKIPPED, "no route"),
        ("tcp", "192.0.2.9", Outcome.SKIPPED, "more addresses"),
    ]


def test_a_port_that_is_plain() -> None:
    plain = replace(
        OPEN, tls=None, chain=None, tls_12=None, plain=AnswerSeen(data=b"HTTP/1.1 426 x\r\n")
    )

    assert [short(one) for one in rows(NetworkSeen(addresses=(plain,)))] == [
        ("tcp", "192.0.2.1:443", Outcome.OK, "open"),
        ("http", "192.0.2.1:443", Outcome.OK, "HTTP/1.1 426 x"),
    ]


def test_what_is_agreed() -> None:
    assert agreed(SEEN) == {"TLS": "1.3", "certificate": "5 days left"}
    assert agreed(NetworkSeen()) == {}
