"""``gateman certificates``: the certificates of a service, their issuers, ends and renewals."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click

from ..acme.options import AcmeOptions
from ..config.base import BaseWorker
from ..errors import CommandError, GatemanError
from ..log import one_line
from ..master import control, control_requests
from ..master.plan import WorkerPlan, plan
from ..master.script import Script
from ..tls.domain_names import wire_name
from .certificate_views import acme_row, certificate_lines, file_row, table_lines
from .options import SCRIPT
from .service import with_workers
from .status import print_json, print_lines, terminal_width
from .stored_certificates import rows_of
from .tables import Line, Row


@click.command()
@SCRIPT
@click.option(
    "--name", "only", metavar="NAME", help="Show or renew only the certificates for this name."
)
@click.option(
    "--renew",
    "is_renewing",
    is_flag=True,
    help="Have the running service order the certificates of acme now, due or not, and wait.",
)
@click.option("--json", "is_json", is_flag=True, help="Print all values, for programs.")
@click.pass_obj
def certificates(
    workers: Sequence[BaseWorker] | None,
    /,
    script: str,
    *,
    only: str | None,
    is_renewing: bool,
    is_json: bool,
) -> None:
    """
    List the certificates of SCRIPT: issuers, days left, renewals, and the last error.

    The running service renews those of `acme`. Certificates from files are renewed by the program
    that made the files. The command loads SCRIPT; it need not run. The exit code is 1 if --renew
    has renewed nothing.
    """
    only = only and (wire_name(only) or only)
    if is_renewing:
        _renew(Script.find(script), only or "", is_json=is_json)
        return

    def show(declared: Sequence[BaseWorker], found: Script) -> None:
        now = time.time()
        planned = plan(declared, now=now)
        ordered = _where_they_are([one for each in planned for one in _acme(each)], found)
        rows = [
            one
            for one in (*rows_of(ordered, now), *_of_files(planned, now))
            if only is None or only in one["names"]
        ]
        if only is not None and not rows:
            raise CommandError(f"{found} has no certificate for {only}")
        if is_json:
            print_json({"certificates": rows}, indent=2)
        else:
            print_lines(certificate_lines(rows, terminal_width()))

    with_workers(script, workers, show)


def _renew(script: Script, name: str, *, is_json: bool) -> None:
    status = control.ask(script, control_requests.GetStatus(), control_requests.StatusAnswer)
    if not is_json:
        click.echo("ordering; an authority needs seconds, and sometimes minutes")
    request = control_requests.RenewCertificates(name)
    answer = control.ask(script, request, control_requests.RenewAnswer)
    before = {one["path"]: one["expires_at"] for one in status.get("certificates", ())}
    rows = [acme_row(one, time.time()) for one in answer["certificates"]]
    if is_json:
        print_json({"lines": answer["lines"], "certificates": rows}, indent=2)
    else:
        print_lines([*map(Line, map(one_line, answer["lines"])), *table_lines(rows, None)])
    if any(row["expires_at"] == before.get(row["path"]) for row in rows):
        raise CommandError("not every certificate was renewed: see above")


def _acme(planned: WorkerPlan) -> tuple[AcmeOptions, ...]:
    return () if planned.settings is None else planned.settings.acme


def _where_they_are(certificates: Sequence[AcmeOptions], script: Script) -> list[AcmeOptions]:
    """Name the storage of the running service, whose user and environment may be others."""
    folders: dict[str, str] = {}
    if certificates:
        # It does not run, or may not be asked: the storage is that of the declaration.
        with suppress(GatemanError, OSError):
            request = control_requests.GetStatus()
            answer = control.ask(script, request, control_requests.StatusAnswer)
            paths = [Path(one["path"]) for one in answer.get("certificates", ())]
            folders = {path.stem: str(path.parents[1]) for path in paths}
    return [replace(one, storage=folders.get(one.id, one.storage)) for one in certificates]


def _of_files(planned: Iterable[WorkerPlan], now: float) -> Iterator[Row]:
    contexts = [each.settings.contexts for each in planned if each.settings is not None]
    found = [one for each in contexts if each is not None for one in each.certificates]
    # Several workers may have the same file.
    return (file_row(one, now) for one in {one.path: one for one in found}.values())
