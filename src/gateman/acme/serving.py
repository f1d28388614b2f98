"""Files of ACME in processes that serve: those that options name, and those of the storage."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..errors import ConfigError
from ..tls.issued import IssuedCertificate
from .options import TLS_ALPN_01, AcmeOptions, challenge_server_name
from .storage import Storage


def check_files(certificates: Iterable[AcmeOptions]) -> None:
    """Raise a ConfigError if a file of authorities cannot be read, or a command is not there."""
    for options in certificates:
        cafile = options.directory_cafile
        if cafile and not os.access(cafile, os.R_OK):
            raise ConfigError(
                f"acme.directory_cafile: {cafile} cannot be read",
                "write the path of the authority's root certificate in PEM form",
            )
        command = options.dns.command if options.dns is not None else ()
        if command and shutil.which(command[0]) is None:
            raise ConfigError(
                f"acme.dns: {command[0]!r} is not a program that this user can run",
                "write its whole path, and make it executable",
            )


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
