"""``gateman push``: sends a message to clients of a running service."""

import sys
from typing import TYPE_CHECKING

import click

from ..errors import CommandError, PartialResult, processes
from .bus import HubCommand, bus_options, with_hub

if TYPE_CHECKING:
    from ..cluster.hub import Hub


@click.command(cls=HubCommand)
@click.argument("text")
@click.option("--all", "is_all", is_flag=True, help="Send to every client.")
@click.option("--group", "groups", multiple=True, help="Send to a group; may be repeated.")
@click.option("--uid", "uids", multiple=True, help="Send to a user; may be repeated.")
@click.option("--client", "clients", multiple=True, help="Send to a client id; may be repeated.")
@bus_options
def push(
    text: str,
    *,
    is_all: bool,
    groups: tuple[str, ...],
    uids: tuple[str, ...],
    clients: tuple[str, ...],
    bus: str | None,
    service: str | None,
) -> None:
    """
    Send TEXT to clients of a running service.

    With - as TEXT, it is read from standard input. It is sent at most once, to the clients that are
    connected now; their number is printed.
    """
    if sum(map(bool, (is_all, groups, uids, clients))) != 1:
        raise click.UsageError("Name the receivers: one of --all, --group, --uid and --client.")
    try:
        message = sys.stdin.read() if text == "-" else text
        message.encode()
    except UnicodeError:
        raise CommandError("the text is not valid UTF-8") from None

    async def send(hub: "Hub") -> None:
        if is_all:
            sending = hub.send_to_all(message)
        elif groups:
            sending = hub.send_to_group(groups, message)
        elif uids:
            sending = hub.send_to_uid(uids, message)
        else:
            sending = hub.send_to_clients(clients, message)
        try:
            count, note = await sending, ""
        except PartialResult as partial:
            count, note = partial.value, f" at least: no answer from {processes(partial.missing)}"
        if count or note:
            click.echo(f"sent to {count} {'client' if count == 1 else 'clients'}{note}")
        else:
            click.echo("sent to 0 clients: no such client is connected")

    with_hub(bus, service, send)
