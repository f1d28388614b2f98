"""Arguments and options that several commands have."""

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]

SCRIPT = click.argument("script", metavar="SCRIPT")


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that adds options, in this order in ``--help``."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
