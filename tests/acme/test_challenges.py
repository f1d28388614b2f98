"""Answers to challenges, as the RFCs define them."""

import hashlib
from ipaddress import ip_address

import pytest
from cryptography import x509

from gateman.acme.challenges import Challenge, kinds_for
from gateman.acme.options import AcmeOptions, DnsCommand

NOW = 1_800_000_000.0


def challenge(kind: str, name: str = "example.org") -> Challenge:
    return Challenge(kind=kind, name=name, token="t" * 22, key_authorization="t" * 22 + ".thumb")


@pytest.mark.parametrize(
    "san",
    [
        x509.DNSName("example.org"),
        x509.IPAddress(ip_address("192.0.2.1")),
        x509.IPAddress(ip_address("2001:db8::1")),
    ],
    ids=lambda san: str(san.value),
)
def test_the_certificate_of_tls_alpn_01(san: x509.GeneralName) -> None:
    """RFC 8737, section 3: one name, and the digest in a critical extension."""
    pem = challenge("tls-alpn-01", str(san.value)).tls_certificate(NOW)

    found = x509.load_pem_x509_certificates(pem)[0]
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    proof = found.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    digest = hashlib.sha256(b"t" * 22 + b".thumb").digest()
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert list(names) == [san]
    assert proof.critical
    assert isinstance(proof.value, x509.UnrecognizedExtension)
    assert proof.value.value == b"\x04\x20" + digest


def test_the_record_of_dns_01() -> None:
    one = challenge("dns-01")

    assert one.dns_name == "_acme-challenge.example.org"
    assert one.dns_value == "IL1wqqwrAToPiNnt1VuQJHUiTqex2gEhN4X5unNh--s"


DNS = DnsCommand(command=("set-record",))


@pytest.mark.parametrize(
    ("options", "name", "has_http", "kinds"),
    [
        ({}, "a.example", False, ("tls-alpn-01",)),
        ({}, "a.example", True, ("tls-alpn-01", "http-01")),
        ({"challenge": "http-01"}, "a.example", True, ("http-01",)),
        ({"challenge": "tls-alpn-01", "dns": DNS}, "a.example", True, ("tls-alpn-01",)),
        ({"dns": DNS}, "a.example", True, ("dns-01",)),
        # No authority proves an address by a record.
        ({"dns": DNS}, "192.0.2.1", True, ("tls-alpn-01", "http-01")),
    ],
)
def test_which_challenges_can_prove_a_name(
    options: dict[str, object], name: str, *, has_http: bool, kinds: tuple[str, ...]
) -> None:
    declared = AcmeOptions(domains=(name,), **options)  # type: ignore[arg-type]

    assert kinds_for(declared, name, has_http=has_http) == kinds
