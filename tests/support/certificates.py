"""
Throw-away certificates, as files: what an operator would have on a disk.

``trustme`` makes them; what it does not do, an encrypted key, is done here.
"""

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True, kw_only=True)
class Issued:
    """
    A certificate on the disk.

    Attributes:
        certificate: PEM: the certificate, then its chain without the authority.
        key: PEM; readable by everyone, as some deployments have it.
        authority: PEM of the authority.
    """

    certificate: Path
    key: Path
    authority: Path

    @property
    def der(self) -> bytes:
        """The certificate itself, without its chain."""
        return self._parsed.public_bytes(Encoding.DER)

    @property
    def expires_at(self) -> float:
        """Until when the certificate is valid; wall-clock seconds since 1970."""
        return self._parsed.not_valid_after_utc.timestamp()

    @property
    def _parsed(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())


class Authority:
    """A certificate authority of one test."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    @property
    def pem(self) -> str:
        """The certificate of the authority."""
        return self._ca.cert_pem.bytes().decode()

    def issue(
        self,
        folder: Path,
        *names: str,
        stem: str = "server",
        starts_at: datetime | None = None,
        expires_at: datetime | None = None,
        passphrase: str | None = None,
        has_rsa_key: bool = False,
        has_chain: bool = False,
    ) -> Issued:
        """
        Make a certificate and write it to a folder.

        Args:
            folder: An existing folder.
            names: Domains, wildcards, addresses or mail addresses; ``localhost`` if there are
                none.
            stem: The files are ``{stem}.pem`` and ``{stem}.key``.
            starts_at: From when it is valid; ``None`` for long ago.
            expires_at: Until when it is valid; ``None`` for far ahead.
            passphrase: Encrypts the key.
            has_rsa_key: RSA with 2048 bits in place of ECDSA P-256.
            has_chain: An intermediate authority signs it.

        Returns:
            Where the files are.
        """
        issuer = self._ca.create_child_ca() if has_chain else self._ca
        leaf = issuer.issue_cert(
            *(names or ("localhost",)),
            not_before=starts_at,
            not_after=expires_at,
            key_type=trustme.KeyType.RSA if has_rsa_key else trustme.KeyType.ECDSA,
        )
        issued = Issued(
            certificate=folder / f"{stem}.pem",
            key=folder / f"{stem}.key",
            authority=folder / "authority.pem",
        )
        issued.certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        issued.key.write_bytes(_encrypted(leaf.private_key_pem.bytes(), passphrase))
        issued.authority.write_text(self.pem)
        return issued

    def trusting_client(self) -> ssl.SSLContext:
        """Make the context of a client that trusts this authority and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.pem)
        return context


def for_threads(context: ssl.SSLContext) -> ssl.SSLContext:
    """
    Have a client's context serve two threads, one of which writes while the other reads.

    websockets' sync client is one. Python's ssl does not lock, so the tickets that TLS 1.3 sends
    behind its handshake and the first request meet in OpenSSL: about one in 600 requests is then
    never written, whatever the server. With TLS 1.2 nothing is read before the request is answered.

    Args:
        context: The context.

    Returns:
        The same one.

    Source:
        https://github.com/python/cpython/issues/124984
    """
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def _encrypted(pem: bytes, passphrase: str | None) -> bytes:
    if passphrase is None:
        return pem
    return load_pem_private_key(pem, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode())
    )
