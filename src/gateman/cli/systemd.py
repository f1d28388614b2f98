"""``gateman systemd``: print a unit; what is in it is decided in ``ops.systemd``."""

import time
from collections.abc import Sequence

import click

from ..config.base import BaseWorker
from ..master.script import Script
from ..ops.systemd import remedy, unit, unit_settings, unreadable
from .service import with_workers


@click.command()
@click.argument("script", metavar="SCRIPT")
@click.option(
    "--name", metavar="NAME", help="The unit's name; without it, the script's, such as server."
)
@click.option(
    "--user",
    metavar="NAME",
    help="Whom it runs as; without it, the script's owner, or a user that systemd makes up"
    " if that is root.",
)
@click.pass_obj
def systemd(
    workers: Sequence[BaseWorker] | None, /, script: str, *, name: str | None, user: str | None
) -> None:
    """
    Print a systemd unit that keeps SCRIPT up, and may do little else.

    The whole unit goes to standard output; its first lines say where to save it. Run this with the
    interpreter and in the folder that the service is to run with. SCRIPT is loaded to see what
    it declares; nothing is bound, and nothing is written.
    """

    def show(declared: Sequence[BaseWorker], found: Script) -> None:
        settings = unit_settings(found, declared, now=time.time(), name=name, user=user)
        click.echo(unit(settings), nl=False)
        for path in unreadable(settings):
            click.echo(f"warning: {remedy(settings, path)}", err=True)

    with_workers(script, workers, show)
