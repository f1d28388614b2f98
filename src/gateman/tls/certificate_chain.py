"""
What the certificates of a file say of themselves. PURE: bytes in, facts out.

OpenSSL takes certificates that ``cryptography`` does not: such a one, or such a part of one, is a
fact too, and not an error. So extensions are read here: there, one that is odd hides all of them.
"""

import re
import warnings
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from cryptography import x509

T = TypeVar("T")

_PEM = re.compile(
    rb"-----BEGIN ((?:TRUSTED |X509 )?CERTIFICATE)-----(.*?)-----END \1-----", re.DOTALL
)

# CA/Browser Forum, Baseline Requirements, section 7.1.6.1: each certificate of a public authority
# names one of these policies, and no other certificate may.
# Here as they are encoded: 2.23.140.1.1 and 2.23.140.1.2.1 to 3.
_PUBLIC_POLICIES = frozenset(
    bytes.fromhex(one) for one in ("67810c0101", "67810c010201", "67810c010202", "67810c010203")
)

# RFC 5280, section 4.2.1, encoded: subjectAltName, certificatePolicies, extKeyUsage; and of the
# last, serverAuth and anyExtendedKeyUsage.
_SAN, _POLICIES, _USAGE = (bytes.fromhex(one) for one in ("551d11", "551d20", "551d25"))
_FOR_SERVERS = frozenset(bytes.fromhex(one) for one in ("2b06010505070301", "551d2500"))
# RFC 5280, section 4.2.2.1, encoded: authorityInfoAccess, and its caIssuers.
_AIA, _CA_ISSUERS = bytes.fromhex("2b06010505070101"), bytes.fromhex("2b06010505073002")

_SEQUENCE, _EXTENSIONS = 0x30, 0xA3
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_RSA_PSS = "1.2.840.113549.1.1.10"


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateFacts:
    """What one certificate of a chain says."""

    subject: str  # for people, as are ``issuer`` and ``unreadable``
    issuer: str
    starts_at: float  # wall-clock seconds since 1970, as is ``expires_at``
    expires_at: float
    names: tuple[str, ...] = ()  # the domains and addresses that it is for
    # Those of the names that are IP addresses; a domain may look like one.
    addresses: tuple[str, ...] = ()
    key: str = "ECDSA P-256"  # or such as ``"RSA 2048"``
    digest: str = "sha256"  # of its signature; empty if it says no such
    # Whether its extended key usage, if it has one, lets a server use it.
    is_for_servers: bool = True
    is_public: bool = False  # whether it says that a public authority issued it
    # Whether it says where its issuer's certificate can be downloaded.
    has_issuer_url: bool = False
    unreadable: tuple[str, ...] = ()  # the parts of it that break the standard
    # The places in the chain, from 0, of certificates that have signed it; its own place if it has
    # signed itself.
    issuers: tuple[int, ...] = ()


Chain = tuple[CertificateFacts | None, ...]
"""Certificates in the order of the file; ``None`` for one that cannot be read at all."""


def read_chain(pem: bytes) -> Chain:
    # Imported here: 70 ms and 5 MB, which a server without TLS need not pay.
    from cryptography import x509

    found: list[x509.Certificate | None] = []
    with warnings.catch_warnings():
        # It warns of what it will refuse one day, such as a negative serial number.
        warnings.simplefilter("ignore")
        for block in _PEM.finditer(pem):
            try:
                certificate = x509.load_der_x509_certificate(b64decode(block[2]))
                certificate.not_valid_after_utc, certificate.subject, certificate.issuer  # noqa: B018 - read once, for their errors
            except (ValueError, Base64Error, x509.InvalidVersion):
                found.append(None)
            else:
                found.append(certificate)
        return tuple(None if one is None else _facts(one, found) for one in found)


