"""Whom clients trust: the roots of certifi, and those of ``--ca``."""

import hashlib
import ssl
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UsageMistake
from ...tls.certificate_chain import has_signed, read_chain
from ...tls.certificate_findings import Trust
from .observations import ChainSeen

if TYPE_CHECKING:
    from cryptography import x509


class Roots:
    """The roots that count as trusted."""

    def __init__(self, ca_file: Path | None) -> None:
        """Read them; raises :class:`UsageMistake` if ``ca_file`` cannot be used."""
        self._own: list[x509.Certificate] = []
        self._own_pem = ""
        if ca_file is not None:
            self._own, self._own_pem = _read(ca_file)

    @property
    def pem(self) -> str:
        return f"{_public_pem()}\n{self._own_pem}"

    def judge(self, certificates: tuple[bytes, ...], refusal: str = "") -> ChainSeen | None:
        """Read certificates (DER), and find out which of them a root has signed."""
        if not certificates:
            return None
        pem = "".join(ssl.DER_cert_to_PEM_cert(one) for one in certificates)
        with warnings.catch_warnings():
            # As in read_chain: what will be refused one day is judged, not warned of.
            warnings.simplefilter("ignore")
            public = frozenset(_anchors(certificates, _public()))
            own = frozenset(_anchors(certificates, self._own))
        trust = Trust(anchors=public | own, is_public=bool(public), has_own_roots=bool(self._own))
        fingerprint = hashlib.sha256(b"".join(certificates)).hexdigest()
        return ChainSeen(
            chain=read_chain(pem.encode()), trust=trust, fingerprint=fingerprint, refusal=refusal
        )


def _anchors(certificates: tuple[bytes, ...], roots: "list[x509.Certificate]") -> list[int]:
    from cryptography import x509

    by_name: dict[bytes, list[x509.Certificate]] = {}
    for root in roots:
        by_name.setdefault(root.subject.public_bytes(), []).append(root)
    found = []
    for place, der in enumerate(certificates):
        try:
            certificate = x509.load_der_x509_certificate(der)
            near = by_name.get(certificate.issuer.public_bytes(), [])
            same = by_name.get(certificate.subject.public_bytes(), [])
            if any(_has_same_key(one, certificate) for one in same) or any(
                has_signed(one, certificate) for one in near
            ):
                found.append(place)
        except (ValueError, x509.InvalidVersion):
            continue
    return found


def _has_same_key(one: "x509.Certificate", other: "x509.Certificate") -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return one.public_key() == other.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False


def _read(path: Path) -> "tuple[list[x509.Certificate], str]":
    from cryptography import x509

    try:
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = x509.load_pem_x509_certificates(data)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "it holds no certificate in PEM form"
        raise UsageMistake(f"--ca {path} cannot be used: {problem}") from None
    pem = "".join(ssl.DER_cert_to_PEM_cert(_der(one)) for one in found)
    return found, pem


def _der(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


@cache
def _public_pem() -> str:
    import certifi

    return certifi.contents()


@cache
def _public() -> "list[x509.Certificate]":
    from cryptography import x509

    return x509.load_pem_x509_certificates(_public_pem().encode())
