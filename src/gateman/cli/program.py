"""``python server.py COMMAND``: what ``Worker.run_all()`` does in a user's program."""

import sys
from collections.abc import Sequence

import click

from .. import excepthook
from ..config.base import BaseWorker
from ..errors import ExitCode
from ..log import write_to_user
from ..master.script import Script
from ..master.start import start
from . import gateman

_COMMANDS = (
    "start",
    "stop",
    "restart",
    "reload",
    "status",
    "connections",
    "check",
    "certificates",
    "doctor",
)

_USAGE = (
    "usage: python {script} {{{commands}}} [--help]; without a command it starts in the foreground"
)


def run(workers: Sequence[BaseWorker]) -> None:
    """Run the command of the program's arguments; only ``start`` returns, when it has stopped."""
    excepthook.install()
    script = Script.of_program()
    arguments = sys.argv[1:]
    usage = _USAGE.format(script=script, commands="|".join(_COMMANDS))
    if arguments and arguments[0] in {"-h", "--help"}:
        click.echo(usage)
        sys.exit()
    if arguments and arguments[0] in _COMMANDS:
        _command(script, arguments, workers)
        return
    if arguments:
        _refuse_typo(arguments[0])
    # Printed when it serves, so that a mistake in the script is shown as one sentence only.
    code = start(workers, script, on_serving=lambda: write_to_user(usage, level="INFO"))
    if code:
        sys.exit(code)


def _command(script: Script, arguments: Sequence[str], workers: Sequence[BaseWorker]) -> None:
    # The arguments after -- belong to the program.
    rest = list(arguments[1 : arguments.index("--")] if "--" in arguments else arguments[1:])
    try:
        gateman([arguments[0], str(script.path), *rest], prog_name=f"python {script}", obj=workers)
    except SystemExit as ended:
        if ended.code or arguments[0] not in {"start", "restart"} or {"-h", "--help"} & set(rest):
            raise


def _refuse_typo(word: str) -> None:
    """Refuse a misspelt command; other arguments belong to the program."""
    # Imported here: it takes 5 ms, and few programs have arguments.
    from difflib import get_close_matches

    near = get_close_matches(word, _COMMANDS, n=1, cutoff=0.8)
    if near:
        click.echo(f"{word!r} is not a command: did you mean {near[0]!r}?", err=True)
        sys.exit(int(ExitCode.USAGE))
