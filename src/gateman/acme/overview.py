"""What there is to say of the certificates in a storage: for ``certificates`` and ``status``."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from .options import AcmeOptions
from .policy import jitter_of, renewal_at
from .state import CertificateStatus
from .storage import Storage


def describe(certificates: Iterable[AcmeOptions]) -> tuple[CertificateStatus, ...]:
    """Read the storages; raises OSError if this user may not."""
    return tuple(map(_describe, dict.fromkeys(certificates)))


def pending(options: AcmeOptions) -> CertificateStatus | None:
    """Describe a certificate without reading a file; ``None`` if there is one."""
    path = Storage(Path(options.storage)).certificate_path(options.id)
    if path.exists():
        return None
    return CertificateStatus(names=options.domains, authority=_authority(options), path=str(path))


def _describe(options: AcmeOptions) -> CertificateStatus:
    storage = Storage(Path(options.storage))
    state = storage.read_state(options.id)
    found = storage.read_certificate(options.id)
    return CertificateStatus(
        names=options.domains,
        authority=_authority(options),
        path=str(storage.certificate_path(options.id)),
        issuer="" if found is None else found.facts.issuer,
        expires_at=None if found is None else found.facts.expires_at,
        renewal_at=None
        if found is None
        else renewal_at(state, found, jitter=jitter_of(found.fingerprint)),
        next_at=state.next_at,
        problem=state.problem,
        failures=state.failures,
    )


def _authority(options: AcmeOptions) -> str:
    return urlsplit(options.directory).hostname or options.directory
