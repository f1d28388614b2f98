"""Where the processes that serve find certificates and the answers to challenges."""

from collections.abc import Iterable
from pathlib import Path

from ..tls.issued import IssuedCertificate
from .options import TLS_ALPN_01, AcmeOptions, challenge_server_name
from .storage import Storage


def issued_certificates(certificates: Iterable[AcmeOptions]) -> tuple[IssuedCertificate, ...]:
    return tuple(map(_issued, certificates))


def _issued(options: AcmeOptions) -> IssuedCertificate:
    storage = Storage(Path(options.storage))
    # A wildcard is checked by DNS-01 only.
    names = [challenge_server_name(name) for name in options.domains if "*" not in name]
    return IssuedCertificate(
        path=storage.certificate_path(options.id),
        names=options.domains,
        challenges={name: storage.challenge_path(TLS_ALPN_01, name) for name in names},
    )
