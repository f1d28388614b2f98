"""What ``certificates`` and ``check`` read from the storages of ``acme``."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ..acme.options import AcmeOptions
from ..acme.overview import describe
from ..acme.storage_folder import why_ephemeral
from ..errors import CommandError
from ..findings.acme import ACME_STORAGE_EPHEMERAL
from .certificate_views import acme_row, names_of, problem_line, troubled, validity, what_follows
from .tables import Row


def rows_of(ordered: Sequence[AcmeOptions], now: float) -> list[Row]:
    try:
        found = msgspec.to_builtins(describe(ordered))
    except OSError as error:
        raise CommandError(
            f"{error.filename} cannot be read ({(error.strerror or 'error').lower()}): run this as"
            " root, or as the user of the service"
        ) from error
    return [acme_row(one, now) for one in found]


def check_lines(ordered: Sequence[AcmeOptions], now: float) -> Iterator[str]:
    """Say for ``check`` where the certificates of a worker are, and how they do."""
    for folder in dict.fromkeys(one.storage for one in ordered):
        yield f"acme: keys and certificates are in {folder}"
        reason = why_ephemeral(Path(folder))
        if reason is not None:
            yield f"warning: {ACME_STORAGE_EPHEMERAL.found(folder=folder, reason=reason)}"
    try:
        rows = rows_of(ordered, now)
    except CommandError as error:
        yield f"note: {error.problem}"
        return
    for row in rows:
        yield f"{names_of(row)}: {validity(row)}, {what_follows(row)}"
    for row in troubled(rows):
        yield f"warning: {problem_line(row).text}"
