"""
A certificate and its key: from files into a context, with a sentence for everything that fails.

OpenSSL says "PEM lib" for a missing passphrase, a wrong one, and a file of something else; here
each has its own sentence. Nothing here asks on a terminal.
"""

import os
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509

SECONDS_PER_DAY = 86_400

_MISMATCH = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}
_WEAK = {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """
    A certificate and its key, as they were declared.

    Attributes:
        option: Where the certificate was declared, such as ``"ssl.local_cert"``.
        path: PEM: the server's certificate, then its chain; may hold the key as well.
        key_option: Where the key was, or could have been, declared.
        key_path: PEM; the same as ``path`` if the key is in there.
        passphrase: Of the key; ``None`` if none was declared.
    """

    option: str
    path: Path
    key_option: str
    key_path: Path
    passphrase: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerCertificate:
    """
    A certificate that is in service.

    Attributes:
        option: Where it was declared, such as ``"ssl.local_cert"``.
        path: The file that it came from; absolute.
        domains: The names and addresses that it is for.
        starts_at: From when it is valid; wall-clock seconds since 1970.
        expires_at: Until when it is valid; wall-clock seconds since 1970.
    """

    option: str
    path: Path
    domains: tuple[str, ...]
    starts_at: float
    expires_at: float

    def days_left(self, now: float) -> int:
        """
        Tell for how many whole days the certificate is still valid.

        Args:
            now: Wall-clock seconds since 1970.

        Returns:
            Days; negative from the moment that it expires.
        """
        return int((self.expires_at - now) // SECONDS_PER_DAY)


class _PassphraseMissing(Exception):
    """OpenSSL wants a passphrase, and none was declared."""


def read(option: str, path: Path) -> bytes:
    """
    Read a file that an option names.

    Args:
        option: The option, for the sentence.
        path: The file.

    Returns:
        Its bytes.

    Raises:
        ConfigError: There is none, it may not be read, or it is no file.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        problem, remedy = "which does not exist", "give the path of a file"
    except PermissionError:
        problem = f"which this process (uid {os.geteuid()}) may not read"
        remedy = "let its user read the file and enter every folder above it"
    except IsADirectoryError:
        problem, remedy = "which is a folder", "give the path of a file"
    except OSError as error:
        problem = f"which cannot be read ({error.strerror})"
        remedy = "give the path of a file"
    raise ConfigError(f"{option} names {path}, {problem}", remedy)


def inspect(pair: Pair, *, now: float) -> tuple[ServerCertificate, list[str]]:
    """
    Read what a certificate says of itself.

    Args:
        pair: The certificate; its key is not looked at.
        now: Wall-clock seconds since 1970.

    Returns:
        The certificate, and a sentence for each of its chain that has expired.

    Raises:
        ConfigError: The file cannot be read or holds no certificate in PEM form, or one of
            its certificates is not valid yet.
    """
    # Imported here: 70 ms and 5 MB, which a server without TLS need not pay.
    from cryptography import x509

    data = read(pair.option, pair.path)
    try:
        chain = x509.load_pem_x509_certificates(data)
        domains = _domains(chain[0])
    except ValueError as error:
        raise ConfigError(
            f"{pair.option} names {pair.path}, which holds no certificate in PEM form",
            "one begins with -----BEGIN CERTIFICATE-----",
        ) from error
    warnings: list[str] = []
    for number, link in enumerate(chain, start=1):
        which = "whose certificate" if number == 1 else f"whose certificate number {number}"
        starts_at = link.not_valid_before_utc
        expires_at = link.not_valid_after_utc
        if now < starts_at.timestamp():
            raise ConfigError(
                f"{pair.option} names {pair.path}, {which} is valid only from"
                f" {_minute(starts_at)} on, and now it is"
                f" {_minute(datetime.fromtimestamp(now, UTC))}",
                "set this machine's clock, or take a certificate that is valid",
            )
        if now >= expires_at.timestamp():
            warnings.append(
                f"{pair.option} names {pair.path}, {which} has expired on {_minute(expires_at)}:"
                " clients will refuse it"
            )
    certificate = ServerCertificate(
        option=pair.option,
        path=pair.path,
        domains=domains,
        starts_at=chain[0].not_valid_before_utc.timestamp(),
        expires_at=chain[0].not_valid_after_utc.timestamp(),
    )
    return certificate, warnings


def load(context: ssl.SSLContext, pair: Pair) -> None:
    """
    Load a certificate and its key into a context.

    Args:
        context: A context that is not in service yet: a failure leaves it half loaded.
        pair: The files; the certificate's has been read before, by :func:`inspect`.

    Raises:
        ConfigError: The key cannot be read or holds none, its passphrase is wrong or missing,
            it belongs to another certificate, or is too weak for the security level.
    """
    if b"PRIVATE KEY-----" not in read(pair.key_option, pair.key_path):
        if pair.key_path == pair.path:
            raise ConfigError(
                f"{pair.option} names {pair.path}, which holds no private key",
                f"name the key's file in {pair.key_option}",
            )
        raise ConfigError(
            f"{pair.key_option} names {pair.key_path}, which holds no private key in PEM form",
            "one begins with -----BEGIN PRIVATE KEY-----",
        )
    is_encrypted = False

    def passphrase() -> str:
        # Without this function OpenSSL would ask on the terminal, and wait.
        nonlocal is_encrypted
        is_encrypted = True
        if pair.passphrase is None:
            raise _PassphraseMissing
        return pair.passphrase

    try:
        context.load_cert_chain(pair.path, pair.key_path, password=passphrase)
    except _PassphraseMissing:
        raise ConfigError(
            f"{pair.key_option} names {pair.key_path}, whose key is encrypted",
            "give its passphrase, or decrypt it: openssl pkey -in FILE -out NEW",
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or ""
        raise _failure(pair, reason, context.security_level, is_encrypted=is_encrypted) from error


def _failure(pair: Pair, reason: str, level: int, *, is_encrypted: bool) -> ConfigError:
    key = f"{pair.key_option} names {pair.key_path}, whose key"
    if reason in _MISMATCH:
        return ConfigError(
            f"{key} does not belong to the certificate in {pair.path}",
            "give the key that the certificate was made with; in a file with a chain, the"
            " server's own certificate comes first",
        )
    if reason in _WEAK:
        return ConfigError(
            f"{pair.option} names {pair.path}, which is too weak for security level {level}",
            "get a new certificate: ECDSA P-256 or RSA with 2048 bits or more, and SHA-256",
        )
    if is_encrypted:
        return ConfigError(f"{key} the passphrase does not open", "give the right passphrase")
    return ConfigError(
        f"{pair.option} names {pair.path}, which OpenSSL cannot load with the key in"
        f" {pair.key_path}",
        "look at both with: openssl x509 -noout -in FILE; openssl pkey -noout -in FILE",
    )


def _domains(certificate: "x509.Certificate") -> tuple[str, ...]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    )


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
