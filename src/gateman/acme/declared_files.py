"""Checks the files that ``acme`` names, before anything is begun."""

import os
import shutil
from collections.abc import Iterable

from ..errors import ConfigError
from .options import AcmeOptions


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
