"""``gateman bus``, and the options of other commands that need a service's hub."""

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from ..errors import BusError, CommandError, ConfigError, HubError
from ..log import one_line
from ..master import control, control_requests
from ..master.script import Script
from .options import SCRIPT, with_options

if TYPE_CHECKING:
    from ..cluster.hub import Hub

_VARIABLE = "GATEMAN_BUS"


@click.command()
@SCRIPT
def bus(script: str) -> None:
    """
    Print the URL of a running service's bus.

    It is for Hub.connect and SyncHub. The other options of the bus, and its secrets, are not
    printed.
    """
    # Imported here and below: --help can do without.
    from ..config.checks import make_bus

    click.echo(one_line(make_bus(_bus_of(script)).url))


class HubCommand(click.Command):
    """A command for a service's hub; unlike others, it does not take the script as an argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say of too many arguments where a script belongs."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "extra argument" not in error.message:
                raise
            hint = "write a script behind --service, and a text in quotes."
            raise click.UsageError(f"{error.message}: {hint}", ctx) from None


bus_options = with_options(
    click.option(
        "--bus",
        metavar="URL",
        help="The service's bus, such as nats://host:4222?name=chat. The default is the"
        f" variable {_VARIABLE}.",
    ),
    click.option(
        "--service", metavar="SCRIPT", help="The running service; its master knows the bus."
    ),
)


def with_hub(bus: str | None, service: str | None, use: "Callable[[Hub], Awaitable[None]]") -> None:
    """Await a function with the hub of a service; a bus that fails is a :class:`CommandError`."""
    import asyncio

    from ..cluster.hub import Hub
    from ..config.checks import make_bus

    value = bus or (service and _bus_of(service)) or os.environ.get(_VARIABLE)
    if not value:
        raise ConfigError(
            "no service is named",
            "write --service server.py or --bus nats://host:4222?name=chat",
        )

    async def run() -> None:
        hub = Hub()
        await hub.start(make_bus(value), has_clients=False, needs_bus=True)
        async with hub:
            await use(hub)

    try:
        asyncio.run(run())
    except (BusError, HubError) as error:
        raise CommandError(str(error).removesuffix(".")) from None


def _bus_of(service: str) -> str | Mapping[str, Any]:
    request = control_requests.GetBus()
    found = control.ask(Script.find(service), request, control_requests.BusAnswer)["bus"]
    if not found or found == "memory://":
        raise CommandError(f"{service} runs without a bus")
    return found
