"""
Write the tables of docs/ that the code declares.

    .venv/bin/python scripts/generate-docs.py            into docs/
    .venv/bin/python scripts/generate-docs.py FOLDER     into another folder

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. What is around it is written
by hand, and stays as it is.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import MISSING, fields
from enum import Enum
from pathlib import Path
from typing import Any

from gateman import BusinessWorker, Channel, ClientLimits, Gateway, Tokens, Worker
from gateman.acme.options import AcmeOptions, DnsCommand
from gateman.config.base import BaseWorker
from gateman.config.environment import variables_of, variables_of_service
from gateman.config.service import ServiceOptions
from gateman.doctor.explanation import section
from gateman.errors import ExitCode
from gateman.findings.catalogue import CATALOGUE
from gateman.metrics.catalogue import CATALOGUE as METRICS
from gateman.options import Limits, SlowConsumer, Timeouts
from gateman.websocket.deflate import Deflate

DOCS = Path(__file__).parent.parent / "docs"
SECTION = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SIZES = {1 << 20: "MiB", 1 << 10: "KiB"}  # bytes


def main() -> None:
    """Fill in every page that has a table."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text()
        if SECTION.search(text):
            (folder / page.name).write_text(SECTION.sub(filled, text))


def filled(place: re.Match[str]) -> str:
    """Write a section anew."""
    return f"{place[1]}\n{TABLES[place[2]]()}\n{place[3]}"


def numbers(kind: type[Any]) -> str:
    """Write the options of a dataclass of numbers."""
    return table(
        ("name", "default", "what it is"),
        (
            (
                f"`{option.name}`",
                default(
                    option.default, option.metadata["unit"], is_optional="None" in str(option.type)
                ),
                option.metadata["reason"],
            )
            for option in fields(kind)
        ),
    )


def mapping(kind: type[Any]) -> str:
    """Write the options of a mapping that a user writes; an empty text is none."""
    return table(
        ("option", "default", "what it is"),
        (
            (
                f"`{option.name}`",
                value(option.default, option.metadata["unit"]) if option.default else "",
                option.metadata["reason"],
            )
            for option in fields(kind)
        ),
    )


KINDS: tuple[type[BaseWorker], ...] = (Worker, Gateway, BusinessWorker)


def of_workers() -> str:
    """Write the options of each kind of worker, those of all kinds first."""
    names = dict.fromkeys(name for kind in KINDS for name in kind.options)
    by_kinds = sorted(names, key=lambda name: -len(having(name)))
    return table(
        ("name", "of", "default", "what it is"),
        (
            (
                f"`{name}`",
                "all" if having(name) == KINDS else ", ".join(one.__name__ for one in having(name)),
                defaults(name),
                having(name)[0].options[name].reason,
            )
            for name in by_kinds
        ),
    )


def variables() -> str:
    """Write the environment variables of the options, for a worker that is called ``chat``."""
    found = {variable.name: variable for kind in KINDS for variable in variables_of(kind, "chat")}
    found |= {variable.name: variable for variable in variables_of_service()}
    return table(
        ("variable", "option", "value"),
        (
            (f"`{name}`", f"`{one.option}`", " or ".join(VALUES[kind] for kind in one.kinds))
            for name, one in found.items()
        ),
    )


def of_service() -> str:
    """Write the options that ``run_all`` takes."""
    return table(
        ("name", "default", "what it is"),
        (
            (f"`{name}`", value(option.default, option.unit), option.reason)
            for name, option in ServiceOptions.options.items()
        ),
    )


def metrics() -> str:
    """Write gateman's own metrics."""
    return table(
        ("name", "type", "labels", "what it is"),
        (
            (
                f"`{one.name}`",
                one.kind if one.combine == "sum" else f"{one.kind}, {one.combine}",
                ", ".join(f"`{label}`" for label in one.labels),
                one.description,
            )
            for one in METRICS.values()
        ),
    )


VALUES = {
    type(None): "`none`",
    bool: "`true` or `false`",
    int: "a whole number",
    float: "a number",
    str: "a text",
}


def having(name: str) -> tuple[type[BaseWorker], ...]:
    """Tell which kinds of worker have an option."""
    return tuple(kind for kind in KINDS if name in kind.options)


def defaults(name: str) -> str:
    """Write an option's default, and those of the kinds that have another one."""
    first, *others = [(kind.__name__, kind.options[name]) for kind in having(name)]
    written = [value(first[1].default, first[1].unit)]
    for kind, option in others:
        if option.default != first[1].default:
            written.append(f"{kind}: {value(option.default, option.unit)}")
    return "; ".join(written)


def value(given: Any, unit: str) -> str:
    """Write the default of a worker's option."""
    if given is MISSING:
        return ""
    if given is None and unit:
        return f"`None`, or {unit}"
    if isinstance(given, Enum):
        given = given.value
    if isinstance(given, (str, tuple)):
        return f"`{given!r}`".replace("'", '"')
    return default(given, unit, is_optional=False)


def default(value: Any, unit: str, *, is_optional: bool) -> str:
    """Write a default as people do, and whether it can be switched off."""
    if value is None or isinstance(value, bool):
        return f"`{value}`"
    counts_bytes = unit in ("bytes", "bytes per second")
    size = next((size for size in SIZES if counts_bytes and value % size == 0), 1)
    number = f"{value / size:_.12g}"
    unit = unit.replace("bytes", SIZES[size]) if size > 1 else unit
    return f"{number} {unit}{', or `None`' if is_optional else ''}"


def members(kind: type[Enum], *, head: str) -> str:
    """Write an enumeration with the sentences under its members."""
    return table(
        (head, "name", "what it means"),
        ((f"`{member.value}`", member.name, sentences(kind)[member.name]) for member in kind),
    )


def sentences(kind: type[Enum]) -> dict[str, str]:
    """Read the docstrings of members, which Python does not keep."""
    (declaration,) = ast.parse(inspect.getsource(kind)).body
    if not isinstance(declaration, ast.ClassDef):
        raise TypeError(f"{kind} is no class")
    found = {}
    for member, sentence in zip(declaration.body, declaration.body[1:], strict=False):
        match member, sentence:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(ast.Constant(str(text))):
                found[name] = " ".join(text.split())
    return found


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table in Markdown, from text that may be reStructuredText."""
    titles = tuple(head)
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join(f"| {' | '.join(map(cell, line))} |\n" for line in lines)


def cell(text: str) -> str:
    """Write a cell: two backquotes are one in Markdown, and a bar would end it."""
    return text.replace("``", "`").replace("|", r"\|")


TABLES = {
    "workers": of_workers,
    "service": of_service,
    "metrics": metrics,
    "limits": lambda: numbers(Limits),
    "timeouts": lambda: numbers(Timeouts),
    "channel": lambda: numbers(Channel),
    "client-limits": lambda: numbers(ClientLimits),
    "tokens": lambda: mapping(Tokens),
    "deflate": lambda: numbers(Deflate),
    "variables": variables,
    "acme": lambda: mapping(AcmeOptions),
    "acme-dns": lambda: mapping(DnsCommand),
    "slow-consumer": lambda: members(SlowConsumer, head="value"),
    "exit-codes": lambda: members(ExitCode, head="code"),
    "findings": lambda: "\n\n".join(map(section, CATALOGUE.values())),
}

if __name__ == "__main__":
    main()
