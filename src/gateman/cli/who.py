"""``gateman who``: who is connected to a running service."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

import click

from ..cluster.hub import Hub
from ..errors import CommandError, PartialResult
from ..log import one_line
from .bus import bus_options, with_hub

T = TypeVar("T")


@click.command()
@click.option("--uid", help="Name the clients of a user.")
@click.option("--group", help="Name the clients in a group.")
@bus_options
def who(*, uid: str | None, group: str | None, bus: str | None, service: str | None) -> None:
    """
    Tell who is connected to a running service: client ids, a line each, or how many there are.

    If a process does not answer in time, what the others said is printed, and the exit code is 1.
    """
    if uid is not None and group is not None:
        raise click.UsageError("Say one of --uid and --group.")

    async def tell(hub: Hub) -> None:
        if uid is not None:
            _print(await _known(hub.clients_of_uid(uid)))
        elif group is not None:
            _print(await _known(hub.clients_of_group(group)))
        else:
            clients, uids, groups = await asyncio.gather(
                _known(hub.count_clients()), _known(hub.count_uids()), _known(hub.groups())
            )
            click.echo(f"clients  {clients}\nusers    {uids}\ngroups   {len(groups)}")

    missing: tuple[str, ...] = ()

    async def _known(answer: Awaitable[T]) -> T:
        nonlocal missing
        try:
            return await answer
        except PartialResult as partial:
            missing = partial.missing
            known: T = partial.value
            return known

    with_hub(bus, service, tell)
    if missing:
        raise CommandError(f"there is more, perhaps: no answer from {', '.join(missing)}")


def _print(clients: Iterable[str]) -> None:
    for client in sorted(clients):
        click.echo(one_line(client))
