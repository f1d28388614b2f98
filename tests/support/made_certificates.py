"""
Certificates with exactly the faults that a test asks for, as an operator may have them on a disk.

``cryptography`` refuses to make some of them: those are made with a field that it does not know, or
patched afterwards.
"""

from base64 import encodebytes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey

PUBLIC = ("2.23.140.1.2.1",)
"""The policy of a domain-validated certificate of a public authority."""

_SAN, _CONSTRAINTS, _UNKNOWN = "2.5.29.17", "2.5.29.19", "2.5.29.99"
_LOCALHOST = bytes.fromhex("300b82096c6f63616c686f7374")


@dataclass(frozen=True, kw_only=True)
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate, not in PEM form."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        """The key, not encrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make(
    name: str = "localhost",
    *,
    issuer: Made | None = None,
    key: Key | None = None,
    names: Sequence[str] | None = None,
    starts_at: datetime | None = None,
    days: float = 90,
    policies: Sequence[str] = (),
    usage: ObjectIdentifier | None = None,
    extensions: Mapping[str, bytes] | None = None,
) -> Made:
    """
    Make one.

    Args:
        name: Its common name.
        issuer: Who signs it; ``None`` for itself.
        key: Its key; ``None`` for a new one, ECDSA P-256.
        names: The domains that it is for; ``None`` for its common name; empty for no such field.
        starts_at: From when it is valid; ``None`` for yesterday.
        days: How long it is valid.
        policies: Certificate policies.
        usage: Its extended key usage; ``None`` for none.
        extensions: More fields, as bytes.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    starts_at = starts_at or datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(starts_at)
        .not_valid_after(starts_at + timedelta(days=days))
    )
    if names is None or names:
        alternatives = [x509.DNSName(one) for one in names or [name]]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if policies:
        listed = [x509.PolicyInformation(ObjectIdentifier(one), None) for one in policies]
        builder = builder.add_extension(x509.CertificatePolicies(listed), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    for identifier, value in (extensions or {}).items():
        extension = x509.UnrecognizedExtension(ObjectIdentifier(identifier), value)
        builder = builder.add_extension(extension, critical=False)
    is_plain = isinstance(signer, ed25519.Ed25519PrivateKey)
    return Made(certificate=builder.sign(signer, None if is_plain else hashes.SHA256()), key=key)


def _patched(made: Made, old: str, new: str) -> bytes:
    assert made.der.count(bytes.fromhex(old)) == 1
    return made.der.replace(bytes.fromhex(old), bytes.fromhex(new))


def _with_san(value: bytes) -> Callable[[Key], bytes]:
    return lambda key: make(key=key, names=(), extensions={_SAN: value}).der


# What OpenSSL loads and `cryptography` does not, in whole or in part.
_ODD: dict[str, Callable[[Key], bytes]] = {
    "CA:FALSE explicitly": lambda key: (
        make(key=key, extensions={_CONSTRAINTS: bytes.fromhex("3003010100")}).der
    ),
    "bytes behind the names": _with_san(bytes.fromhex("300482027878ff")),
    "an address of five bytes": _with_san(bytes.fromhex("300787050102030405")),
    "a name that is not ASCII": _with_san(bytes.fromhex("3004820278c3")),
    "a policy that is not one": lambda key: make(key=key, extensions={"2.5.29.32": b"?"}).der,
    "an extension twice": lambda key: _patched(
        make(key=key, extensions={_UNKNOWN: b"\x05\0", "2.5.29.98": b"\x05\0"}),
        "0603551d62",
        "0603551d63",
    ),
    "version 4": lambda key: _patched(make(key=key), "a003020102", "a003020103"),
    "version 1 with extensions": lambda key: _patched(make(key=key), "a003020102", "a003020100"),
    "a negative serial number": lambda key: _patched(
        make(key=key), "a003020102020105", "a0030201020201fb"
    ),
}

ODD = tuple(_ODD)
"""The names of certificates that OpenSSL loads and that are odd."""


def odd(name: str) -> tuple[bytes, bytes]:
    """Make an odd one: the certificate and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    plain = make(key=key)
    body = encodebytes(_ODD[name](key))
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n", plain.key_pem


CLIENT_ONLY = ExtendedKeyUsageOID.CLIENT_AUTH
