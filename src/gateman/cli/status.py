"""``gateman status`` and ``gateman connections``."""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import click

from ..errors import MasterEnded
from ..master import control, control_requests
from ..master.script import Script
from .options import SCRIPT
from .tables import Line
from .views import connection_lines, status_lines

T = TypeVar("T")

_INTERVAL = 1.0  # seconds

_STYLES: dict[str, dict[str, Any]] = {
    "head": {"bold": True},
    "bad": {"fg": "red"},
    "warning": {"fg": "yellow"},
    "changing": {"fg": "cyan"},
}

# ECMA-48: move to the first line; erase to the end of the line, and of the screen.
_HOME, _TO_END_OF_LINE, _TO_END = "\x1b[H", "\x1b[K", "\x1b[J"

_JSON = click.option(
    "--json", "is_json", is_flag=True, help="Print the master's answer, for programs."
)


@click.command()
@SCRIPT
@click.option(
    "-d", "--watch", "is_watching", is_flag=True, help="Show it again each second, until Ctrl-C."
)
@_JSON
def status(script: str, *, is_watching: bool, is_json: bool) -> None:
    """
    Show the state of the service and its processes.

    The columns are Workerman's: send_fail counts messages dropped for slow clients, qps is the
    messages received per second, and a busy process has not answered in time. A wider terminal
    shows more columns; --json has all values.
    """
    found = Script.find(script)
    show = _repaint if is_watching else print_lines
    try:
        while True:
            answer = _ask(found, control_requests.GetStatus(), control_requests.StatusAnswer)
            if is_json:
                print_json(answer, indent=None if is_watching else 2)
            else:
                show(status_lines(answer, terminal_width()))
            if not is_watching:
                return
            time.sleep(_INTERVAL)
    except KeyboardInterrupt:
        click.echo()


@click.command()
@SCRIPT
@_JSON
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="How many connections of each process are listed; the oldest come first.",
)
def connections(script: str, *, is_json: bool, limit: int) -> None:
    """
    List the connections.

    unsent is the size of the send buffer, for a client that reads slowly; received and sent are
    bytes on the wire, including TLS, if the system counts them.
    """
    answer = _ask(
        Script.find(script), control_requests.ListConnections(limit), control_requests.ListAnswer
    )
    if is_json:
        print_json(answer, indent=2)
    else:
        print_lines(connection_lines(answer, terminal_width()))


def _ask(script: Script, request: control_requests.Request, kind: type[T]) -> T:
    try:
        return control.ask(script, request, kind)
    except MasterEnded:
        # It is not running now, or another one is.
        return control.ask(script, request, kind)


def terminal_width() -> int | None:
    """Return the terminal's width; ``None`` if the output goes to a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_json(answer: object, indent: int | None = None) -> None:
    click.echo(json.dumps(answer, indent=indent))


def print_lines(lines: Sequence[Line]) -> None:
    click.echo("\n".join(map(_styled, lines)))


def _styled(line: Line) -> str:
    return click.style(line.text, **_STYLES[line.style]) if line.style else line.text


def _repaint(lines: Sequence[Line]) -> None:
    if not sys.stdout.isatty():
        print_lines([*lines, Line("")])
        return
    height = shutil.get_terminal_size().lines
    if len(lines) >= height:
        rest = len(lines) - height + 2
        lines = [*lines[: height - 2], Line(f"and {rest} more lines")]
    click.echo(
        _HOME + "".join(f"{_styled(line)}{_TO_END_OF_LINE}\n" for line in lines) + _TO_END,
        nl=False,
    )
