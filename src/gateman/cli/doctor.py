"""``gateman doctor``: why a client cannot connect. What it finds is decided in ``doctor``."""

import asyncio
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..doctor.target import DEFAULT_TIMEOUT, Settings
from ..errors import ConfigError, LoadFailed, UsageMistake

if TYPE_CHECKING:
    from ..config.base import BaseWorker
    from ..doctor.look import Inside

_MAX_WIDTH = 100  # columns

# The doctor's own cap; a page of its documentation says so.
_MAX_CONNECTIONS = 10_000

_HOST = re.compile(r"(localhost|[\w-]+(\.[\w-]+)+)(:\d+)?(/\S*)?")


def _as_fields(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    fields = []
    for value in values:
        name, colon, content = value.partition(":")
        if not colon or not name.strip() or any(not one.isprintable() for one in value):
            raise click.BadParameter("give it as 'Name: value'")
        fields.append((name.strip(), content.strip()))
    return tuple(fields)


@click.command()
@click.argument("targets", nargs=-1, metavar="[SCRIPT] [URL]")
@click.option(
    "--ca",
    "ca_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Trust these roots (PEM), as all of your clients do.",
)
@click.option(
    "--origin", metavar="ORIGIN", help="The Origin to send; the target's own if not given."
)
@click.option(
    "--subprotocol",
    "subprotocols",
    multiple=True,
    metavar="NAME",
    help="Offer it; may be repeated.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    callback=_as_fields,
    metavar="'NAME: VALUE'",
    help="Send it with the handshake; the report never shows its value. May be repeated.",
)
@click.option("--address", metavar="IP", help="Connect there, and keep the name.")
@click.option(
    "--timeout",
    type=click.FloatRange(1, 300),
    default=DEFAULT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="For the script to load, and for all probes but those of the next three.",
)
@click.option(
    "--idle",
    "idle_time",
    type=click.FloatRange(0, 86_400),
    default=0.0,
    metavar="SECONDS",
    help="Keep a connection without sending anything, to see who cuts it.",
)
@click.option(
    "--size",
    "message_size",
    type=click.IntRange(0, 1 << 30),
    default=0,
    metavar="BYTES",
    help="Send a message of this size.",
)
@click.option(
    "--connections",
    type=click.IntRange(0, _MAX_CONNECTIONS),
    default=0,
    metavar="N",
    help="Open so many at the same time; only to a server of your own.",
)
@click.option("--page", metavar="URL", help="The page that opens the WebSocket.")
@click.option(
    "--proxy-config",
    "proxy_config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The proxy's configuration, where it cannot be found by itself.",
)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object, and nothing else.")
@click.option("--strict", "is_strict", is_flag=True, help="Exit with 1 for warnings, too.")
@click.option("--explain", "code", metavar="CODE", help="Print what a code means, and end.")
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    targets: tuple[str, ...],
    *,
    code: str | None,
    is_json: bool,
    is_strict: bool,
    **how: Any,
) -> None:
    """
    Tell why a client cannot connect, and what to change.

    Give the wss:// or ws:// URL that fails; any server may be behind it. On the server, give the
    script as well: `gateman doctor server.py wss://example.com/chat`.

    Exit codes: 0 healthy, 1 a cause was found, 2 usage, 3 undecided.
    """
    if code is not None:
        _explain(code)
        return
    workers = ctx.obj
    script, url = _split(ctx, targets, has_workers=workers is not None)
    settings = Settings(**how)
    if script is None and workers is None:
        if url is None:
            raise click.UsageError("give a wss:// URL, a script, or both", ctx)
        _look(ctx, url, settings, None, is_json=is_json, is_strict=is_strict)
        return

    # Imported here: a URL alone can do without.
    from ..master.script import Script
    from .load_deadline import LoadDeadline, end_process
    from .service import with_workers

    has_loaded = False
    deadline = LoadDeadline(script or "", settings.timeout)

    def then(declared: "Sequence[BaseWorker]", found: Script, mistake: str = "") -> None:
        nonlocal has_loaded
        has_loaded = True
        deadline.reached()
        _look(ctx, url, settings, (declared, found, mistake), is_json=is_json, is_strict=is_strict)

    try:
        with deadline:
            with_workers(script or "", workers, then)
    except (ConfigError, LoadFailed) as error:
        if has_loaded or script is None:
            raise
        # To find a module is to import its package, which may be what hangs.
        with LoadDeadline(script, settings.timeout):
            found = Script.find(script)
        # The processes of a running service still have what the script was before.
        try:
            then((), found, str(error))
        except click.exceptions.Exit as ended:
            if deadline.is_late:
                end_process(ended.exit_code)
            raise


def _is_host(word: str) -> bool:
    """Tell whether a word is a host with or without port and path, and not a file or module."""
    if not _HOST.fullmatch(word) or word.endswith(".py"):
        return False
    top = re.split("[.:/]", word)[0]
    exists = any(map(os.path.exists, (word, top, f"{top}.py")))
    return not exists and importlib.util.find_spec(top) is None


def _split(
    ctx: click.Context, targets: tuple[str, ...], *, has_workers: bool
) -> tuple[str | None, str | None]:
    urls = [one for one in targets if "://" in one]
    scripts = [one for one in targets if "://" not in one]
    if len(urls) > 1:
        raise click.UsageError("give one URL; each is looked at by itself", ctx)
    if len(scripts) > 1:
        raise click.UsageError(f"give one script, not {' and '.join(scripts)}", ctx)
    if has_workers and len(scripts) != 1:
        raise click.UsageError("give the URL alone; the script is this one", ctx)
    for one in scripts:
        if not has_workers and _is_host(one):
            problem = f"{one} is not a script: for a service there, write wss://{one}"
            raise click.UsageError(problem, ctx)
    return next(iter(scripts), None), next(iter(urls), None)


def _look(
    ctx: click.Context,
    url: str | None,
    settings: Settings,
    inside: "Inside | None",
    *,
    is_json: bool,
    is_strict: bool,
) -> None:
    # Imported here: --help and --explain can do without.
    from ..doctor.look import look
    from ..doctor.report import as_json, as_lines

    progress = _progress()
    try:
        verdict = asyncio.run(look(url, settings, inside, progress))
    except UsageMistake as mistake:
        raise click.UsageError(str(mistake), ctx) from None
    finally:
        progress("")
    secrets = [value for _, value in settings.headers]
    if is_json:
        click.echo(as_json(verdict, secrets=secrets))
    else:
        width = min(shutil.get_terminal_size((_MAX_WIDTH, 24)).columns, _MAX_WIDTH)
        for text, colour in as_lines(verdict, width=max(width, 40), secrets=secrets):
            click.echo(click.style(text[:1], fg=colour) + text[1:] if colour else text)
    ctx.exit(verdict.exit_code(is_strict=is_strict))


def _progress() -> Callable[[str], None]:
    """Write what it looks at, on a terminal only; empty text wipes it."""
    if not sys.stderr.isatty():
        return lambda _text: None

    def write(text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text and f'… {text}'}")
        sys.stderr.flush()

    return write


def _explain(code: str) -> None:
    from difflib import get_close_matches

    from ..doctor.explanation import section
    from ..findings.catalogue import CATALOGUE

    declaration = CATALOGUE.get(code.upper())
    if declaration is None:
        near = get_close_matches(code.upper(), CATALOGUE, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; docs/doctor.md lists all"
        raise click.UsageError(f"{code!r} is not a code of the doctor{hint}")
    click.echo(section(declaration))
