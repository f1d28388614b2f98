"""What is declared for channels by pattern; the most specific pattern decides. Pure."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from .names import PERSONAL

T = TypeVar("T")


class Patterns(Generic[T]):
    """Values by pattern: the name itself, or the beginning of names and a ``*``."""

    def __init__(self, values: Mapping[str, T]) -> None:
        self._exact = {name: one for name, one in values.items() if not name.endswith("*")}
        prefixes = {name[:-1]: one for name, one in values.items() if name.endswith("*")}
        # The longest first.
        self._prefixes = sorted(prefixes.items(), key=lambda item: -len(item[0]))

    def get(self, channel: str) -> T | None:
        """Get the value of the most specific pattern that a channel has."""
        exact = self._exact.get(channel)
        if exact is not None:
            return exact
        for prefix, value in self._prefixes:
            # `*` alone does not mean users' personal channels.
            if channel.startswith(prefix) and (prefix or not channel.startswith(PERSONAL)):
                return value
        return None