def _facts(
    certificate: "x509.Certificate", chain: "Sequence[x509.Certificate | None]"
) -> CertificateFacts:
    from cryptography import x509

    unreadable: list[str] = []

    def read(
        identifier: bytes, called: str, parts: Callable[[bytes], tuple[T, ...]]
    ) -> tuple[T, ...]:
        """Read one extension, whatever is wrong with the others."""
        try:
            return parts(extensions[identifier]) if identifier in extensions else ()
        except ValueError:
            unreadable.append(called)
            return ()

    extensions = _extensions(certificate.tbs_certificate_bytes)
    domains, addresses = _split(read(_SAN, "its names (subjectAltName)", _names))
    policies = read(_POLICIES, "its policies", _first_parts)
    usages = read(_USAGE, "its extended key usage", _usages)
    accesses = read(_AIA, "its authorityInfoAccess", _first_parts)
    try:
        certificate.extensions  # noqa: B018 - read for its errors: it is stricter than this module
    except x509.DuplicateExtension:
        unreadable.append("an extension that is there twice")
    except ValueError:
        unreadable += [] if unreadable else ["one of its extensions"]
    return CertificateFacts(
        subject=_called(certificate.subject),
        issuer=_called(certificate.issuer),
        starts_at=certificate.not_valid_before_utc.timestamp(),
        expires_at=certificate.not_valid_after_utc.timestamp(),
        names=(*domains, *addresses),
        addresses=addresses,
        key=_key(certificate),
        digest=_digest(certificate),
        is_for_servers=not usages or not _FOR_SERVERS.isdisjoint(usages),
        is_public=not _PUBLIC_POLICIES.isdisjoint(policies),
        has_issuer_url=_CA_ISSUERS in accesses,
        unreadable=tuple(unreadable),
        issuers=tuple(
            place
            for place, other in enumerate(chain)
            if other is not None and has_signed(other, certificate)
        ),
    )


def _extensions(tbs: bytes) -> dict[bytes, bytes]:
    """Read the values of all extensions, by their identifiers as they are encoded."""
    ((_, body),) = _elements(tbs)
    values: dict[bytes, bytes] = {}
    for tag, content in _elements(body):
        if tag == _EXTENSIONS:
            for _, extension in _members(content):
                (_, identifier), *_, (_, value) = _elements(extension)
                values[identifier] = value
    return values


def _names(value: bytes) -> tuple[tuple[int, str], ...]:
    members = list(_members(value))
    return (
        *((tag, content.decode("ascii")) for tag, content in members if tag == _DNS_NAME),
        *((tag, str(_address(content))) for tag, content in members if tag == _IP_ADDRESS),
    )


def _split(names: tuple[tuple[int, str], ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell domains and addresses apart."""
    return (
        tuple(name for tag, name in names if tag == _DNS_NAME),
        tuple(name for tag, name in names if tag == _IP_ADDRESS),
    )


def _address(packed: bytes) -> IPv4Address | IPv6Address:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _first_parts(value: bytes) -> tuple[bytes, ...]:
    """Read the identifiers of policies, or of ways to more information."""
    return tuple(next(_elements(member))[1] for _, member in _members(value))


def _usages(value: bytes) -> tuple[bytes, ...]:
    return tuple(content for _, content in _members(value))


def _members(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Read the members of a sequence, behind which there is nothing."""
    ((tag, content),) = _elements(data)
    if tag != _SEQUENCE:
        raise ValueError("not a sequence")
    return _elements(content)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Read DER (X.690, section 8.1): tags of one byte, and contents."""
    at = 0
    while at < len(data):
        tag, size = data[at : at + 2] if len(data) > at + 1 else (0, 0x80)
        at += 2
        if size >= 0x80:
            count = size - 0x80
            size = int.from_bytes(data[at : at + count])
            at += count
            if not 0 < count <= 4:
                raise ValueError("not DER")
        if at + size > len(data):
            raise ValueError("cut off")
        yield tag, data[at : at + size]
        at += size


def _called(name: "x509.Name") -> str:
    from cryptography.x509.oid import NameOID

    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        attributes = name.get_attributes_for_oid(kind)
        if attributes:
            return str(attributes[0].value)
    return name.rfc4514_string()


def _key(certificate: "x509.Certificate") -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "a type that is not known"
    match key:
        case rsa.RSAPublicKey():
            is_pss = certificate.public_key_algorithm_oid.dotted_string == _RSA_PSS
            return f"RSA-PSS {key.key_size}" if is_pss else f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"ECDSA {_CURVES.get(key.curve.name, key.curve.name)}"
        case dsa.DSAPublicKey():
            return f"DSA {key.key_size}"
        case _:
            return type(key).__name__.strip("_").removesuffix("PublicKey")


def _digest(certificate: "x509.Certificate") -> str:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        digest = certificate.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return ""
    return "" if digest is None else digest.name


def has_signed(issuer: "x509.Certificate", certificate: "x509.Certificate") -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    if issuer.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # A signature that cannot be checked here: the name has to do.
        return True
    return True
