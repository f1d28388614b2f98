"""``gateman status`` and ``gateman connections``: how a running service is."""

import json

import click

from ..master import control
from ..master.script import Script

_SCRIPT = click.argument("script", metavar="SCRIPT")
_JSON = click.option("--json", "is_json", is_flag=True, help="Print JSON, for programs.")


@click.command()
@_SCRIPT
@_JSON
def status(script: str, *, is_json: bool) -> None:
    """Show how the service and its processes are."""
    with control.conversation(Script.find(script)) as master:
        answer = master.ask("status")
    del is_json
    click.echo(json.dumps(answer, indent=2))


@click.command()
@_SCRIPT
@_JSON
def connections(script: str, *, is_json: bool) -> None:
    """List who is connected."""
    with control.conversation(Script.find(script)) as master:
        answer = master.ask("connections")
    del is_json
    click.echo(json.dumps(answer, indent=2))
