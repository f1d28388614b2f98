"""``python server.py COMMAND``: what ``Worker.run_all()`` does in a program of the user's."""

import sys
from collections.abc import Sequence

import click

from .. import excepthook
from ..config.base import BaseWorker
from ..errors import ExitCode
from ..log import write_beside
from ..master.script import Script
from ..master.start import start
from . import gateman

_COMMANDS = ("start", "stop", "restart", "reload", "status", "connections", "check")

_USAGE = (
    "usage: python {script} {{{commands}}} [--help]; without a command it starts in the foreground"
)


def run(workers: Sequence[BaseWorker]) -> None:
    """
    Do what the program's command line says.

    Raises:
        ConfigError: What it declares cannot be.
        CommandError: The command cannot be carried out.
        SystemExit: The command is done; only ``start`` returns, once everything was stopped.
    """
    excepthook.install()
    script = Script.of_program()
    words = sys.argv[1:]
    usage = _USAGE.format(script=script, commands="|".join(_COMMANDS))
    if words and words[0] in {"-h", "--help"}:
        click.echo(usage)
        sys.exit()
    if words and words[0] in _COMMANDS:
        _command(script, words, workers)
        return
    if words:
        _refuse_typo(words[0])
    # Once it serves: a mistake in what is declared stays one sentence.
    code = start(workers, script, on_serving=lambda: write_beside(usage, level="INFO"))
    if code:
        sys.exit(code)


def _command(script: Script, words: Sequence[str], workers: Sequence[BaseWorker]) -> None:
    # What follows -- is the program's own.
    rest = list(words[1 : words.index("--")] if "--" in words else words[1:])
    try:
        gateman([words[0], str(script.path), *rest], prog_name=f"python {script}", obj=workers)
    except SystemExit as ended:
        if ended.code or words[0] not in {"start", "restart"} or {"-h", "--help"} & set(rest):
            raise


def _refuse_typo(word: str) -> None:
    """A program may have arguments of its own, but hardly one letter from a command of ours."""
    # Imported here: it costs 5 ms, and hardly any program has arguments.
    from difflib import get_close_matches

    near = get_close_matches(word, _COMMANDS, n=1, cutoff=0.8)
    if near:
        click.echo(f"{word!r} is not a command: did you mean {near[0]!r}?", err=True)
        sys.exit(int(ExitCode.USAGE))
