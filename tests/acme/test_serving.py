"""Where the processes that serve look for what is ordered."""

from pathlib import Path

from gateman.acme.options import parse
from gateman.acme.serving import issued_certificates
from gateman.tls.issued import IssuedCertificate


def test_each_name_that_an_authority_can_ask_for_has_a_path(tmp_path: Path) -> None:
    """An IP address has its reverse name there, and a wildcard none."""
    value = {"domains": ["example.com", "192.0.2.1"]}, {"domains": "*.a.test", "dns": "set-txt"}
    first, second = parse(value, folder=tmp_path, default_storage=tmp_path / "acme")
    challenges = tmp_path / "acme" / "challenges" / "tls-alpn-01"

    assert issued_certificates([first, second]) == (
        IssuedCertificate(
            path=tmp_path / "acme" / "certificates" / f"{first.id}.pem",
            names=("example.com", "192.0.2.1"),
            challenges={
                "example.com": challenges / "example.com",
                "1.2.0.192.in-addr.arpa": challenges / "1.2.0.192.in-addr.arpa",
            },
        ),
        IssuedCertificate(
            path=tmp_path / "acme" / "certificates" / f"{second.id}.pem",
            names=("*.a.test",),
            challenges={},
        ),
    )
