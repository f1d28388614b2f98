"""When to order, rehearse, ask and wait: by equality, with the time passed in."""

from dataclasses import replace as changed

from gateman.acme.options import AcmeOptions
from gateman.acme.policy import (
    Order,
    Step,
    decide,
)
from gateman.acme.state import (
    CertificateState,
    StoredCertificate,
)
from gateman.findings import acme as findings
from gateman.tls.certificate_chain import CertificateFacts

NOW = 1_800_000_000.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

OPTIONS = AcmeOptions(domains=("example.com", "www.example.com"))
PRIVATE = changed(OPTIONS, directory="https://ca.example/dir")
CAA = findings.ACME_CAA.found(authority="ca", name="a", detail="", issuer="ca")
AWAY = findings.ACME_UNREACHABLE.found(authority="ca", reason="timeout")


def certificate(
    *,
    names: tuple[str, ...] = OPTIONS.domains,
    starts_at: float = NOW,
    days: float = 90,
    key: str = "ECDSA P-256",
    fingerprint: str = "f1",
) -> StoredCertificate:
    return StoredCertificate(
        fingerprint=fingerprint,
        facts=CertificateFacts(
            subject="CN=example.com",
            issuer="CN=CA",
            starts_at=starts_at,
            expires_at=starts_at + days * DAY,
            names=names,
            key=key,
        ),
    )


def step(
    state: CertificateState | None = None,
    stored: StoredCertificate | None = None,
    *,
    now: float = NOW,
    options: AcmeOptions = OPTIONS,
    is_forced: bool = False,
    jitter: float = 0.0,
) -> Step:
    return decide(
        state or CertificateState(), options, stored, now=now, jitter=jitter, is_forced=is_forced
    )


def test_a_certificate_is_ordered_where_there_is_none() -> None:
    assert step() == Order(reason="there is none yet")
