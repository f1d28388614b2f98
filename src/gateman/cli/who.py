"""``gateman who``: lists or counts the clients of a running service."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, TypeVar

import click

from ..errors import CommandError, PartialResult, processes
from ..log import one_line
from .bus import HubCommand, bus_options, with_hub

if TYPE_CHECKING:
    from ..cluster.hub import Hub

T = TypeVar("T")


@click.command(cls=HubCommand)
@click.option("--uid", help="List the clients of a user.")
@click.option("--group", help="List the clients in a group.")
@bus_options
def who(*, uid: str | None, group: str | None, bus: str | None, service: str | None) -> None:
    """
    List or count the clients of a running service.

    Without --uid and --group, it counts clients, users and groups. If a process does not answer in
    time, the answers of the others are printed, and the exit code is 1.
    """
    if uid is not None and group is not None:
        raise click.UsageError("Give only one of --uid and --group.")

    async def show(hub: "Hub") -> None:
        if uid is not None:
            _print(await or_partial(hub.clients_of_uid(uid)))
        elif group is not None:
            _print(await or_partial(hub.clients_of_group(group)))
        else:
            clients, uids, groups = await asyncio.gather(
                or_partial(hub.count_clients()),
                or_partial(hub.count_uids()),
                or_partial(hub.groups()),
            )
            click.echo(f"clients  {clients}\nusers    {uids}\ngroups   {len(groups)}")

    missing: tuple[str, ...] = ()

    async def or_partial(answer: Awaitable[T]) -> T:
        nonlocal missing
        try:
            return await answer
        except PartialResult as partial:
            missing = partial.missing
            known: T = partial.value
            return known

    with_hub(bus, service, show)
    if missing:
        raise CommandError(f"the result may be incomplete: no answer from {processes(missing)}")


def _print(clients: Iterable[str]) -> None:
    for client in sorted(clients):
        click.echo(one_line(client))
