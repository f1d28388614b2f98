"""
Client certificates: which authorities, or which single certificates, are accepted.

Source:
    RFC 8446, section 4.4.2.4; PHP's ``verify_peer``, ``cafile``, ``capath``, ``peer_fingerprint``.
"""

import hashlib
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

from . import certificate, pem
from .ssl_options import Options

# Algorithms of a fingerprint, and how many hex digits each has.
_DIGITS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
_BY_DIGITS = {_DIGITS[name]: name for name in ("md5", "sha1", "sha256")}
_HEX = re.compile(r"[0-9a-f]+")

_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # how openssl rehash names its links


def demand_certificates(context: ssl.SSLContext, options: Options) -> None:
    """Demand a client certificate of a trusted authority, if ``verify_peer`` says so."""
    is_lenient = options.flag("allow_self_signed")
    if not options.flag("verify_peer"):
        return
    if is_lenient:
        raise options.refusal(
            "allow_self_signed",
            "cannot be honoured with verify_peer, as Python's ssl module has no such exception",
            "leave it out, and put the clients' own certificates into cafile",
        )
    file, folder = options.path("cafile"), options.path("capath")
    if file is None and folder is None:
        raise options.refusal(
            "verify_peer",
            "demands a certificate of every client, and nothing says whose",
            "give cafile or capath, or leave it out: a browser has none to show",
        )
    if file is not None:
        data = certificate.read("ssl.cafile", file)
        try:
            context.load_verify_locations(cafile=file)
        except ssl.SSLError as error:
            problem, remedy = pem.failure(data)
            raise options.refusal("cafile", f"names {file}, {problem}", remedy) from error
    if folder is not None:
        if not _is_hashed(folder):
            raise options.refusal(
                "capath",
                f"names {folder}, which is not a folder of hashed certificates that can be read",
                "make it one with: openssl rehash FOLDER",
            )
        context.load_verify_locations(capath=folder)
    context.verify_mode = ssl.CERT_REQUIRED


def pins(options: Options) -> dict[str, str]:
    """Read the fingerprints of the only certificates that are accepted."""
    value = options.get("peer_fingerprint")
    if value is None:
        return {}
    if not options.flag("verify_peer"):
        raise options.refusal(
            "peer_fingerprint",
            "has nothing to compare: without verify_peer no client shows a certificate",
            "set verify_peer and cafile too",
        )
    if isinstance(value, str):
        value = {_BY_DIGITS.get(len(_hex_digits(value)), ""): value}
    declared = value if isinstance(value, Mapping) else {}
    found = {algorithm: _hex_digits(fingerprint) for algorithm, fingerprint in declared.items()}
    if not found or any(len(digits) != _DIGITS.get(name) for name, digits in found.items()):
        raise options.refusal(
            "peer_fingerprint",
            "is not a fingerprint",
            "write 32, 40 or 64 hex digits (md5, sha1, sha256), or {'sha256': '…'}",
        )
    return found


def is_pinned(der: bytes | None, pins: Mapping[str, str]) -> bool:
    """Return whether a certificate has a pinned fingerprint."""
    if not pins:
        return True
    if der is None:
        return False
    return all(
        hashlib.new(algorithm, der, usedforsecurity=False).hexdigest() == fingerprint
        for algorithm, fingerprint in pins.items()
    )


def _is_hashed(folder: Path) -> bool:
    # OpenSSL reads it at each handshake, and does not report what is wrong with it.
    try:
        return any(_HASHED.fullmatch(item.name) for item in folder.iterdir())
    except OSError:
        return False


def _hex_digits(fingerprint: object) -> str:
    # The openssl command puts colons between the bytes.
    digits = fingerprint.replace(":", "").lower() if isinstance(fingerprint, str) else ""
    return digits if _HEX.fullmatch(digits) else ""
