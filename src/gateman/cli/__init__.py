"""
The ``gateman`` command. Each command calls functions of lower layers, and prints.

Only the module of the command that runs is imported.
"""

import errno
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from .. import __version__
from ..errors import CommandError, ConfigError
from ..log import write_to_user

# Each command is an attribute of a module here.
_COMMANDS = {
    "start": "service",
    "stop": "service",
    "restart": "service",
    "reload": "service",
    "status": "status",
    "connections": "status",
    "check": "service",
    "bus": "bus",
    "push": "push",
    "who": "who",
    "client": "client",
    "doctor": "doctor",
    "cert": "cert",
    "certificates": "certificates",
    "proxy": "proxy",
    "systemd": "systemd",
}

# What a write to standard output may fail with, other than a reader that has gone (EPIPE).
_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class _Commands(click.Group):
    def main(self, *arguments: Any, **how: Any) -> Any:
        """Run a command; an output that cannot be written is a :class:`CommandError`."""
        _prepare_streams()
        try:
            return super().main(*arguments, **how)
        except OSError as error:
            if error.errno not in _UNWRITABLE or error.filename is not None:
                raise
            # What is buffered would fail again at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            reason = (error.strerror or str(error)).lower()
            raise CommandError(f"the output cannot be written: {reason}") from None

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command = getattr(import_module(f".{_COMMANDS[name]}", __package__), name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a script without a command is started."""
        is_script = "." in args[0] or os.sep in args[0]
        if not is_script and args[0] not in _COMMANDS:
            _suggest(ctx, args[0])
        return super().resolve_command(ctx, ["start", *args] if is_script else args)


def _suggest(ctx: click.Context, name: str) -> None:
    """Suggest a command; click knows only those that are imported."""
    # Imported here: it takes 5 ms, and only a mistake needs it.
    from difflib import get_close_matches

    near = get_close_matches(name, _COMMANDS, n=1, cutoff=0.6)
    if near:
        ctx.fail(f"No such command {name!r}. Did you mean {near[0]!r}?")


def _prepare_streams() -> None:
    """Have all three streams, which take characters that the terminal's encoding does not have."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            # Python has none if the shell has closed it (>&-).
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123
        elif mode == "w" and isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateman")
def gateman() -> None:
    """
    Run a WebSocket service over TLS, and manage it.

    `gateman server.py` is short for `gateman start server.py`.
    """


def main() -> None:
    """Run the command line; show a user's mistake as one sentence."""
    try:
        gateman(prog_name="gateman")
    except (ConfigError, CommandError) as error:
        write_to_user(f"gateman: {error}")
        sys.exit(int(error.exit_code))
