"""
A certificate and its key: from files into a context, with a sentence for everything that fails.

OpenSSL says "PEM lib" for a missing passphrase, a wrong one, and a file of something else; here
each has its own sentence. Nothing here asks on a terminal.
"""

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Struct

from ..errors import ConfigError
from ..findings import Finding
from . import pem
from .certificate_chain import Chain, read_chain
from .certificate_findings import SECONDS_PER_DAY, judge

_MISMATCH = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}
_WEAK = {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A certificate and its key, as they were declared."""

    option: str  # such as ``"ssl.local_cert"``
    path: Path  # PEM: the server's certificate, then its chain; may hold the key as well
    key_option: str  # where the key was, or could have been, declared
    key_path: Path  # PEM; the same as ``path`` if the key is in there
    passphrase: str | None = field(repr=False)


class ServerCertificate(Struct, frozen=True, kw_only=True):
    """A certificate that is in service."""

    option: str  # where it was declared, such as ``"ssl.local_cert"``
    path: Path  # absolute
    chain: Chain  # the server's own certificate first
    # What was wrong with it when it was read; what matters most first.
    findings: tuple[Finding, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        return self.chain[0].names if self.chain and self.chain[0] is not None else ()

    @property
    def expires_at(self) -> float | None:
        """When it expires; seconds since 1970, or ``None`` if it cannot be read."""
        return self.chain[0].expires_at if self.chain and self.chain[0] is not None else None

    @property
    def lifetime(self) -> float | None:
        """The seconds between its begin and its end; ``None`` if it cannot be read."""
        first = self.chain[0] if self.chain else None
        return None if first is None else first.expires_at - first.starts_at

    @property
    def name(self) -> str:
        return _name(self.option, self.path)

    def is_valid(self, now: float) -> bool:
        first = self.chain[0] if self.chain else None
        return first is not None and first.starts_at <= now < first.expires_at

    def days_left(self, now: float) -> int | None:
        """Return the whole days for which the certificate is still valid."""
        expires_at = self.expires_at
        return None if expires_at is None else int((expires_at - now) // SECONDS_PER_DAY)


class _PassphraseMissing(Exception):
    """OpenSSL wants a passphrase, and none was declared."""


def read(option: str, path: Path) -> bytes:
    """Read a file that an option names, or raise a ConfigError."""
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


def inspect(pair: Pair, *, now: float) -> ServerCertificate:
    """Read what a certificate says of itself, and judge it."""
    chain = read_chain(read(pair.option, pair.path))
    findings = judge(chain, now=now, name=_name(pair.option, pair.path))
    return ServerCertificate(
        option=pair.option, path=pair.path, chain=chain, findings=tuple(findings)
    )


def load(context: ssl.SSLContext, pair: Pair) -> None:
    """Load a certificate and its key into a context; what OpenSSL takes is never refused."""
    data = read(pair.option, pair.path)
    if not pem.has_certificate(data):
        problem, remedy = pem.failure(data)
        raise ConfigError(f"{pair.option} names {pair.path}, {problem}", remedy)
    key_data = read(pair.key_option, pair.key_path)
    if b"PRIVATE KEY-----" not in key_data:
        if pair.key_path == pair.path:
            raise ConfigError(
                f"{pair.option} names {pair.path}, which holds no private key",
                f"name the key's file in {pair.key_option}",
            )
        raise ConfigError(
            f"{pair.key_option} names {pair.key_path}, which holds no private key in PEM form",
            pem.key_conversion(key_data),
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
    for option, path in ((pair.option, pair.path), (pair.key_option, pair.key_path)):
        slip = pem.slip(read(option, path))
        if slip is not None:
            return ConfigError(f"{option} names {path}, {slip[0]}", slip[1])
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
    if reason == "INVALID_CERTIFICATE":
        return ConfigError(
            f"{pair.option} names {pair.path}, a part of which breaks the standard, so that"
            " OpenSSL does not take it",
            "get a new certificate",
        )
    if is_encrypted:
        return _undecryptable(pair, key)
    return ConfigError(
        f"{pair.option} names {pair.path}, which OpenSSL cannot load with the key in"
        f" {pair.key_path}",
        "look at both with: openssl x509 -noout -in FILE; openssl pkey -noout -in FILE",
    )


def _undecryptable(pair: Pair, key: str) -> ConfigError:
    cipher = pem.old_encryption(read(pair.key_option, pair.key_path))
    if cipher is None or ssl.OPENSSL_VERSION_INFO < (3,):
        return ConfigError(f"{key} the passphrase does not open", "give the right passphrase")
    return ConfigError(
        f"{key} is encrypted with {cipher}, which OpenSSL 3 no longer reads",
        "convert it with: openssl pkey -provider legacy -provider default -in FILE -aes256 -out"
        " NEW",
    )


def _name(option: str, path: Path) -> str:
    return f"{option} names {path}, whose certificate"
