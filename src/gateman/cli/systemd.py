"""``gateman systemd``: prints a unit, made by :mod:`gateman.ops.systemd`."""

import time
from collections.abc import Sequence

import click

from ..config.base import BaseWorker
from ..master.script import Script
from ..ops.systemd import remedy, unit, unit_settings, unreadable
from .options import SCRIPT
from .service import with_workers


@click.command()
@SCRIPT
@click.option(
    "--name", metavar="NAME", help="The unit's name; the default is the script's, such as server."
)
@click.option(
    "--user",
    metavar="NAME",
    help="The user of the service; the default is the script's owner, or a temporary user of"
    " systemd if that is root.",
)
@click.pass_obj
def systemd(
    workers: Sequence[BaseWorker] | None, /, script: str, *, name: str | None, user: str | None
) -> None:
    """
    Print a systemd unit for SCRIPT, with few permissions.

    Its first lines say where to save it. Run this with the interpreter, and in the folder, of the
    service. The command loads SCRIPT to read its workers; it does not listen, and writes no file.
    """

    def show(declared: Sequence[BaseWorker], found: Script) -> None:
        settings = unit_settings(found, declared, now=time.time(), name=name, user=user)
        click.echo(unit(settings), nl=False)
        for path in unreadable(settings):
            click.echo(f"warning: {remedy(settings, path)}", err=True)

    with_workers(script, workers, show)
