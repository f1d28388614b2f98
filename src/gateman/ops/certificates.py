"""
Certificates for development, signed by an authority that only this user's devices trust.

    data folder/ca.pem  ca.key     the authority: made once, kept, trusted by hand
    directory/server.pem           the certificate, then the authority's, for ``local_cert``
    directory/server.key           its key, which stays the same when the certificate is renewed

Only the owner can read a key, from its first byte on. Files are replaced atomically, under a lock.
Links and files of other users are refused: a stolen key lets its holder pose as the server, and the
authority's key as any server.

Name constraints limit the authority to private names and addresses and to the requested ones, so a
stolen authority key is useless against other sites that the user visits.
"""

import errno
import fcntl
import ipaddress
import os
import pwd
import shlex
import socket
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..data_folder import data_folder
from ..errors import ConfigError
from ..safe_files import replace_file
from ..tls.domain_names import wire_name
from .template import fill_in

AUTHORITY_NAME = "gateman development CA"
"""The authority's name in trust stores; certificates with this issuer may be replaced."""

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# Certificates are valid from a day ago, for devices whose clock is behind.
_HEAD_START = timedelta(days=1)
# Browsers accept 398 days for public certificates, and Apple 825 days for others.
_LIFETIME = timedelta(days=396)
_RENEWED_BEFORE = timedelta(days=30)
_AUTHORITY_LIFETIME = timedelta(days=3650)

# The authority may always sign for these; no public site has them. RFC 6761, RFC 6762, RFC 1918,
# RFC 4193; a name includes all names below it.
_PRIVATE = (
    *("localhost", "test", "local", "internal"),
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("::1/128", "fc00::/7", "fe80::/10"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DevelopmentCertificate:
    """The files of a certificate and of the authority that signed it."""

    certificate: Path
    key: Path
    authority: Path
    authority_key: Path
    domains: tuple[str, ...]
    expires_at: float  # seconds since 1970
    is_new: bool
    is_authority_new: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: _Key
    is_new: bool


def development_certificate(
    domains: Iterable[str] = (),
    directory: Path | None = None,
    *,
    data: Path | None = None,
    now: float | None = None,
) -> DevelopmentCertificate:
    """
    Find or make a certificate for ``localhost``, this host and the given names.

    A valid certificate is kept. It is renewed, with the same key and all its names, if a name is
    missing, fewer than 30 days are left, or the authority has changed. The authority is renewed if
    it may not sign for one of the names, or would expire before the certificate.

    Raises:
        ConfigError: A name or a key cannot be used; a folder is not writable; a ``server.pem`` was
            not made by this function, which never replaces it; a file is a link, or another user's.
    """
    moment = datetime.fromtimestamp(time.time() if now is None else now, UTC)
    directory = Path.cwd() / (directory or "")
    data = Path.cwd() / (data or data_folder())
    wanted = _names(domains)
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(data):
            return _find_or_make(wanted, directory, data, moment)
    except OSError as error:
        raise ConfigError(
            f"{error.filename2 or error.filename or directory} cannot be used ({error.strerror})",
            "choose a folder that may be written to",
        ) from error


def trust_instructions(certificate: DevelopmentCertificate) -> str:
    """Return how to make devices trust the authority."""
    values = {
        "authority": shlex.quote(str(certificate.authority)),
        "key": certificate.authority_key,
        "name": AUTHORITY_NAME,
    }
    return fill_in("trust.txt", values)


def _names(domains: Iterable[str]) -> list[str]:
    """Return the requested and the default names, each once, in the form of a certificate."""
    names: list[str] = []
    for domain in domains:
        name = _address(domain) or wire_name(domain)
        if name is None:
            raise ConfigError(
                f"{domain!r} is not a name for a certificate",
                "write a domain, such as chat.test or *.chat.test, or an IP address",
            )
        names.append(name)
    host = wire_name(socket.gethostname())
    names += ["localhost", "127.0.0.1", "::1", *([host] if host else [])]
    return list(dict.fromkeys(names))


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder: of two authorities made at once, one would overwrite the other."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        _check_owner(folder, os.fstat(handle))
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _find_or_make(
    wanted: list[str], directory: Path, data: Path, moment: datetime
) -> DevelopmentCertificate:
    certificate_path, key_path = directory / "server.pem", directory / "server.key"
    found = _found(certificate_path)
    key = _key(key_path)
    names = list(dict.fromkeys([*(_names_of(found) if found else ()), *wanted]))
    authority = _authority(data, names, moment)
    if found and key and _is_good(found, key, authority, names, moment):
        certificate, is_new = found, False
    else:
        if key is None:
            key = _new_key(key_path)
        certificate, is_new = _issue(names, key, authority, moment), True
        chain = [certificate, authority.certificate]
        pem = b"".join(link.public_bytes(Encoding.PEM) for link in chain)
        replace_file(certificate_path, pem, mode=0o644)
    return DevelopmentCertificate(
        certificate=certificate_path,
        key=key_path,
        authority=data / "ca.pem",
        authority_key=data / "ca.key",
        domains=tuple(_names_of(certificate)),
        expires_at=certificate.not_valid_after_utc.timestamp(),
        is_new=is_new,
        is_authority_new=authority.is_new,
    )


def _authority(folder: Path, names: Collection[str], moment: datetime) -> _Authority:
    certificate_path, key_path = folder / "ca.pem", folder / "ca.key"
    key = _key(key_path)
    certificate = _found(certificate_path)
    permitted = list(_PRIVATE)
    if key is not None and certificate is not None:
        if certificate.public_key() != key.public_key():
            raise ConfigError(
                f"{key_path} is not the key of {certificate_path}",
                "remove both, and run this again",
            )
        permitted = _permitted_by(certificate)
        missing = [name for name in names if not _is_permitted(name, permitted)]
        # A certificate must not outlive its authority.
        if permitted and not missing and certificate.not_valid_after_utc - moment > _LIFETIME:
            return _Authority(certificate=certificate, key=key, is_new=False)
    permitted = list(dict.fromkeys([*_PRIVATE, *permitted]))
    permitted += [_base(name) for name in names if not _is_permitted(name, permitted)]
    key = _new_key(key_path)
    certificate = _self_sign(key, list(dict.fromkeys(permitted)), moment)
    replace_file(certificate_path, certificate.public_bytes(Encoding.PEM), mode=0o644)
    return _Authority(certificate=certificate, key=key, is_new=True)


def _permitted_by(authority: x509.Certificate) -> list[str]:
    """Return the domains and networks that an authority may sign for; empty if not limited."""
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in constraints.permitted_subtrees or ()]


def _is_permitted(name: str, permitted: Collection[str]) -> bool:
    """Return whether a name is in one of the domains, or an address in one of the networks."""
    if _address(name):
        address = ipaddress.ip_address(name)
        return any(address in ipaddress.ip_network(one) for one in permitted if "/" in one)
    base = _base(name)
    return any(base == one or base.endswith(f".{one}") for one in permitted)


def _base(name: str) -> str:
    """Return the constraint for a name: the domain of a wildcard, the network of an address."""
    return str(ipaddress.ip_network(name)) if _address(name) else name.removeprefix("*.")


def _found(path: Path) -> x509.Certificate | None:
    """Read a certificate; refuse one that this module did not make."""
    pem = _read(path)
    if pem is None:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        issuer = certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    except ValueError:
        issuer = []
    if not issuer or issuer[0].value != AUTHORITY_NAME:
        raise ConfigError(
            f"{path} was not made by gateman cert dev", "choose another folder, or move it away"
        )
    return certificate


def _key(path: Path) -> _Key | None:
    pem = _read(path, is_secret=True)
    if pem is None:
        return None
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} does not hold a key that is readable without a passphrase", "move it away"
        ) from error
    if not isinstance(key, _Key):
        raise ConfigError(f"{path} holds a key that no browser supports", "move it away")
    return key


