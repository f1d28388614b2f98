"""A directive of nginx's or Apache's configuration, and what both make of directives. PURE."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Directive:
    name: str
    args: tuple[str, ...]
    children: "tuple[Directive, ...]"
    where: str

    def all(self, name: str) -> "Iterator[Directive]":
        return (one for one in self.children if one.name == name)

    def last(self, name: str) -> "Directive | None":
        return next((one for one in reversed(self.children) if one.name == name), None)

    def value(self, name: str) -> str | None:
        found = [one.args[0] for one in self.all(name) if one.args]
        return found[-1] if found else None

    def __str__(self) -> str:
        """Write it as it stands in the file."""
        return " ".join((self.name, *self.args))


class Scopes:
    """The blocks around a place, from the inside out; the first that has a directive counts."""

    def __init__(self, blocks: Sequence[Directive]) -> None:
        self.blocks = list(blocks)

    def all(self, name: str) -> list[Directive]:
        return next((found for one in self.blocks if (found := list(one.all(name)))), [])

    def value(self, name: str) -> str | None:
        found = self.all(name)
        return found[-1].args[0] if found and found[-1].args else None


def search(
    pattern: str, text: str, *, ignores_case: bool = False
) -> "re.Match[str] | Literal[False] | None":
    """Search as PCRE does; ``False`` if it is not found, ``None`` if Python cannot tell."""
    # PCRE names a group without the P.
    pattern = re.sub(r"\(\?<([A-Za-z_])", r"(?P<\1", pattern)
    try:
        return re.search(pattern, text, re.IGNORECASE if ignores_case else 0) or False
    except (re.error, RecursionError, OverflowError):
        return None
