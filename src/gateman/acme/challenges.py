"""
What proves to an authority that a name leads here: three kinds of challenge (RFC 8555, 8737, 8738).

PURE but for the key of the TLS certificate, which is a new one each time.
"""

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ..tls.domain_names import is_address
from .keys import private_pem
from .options import DNS_01, HTTP_01, TLS_ALPN_01, AcmeOptions

# RFC 8737, 6.1: id-pe-acmeIdentifier.
_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")

# Authorities allow a machine's clock to differ a little.
_VALIDITY = timedelta(days=7)


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """One challenge that is to be answered."""

    kind: str  # such as ``tls-alpn-01``
    name: str  # that is checked, without ``*.``
    token: str  # the authority's text, in base64url
    key_authorization: str  # the token, and the account that may answer (RFC 8555, 8.1)

    @property
    def dns_name(self) -> str:
        """The name of the TXT record of DNS-01."""
        return f"_acme-challenge.{self.name}"

    @property
    def dns_value(self) -> str:
        """The value of the TXT record of DNS-01."""
        digest = hashlib.sha256(self.key_authorization.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def tls_certificate(self, now: float) -> bytes:
        """Make the certificate that answers TLS-ALPN-01, in PEM behind its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        digest = hashlib.sha256(self.key_authorization.encode()).digest()
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME challenge")])
        start = datetime.fromtimestamp(now, UTC)
        san: x509.GeneralName = x509.DNSName(self.name)
        if is_address(self.name):
            san = x509.IPAddress(ip_address(self.name))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start - _VALIDITY)
            .not_valid_after(start + _VALIDITY)
            .add_extension(x509.SubjectAlternativeName([san]), critical=False)
            .add_extension(
                # The digest, as an OCTET STRING of 32 bytes in DER.
                x509.UnrecognizedExtension(_ACME_IDENTIFIER, b"\x04\x20" + digest),
                critical=True,
            )
            .sign(key, hashes.SHA256())
        )
        return private_pem(key) + certificate.public_bytes(Encoding.PEM)


def kinds_for(options: AcmeOptions, name: str, *, has_http: bool) -> tuple[str, ...]:
    """Return the kinds of challenge that can prove a name, the first to be tried first."""
    if options.challenge:
        return (options.challenge,)
    if options.dns is not None and not is_address(name):
        return (DNS_01,)
    return (TLS_ALPN_01, HTTP_01) if has_http else (TLS_ALPN_01,)