def _read(path: Path, *, is_secret: bool = False) -> bytes | None:
    """Read a file of this user; ``None`` if it does not exist."""
    try:
        # Another user may have put a pipe there, and opening it would block until it has a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ConfigError(f"{path} is a symbolic link", "move it away") from error
        raise
    try:
        status = os.fstat(handle)
        _check_owner(path, status)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is not a file", "move it away")
        if is_secret and status.st_mode & 0o077 and status.st_uid == os.geteuid():
            # A copied key file may have become readable to all users.
            os.fchmod(handle, 0o600)
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid in {os.geteuid(), 0}:
        return
    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = str(status.st_uid)
    raise ConfigError(
        f"{path} belongs to the user {owner}, who could know the key or replace it",
        f"run this as {owner}, or choose another folder",
    )


def _names_of(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


def _is_good(
    certificate: x509.Certificate,
    key: _Key,
    authority: _Authority,
    names: list[str],
    moment: datetime,
) -> bool:
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return (
        certificate.public_key() == key.public_key()
        and set(names) <= set(_names_of(certificate))
        and certificate.not_valid_before_utc <= moment
        and certificate.not_valid_after_utc - moment >= _RENEWED_BEFORE
    )


def _new_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    replace_file(path, pem, mode=0o600)
    return key


def _self_sign(
    key: ec.EllipticCurvePrivateKey, permitted: Collection[str], moment: datetime
) -> x509.Certificate:
    serial = x509.random_serial_number()
    # NSS confuses authorities with equal names, so each gets its own.
    subject = _subject(AUTHORITY_NAME, f"{AUTHORITY_NAME} {serial & 0xFFFFFFFF:08x}")
    return (
        _builder(subject, subject, key, moment, moment + _AUTHORITY_LIFETIME)
        .serial_number(serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.NameConstraints(
                [
                    x509.IPAddress(ipaddress.ip_network(one)) if "/" in one else x509.DNSName(one)
                    for one in permitted
                ],
                None,
            ),
            critical=True,
        )
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, moment: datetime, expires: datetime
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .not_valid_before(moment - _HEAD_START)
        .not_valid_after(expires)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _issue(
    names: list[str],
    key: _Key,
    authority: _Authority,
    moment: datetime,
) -> x509.Certificate:
    issuer_key = authority.certificate.extensions.get_extension_for_class(
        x509.SubjectKeyIdentifier
    ).value
    alternatives = [
        x509.IPAddress(ipaddress.ip_address(name)) if _address(name) else x509.DNSName(name)
        for name in names
    ]
    subject = _subject("gateman development certificate")
    expires = moment - _HEAD_START + _LIFETIME
    return (
        _builder(subject, authority.certificate.subject, key, moment, expires)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )


def _subject(organization: str, common_name: str | None = None) -> x509.Name:
    attributes = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        # Distinguishes the authorities of several machines in one trust store.
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, socket.gethostname()[:64] or "-"),
    ]
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
