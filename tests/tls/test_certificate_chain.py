"""What certificates say of themselves: facts by equality, and none of them raises."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gateman.tls.certificate_chain import CertificateFacts, read_chain
from tests.support.made_certificates import CLIENT_ONLY, ODD, PUBLIC, Key, make, odd

LOCALHOST = ("localhost",)
NAMES = (("its names (subjectAltName)",), ())
UNREADABLE = {
    "CA:FALSE explicitly": (("one of its extensions",), LOCALHOST),
    "bytes behind the names": NAMES,
    "an address of five bytes": NAMES,
    "a name that is not ASCII": NAMES,
    "a policy that is not one": (("its policies",), LOCALHOST),
    "an extension twice": (("an extension that is there twice",), LOCALHOST),
    "a negative serial number": ((), LOCALHOST),
}

START = datetime(2026, 5, 1, tzinfo=UTC)


def only(pem: bytes) -> CertificateFacts:
    """Read a file of one certificate."""
    (facts,) = read_chain(pem)
    assert facts is not None
    return facts


def test_a_chain_shows_the_issuer_of_each_certificate() -> None:
    """In the order of the file, whatever else is in it."""
    root = make("root", names=())
    middle = make("middle", issuer=root, names=())
    leaf = make(
        "a.test",
        issuer=middle,
        names=["a.test", "*.a.test"],
        starts_at=START,
        days=10,
        policies=PUBLIC,
    )
    pem = leaf.key_pem + leaf.pem + b"a remark\n" + root.pem + middle.pem

    first, second, third = read_chain(pem)

    assert first == CertificateFacts(
        subject="a.test",
        issuer="middle",
        starts_at=START.timestamp(),
        expires_at=START.timestamp() + 10 * 86_400,
        names=("a.test", "*.a.test"),
        key="ECDSA P-256",
        digest="sha256",
        is_public=True,
        issuers=(2,),
    )
    assert second is not None
    assert third is not None
    assert (second.subject, second.issuers) == ("root", (1,))
    assert (third.subject, third.issuers) == ("middle", (1,))


def test_a_name_alone_makes_no_issuer() -> None:
    """An authority that was made anew under its old name has not signed it."""
    leaf = make(issuer=make("authority"))

    first, _ = read_chain(leaf.pem + make("authority").pem)

    assert first is not None
    assert first.issuers == ()


@pytest.mark.parametrize(
    ("key", "called"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "ECDSA P-384"),
        (ec.generate_private_key(ec.SECP521R1()), "ECDSA P-521"),
        (ec.generate_private_key(ec.SECP256K1()), "ECDSA secp256k1"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
    ],
)
def test_a_key_has_a_type(key: Key, called: str) -> None:
    assert only(make(key=key).pem).key == called


def test_a_certificate_may_be_for_clients_only() -> None:
    assert not only(make(usage=CLIENT_ONLY).pem).is_for_servers


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_hides_nothing_else(name: str) -> None:
    """A part that cannot be read is named, and a certificate that cannot be is None."""
    pem, _ = odd(name)
    good = make("other")

    found = read_chain(pem + good.pem)

    assert found[1] == replace(only(good.pem), issuers=(1,))
    first = found[0]
    if name.startswith("version"):
        assert first is None
    else:
        assert first is not None
        assert (first.unreadable, first.names) == UNREADABLE[name]


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"hello",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n====\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_no_certificate_is_none(pem: bytes) -> None:
    assert read_chain(pem) in {(), (None,)}
