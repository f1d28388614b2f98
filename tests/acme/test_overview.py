"""What is said of each declared certificate, from what its storage has."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateman.acme.options import AcmeOptions
from gateman.acme.overview import describe
from gateman.acme.policy import after_failure, jitter_of
from gateman.acme.state import CertificateState, CertificateStatus, Problem
from gateman.acme.storage import Storage
from gateman.findings.acme import ACME_UNREACHABLE
from tests.support.made_certificates import make

NOW = 1_800_000_000.0
FOUND = ACME_UNREACHABLE.found(authority="ca", reason="timeout")


def test_nothing_was_ordered_yet(tmp_path: Path) -> None:
    """A storage that does not exist is not made."""
    folder = tmp_path / "acme"
    options = AcmeOptions(domains=("example.com", "www.example.com"), storage=str(folder))

    assert describe([options, options]) == (
        CertificateStatus(
            names=("example.com", "www.example.com"),
            authority="acme-v02.api.letsencrypt.org",
            path=str(folder / "certificates" / f"{options.id}.pem"),
        ),
    )
    assert not folder.exists()


def test_one_is_in_service_and_its_renewal_fails(tmp_path: Path) -> None:
    options = AcmeOptions(domains=("localhost",), storage=str(tmp_path / "acme"))
    storage = Storage.prepare(tmp_path / "acme")
    starts_at = datetime.fromtimestamp(NOW, UTC)
    made = make(starts_at=starts_at, days=90)
    storage.write_certificate(options.id, made.key_pem + made.pem)
    state = after_failure(CertificateState(), options, FOUND, now=NOW, jitter=0.0)
    storage.write_state(options.id, state)
    found = storage.read_certificate(options.id)
    (status,) = describe([options])
    expires_at = (starts_at + timedelta(days=90)).timestamp()

    assert found is not None
    assert status == CertificateStatus(
        names=("localhost",),
        authority="acme-v02.api.letsencrypt.org",
        path=str(storage.certificate_path(options.id)),
        issuer=found.facts.issuer,
        expires_at=expires_at,
        renewal_at=expires_at
        - (1 / 3 + jitter_of(found.fingerprint) / 50)
        * (found.facts.expires_at - found.facts.starts_at),
        problem=Problem(code="ACME_UNREACHABLE", problem=FOUND.problem, fix=FOUND.fix, at=NOW),
        failures=1,
    )
    assert describe([replace(options, directory="https://127.0.0.1:1/dir")])[0].authority == (
        "127.0.0.1"
    )


def test_the_spread_of_renewals_is_a_property_of_the_certificate() -> None:
    assert [jitter_of(one) for one in ("00000000ff", "80000000", "c0000000")] == [0.0, 0.5, 0.75]
