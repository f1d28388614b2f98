"""A directive of nginx's or Apache's configuration. PURE."""

from collections.abc import Iterator
from dataclasses import dataclass


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
